"""`runs gc`: only what a rule names goes, and never what somebody still needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from or1lab.cleaning import clean
from or1lab.errors import UsageError
from or1lab.lineage import mark
from or1lab.recipe import load_recipe
from or1lab.store import Run


def make(folder, *overrides: str, days=3.0, **manifest) -> Run:
    done = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    extra = {"status": "finished", "finished": done, **manifest}
    run = Run.create(folder, recipe=load_recipe("tiny", list(overrides)).resolved(), extra=extra)
    for name in ("checkpoint-20", "checkpoint-40", "checkpoint-60", "final"):
        (run.folder / "checkpoints" / name).mkdir(parents=True)
        (run.folder / "checkpoints" / name / "model.safetensors").write_bytes(b"x" * 1000)
    for step in (10, 20, 30, 40, 55):
        run.write_rollouts(step, pd.DataFrame({"response": ["7"]}))
    for step, right in ((20, False), (40, True), (60, False)):
        run.write_evals(step, pd.DataFrame({"problem_id": ["p"], "correct": [right], "reason": ["x"]}))
    return run


def kept(run: Run, kind: str) -> list[str]:
    return sorted(path.name for path in (run.folder / kind).iterdir())


@pytest.mark.parametrize(
    ("rule", "stay"),
    [("none", ["final"]), ("last", ["checkpoint-60", "final"]), ("best", ["checkpoint-40", "final"])],
)
def test_checkpoints_stay_by_rule(rule, stay, tmp_path):
    run = make(tmp_path / "a", "eval.tau=1.0")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    told = clean(tmp_path, rule, None, dry_run=True)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    done = clean(tmp_path, rule, None, dry_run=False)
    assert kept(run, "checkpoints") == stay and len(kept(run, "rollouts")) == 5 and len(run.evals) == 3
    assert done.removed == told.removed and done.bytes == 1000 * (4 - len(stay))
    assert clean(tmp_path, rule, None, dry_run=False).removed == {}


@pytest.mark.parametrize(("rule", "steps"), [("none", []), ("last", [55]), ("every=20", [20, 40, 55])])
def test_rollouts_stay_by_rule(rule, steps, tmp_path):
    run = make(tmp_path / "a")
    clean(tmp_path, None, rule, dry_run=False)
    assert run.rollout_steps == steps and len(kept(run, "checkpoints")) == 4


def test_unfinished_young_and_foreign_folders_are_left(tmp_path):
    runs = [make(tmp_path / status, status=status) for status in ("running", "failed")]
    young = make(tmp_path / "young", days=0.5)
    busy = make(tmp_path / "busy")
    foreign = tmp_path / "foreign"
    (foreign / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (foreign / "metrics.jsonl").touch()
    with busy.lock():
        done = clean(tmp_path, "none", "none", 1.0, dry_run=False)
    assert done.removed == {} and done.bytes == 0
    assert all(len(kept(run, "checkpoints")) == 4 and len(kept(run, "rollouts")) == 5 for run in (*runs, young, busy))
    assert (foreign / "checkpoints" / "checkpoint-1").is_dir()
    assert done.left[str(tmp_path / "running")] == "it is interrupted" and str(foreign) in done.left


def test_what_another_run_started_from_stays(tmp_path):
    run = make(tmp_path / "runs" / "a")
    marked, named = (run.folder / "checkpoints" / f"checkpoint-{step}" for step in (20, 40))
    mark(str(marked), tmp_path / "far" / "away")
    make(tmp_path / "runs" / "b", f"model={named}", status="failed")
    done = clean(tmp_path / "runs", "none", None, dry_run=False)
    assert kept(run, "checkpoints") == ["checkpoint-20", "checkpoint-40", "final"]
    assert "far/away started from it" in done.left[str(marked)] and str(named) in done.left


def test_nothing_goes_through_a_linked_folder(tmp_path):
    run, elsewhere = make(tmp_path / "runs" / "a"), tmp_path / "elsewhere"
    (run.folder / "rollouts").rename(elsewhere)
    (run.folder / "rollouts").symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    done = clean(tmp_path / "runs", None, "none", dry_run=False)
    assert before and sorted(elsewhere.iterdir()) == before and not done.removed
    assert all("a link leads to it" in why for why in done.left.values()) and len(done.left) == len(before)


def test_the_only_model_of_a_run_and_links_stay(tmp_path):
    run = make(tmp_path / "a")
    (run.folder / "checkpoints" / "final").rename(tmp_path / "elsewhere")
    (run.folder / "checkpoints" / "checkpoint-20").rename(tmp_path / "big-disk")
    (run.folder / "checkpoints" / "checkpoint-20").symlink_to(tmp_path / "big-disk")
    clean(tmp_path / "a", "none", None, dry_run=False)
    assert kept(run, "checkpoints") == ["checkpoint-20", "checkpoint-60"] and (tmp_path / "big-disk").is_dir()


@pytest.mark.parametrize(
    ("rules", "words"),
    [((None, None), "what may go"), (("lst", None), "did you mean 'last'"), ((None, "every=0"), "every=N")],
)
def test_a_rule_that_is_none_is_named(rules, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        clean(tmp_path, *rules, dry_run=False)
