"""Trackers and progress: shown while it goes, never in the way."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from or1lab import tracking
from or1lab.recipe import ROOT, Recipe
from or1lab.store import Run
from or1lab.tracking import Progress, Tracker, duration


def make(folder: Path, mode: str) -> tuple[dict, Run]:
    recipe = Recipe.model_validate({"name": "toy", "wandb": mode, "stages": [{"steps": 4}]}).resolved()
    return recipe, Run.create(folder / "run", recipe=recipe)


def step(number: int) -> dict:
    return {"kind": "step", "step": number, "reward/mean": 0.25, "entropy/rollout": 1.5, "tokens_per_s": 1234.5}


def test_offline_mirror_lies_in_the_run_folder_and_is_silent(tmp_path, capfd):
    pytest.importorskip("wandb")
    recipe, run = make(tmp_path, "offline")
    tracker = Tracker(recipe, run)
    assert not (run.folder / "wandb").exists(), "must start with the first record, not before"
    tracker.log({"kind": "eval", "step": 0, "eval/accuracy": 0.3})
    tracker.log({"kind": "sgd", "step": 1, "sgd_step": 1, "ratio/max": float("nan")})
    tracker.log(step(1))
    tracker.close()
    (mirror,) = (run.folder / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 30  # wandb's own process writes the file, now and then a moment after it said it had
    while not all(name in mirror.read_bytes() for name in (b"eval/accuracy", b"reward/mean", b"sgd/ratio/max")):
        assert time.monotonic() < deadline, mirror.read_bytes()
        time.sleep(0.1)
    assert f'"recipe_hash":"{run.manifest["recipe_hash"]}"'.encode() in mirror.read_bytes().replace(b": ", b":")
    time.sleep(1.1)  # the name of its folder holds the second
    tracker = Tracker(recipe, run)  # a second sitting: `wandb sync` makes one run of both
    tracker.log(step(2))
    tracker.close()
    sittings = list((run.folder / "wandb").glob("offline-run-*"))
    assert len({folder.name.rpartition("-")[2] for folder in sittings}) == 1
    assert capfd.readouterr() == ("", "")


def test_off_never_imports_wandb(tmp_path):
    make(tmp_path, "off")
    code = (
        "import sys; from or1lab.store import Run; from or1lab.tracking import Tracker\n"
        "run = Run.open(sys.argv[1]); t = Tracker(run.manifest['recipe'], run); t.log({'kind': 'step', 'step': 1})\n"
        "t.close(); print('wandb' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.strip() == "False", done.stderr


def test_plain_line_a_minute_and_one_at_the_end(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    progress = Progress(100, title="toy", console=Console(file=out))
    for number in range(11, 51):  # a resumed run: ten steps were done before
        clock[0] += 5
        progress.update({"kind": "sgd", "step": number})
        progress.update(step(number))
    progress.close()
    progress.close()
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"toy: step {n}/100" for n in (22, 34, 46, 50)]
    assert lines[0] == "toy: step 22/100, reward 0.250, entropy 1.500, tokens/s 1,234, 6 min 30 s left"
    assert lines[-1].endswith("4 min 10 s left")


def test_live_line_in_a_terminal():
    out = io.StringIO()
    progress = Progress(4, title="toy", console=Console(file=out, force_terminal=True, width=120))
    progress.update(step(2))
    progress.close()
    assert "2/4" in out.getvalue() and "reward 0.250" in out.getvalue() and "left" in out.getvalue()


def test_a_run_without_a_step_prints_nothing():
    out = io.StringIO()
    progress = Progress(4, console=Console(file=out))
    progress.update({"kind": "eval", "step": 0})
    progress.close()
    assert out.getvalue() == ""


def test_numbers_that_are_missing_are_dashes():
    assert tracking.describe({"step": 1}) == "reward -, entropy -, tokens/s -"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
