"""Processes that end anywhere: nothing is lost, nothing is done twice, and every number is that of an unbroken run.

On the transformers backend a run is ended at each place that or1lab/kill_points.py names, and again in its second
sitting. On vLLM a real sweep and its kernels are killed with SIGKILL at random times.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from or1lab.kill_points import EXIT_CODE, POINTS
from or1lab.recipe import ROOT
from or1lab.store import Run

CLOCK = ("time/", "tokens_per_s", "memory/")
SMALL = ROOT / "tests" / "small.yaml"
ENV = os.environ | {"PYTHONPATH": str(ROOT)}

# ------------------------------------------------------------------------------------- every kill point, transformers

# Four steps of two mini-batches; checkpoints after steps 2 and 4. What a checkpoint holds beyond weights is in use: the
# controller moves, a guard counts up to its alarm at step 3, and the filter at step 4 drops what step 2 has solved.
TRAIN = [
    "train", str(SMALL), "rollout.backend=transformers", "D_T=2", "lr=1e-3", "entropy=paper", "tgt_ent=2.0",
    "delta=0.01", "guard={entropy_below: 5, steps: 3}", "stages=[{steps: 3}, {steps: 1}]", "online_filter=last",
]  # fmt: skip
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
QUICK = ["metrics/half:10", "checkpoint/state:2", "optimizer/after:5", "truncate/renamed:1"]  # in the default tests
# Files that hold times or paths.
EXCEPT = {"manifest.json", "metrics.jsonl", "training_args.bin", "or1lab_seal.json", "train.ipynb", "train.log"}


class Forks:
    """Runs `or1lab` commands, each in a process of its own: see fork_server.py."""

    def __init__(self, log: Path) -> None:
        self.log = log
        command = [sys.executable, str(ROOT / "tests" / "fork_server.py")]
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV, cwd=ROOT
        )

    def __call__(self, *arguments: str, kill_at: str = "") -> int:
        command = {"arguments": arguments, "kill_at": kill_at, "output": str(self.log)}
        print(json.dumps(command), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    forks = Forks(tmp_path_factory.mktemp("forks") / "log")
    yield forks
    forks.server.communicate()


@pytest.fixture(scope="module")
def unbroken(forks, tmp_path_factory) -> Path:
    """The run that nothing happens to, by the installed command itself."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    subprocess.run([sys.executable, "-m", "or1lab.cli", *TRAIN, "--out", str(folder)], check=True, env=ENV, cwd=ROOT)
    alarms, dropped = Run.open(folder).manifest["alarms"], json.loads((folder / "online_filter.json").read_text())
    assert len(alarms) == 1 and "at step 3" in alarms[0] and len(dropped["1"]) > 0
    return folder


@pytest.fixture(scope="module")
def diverged(forks, tmp_path_factory) -> Path:
    """A run that ends with an error of its own."""
    folder = tmp_path_factory.mktemp("diverged") / "run"
    assert forks(*DIVERGES, "--out", str(folder)) == 1 and (folder / "failures").is_dir()
    return folder


def steady(folder: Path) -> str:
    """A run's records without what the clock decides, as text: a NaN equals itself."""
    records = Run.open(folder).records()
    return json.dumps([{name: v for name, v in record.items() if not name.startswith(CLOCK)} for record in records])


def files(folder: Path) -> dict[str, str]:
    """Every file of a run, with the hash of its content where that must be the same in each run."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): "" if path.name in EXCEPT else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
    }


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


# ------------------------------------------------------------------------------------------- random SIGKILLs, vLLM

# Two arms of the same recipe: whatever happens to the second, its numbers must come out like the first's.
SWEEP = {
    "name": "faults", "title": "Faults", "question": "Is anything lost?", "recipe": str(SMALL),
    "set": {"stages.0.steps": 60, "eval.every": 20, "checkpoint.every": 10, "threads": 1}, "seeds": [0],
    "arms": {"spared": {}, "killed": {}}, "baseline": "spared", "figure": "demo",
}  # fmt: skip
KERNEL = "ipykernel_launcher"


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def step_of(folder: Path) -> int:
    return (Run(folder).last() or {"step": 0})["step"]


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
