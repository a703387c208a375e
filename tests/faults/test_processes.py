"""A run of several processes of which one is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from or1lab.recipe import ROOT
from or1lab.store import Run
from tests.broken_runs import ENV, SMALL, steady, step_of, wait_for

STEPS = 16
TRAIN = [
    "train", str(SMALL), "rollout.backend=transformers", "D_T=2", f"stages.0.steps={STEPS}", "eval.every=8",
    "checkpoint.every=2", "--processes", "2",
]  # fmt: skip


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "or1lab.cli", *TRAIN, "--resume", "--out", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def workers(started: subprocess.Popen[str]) -> list[psutil.Process]:
    """The training processes, the first one first."""
    children = psutil.Process(started.pid).children(recursive=True)
    found = [child for child in children if "worker" in child.cmdline() and "or1lab.launch" in child.cmdline()]
    return sorted(found, key=lambda child: int(child.environ()["RANK"]))


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_one_process_of_several_killed_ends_the_others_and_the_run_goes_on(tmp_path):
    whole = start(tmp_path / "whole")
    said, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, said

    folder = tmp_path / "killed"
    broken = start(folder)
    wait_for(lambda: step_of(folder) >= 5)
    both = workers(broken)
    assert len(both) == 2
    both[1].send_signal(signal.SIGKILL)
    said, _ = broken.communicate(timeout=120)
    assert broken.returncode == 1 and "--resume" in said and "Traceback" not in said, said
    assert not psutil.wait_procs(both, timeout=10)[1]
    assert Run.open(folder).status in ("failed", "interrupted") and step_of(folder) < STEPS

    again = start(folder)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert steady(folder) == steady(tmp_path / "whole")
