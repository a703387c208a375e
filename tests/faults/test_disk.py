"""Disks that are full or damage a file: one message that says which and how to go on, and nothing else is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from transformers import Trainer

from or1lab import notebook as notebooks
from or1lab import train
from or1lab.errors import Or1labError
from or1lab.evaluation import Evaluation
from or1lab.recipe import Recipe, load_recipe
from or1lab.store import Run
from tests.broken_runs import ENV, SMALL, TRAIN, Forks, files, steady
from tests.test_evaluation import run as evaluate_toy
from tests.test_sweep import experiment, sweep

RECIPE = Recipe.model_validate({"name": "toy", "seed": 3, "stages": [{"steps": 4}]})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", recipe=RECIPE.resolved())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_says_where_how_much_and_what_next(run, monkeypatch, number):
    run.log("step", step=1)
    written = (run.folder / "metrics.jsonl").read_bytes()
    real = os.write

    def full(descriptor, content):
        if len(content) > 20:
            return real(descriptor, content[:20])  # a disk fills up in the middle of a line
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Or1labError, match=r"no disk space left for .*run \([\d.]+ MiB free\).*--resume"):
        run.log("step", step=2, text="z" * 11)
    assert (run.folder / "metrics.jsonl").read_bytes() == written


def test_a_file_system_that_is_really_full(tmp_path):
    """A 128 KiB file system of our own: parquet, manifest and records each meet the end of it."""
    script = tmp_path / "fill.py"
    script.write_text(
        "import sys; from pathlib import Path; import pandas as pd; from or1lab.errors import Or1labError\n"
        "from or1lab.store import Run; from or1lab.recipe import Recipe\n"
        "recipe = Recipe.model_validate({'stages': [{'steps': 4}]}).resolved()\n"
        "run = Run.create(sys.argv[1] + '/run', recipe=recipe); run.log('step', step=1)\n"
        "writes = [lambda: run.write_rollouts(1, pd.DataFrame({'x': [str(hash(str(i))) for i in range(20000)]})),\n"
        "          lambda: [run.log('step', step=i, text='y' * 3000) for i in range(2, 200)],\n"
        "          lambda: run.update_manifest(error='e' * 200000),\n"
        "          lambda: Run.create(sys.argv[1] + '/second', recipe={**recipe, 'name': 'n' * 200000})]\n"
        "for write in writes:\n"
        "    try: write(); sys.exit('nothing was raised')\n"
        "    except Or1labError as error: text = str(error)\n"
        "    assert 'no disk space left' in text and '--resume' in text, text\n"
        "steps = [r['step'] for r in run.records()]; assert steps == list(range(1, len(steps) + 1)), steps\n"
        "assert run.status == 'interrupted' and not list(Path(sys.argv[1]).rglob('*.parquet'))\n"
    )
    mount = tmp_path / "small"
    mount.mkdir()
    inside = f"mount -t tmpfs -o size=128k none {mount} && echo mounted && exec {sys.executable} {script} {mount}"
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True, check=False, env=ENV)
    if "mounted" not in done.stdout:
        pytest.skip("may not mount a file system of its own here")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library_error", [OSError(28, "No space left on device"), RuntimeError("write failed")])
def test_a_full_disk_at_a_checkpoint_is_explained_and_leaves_the_last_one(library_error, engine, tmp_run, monkeypatch):
    """torch and safetensors raise errors of their own; what is half written is removed."""
    whole = Trainer._save_checkpoint

    def fill(self, model, trial):
        if self.state.global_step == 4:
            (self._writing / "half").mkdir(parents=True)
            monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
            raise library_error
        whole(self, model, trial)

    monkeypatch.setattr(Trainer, "_save_checkpoint", fill)
    with pytest.raises(Or1labError, match="no disk space left .*--resume"):
        train.run(load_recipe(SMALL), tmp_run, engine=engine, progress=False)
    assert [path.name for path in (tmp_run / "checkpoints").iterdir()] == ["checkpoint-2"]


def test_no_room_for_the_run_folder_fails_that_job_only(notebook, monkeypatch):
    def full(*_, **__):
        raise Or1labError("no disk space left for runs/toy")

    monkeypatch.setattr(notebooks, "start", full)
    result, text = sweep(experiment(), notebook)
    assert result.exit_code == 1 and text.count("failed: no disk space left") == 2


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_run_on_a_disk_that_fills_up_goes_on_once_there_is_room(unbroken, tmp_path):
    """On a file system of its own: something else leaves no room for the second checkpoint, and is then removed."""
    mount = tmp_path / "small"
    mount.mkdir()
    room = sum(path.stat().st_size for path in unbroken.rglob("*") if path.is_file()) * 2
    first = f"mount -t tmpfs -o size={room} none {mount}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", first], check=False).returncode:
        pytest.skip("may not mount a file system of its own here")
    forks = Forks(tmp_path / "log", first)
    try:
        command = [*TRAIN, "--resume", "--out", str(mount / "run")]
        assert forks(*command, kill_at="optimizer/after:6") != 0  # also: the server is up, and its disk is mounted
        disk = Path(f"/proc/{forks.server.pid}/root{mount}")
        ballast = disk / "ballast"
        with ballast.open("wb") as file:
            file.write(b"0" * (shutil.disk_usage(disk).free - 2**18))
        assert forks(*command) == 1
        assert "no disk space left" in forks.log.read_text() and "--resume" in forks.log.read_text()
        assert Run.open(disk / "run").status == "failed"
        ballast.unlink()
        assert forks(*command) == 0, forks.log.read_text()
        assert steady(disk / "run") == steady(unbroken) and files(disk / "run") == files(unbroken)
    finally:
        forks.server.communicate()


def test_a_damaged_file_is_named(run, tmp_path):
    """Of a run, and of an evaluation; a file that lost its rows, too."""
    run.write_rollouts(1, pd.DataFrame({"x": range(100)}))
    path = run.folder / "rollouts" / "step-000001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Or1labError, match=r"step-000001.parquet is damaged \(.*train again"):
        run.rollouts(1)
    found = evaluate_toy(tmp_path / "evaluation")
    part, problems = found.parts()[0], found.folder / "problems.jsonl"
    content = part.read_bytes()
    part.write_bytes(b"")
    with pytest.raises(Or1labError, match=r"part-00000.parquet is damaged \(.*evaluate again into another folder"):
        found.summary()
    part.write_bytes(content)
    problems.write_text("")
    with pytest.raises(Or1labError, match=r"problems.jsonl is damaged \(it holds 0 of 6 problems\)"):
        Evaluation.open(found.folder).summary()
