"""This machine: a process a job. Where there are GPUs, each job gets some to itself, by CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from or1lab import notebook as notebooks
from or1lab.backends import STOPPED, Handle, handed
from or1lab.backends.task import Task, error_of
from or1lab.errors import Or1labError, UsageError
from or1lab.process import output

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: its own list, else all there are."""
    told = os.environ.get(VISIBLE)
    if told is not None:
        names = [name.strip() for name in told.split(",")]
        return names[: names.index("-1")] if "-1" in names else [name for name in names if name]  # -1 ends CUDA's list
    listed = output("nvidia-smi", "--list-gpus", timeout=30) or ""
    whole = [line for line in listed.splitlines() if line.startswith("GPU ")]  # below each, its MIG instances
    return [str(index) for index in range(len(whole))]


def check(jobs: int, gpus: int, options: Mapping[str, Any]) -> None:
    """Raise UsageError for any option."""
    if options:
        raise UsageError("--cluster sets what a scheduler knows; it goes with --backend slurm or ray")


class Local:
    """A pool of processes and of GPUs."""

    queues = False
    stopped = STOPPED

    def __init__(self, jobs: int, gpus: int | None) -> None:
        self.free = visible_gpus()
        self.each = min(1, len(self.free)) if gpus is None else gpus
        if self.each > len(self.free):
            named = f"{VISIBLE}={os.environ[VISIBLE]}" if VISIBLE in os.environ else "nvidia-smi"
            raise Or1labError(f"--gpus {gpus}, but this machine has {len(self.free)} ({named})")
        self.room = min(jobs, len(self.free) // self.each) if self.each else jobs
        self.threads = 1 if jobs > 1 else None

    def start(self, tasks: list[Task]) -> list[Handle]:
        """A process each, with its own GPUs in CUDA_VISIBLE_DEVICES; they come back to the pool when `poll` sees
        its end."""
        return [handed(lambda task: _Process(task, self), task) for task in tasks]

    def close(self, left: Sequence[Handle]) -> None:
        """End what still runs, kernels included: a local job does not outlive its sweep."""
        notebooks.end(h.process for h in left if isinstance(h, _Process))


class _Process:
    def __init__(self, task: Task, pool: Local) -> None:
        self.job, self.pool = task.job, pool
        self.gpus = [pool.free.pop(0) for _ in range(pool.each)]
        try:
            self.process = task.start(pool.threads, {VISIBLE: ",".join(self.gpus)} if self.gpus else None)
        except Or1labError:
            pool.free += self.gpus
            raise

    def poll(self) -> str | None:
        code = self.process.poll()
        if code is None:
            return None
        self.pool.free += self.gpus
        return error_of(self.job, code)
