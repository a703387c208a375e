"""Processes and runs that the tests of faults share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from or1lab.recipe import ROOT
from or1lab.store import Run
from tests.broken_runs import ENV, TRAIN, Forks
from tests.test_sweep import notebook  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")  # tests elsewhere want no child left
def forks(tmp_path_factory):
    forks = Forks(tmp_path_factory.mktemp("forks") / "log")
    yield forks
    forks.server.communicate()


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory) -> Path:
    """The run that nothing happens to, by the installed command itself."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    subprocess.run([sys.executable, "-m", "or1lab.cli", *TRAIN, "--out", str(folder)], check=True, env=ENV, cwd=ROOT)
    alarms, dropped = Run.open(folder).manifest["alarms"], json.loads((folder / "online_filter.json").read_text())
    assert len(alarms) == 1 and "at step 3" in alarms[0] and len(dropped["1"]) > 0
    return folder
