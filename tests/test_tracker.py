"""The tracker: which runs it finds, what it tells of them, and what it does with folders that are none."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from or1lab import cli, runs_view, tracker
from or1lab.comparison import compare
from or1lab.errors import UsageError
from or1lab.lineage import children, lineage, mark, parent
from or1lab.measured import Measured
from or1lab.pack import pack
from or1lab.recipe import load_recipe
from or1lab.store import Run
from or1lab.tracker import Wanted


def make(folder, *overrides: str, arm="on-policy", steps=4, **manifest) -> Run:
    extra = {"experiment": "demo", "arm": arm, "status": "finished", "seconds": 9.6} | manifest
    run = Run.create(folder, recipe=load_recipe("tiny", list(overrides)).resolved(), extra=extra)
    for step in range(1, steps + 1):
        run.log("sgd", step=step, sgd_step=0, **{"loss": -1.0, "entropy/rollout": 99.0})
        values = {"reward/mean": step / 10, "entropy/rollout": 0.5, "lr": float("nan"), "length/all": [3] * 9000}
        run.log("step", step=step, stage=0, **values)
    run.log("eval", step=steps, final=True, **{"eval/accuracy": 0.5 + int(overrides[0][-1]) / 10})
    run.close()
    return run


@pytest.fixture
def root(tmp_path):
    make(tmp_path / "a", "seed=0", "D_T=4")
    make(tmp_path / "b", "seed=2", arm="off-policy", status="failed")
    make(tmp_path / "c", "seed=1", "D_T=4", status="running")
    return tmp_path


@pytest.fixture
def or1lab(monkeypatch, capsys):
    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["or1lab", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


def seeds(root, **wanted) -> list[int]:
    return [row["seed"] for row in tracker.rows(root, Wanted(**wanted))[0]]


def test_rows_are_filtered_sorted_and_cut(root):
    assert seeds(root) == [0, 2, 1]
    assert seeds(root, arm="off-policy") == seeds(root, state="failed") == [2]
    assert seeds(root, state="interrupted") == [1]  # no process has it
    assert seeds(root, keys=["D_T=4"]) == [0, 1] and seeds(root, keys=["D_T=4", "seed=1"]) == [1]
    assert seeds(root, keys=["stages.0.T=null"]) == [0, 2, 1]
    assert seeds(root, sort="eval/accuracy") == [2, 1, 0] and seeds(root, sort="-seed", limit=2) == [0, 1]
    row = tracker.rows(root)[0][0]
    assert row == {
        "folder": str(root / "a"), "experiment": "demo", "arm": "on-policy", "seed": 0, "status": "finished",
        "seconds": 10, "step": 4, "reward/mean": 0.4, "entropy/rollout": 0.5, "eval/accuracy": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"sort": "entropy/rolout"}, "did you mean 'entropy/rollout'"),
        ({"arm": "onpolicy"}, "did you mean 'on-policy'"),
        ({"experiment": "dmo"}, "did you mean 'demo'"),
        ({"state": "done"}, "running, finished, failed, interrupted"),
        ({"keys": ["D_TT=4"]}, "did you mean 'D_T'"),
        ({"keys": ["D_T"]}, "key=value"),
    ],
    ids=str,
)
def test_what_no_run_has_is_named_with_the_nearest(wanted, words, root):
    with pytest.raises(UsageError, match=words):
        tracker.rows(root, Wanted(**wanted))


def test_newest_values_come_from_the_end_of_the_file(root):
    run = Run.open(root / "a")
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 5, "reward/mean": 0.9')  # by a process that was killed
    assert run.last()["step"] == 4 and run.last("sgd")["step"] == 4
    assert run.latest(["reward/mean", "entropy/rollout", "lr", "nothing"]) == {
        "reward/mean": 0.4, "entropy/rollout": 0.5, "lr": None, "nothing": None,
    }  # fmt: skip
    assert [record["kind"] for record in run.newest()] == [record["kind"] for record in reversed(run.records())]


def test_half_written_and_foreign_folders_are_named(root, or1lab):
    files = {
        "died/metrics.jsonl": "", "half/manifest.json": '{"recipe": {', "half/metrics.jsonl": "",
        "foreign/manifest.json": "[1, 2]", "foreign/metrics.jsonl": "{}\n", "binary/metrics.jsonl": "",
        "other/manifest.json": '{"name": "an extension"}', "log/metrics.jsonl": "step,loss\n1,2\n",
    }  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    (root / "binary" / "manifest.json").write_bytes(b"\xff\xfe\x00")
    packed = root / "torn"
    shutil.copytree(root / "a", packed)
    (packed / "metrics.parquet").write_bytes(b"PAR1 and no more")
    code, out, err = or1lab("runs", "list", root, "--json")
    assert code == 0 and [row["seed"] for row in json.loads(out)] == [0, 2, 1]
    told = {line.split(": ", 1)[1] for line in err.splitlines()}
    for name in ("died", "half", "foreign", "binary", "log", "torn"):
        assert sum(str(root / name) in line for line in told) == 1, (name, err)
    for name in ("died", "half", "foreign", "binary", "other", "torn", "nowhere"):
        for command in (("show",), ("watch",), ("compare", root / "a"), ("export",)):
            more = (root / "model",) if command == ("export",) else ()
            code, out, err = or1lab("runs", *command, root / name, *more)
            assert code in (1, 2) and err.startswith("error: ") and "unexpected" not in err, (command, name, out, err)
            assert str(root / name) in err.replace("\n", "")


def test_what_counts_as_a_run_is_the_same_for_lists_and_for_figures(root, or1lab, monkeypatch):
    """Also where a manifest may not be read, and where a run died before it had one."""
    died, closed, hidden = root / "died", root / "b" / "manifest.json", root / ".aside"
    died.mkdir()
    (died / "metrics.jsonl").write_text("")
    shutil.copytree(root / "a", hidden)
    read = Path.read_text

    def guarded(path, *args, **kwargs):
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", guarded)
    found = tracker.find(root)
    assert list(found.unreadable) == [str(closed.parent), str(died)]
    with pytest.warns(UserWarning, match="left out: ") as told:
        assert [run.folder for run in tracker.find_runs(root)] == [run.folder for run, _ in found.runs]
    assert [str(one.message) for one in told] == [f"left out: {why}" for why in found.unreadable.values()]
    assert [run.folder.name for run, _ in found.runs] == ["a", "c"]
    assert or1lab("runs", "list", root)[0] == 0


def test_a_run_of_another_version_is_named(root, or1lab):
    run = Run.open(root / "a")
    run.update_manifest(recipe=run.manifest["recipe"] | {"sharpness": 3})
    assert or1lab("runs", "list", root)[0] == 0
    code, _, err = or1lab("runs", "watch", root / "a")
    assert code == 2 and "another version of or1lab" in err and "unknown key 'sharpness'" in err
    with pytest.warns(UserWarning, match="left out: .*another version"):
        assert len(Measured(root).times) == 0


def test_export_holds_recipes_and_all_metrics(root, or1lab):
    for ending in ("csv", "parquet", "jsonl"):
        code, out, _ = or1lab("runs", "list", root, "D_T=4", "--export", root / f"runs.{ending}")
        assert code == 0 and "runs: 2" in out
    csv, parquet = pd.read_csv(root / "runs.csv"), pd.read_parquet(root / "runs.parquet")
    for frame in (csv, parquet, pd.read_json(root / "runs.jsonl", lines=True)):
        assert frame["seed"].tolist() == [0, 1] and frame["recipe.D_T"].tolist() == [4, 4]
        assert frame["eval/accuracy"].tolist() == pytest.approx([0.5, 0.6]) and "length/all" not in frame
    assert or1lab("runs", "list", root, "--export", root / "runs.xlsx")[0] == 2
    assert or1lab("runs", "list", root, "elsewhere")[0] == 2


def test_what_a_run_does_not_have_is_exported_as_nothing(root):
    """A knob of several types, and a list: missing where the recipe has other keys, None where it says so."""
    rows = [{"run": "a", "mixed": 3, "list": [1, 2]}, {"run": "b", "mixed": "x"}, {"run": "c", "list": None}]
    for ending, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        tracker.export(rows, root / f"runs.{ending}")
        frame = read(root / f"runs.{ending}")
        assert frame["mixed"].isna().tolist() == [False, False, True]
        assert frame["list"].isna().tolist() == [False, True, True]
        assert frame["mixed"].tolist()[:2] == ["3", "x"] and frame["list"][0] == "[1, 2]"
    assert "nan" not in (root / "runs.csv").read_text()


def test_a_narrow_terminal_keeps_the_names_of_runs(root):
    for width, words in ((50, ("accuracy",)), (80, ("accuracy", "entropy", "seconds"))):
        screen = io.StringIO()
        runs_view.listing(root, Wanted(), Console(file=screen, width=width), None)
        lines = screen.getvalue().splitlines()
        assert max(map(len, lines)) <= width and all(any(word in line for line in lines) for word in words)
        assert sum(line.startswith(("│ a ", "│ b ", "│ c ")) for line in lines) == 3


def test_two_hundred_packed_runs_are_listed_quickly(root):
    run = Run.open(root / "a")
    first = pack(run, root / "packed")
    for seed in range(1, 200):
        shutil.copytree(first, first.with_name(f"seed-{seed}"))
    begin = time.process_time()
    rows, _ = tracker.rows(root / "packed", Wanted(sort="reward/mean"))
    assert len(rows) == 200 and rows[0]["eval/accuracy"] == 0.5
    assert time.process_time() - begin < 3


def test_a_run_of_another_machine_is_running_while_it_writes(root):
    run = Run.open(root / "c")
    run.update_manifest(host="node-7")
    assert tracker.state(run, run.manifest) == "running"
    assert tracker.state(run, run.manifest | {"host": None}) == "interrupted"


def test_two_runs_are_compared(root, or1lab):
    other = Run.open(root / "b")
    other.update_manifest(installed={**other.manifest["installed"], "numpy": "0.1"}, backend="vllm")
    found = compare(Run.open(root / "a"), other)
    assert found["recipe"] == {"seed": (0, 2), "D_T": (4, 16)} and found["state"] == ("finished", "failed")
    assert list(found["packages"]) == ["numpy"] and found["packages"]["numpy"][1] == "0.1"
    assert found["environment"] == {"backend": (None, "vllm")}
    assert found["metrics"]["eval/accuracy"] == (0.5, 0.7)
    code, out, _ = or1lab("runs", "compare", root / "a", root / "b")
    assert code == 0 and "numpy" in out and "B - A" in out
    assert "A of step 4, B of step 4\n" in out and found["evaluated"] == (4, 4)


def test_evaluations_of_different_steps_are_called_so(root, or1lab):
    """That of the longer run is newer; one that was never evaluated has none."""
    longer = make(root / "longer", "seed=0", steps=9)
    code, out, _ = or1lab("runs", "compare", root / "a", longer.folder)
    assert code == 0 and "A of step 4, B of step 9: their numbers are not of the same step" in out
    told = json.loads(or1lab("runs", "compare", longer.folder, root / "a", "--json")[1])
    assert told["evaluated"] == [9, 4] and told["metrics"]["step"] == [9, 4]
    packed = pack(Run.open(longer.folder), root / "packed")
    assert compare(Run.open(root / "a"), Run.open(packed))["evaluated"] == (4, 9)
    longer.truncate_after(3)  # which forgets the final evaluation
    assert compare(longer, Run.open(root / "a"))["evaluated"] == (None, 4)
    out = or1lab("runs", "compare", longer.folder, root / "a")[1]
    assert "A of step -, B of step 4: their numbers" in out


def test_lineage_goes_from_stage_to_stage_and_from_run_to_run(root, or1lab):
    above = make(root / "two", "seed=5", "stages=[{steps: 2}, {steps: 3, T: 200}]")
    model = above.folder / "checkpoints" / "checkpoint-2"
    model.mkdir(parents=True)
    assert parent("tiny") is None and parent(str(root)) is None
    below = make(root / "below", "seed=6", f"model={model}", parent=parent(str(model)))
    mark(str(model), below.folder)
    assert below.manifest["parent"] == {"run": str(above.folder), "checkpoint": "checkpoint-2", "step": 2}
    found = lineage(below)
    assert found["ancestors"] == [below.manifest["parent"]] and found["base"] == "tiny"
    assert lineage(above)["children"] == [{"run": str(below.folder), "checkpoint": "checkpoint-2"}]
    assert children(model) == [str(below.folder)]
    assert [(s["first"], s["checkpoint"]) for s in lineage(above)["stages"]] == [(1, None), (None, None)]
    code, out, _ = or1lab("runs", "show", below.folder)
    assert code == 0 and "checkpoint-2 (step 2)" in out.replace("\n", "") and "base model  tiny" in out


def test_the_table_in_a_notebook_needs_no_network_and_escapes(root):
    make(root / "d", "seed=7", arm="<script>alert(1)</script>")
    page = tracker.table(root).data
    assert "on-policy" in page and "<script>alert(1)" not in page and "4 runs" in page
