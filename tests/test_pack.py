"""Packed runs: read like the run they were made of; what cannot be packed is refused."""

from __future__ import annotations

import errno
import json
import math
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from or1lab import environment
from or1lab import pack as packing
from or1lab.cli import app
from or1lab.errors import Or1labError
from or1lab.pack import pack
from or1lab.recipe import load_recipe
from or1lab.store import Run
from or1lab.tracker import find_runs


@pytest.fixture
def run(tmp_path):
    extra = {"experiment": "study", "arm": "on-policy"}
    made = Run.create(tmp_path / "runs" / "a", recipe=load_recipe("tiny", ["seed=100"]).resolved(), extra=extra)
    for step in (1, 2, 3):
        made.log("step", step=step, **{"entropy/rollout": math.nan if step == 2 else 0.5 / step, "lr": 1e-4})
        made.log("sgd", step=step, sgd_step=0, **{"clip/low_frac": 0.1})
        rows = {"problem_id": ["p", "q"], "prompt": ["1+1=?"] * 2, "response": ["two"] * 2, "gold": ["2"] * 2}
        made.write_rollouts(step, pd.DataFrame(rows | {"length": [step, 9], "truncated": [False, True]}))
    made.log("eval", step=3, final=True, **{"eval/accuracy": 1})
    made.write_evals(2, pd.DataFrame({"problem_id": ["p"], "correct": [True], "final": [False]}))
    made.write_evals(3, pd.DataFrame({"problem_id": ["p"], "correct": [False], "final": [True]}))
    made.close()
    made.update_manifest(status="finished")
    return made


def test_a_packed_run_reads_like_the_run(run, tmp_path):
    packed = Run.open(pack(run, tmp_path / "packed"))
    assert packed.folder == tmp_path / "packed" / "study" / "on-policy" / "seed-100"
    assert packed.manifest == run.manifest
    assert packed.status == "finished"
    pd.testing.assert_frame_equal(packed.metrics, run.metrics, check_dtype=False, check_like=True)
    pd.testing.assert_frame_equal(packed.evals, run.evals)
    assert packed.rollout_steps == [1, 2, 3]
    pd.testing.assert_frame_equal(packed.rollouts(2), run.rollouts(2).drop(columns=["prompt", "response", "gold"]))
    assert [r.folder for r in find_runs(tmp_path / "packed")] == [packed.folder]


def test_comparing_reads_each_packed_file_once(run, tmp_path, monkeypatch):
    reads = []
    read = Run.read_frame
    monkeypatch.setattr(Run, "read_frame", lambda self, path, *more: reads.append(path.name) or read(self, path, *more))
    packed = Run.open(pack(run, tmp_path / "packed"))
    assert reads.count("rollouts.parquet") == reads.count("evals.parquet") == 1
    pd.testing.assert_frame_equal(packed.all_rollouts, pd.concat(map(packed.rollouts, (1, 2, 3)), ignore_index=True))


def test_packing_again_changes_nothing_and_another_run_is_refused(run, tmp_path):
    target = pack(run, tmp_path / "packed")
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    assert pack(run, tmp_path / "packed") == target
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == before
    run.update_manifest(code_version="another")
    with pytest.raises(Or1labError, match="another run of this arm and seed"):
        pack(run, tmp_path / "packed")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"status": "failed"}, "only a finished run"), ({"experiment": None}, "belongs to no experiment")],
)
def test_what_cannot_be_packed(run, tmp_path, changes, words):
    run.update_manifest(**changes)
    with pytest.raises(Or1labError, match=words):
        pack(run, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_lossy_packing_is_noticed_and_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "known_values", lambda record: record | {"lost": 1})
    with pytest.raises(Or1labError, match="without loss"):
        pack(run, tmp_path / "packed")
    assert not find_runs(tmp_path / "packed")
    assert not list((tmp_path / "packed").rglob("*.parquet"))


def test_the_command_names_what_is_left(run, tmp_path):
    recipe = load_recipe("tiny", ["seed=101"]).resolved()
    Run.create(tmp_path / "runs" / "b", recipe=recipe)
    Run.create(tmp_path / "runs" / "A", recipe=recipe, extra={"status": "finished"})  # before the others in the list
    shutil.copytree(run.folder, tmp_path / "runs" / "again")
    Run.open(tmp_path / "runs" / "again").update_manifest(seconds=1.0)
    command = ["runs", "pack", str(tmp_path / "runs"), "--out", str(tmp_path / "packed"), "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    told = json.loads(result.stdout)
    assert len(told["packed"]) == 1
    why = {Path(folder).name: words for folder, words in told["left"].items()}
    assert why.pop("again").endswith("holds another run of this arm and seed; move it away")
    assert "b is interrupted; only a finished run is packed" in why.pop("b")
    assert "A belongs to no experiment" in why.pop("A") and not why


def test_a_damaged_run_stays_and_the_others_are_packed(run, tmp_path, monkeypatch):
    for seed, name in ((101, "b"), (102, "c")):
        recipe = load_recipe("tiny", [f"seed={seed}"]).resolved()
        extra = {"experiment": "study", "arm": "on-policy", "status": "finished"}
        made = Run.create(tmp_path / "runs" / name, recipe=recipe, extra=extra)
        made.log("step", step=1, lr=1e-4)
        made.close()
    (tmp_path / "runs" / "b" / "metrics.jsonl").write_text("{no json\n{}\n")
    packed, left = packing.pack_all(tmp_path / "runs", tmp_path / "packed")
    assert [folder.name for folder in packed] == ["seed-100", "seed-102"]
    assert [Path(folder).name for folder in left] == ["b"] and "line 1 is broken" in next(iter(left.values()))

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(packing, "_write", full)
    with pytest.raises(Or1labError, match="no disk space left"):
        packing.pack_all(tmp_path / "runs", tmp_path / "elsewhere")


def test_what_a_killed_packing_left_is_no_run_and_goes(run, tmp_path, monkeypatch):
    def killed(ours, theirs):
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "_compare", killed)
    monkeypatch.setattr(packing.shutil, "rmtree", lambda *args, **kwargs: None)
    with pytest.raises(KeyboardInterrupt):
        pack(run, tmp_path / "packed")
    (half,) = (tmp_path / "packed").rglob(".seed-100.*")
    assert (half / "metrics.parquet").exists() and not find_runs(tmp_path / "packed")
    monkeypatch.undo()
    half.rename(half.with_name(f".seed-100.{2**22 + 1}"))  # of a process that is no more
    own = half.with_name(".seed-100.bak")  # somebody's
    own.mkdir()
    whole = pack(run, tmp_path / "packed")
    assert sorted(whole.parent.iterdir()) == [own, whole]


def test_new_results_are_no_change_of_the_code(tmp_path, monkeypatch):
    """A study packs its runs beside the code it runs from; the next run must not call that code changed."""
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "begin"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    for folder in ("experiments/results/study", "or1lab"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "experiments/results/study/manifest.json").write_text("{}")
    assert environment.environment()["code"]["dirty"] is False
    (tmp_path / "or1lab/new.py").write_text("")
    assert environment.environment()["code"]["dirty"] is True
