"""Processes that end anywhere: nothing is lost, nothing is done twice, and every number is that of an unbroken run.

On the transformers backend a run is ended at each place that or1lab/kill_points.py names, and again in its second
sitting.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from or1lab.kill_points import EXIT_CODE, POINTS
from or1lab.store import Run
from tests.broken_runs import TRAIN, files, steady

DIVERGES = [*TRAIN, "lr=1e30"]  # the second mini-batch has no finite gradient
# The n-th time that a point is reached: mostly beyond the checkpoint of step 2, so that work is thrown away.
LATE = {
    "metrics": 10, "manifest": 5, "rollouts": 4, "evals": 3, "checkpoint": 2, "model": 2, "optimizer": 6, "sync": 4,
}  # fmt: skip
FURTHER = [
    "manifest/before:1", "manifest/aside:1", "manifest/renamed:1", "manifest/aside:4", "metrics/half:1",
    "evals/aside:2", "checkpoint/unsealed:1", "checkpoint/gap:1", "checkpoint/renamed:1", "model/saved:3",
    "optimizer/after:5",
]  # fmt: skip
CASES = [f"{point}:{LATE.get(point.partition('/')[0], 1)}" for point in POINTS] + FURTHER
QUICK = ["metrics/half:10", "checkpoint/state:2", "truncate/renamed:1"]  # in the default tests


@pytest.fixture(scope="module")
def diverged(forks, tmp_path_factory) -> Path:
    """A run that ends with an error of its own."""
    folder = tmp_path_factory.mktemp("diverged") / "run"
    assert forks(*DIVERGES, "--out", str(folder)) == 1 and (folder / "failures").is_dir()
    return folder


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.faults) for c in CASES])
def test_a_run_killed_anywhere_comes_out_like_an_unbroken_one(case, forks, unbroken, request, tmp_path):
    folder, begin = tmp_path / "run", time.time()
    point = case.partition(":")[0]
    fails = point.startswith("failures")
    other = request.getfixturevalue("diverged") if fails else unbroken
    command = [*(DIVERGES if fails else TRAIN), "--resume", "--out", str(folder)]
    first = "sync/after:4" if point.startswith("truncate") else case  # something must be there to be cut off
    assert forks(*command, kill_at=first) == EXIT_CODE, forks.log.read_text()
    # Some points lie behind what a second sitting still does; it then ends well.
    again = forks(*command, kill_at=point)
    assert again == EXIT_CODE or (again == 0 and not point.startswith("truncate")), forks.log.read_text()
    assert forks(*command) == (1 if fails else 0), forks.log.read_text()
    assert steady(folder) == steady(other)
    assert files(folder) == files(other)  # weights, optimizer, random streams, rollouts, evals; nothing left over
    ours, theirs = Run.open(folder).manifest, Run.open(other).manifest
    assert 0 < ours["seconds"] < time.time() - begin
    for name in ("created", "finished", "seconds", "code"):  # code: somebody may edit it meanwhile
        ours[name] = theirs[name]
    assert json.dumps(ours).replace(str(folder), str(other)) == json.dumps(theirs)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("by", "at"),
    [
        ("SIGTERM", "optimizer/before:5"),
        pytest.param("SIGTERM", "metrics/half:10", marks=pytest.mark.faults),
        pytest.param("SIGTERM", "checkpoint/unsealed:2", marks=pytest.mark.faults),
        pytest.param("SIGUSR1", "sync/after:4", marks=pytest.mark.faults),
        pytest.param("SIGUSR1", "manifest/aside:1", marks=pytest.mark.faults),  # not yet a run
    ],
)
def test_a_run_told_to_stop_says_so_and_comes_out_like_an_unbroken_one(by, at, forks, unbroken, tmp_path):
    """What a scheduler sends at the end of a job's time."""
    folder = tmp_path / "run"
    command = [*TRAIN, "--resume", "--out", str(folder)]
    forks.log.unlink(missing_ok=True)
    assert forks(*command, kill_at=at, by=by) == 1
    there = sorted((folder / "checkpoints").glob("checkpoint-*"))
    assert len(there) == (at in ("optimizer/before:5", "metrics/half:10", "checkpoint/unsealed:2"))  # that of step 2
    kept = "kept up to step 2, its newest checkpoint" if there else "nothing is kept, for there is no checkpoint yet"
    assert f"stopped by {by}; {kept}: " in forks.log.read_text() and "--resume" in forks.log.read_text()
    if at != "manifest/aside:1":
        stopped = Run.open(folder)
        assert (stopped.status, stopped.manifest["error"]) == ("failed", f"KeyboardInterrupt: {by}")
    assert forks(*command) == 0, forks.log.read_text()
    assert steady(folder) == steady(unbroken) and files(folder) == files(unbroken)
