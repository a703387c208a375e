"""Runs in processes of their own that something befalls, and what they have in common with an unbroken one."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from or1lab.recipe import ROOT
from or1lab.store import Run

CLOCK = ("time/", "tokens_per_s", "memory/")
SMALL = ROOT / "tests" / "small.yaml"
ENV = os.environ | {"PYTHONPATH": str(ROOT)}
# Four steps of two mini-batches; checkpoints after steps 2 and 4. What a checkpoint holds beyond weights is in use: the
# controller moves, a guard counts up to its alarm at step 3, and the filter at step 4 drops what step 2 has solved.
TRAIN = [
    "train", str(SMALL), "rollout.backend=transformers", "D_T=2", "lr=1e-3", "entropy=paper", "tgt_ent=2.0",
    "delta=0.01", "guard={entropy_below: 5, steps: 3}", "stages=[{steps: 3}, {steps: 1}]", "online_filter=last",
]  # fmt: skip
# Files that hold times or paths.
EXCEPT = {"manifest.json", "metrics.jsonl", "training_args.bin", "or1lab_seal.json", "train.ipynb", "train.log"}


class Forks:
    """Runs `or1lab` commands, each in a process of its own: see fork_server.py."""

    def __init__(self, log: Path, first: str = "") -> None:
        """`first` is a shell command, in namespaces of the server's own."""
        self.log = log
        command = [sys.executable, str(ROOT / "tests" / "fork_server.py")]
        if first:
            command = ["unshare", "-rm", "sh", "-c", f"{first} && exec {shlex.join(command)}"]
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV, cwd=ROOT
        )

    def __call__(self, *arguments: str, kill_at: str = "", by: str = "") -> int:
        """The exit code. At the kill point `kill_at` the process ends, or gets the signal `by`."""
        command = {"arguments": arguments, "kill_at": kill_at, "by": by, "output": str(self.log)}
        print(json.dumps(command), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())


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


def step_of(folder: Path) -> int:
    return (Run(folder).last() or {"step": 0})["step"]


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
