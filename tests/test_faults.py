"""A real sweep whose processes are killed with SIGKILL: nothing is done twice, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from or1lab.recipe import ROOT
from or1lab.store import Run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
CLOCK = ("time/", "tokens_per_s", "memory/")
# Two arms of the same recipe: whatever happens to the second, its numbers must come out like the first's.
SWEEP = {
    "name": "faults", "title": "Faults", "question": "Is anything lost?", "recipe": str(ROOT / "tests" / "small.yaml"),
    "set": {"stages.0.steps": 60, "eval.every": 20, "checkpoint.every": 10, "threads": 1}, "seeds": [0],
    "arms": {"spared": {}, "killed": {}}, "baseline": "spared", "figure": "demo",
}  # fmt: skip


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def step_of(folder: Path) -> int:
    return (Run(folder).last() or {"step": 0})["step"]


def steady(run: Run) -> list[dict]:
    return [{key: value for key, value in record.items() if not key.startswith(CLOCK)} for record in run.records()]


def test_a_sweep_survives_its_kernel_and_its_own_death(tmp_path):
    (tmp_path / "faults.yaml").write_text(yaml.safe_dump(SWEEP))
    spared, killed = (tmp_path / "runs" / "faults" / arm / "seed-0" for arm in ("spared", "killed"))
    command = [
        sys.executable, "-m", "or1lab.cli", "sweep", str(tmp_path / "faults.yaml"), "--resume", "--jobs", "2",
        "--out", str(tmp_path / "runs"),
    ]  # fmt: skip

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)

    # 1. The kernel of one job is killed in the middle of training: the sweep goes on, and says so at the end.
    sweep = start()
    wait_for(lambda: step_of(killed) >= 12)
    children = psutil.Process(sweep.pid).children(recursive=True)
    jobs = [process for process in children if str(killed) in " ".join(process.cmdline())]
    (job,) = [process for process in jobs if "or1lab.notebook" in process.cmdline()]
    kernels = [process for process in job.children(recursive=True) if "ipykernel_launcher" in process.cmdline()]
    assert kernels
    kernels[0].send_signal(signal.SIGKILL)
    said, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 1
    assert "killed seed 0 failed" in said and "kernel died" in said and "--resume" in said
    assert Run.open(spared).status == "finished" and Run.open(killed).status == "failed"
    finished = (spared / "metrics.jsonl").read_bytes()

    # 2. The sweep itself is killed; its job ends with it.
    sweep = start()
    wait_for(lambda: step_of(killed) >= 32)
    children = psutil.Process(sweep.pid).children(recursive=True)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert Run.open(killed).status == "interrupted"

    # 3. Resumed: the finished run is left alone, the broken one has every number of an unbroken run.
    sweep = start()
    said, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 0 and "2 of 2 runs finished" in said
    assert (spared / "metrics.jsonl").read_bytes() == finished
    assert steady(Run.open(killed)) == steady(Run.open(spared))
    for step in range(1, 61):
        assert Run.open(killed).rollouts(step).equals(Run.open(spared).rollouts(step))
