"""Where the jobs of a sweep run: this machine, SLURM, or Ray. A backend places jobs and says when they end; what is
done and what is left is read from the run folders, and a job's lock keeps it from running twice, on any of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from or1lab.backends.task import Task
from or1lab.errors import Or1labError, UsageError, check_names

BACKENDS = ("local", "slurm", "ray")
PACKAGES = {"slurm": "submitit", "ray": "ray"}
STOPPED = (
    "the sweep was stopped; each run keeps what its newest checkpoint holds: go on with the same command and --resume"
)


class Handle(Protocol):
    """A job that was handed over."""

    def poll(self) -> str | None:
        """None while it runs or waits; then, asked once, "" if it ended well, else what went wrong."""


@dataclass(frozen=True)
class Refused:
    """A job with no room for its run folder, never handed over; those that are training may still end well."""

    error: str

    def poll(self) -> str:
        """Its error: such a job has ended before it began."""
        return self.error


def handed(hand_over: Callable[[Task], Handle], task: Task) -> Handle:
    """A task handed over; `Refused` where there is no room for its run folder."""
    try:
        return hand_over(task)
    except Or1labError as error:
        return Refused(str(error))


class Backend(Protocol):
    """A place for jobs."""

    room: int  # jobs that it takes at the same time
    queues: bool  # on other machines, perhaps later; else at once and here

    @property
    def stopped(self) -> str:
        """What Ctrl-C has done, for the user."""

    def start(self, tasks: list[Task]) -> list[Handle]:
        """Hand jobs over, at most as many as there is room for."""

    def close(self, left: list[Handle]) -> None:
        """The sweep ends; `left`: those that have not ended."""


def check_options(name: str, jobs: int, gpus: int | None, options: Mapping[str, Any]) -> ModuleType:
    """The module of a backend, whose `check` has nothing against these options: no scheduler is asked, nothing started
    and no folder made.

    Raises:
        UsageError: no such backend or option (names the nearest right one), or its package is missing.
    """
    check_names([name], BACKENDS, "backend")
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        raise UsageError(f"--backend {name} needs the package {PACKAGES[name]}: pip install 'or1lab[{name}]'")
    module = importlib.import_module(f"or1lab.backends.{name}")
    module.check(jobs, gpus or 0, options)
    return module


def open_backend(name: str, jobs: int, gpus: int | None, options: Mapping[str, Any], out: Path) -> Backend:
    """A backend that runs `jobs` side by side, each with `gpus` GPUs. `options`: of the scheduler, in its own words;
    `out`: where run folders go.

    Raises:
        UsageError: see `check_options`.
        Or1labError: the scheduler, or so many GPUs, cannot be reached from here.
    """
    module = check_options(name, jobs, gpus, options)
    if name == "local":
        return module.Local(jobs, gpus)
    if name == "slurm":
        return module.Slurm(jobs, gpus or 0, dict(options), out / ".slurm")
    return module.Ray(jobs, gpus or 0, dict(options))
