"""The run folder: what is written comes back, and a death or a full disk at any moment loses nothing else."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from or1lab import store
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import ROOT, Recipe, recipe_hash
from or1lab.store import Run
from or1lab.tracker import find_runs
from tests.test_cli import call

ENV = os.environ | {"PYTHONPATH": str(ROOT)}
RECIPE = Recipe.model_validate({"name": "toy", "seed": 3, "stages": [{"steps": 4}]})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", recipe=RECIPE.resolved(), extra={"experiment": "x", "arm": "a"})


def test_manifest_says_what_ran_where(run):
    manifest = Run.open(run.folder).manifest
    assert list(manifest) == [
        "name", "experiment", "arm", "seed", "recipe", "recipe_hash", "world", "world_hash", "claims_hash",
        "follow_ups_hash", "code", "packages", "hardware", "installed", "model_hash", "data_hash",
        "status", "created", "finished", "seconds", "parent", "host", "backend", "sandbox", "error",
    ]  # fmt: skip
    assert (manifest["name"], manifest["experiment"], manifest["arm"], manifest["seed"]) == ("toy", "x", "a", 3)
    assert manifest["recipe_hash"] == recipe_hash(RECIPE)
    assert Recipe.model_validate(manifest["recipe"]) == RECIPE
    assert set(manifest["code"]) == {"version", "commit", "dirty"}
    assert manifest["packages"]["python"].startswith("3.")
    hardware = manifest["hardware"]
    assert hardware["cpu"] and hardware["cores"] >= 1 and hardware["memory_gib"] > 0
    assert isinstance(hardware["gpus"], list)


def test_records_come_back_as_written(run):
    run.log("step", **{"step": 1, "reward/mean": np.float32(0.5), "ratio/max": math.inf, "grad/norm": math.nan})
    run.log("sgd", step=1, sgd_step=np.int64(7), flags=np.array([1, 2]), folder=Path("a"))
    first, second = Run.open(run.folder).records()
    assert first["reward/mean"] == 0.5 and first["ratio/max"] == math.inf and math.isnan(first["grad/norm"])
    assert second == {"kind": "sgd", "step": 1, "sgd_step": 7, "flags": [1, 2], "folder": "a"}
    metrics = run.metrics
    assert list(metrics["kind"]) == ["step", "sgd"] and np.isinf(metrics["ratio/max"][0])


def test_torch_scalars_are_accepted(run):
    torch = pytest.importorskip("torch")
    run.log("step", step=torch.tensor(2), **{"reward/mean": torch.tensor(0.25, requires_grad=True)})
    assert run.records() == [{"kind": "step", "step": 2, "reward/mean": 0.25}]


def test_store_imports_nothing_heavy():
    code = "import sys, or1lab.sweep, or1lab.tracking; print([m for m in ('torch', 'transformers', 'trl', 'vllm', "
    code += "'wandb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_new_run_has_empty_frames(run):
    assert list(run.metrics.columns) == ["kind", "step"] and len(run.metrics) == 0
    assert len(run.evals) == 0 and run.last() is None and run.rollout_steps == []


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_half_written_last_line_is_dropped_and_overwritten(run, cut):
    run.log("step", step=1)
    run.log("step", **{"step": 2, "reward/mean": 0.123456789})
    run.close()
    path = run.folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    again = Run.open(run.folder)
    assert [record["step"] for record in again.records()] == [1]
    again.log("step", step=2)  # must not be glued to the half line
    assert [record["step"] for record in Run.open(run.folder).records()] == [1, 2]


def test_broken_line_elsewhere_names_file_and_line(run):
    for step in (1, 2, 3):
        run.log("step", step=step)
    path = run.folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:9], lines[2]]) + "\n")
    with pytest.raises(Or1labError, match=r"metrics\.jsonl, line 2 is broken"):
        _ = run.metrics


def test_each_record_is_on_disk_at_once_and_readers_see_whole_lines(run):
    for step in range(50):
        run.log("step", step=step, text="x" * 5000)
        assert len(Run.open(run.folder).records()) == step + 1
    assert run.last()["step"] == 49 and run.last("eval") is None


def test_a_writer_killed_at_any_moment_leaves_a_readable_prefix(run):
    code = (
        "import itertools, sys; from or1lab.store import Run; run = Run.open(sys.argv[1])\n"
        "for i in itertools.count(): run.log('step', step=i, text='y' * 3000); run.update_manifest(seconds=i)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(run.folder)], env=ENV)
    while run.last() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    writer.kill()
    writer.wait()
    steps = [record["step"] for record in run.records()]
    assert steps == list(range(len(steps)))
    assert run.manifest["seconds"] in (steps[-1] - 1, steps[-1])


def test_rollouts_and_evals_come_back(run):
    rows = pd.DataFrame({"problem_id": ["p", "p"], "sample": [0, 1], "correct": [True, False]})
    run.write_rollouts(5, rows)
    run.write_evals(10, rows)
    run.write_evals(10, rows.assign(final=True))  # the last step may have a periodic and a final evaluation
    assert list(run.rollouts(5)["correct"]) == [True, False] and run.rollout_steps == [5]
    assert list(run.evals["step"]) == [10] * 4 and run.evals["final"].sum() == 2
    with pytest.raises(UsageError, match="no rollouts of step 6; the nearest are of 5$"):
        run.rollouts(6)
    for step in (1, 20, 40):
        run.write_rollouts(step, rows)
    with pytest.raises(UsageError, match="no rollouts of step 30; the nearest are of 5, 20, 40$"):
        run.rollouts(30)


def test_truncate_after_forgets_only_what_is_beyond(run):
    for step in range(1, 5):
        run.log("sgd", step=step, sgd_step=step)
        run.log("step", **{"step": step, "ratio/max": math.inf})
        run.write_rollouts(step, pd.DataFrame({"x": [step]}))
        run.write_evals(step, pd.DataFrame({"x": [step]}))
    names = (".metrics.jsonl.7", ".manifest.json.7", ".online_filter.json.7", "evals/.step-000003.parquet.7")
    stale = [run.folder / name for name in names]
    for path in stale:  # as a killed process leaves them
        path.write_bytes(b"half")
    run.truncate_after(2)
    assert not any(path.exists() for path in stale)
    assert [record["step"] for record in run.records()] == [1, 1, 2, 2]
    assert run.records()[1]["ratio/max"] == math.inf
    assert run.rollout_steps == [1, 2] and list(run.evals["step"]) == [1, 2]
    run.log("step", step=3)  # into the new file, not the one renamed away
    assert run.records()[-1] == {"kind": "step", "step": 3}


def test_existing_run_is_refused_with_the_two_ways_out(run):
    with pytest.raises(Or1labError, match=r"--resume.*--out"):
        Run.create(run.folder, recipe=RECIPE.resolved())


def test_opening_nothing_says_so(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        Run.open(tmp_path)


def test_damaged_manifest_names_the_file(run):
    (run.folder / "manifest.json").write_text("{")
    with pytest.raises(Or1labError, match=r"manifest\.json is damaged"):
        _ = run.manifest


def test_status_tells_a_living_run_from_a_broken_one(run):
    assert run.status == "interrupted"
    with run.lock():
        assert run.status == "running" and Run.open(run.folder).status == "running"
    assert run.status == "interrupted"
    run.update_manifest(status="finished")
    assert run.status == "finished"


def test_two_who_look_do_not_take_each_other_for_a_living_run(run):
    look = FileLock(run.folder / ".lock", thread_local=False)
    look.acquire()
    threading.Timer(0.03, look.release).start()
    assert run.status == "interrupted"


def test_lock_of_another_process_is_respected_and_dies_with_it(run):
    code = (
        "import sys, time; from or1lab.store import Run\n"
        "with Run.open(sys.argv[1]).lock(): print(1, flush=1); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(run.folder)], stdout=subprocess.PIPE, env=ENV)
    other.stdout.read(1)
    assert run.status == "running"
    with pytest.raises(Or1labError, match="trained by another process"), run.lock():
        pass
    other.kill()
    other.wait()
    assert run.status == "interrupted"
    with run.lock():
        pass


def test_atomic_write_leaves_the_old_content_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "f"
    store.write_atomic(path, b"old", "manifest")

    def broken(_descriptor):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        store.write_atomic(path, b"new", "manifest")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


def test_runs_are_found_and_their_models_are_none(tmp_path):
    for arm, seed in (("a", 0), ("a", 1), ("b", 0)):
        recipe = RECIPE.model_copy(update={"seed": seed}).resolved()
        run = Run.create(tmp_path / "x" / arm / f"seed-{seed}", recipe=recipe, extra={"experiment": "x", "arm": arm})
        run.log("sgd", step=1, sgd_step=0)
        run.log("step", **{"step": 1, "reward/mean": seed / 2})
        checkpoint = run.folder / "checkpoints" / "final"
        checkpoint.mkdir(parents=True)
        (checkpoint / "manifest.json").write_text(json.dumps({"not": "a run"}))
    runs = find_runs(tmp_path)
    assert [str(run.folder.relative_to(tmp_path)) for run in runs] == ["x/a/seed-0", "x/a/seed-1", "x/b/seed-0"]
    assert find_runs(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("manifest", "why"),
    [("{}", "lacks a recipe or a status"), ('["x"]', "lacks a recipe"), ('{"status": "finished", "reci', "is damaged")],
)
def test_a_foreign_folder_costs_a_warning_and_no_command(manifest, why, tmp_path, monkeypatch, capsys):
    """Half-written, damaged or another program's: what is ours beside it is found all the same."""
    run = Run.create(tmp_path / "runs" / "ours", recipe=RECIPE.resolved(), extra={"experiment": "x", "arm": "a"})
    other = tmp_path / "runs" / "other"
    other.mkdir()
    (other / "manifest.json").write_text(manifest)
    (other / "metrics.jsonl").write_text("{}\n")
    with pytest.warns(UserWarning, match=f"left out: .*other.*{why}"):
        assert [found.folder for found in find_runs(tmp_path / "runs")] == [run.folder]
    for words in (["figures"], ["tables"], ["claims", "--json"], ["runs", "pack", "runs"]):
        folder = [] if words[0] == "runs" else ["--results", "runs"]
        out = ["--out", "out"] if words[0] != "claims" else []
        monkeypatch.chdir(tmp_path)
        with pytest.warns(UserWarning, match="left out: .*other"):
            _, _, error = call(*words, *folder, *out, monkeypatch=monkeypatch, capsys=capsys)
        assert "unexpected" not in error
