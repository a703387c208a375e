"""Sweeps whose kernels, jobs or own process are killed: no other job is touched, and nothing is done twice.

Stub notebooks show what is said and what is started; a real sweep on vLLM is killed with SIGKILL at random times.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from or1lab import notebook as notebooks
from or1lab.experiment import expand
from or1lab.recipe import ROOT
from or1lab.store import Run
from tests.broken_runs import SMALL, files, steady, step_of, wait_for
from tests.test_sweep import experiment, starts, states, steps, sweep

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")


@pytest.mark.faults
def test_failed_and_killed_jobs_stop_no_other_and_resume_finishes_them(notebook, monkeypatch):
    monkeypatch.setattr("or1lab.sweep_view.PLAIN_EVERY", 0.5)
    monkeypatch.setattr("or1lab.sweep_view.REFRESH", 0.2)
    arms = experiment("good", "fails", "dies", "ugly")
    result, text = sweep(arms, notebook)
    assert result.exit_code == 1
    assert states(result) == {"good": "finished", "fails": "failed", "dies": "failed", "ugly": "failed"}
    good, fails, dies, ugly = (outcome.job for outcome in result.outcomes)
    errors = {outcome.job.arm: outcome.error for outcome in result.outcomes}
    assert errors["fails"] == "cell In [4]: ValueError: the reward is not a number"
    assert errors["dies"] == "cell In [4]: the kernel died (killed, or out of memory)"
    assert errors["ugly"] == "cell In [5]: KeyError: 'no such column'"
    for job in (fails, dies, ugly):
        assert f"{job.name} failed: {errors[job.arm]}\n  log: {job.log}\n  notebook: {job.executed}" in text
        assert notebooks.execution_failed(job.executed)
    assert not notebooks.execution_failed(good.executed)
    assert "1 of 4 runs finished" in text and "--resume" in text
    assert re.search(r"good seed 0: (step \d/6, reward|starting)", text), "no plain line in the meantime"
    assert (Run.open(dies.folder).status, Run.open(ugly.folder).status) == ("failed", "finished")
    assert "kernel died" in Run.open(dies.folder).manifest["error"]
    assert "Traceback" in fails.log.read_text() and "step 3" in fails.log.read_text()
    assert Path(good.log.read_text().splitlines()[0]).samefile(sys.executable), "another interpreter's kernel"
    assert set(Run.open(good.folder).metrics["threads"]) == {1}

    (notebook.parent / "mended").touch()
    result, _ = sweep(arms, notebook, resume=True)
    assert result.exit_code == 0 and set(states(result).values()) == {"finished"}
    assert starts(notebook) == {"good": 1, "fails": 2, "dies": 2, "ugly": 2}
    for outcome in result.outcomes:
        assert steps(outcome.job) == [1, 2, 3, 4, 5, 6], "a step lost or done twice"
        assert not notebooks.execution_failed(outcome.job.executed)


def start_sweep(notebook: Path, arms: tuple[str, ...], **options) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from or1lab.errors import Or1labError\n"
        "from or1lab.experiment import load_experiment; from or1lab.sweep import run_sweep\n"
        "notebook = Path(sys.argv[1])\n"
        "try: run_sweep(notebook.with_name('toy.yaml'), notebook=notebook, out=notebook.parent / 'runs')\n"
        "except Or1labError as error: sys.exit(f'error: {error}')\n"
    )
    (notebook.parent / "toy.yaml").write_text(yaml.safe_dump(experiment(*arms).model_dump()))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(notebook)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job inherits "ignored"
    )  # fmt: skip


def kernels(notebook: Path) -> list[int]:
    journal = notebook.parent / "journal"
    return [int(line.split()[3]) for line in journal.read_text().splitlines()] if journal.exists() else []


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")  # a zombie waits for its reaper only
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def in_step_3(notebook: Path, arms: tuple[str, ...]) -> bool:
    grid = expand(experiment(*arms), out=notebook.parent / "runs")
    return all((Run(job.folder).last() or {"step": 0})["step"] == 3 for job in grid)


@needs_proc
def test_kill_9_of_a_sweep_then_resume_does_nothing_twice_and_loses_nothing(notebook):
    arms = ("hangs", "deaf")
    process = start_sweep(notebook, arms)
    wait_for(lambda: in_step_3(notebook, arms))
    process.kill()
    process.communicate()
    (notebook.parent / "mended").touch()
    result, _ = sweep(experiment(*arms), notebook, resume=True)  # at once: the orphans may still be dying
    assert result.exit_code == 0, result
    assert starts(notebook) == {"hangs": 2, "deaf": 2}
    for outcome in result.outcomes:
        assert steps(outcome.job) == [1, 2, 3, 4, 5, 6]
    assert not any(alive(pid) for pid in kernels(notebook)[:2])


@needs_proc
def test_killed_papermill_takes_its_kernel_along(notebook):
    job = expand(experiment("hangs"), out=notebook.parent / "runs")[0]
    process = notebooks.start(notebook, job.executed, job.parameters, log=job.log)
    wait_for(lambda: in_step_3(notebook, ("hangs",)))
    assert job.state == "running"
    process.kill()
    process.wait()
    wait_for(lambda: not alive(kernels(notebook)[0]), 10)
    wait_for(lambda: job.state == "interrupted", 10)  # /proc may say Z while other threads still hold the run's lock
    assert notebooks.execution_failed(job.executed)


@needs_proc
def test_ctrl_c_ends_the_children_and_says_how_to_go_on(notebook):
    arms = ("hangs",)
    process = start_sweep(notebook, arms)
    wait_for(lambda: in_step_3(notebook, arms))
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 1 and "Traceback" not in text
    assert "the sweep was stopped" in text and "--resume" in text
    wait_for(lambda: not alive(kernels(notebook)[0]), 5)


# Two arms of the same recipe: whatever happens to the second, its numbers must come out like the first's.
SWEEP = {
    "name": "faults", "title": "Faults", "question": "Is anything lost?", "recipe": str(SMALL),
    "set": {"stages.0.steps": 60, "eval.every": 20, "checkpoint.every": 10, "threads": 1}, "seeds": [0],
    "arms": {"spared": {}, "killed": {}}, "baseline": "spared", "figure": "demo",
}  # fmt: skip
KERNEL = "ipykernel_launcher"


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_sweep_survives_its_kernels_and_its_own_death(tmp_path):
    (tmp_path / "faults.yaml").write_text(yaml.safe_dump(SWEEP))
    spared, killed = (tmp_path / "runs" / "faults" / arm / "seed-0" for arm in ("spared", "killed"))
    command = [
        sys.executable, "-m", "or1lab.cli", "sweep", str(tmp_path / "faults.yaml"), "--resume", "--jobs", "2",
        "--out", str(tmp_path / "runs"),
    ]  # fmt: skip
    chance = random.Random(0)

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)

    def at_random(first: int, last: int) -> None:
        """Wait for some step of the run to be killed, and some time more: it may be anywhere in the steps after it."""
        step, more = chance.randint(first, last), chance.uniform(0, 0.5)
        wait_for(lambda: step_of(killed) >= step)
        time.sleep(more)

    def kill_kernel(sweep: subprocess.Popen) -> None:
        children = psutil.Process(sweep.pid).children(recursive=True)
        jobs = [process for process in children if str(killed) in " ".join(process.cmdline())]
        (job,) = [process for process in jobs if "or1lab.notebook" in process.cmdline()]
        kernels = [process for process in job.children(recursive=True) if KERNEL in process.cmdline()]
        assert kernels
        kernels[0].send_signal(signal.SIGKILL)

    # 1. The kernel of one job is killed in the middle of training: the sweep goes on, and says so at the end.
    sweep = start()
    at_random(8, 18)
    kill_kernel(sweep)
    said, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 1
    assert "killed seed 0 failed" in said and "kernel died" in said and "--resume" in said
    assert Run.open(spared).status == "finished" and Run.open(killed).status == "failed"
    finished = (spared / "metrics.jsonl").read_bytes()

    # 2. The sweep itself is killed; its job ends with it.
    sweep = start()
    at_random(24, 34)
    children = psutil.Process(sweep.pid).children(recursive=True)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert Run.open(killed).status == "interrupted"

    # 3. The kernel once more.
    sweep = start()
    at_random(40, 50)
    kill_kernel(sweep)
    sweep.communicate(timeout=400)
    assert sweep.returncode == 1 and Run.open(killed).status == "failed"

    # 4. Resumed: the finished run is left alone, the broken one has every number of an unbroken run.
    sweep = start()
    said, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 0 and "2 of 2 runs finished" in said
    assert (spared / "metrics.jsonl").read_bytes() == finished
    assert steady(killed) == steady(spared)
    assert files(killed) == files(spared)
