"""Keep a backend busy until no job of a sweep is waiting, and judge those that have ended by their run folders."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from or1lab.backends import Backend, Handle
from or1lab.backends.task import Task
from or1lab.errors import Or1labError
from or1lab.experiment import Outcome
from or1lab.notebook import JOB_LOCK
from or1lab.pack import pack
from or1lab.process import wait_until
from or1lab.store import Run, is_locked
from or1lab.sweep_view import Screen

LAG = 60.0  # seconds until this machine surely sees what another one wrote to a shared file system


@dataclass
class _Active:
    outcome: Outcome
    handle: Handle
    begin: float


def work(outcomes: list[Outcome], backend: Backend, notebook: Path, screen: Screen, packed: Path | None) -> None:
    """Hand over every outcome that is waiting; whatever ends this, the backend is closed."""
    waiting = [outcome for outcome in outcomes if outcome.state == "waiting"]
    active: list[_Active] = []
    for outcome in outcomes if packed else ():  # jobs of a queue may have ended while nobody watched
        _keep(outcome, packed)
    try:
        while waiting or active:
            chosen: list[Outcome] = []
            while waiting and len(active) + len(chosen) < backend.room:
                outcome = waiting.pop(0)
                state = outcome.job.state  # another sweep may have taken it in the meantime
                if state in ("finished", "running"):
                    outcome.state = state
                    _keep(outcome, packed)
                else:
                    chosen.append(outcome)
            tasks = [Task(outcome.job, notebook.resolve(), Path.cwd()) for outcome in chosen]
            for outcome, handle in zip(chosen, backend.start(tasks) if tasks else [], strict=True):
                active.append(_Active(outcome, handle, time.monotonic()))
                outcome.state = "queued" if backend.queues else "training"
                screen.started(outcome)
            before = len(active)
            for one in list(active):
                outcome = one.outcome
                if outcome.state == "queued" and is_locked(outcome.job.folder / JOB_LOCK):
                    outcome.state, one.begin = "training", time.monotonic()
                error = one.handle.poll()
                if error is not None:
                    active.remove(one)
                    outcome.seconds = time.monotonic() - one.begin
                    _settle(outcome, error, LAG if backend.queues else 0)
                    _keep(outcome, packed)
                    screen.ended(outcome)
            screen.refresh()
            if len(active) == before:  # else there is room for the next one, at once
                time.sleep(0.5 if backend.queues else 0.2)
    finally:
        for one in active:
            one.outcome.state = "stopped"
        backend.close([one.handle for one in active])


def _keep(outcome: Outcome, packed: Path | None) -> None:
    """Pack a finished run; one that cannot be packed fails, and the other jobs go on."""
    folder = outcome.job.folder
    if packed and outcome.state == "finished" and not folder.is_relative_to(packed):
        run = Run.open(folder)
        if run.manifest["experiment"]:  # a run of the same recipe that no sweep made is used where it lies
            try:
                pack(run, packed)
            except Or1labError as error:
                outcome.state, outcome.error = "failed", f"trained, but not packed: {error}"


def _settle(outcome: Outcome, error: str, lag: float) -> None:
    """Judge a job that has ended, by its `error` ("": none) and its run folder, which is up to date after `lag`."""
    job = outcome.job
    if not error:
        wait_until(lambda: job.state == "finished", lag)
    if error and job.state == "running":  # another sweep was a moment faster
        outcome.state = "running"
    elif not error and job.state == "finished":
        outcome.state = "finished"
    else:
        outcome.state = "failed"
        outcome.error = error or "the notebook ended, but its run is not finished"
        if job.state == "interrupted":  # the kernel could not write down its own death
            with contextlib.suppress(Or1labError):  # nor can we, on a full disk; the other jobs go on
                Run.open(job.folder).update_manifest(status="failed", error=outcome.error)
