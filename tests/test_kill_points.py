"""Kill points end a process where they are told to, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from or1lab import kill_points
from or1lab.errors import UsageError
from or1lab.recipe import ROOT

CODE = (
    "import atexit; from or1lab.kill_points import kill_point; atexit.register(print, 'cleaned up')\n"
    "for i in range(4): print(i); kill_point('sync/before'); kill_point('sync/after', lambda: print('last'))"
)


def run(kill_at: str) -> subprocess.CompletedProcess:
    env = os.environ | {kill_points.VARIABLE: kill_at, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-uc", CODE], capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize(
    ("kill_at", "said"),
    [("sync/before", "0"), ("sync/before:3", "0 1 2"), ("sync/after:2", "0 1 last"), ("sync/before:9", None)],
)
def test_the_process_ends_at_the_point_without_cleaning_up(kill_at, said):
    done = run(kill_at)
    assert done.stdout.split() == (said or "0 1 2 3 cleaned up").split()
    assert done.returncode == (kill_points.EXIT_CODE if said else 0), done.stderr


@pytest.mark.parametrize(
    ("kill_at", "message"),
    [("sync/befor", "did you mean 'sync/before'?"), ("sync/before:x", "after the colon comes a count")],
)
def test_a_point_that_does_not_exist_is_an_error_at_once(kill_at, message):
    done = run(kill_at)
    assert done.returncode == 1 and message in done.stderr and done.stdout == ""


def test_a_place_without_a_name_in_the_list_is_an_error(monkeypatch):
    kill_points.kill_point("not/listed")  # nobody asked for anything: it costs nothing
    monkeypatch.setattr(kill_points, "_name", "sync/before")
    with pytest.raises(UsageError, match="not/listed"):
        kill_points.kill_point("not/listed")
