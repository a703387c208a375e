"""A mirror that fails costs no record: the run folder is the truth."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from tests.broken_runs import ENV
from tests.test_tracking import Tracker, make, step


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_failing_mirror_costs_one_warning_and_no_record(tmp_path, monkeypatch, where):
    wandb = pytest.importorskip("wandb")

    class Mirror:
        def define_metric(self, *_, **__): ...
        def log(self, _):
            if where == "log":
                raise ConnectionError("no network")

        def finish(self):
            if where == "finish":
                raise TimeoutError("no network")

    def init(**_):
        if where == "init":
            raise wandb.errors.CommError("no network")
        return Mirror()

    monkeypatch.setattr(wandb, "init", init)
    tracker = Tracker(*make(tmp_path, "online"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(3):
            tracker.log(step(number))
        tracker.close()
        tracker.close()
    assert len(caught) == 1 and "no network" in str(caught[0].message) and "run" in str(caught[0].message)


def test_wandb_killed_costs_one_warning_and_nothing_at_exit(tmp_path):
    """Its own process, with SIGKILL, in the middle of a run."""
    make(tmp_path, "offline")
    code = (
        "import sys, psutil; from or1lab.store import Run; from or1lab.tracking import Tracker\n"
        "run = Run.open(sys.argv[1]); tracker = Tracker(run.manifest['recipe'], run)\n"
        "tracker.log({'kind': 'step', 'step': 1}); (wandb,) = psutil.Process().children()\n"
        "wandb.kill(); wandb.wait()\n"
        "for n in range(2, 5): tracker.log({'kind': 'step', 'step': n})\n"
        "tracker.close(); print('the run goes on')"
    )
    pytest.importorskip("wandb")
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENV, timeout=120)
    assert (done.returncode, done.stdout) == (0, "the run goes on\n"), done.stderr
    assert done.stderr.count("wandb is switched off for this run") == 1 and "Traceback" not in done.stderr
