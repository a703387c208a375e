"""The processes that judge mathematics: their limits, and whose they are."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import psutil
import pytest

from or1lab.recipe import ROOT
from or1lab.rewards import math as reward
from or1lab.rewards import math_worker
from or1lab.rewards.math import verify_math

SLOW = r"\boxed{9^{9^{9^{9}}}}"  # Math-Verify computes it for longer than anybody waits


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch):
    monkeypatch.setattr(reward, "_cache", {})
    yield
    reward._pool().close()


def test_a_workers_memory_and_files_are_limited():
    assert verify_math(r"\boxed{0.5}", r"\frac12").correct
    (worker, *_) = (
        p for p in psutil.Process().children() if any("math_worker" in part for part in p.cmdline())
    )
    if not hasattr(worker, "rlimit"):
        pytest.skip("no limits on this system")
    assert worker.rlimit(psutil.RLIMIT_AS) == (math_worker.MEMORY, math_worker.MEMORY)
    assert worker.rlimit(psutil.RLIMIT_FSIZE) == worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_a_worker_limits_its_own_processor_time():
    worker = subprocess.Popen(
        [sys.executable, "-P", math_worker.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    question = json.dumps({"pairs": [[r"\boxed{\frac12}", SLOW]], "limit": 0.2, "plain": False})
    out, _ = worker.communicate(question + "\n", timeout=60)
    assert out == '"ready"\n' and worker.returncode == -signal.SIGPROF


def test_a_forked_child_asks_workers_of_its_own():
    code = r"""
import os, psutil
from or1lab.rewards.math import verify_math
assert verify_math(r"\boxed{0.5}", r"\frac12").correct
if (child := os.fork()) == 0:
    right = verify_math(r"\boxed{0.25}", r"\frac14").correct
    os._exit(0 if right and len(psutil.Process().children()) == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
assert verify_math(r"\boxed{0.125}", r"\frac18").correct and len(psutil.Process().children()) == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
