"""What a sweep shows: the grid before, each job's progress while it runs (read from the run folders), the outcome."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from or1lab.experiment import Experiment, Outcome
from or1lab.store import MANIFEST, Run
from or1lab.terminal import right
from or1lab.tracking import PLAIN_EVERY, describe, duration, formatted

FRAME = 6  # lines of a terminal around the rows; where not all jobs have room, those that train or failed are shown
ENDS = {"accuracy": ".3f", "entropy": ".3f", "length": ".1f"}  # of the last evaluation
REFRESH = 1.0  # seconds between looks into the run folders


def print_grid(console: Console, outcomes: list[Outcome], seconds: dict[str, float | None], jobs: int) -> None:
    """The dry run: what each job would be, how it stands and how long it should take."""
    experiment = outcomes[0].job.experiment
    console.print(f"{experiment.title}\n{experiment.question}", markup=False, highlight=False)
    arm, sets = (Column(name, overflow="fold") for name in ("arm", "sets"))
    table = Table(arm, "seed", "N_SGD", "steps", "state", "time", sets, box=None, pad_edge=False, collapse_padding=True)
    for outcome in outcomes:
        job, needs = outcome.job, seconds[outcome.job.name]
        table.add_row(
            job.title, str(job.seed), str(job.recipe.N_SGD), str(job.recipe.total_steps), outcome.state,
            "?" if needs is None else duration(needs), " ".join(job.overrides),
        )  # fmt: skip
    console.print(table)
    console.print(_estimated(outcomes, seconds, jobs), highlight=False)


def print_studies(console: Console, outcomes: list[Outcome], seconds: dict[str, float | None], jobs: int) -> None:
    """The same for many experiments, a row each: the runs that no experiment above it makes."""
    table = Table("experiment", *right("runs", "finished", "time left"))
    for name in dict.fromkeys(outcome.job.experiment.name for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.job.experiment.name == name]
        finished = sum(outcome.state == "finished" for outcome in own)
        known = [needs for outcome in own if (needs := seconds[outcome.job.name]) is not None]
        table.add_row(name, str(len(own)), str(finished), duration(sum(known)) if len(known) == len(own) else "?")
    console.print(table)
    console.print(_estimated(outcomes, seconds, jobs), highlight=False)


def _estimated(outcomes: list[Outcome], seconds: dict[str, float | None], jobs: int) -> str:
    left = [needs for needs in seconds.values() if needs is None or needs > 0]
    known = [needs for needs in left if needs is not None]
    side_by_side = max(1, min(jobs, len(left)))
    total = duration(sum(known) / side_by_side) if known == left else "? (no finished run of this experiment yet)"
    return f"{len(outcomes)} jobs, {jobs} at a time; estimated time: {total}"


def print_outcome(console: Console, outcomes: list[Outcome], folder: Path, option: str) -> None:
    """The end of a sweep: what is finished, and for each failure where, why and how to go on. `option`: of the command
    that draws the figure."""
    finished = [outcome for outcome in outcomes if outcome.state == "finished"]
    for outcome in outcomes:
        job = outcome.job
        if outcome.state == "running":
            text = f"{job.name} is being trained by another process and was left to it"
        elif outcome.state == "failed":
            text = f"{job.name} failed: {outcome.error}\n  log: {job.log}\n  notebook: {job.executed}"
        else:
            continue
        console.out(text, highlight=False)
    if not outcomes[0].job.of_many and finished:
        console.print(_summary(finished), "means of the runs at their ends")
    again = "" if len(finished) == len(outcomes) else "; for the others, the same command and --resume"
    console.out(f"{len(finished)} of {len(outcomes)} runs finished in {folder}{again}", highlight=False)
    shown = _shown(outcomes[0].job.experiment)
    if shown and len(finished) == len(outcomes) and not outcomes[0].job.of_many:
        console.out(f"{shown} --results {shlex.quote(str(folder.parent))}{option}", highlight=False)


def _shown(experiment: Experiment) -> str | None:
    """The command for its figure, which wants the experiment among the others."""
    from or1lab.captions import titles

    return f"figure: or1lab figures {experiment.figure}" if experiment.figure in titles() else None


def _summary(finished: list[Outcome]) -> Table:
    """Of each arm: its finished runs, and the means of what they ended with."""
    columns = ("test accuracy", "test entropy", "test length", "time a run")
    table = Table("arm", "runs", *columns, box=box.SIMPLE_HEAD)
    for arm in dict.fromkeys(outcome.job.arm for outcome in finished):
        runs = [Run.open(outcome.job.folder) for outcome in finished if outcome.job.arm == arm]
        ends, seconds = [run.last("eval") or {} for run in runs], [run.manifest["seconds"] for run in runs]
        cells = [_mean([end.get(f"eval/{name}") for end in ends], form) for name, form in ENDS.items()]
        table.add_row(arm, str(len(runs)), *cells, "-" if None in seconds else duration(sum(seconds) / len(seconds)))
    return table


def _mean(values: list[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return formatted(sum(known) / len(known) if known else None, form)


class Screen:
    """Progress of all jobs: a live table in a terminal, elsewhere a plain line a job and minute."""

    def __init__(self, console: Console, outcomes: list[Outcome]) -> None:
        self.console, self.outcomes = console, outcomes
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.shown = 0.0
        self.printed = time.monotonic()
        self.first: dict[str, tuple[float, int]] = {}  # job -> when its first record was seen, and of which step

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.update(self._table(), refresh=True)
            self.live.stop()

    def started(self, outcome: Outcome) -> None:
        """Say that a job was queued or started."""
        begun = "goes on" if (outcome.job.folder / MANIFEST).exists() else "started"
        told = "queued" if outcome.state == "queued" else begun
        self._say(f"{outcome.job.name}: {told}, log {outcome.job.log}")

    def ended(self, outcome: Outcome) -> None:
        """Say how a job ended, and why."""
        why = f": {outcome.error}" if outcome.error else ""
        line = f"{outcome.job.name}: {outcome.state} after {duration(outcome.seconds or 0)}{why}"
        if outcome.state == "failed":  # at once, above the table: the end may be hours away
            self._print(line)
        else:
            self._say(line)

    def refresh(self) -> None:
        """Look into the run folders and show what is new, if it is time to."""
        now = time.monotonic()
        if now - self.shown < REFRESH:
            return
        self.shown = now
        if self.live:
            self.live.update(self._table(), refresh=True)
            return
        looks = [(o.job, *self._look(o)) for o in self.outcomes if o.state == "training"]  # times begin at a first look
        if now - self.printed >= PLAIN_EVERY:
            self.printed = now
            for job, record, left in looks:
                text = f"{describe(record)}, {left} left" if record else "starting"
                self._say(f"{job.name}: step {record['step'] if record else 0}/{job.recipe.total_steps}, {text}")

    def _say(self, line: str) -> None:
        if not self.live:
            self._print(line)

    def _print(self, line: str) -> None:
        self.console.out(line, highlight=False)

    def _look(self, outcome: Outcome) -> tuple[dict | None, str]:
        """The newest step record of a job and the time it still needs."""
        record = Run(outcome.job.folder).last()
        if record is None or outcome.state != "training":
            return record, ""
        begun, step = self.first.setdefault(outcome.job.name, (time.monotonic(), record["step"]))
        if record["step"] < step:  # it went on from its checkpoint, before what the first look saw
            begun, step = self.first[outcome.job.name] = time.monotonic(), record["step"]
        if record["step"] == step:
            return record, "?"
        rate = (time.monotonic() - begun) / (record["step"] - step)
        return record, duration(rate * (outcome.job.recipe.total_steps - record["step"]))

    def _table(self) -> Table:
        table = Table("arm", "seed", "step", "reward", "entropy", "tokens/s", "time left", "state", box=box.SIMPLE_HEAD)
        if many := len(self.outcomes) > self.console.height - FRAME:
            finished = sum(outcome.state == "finished" for outcome in self.outcomes)
            table.caption = f"{finished} of {len(self.outcomes)} runs finished"
        for outcome in self.outcomes:
            if many and outcome.state not in ("training", "failed"):
                continue
            job = outcome.job
            record, left = self._look(outcome)
            values = record or {}
            state = "starting" if outcome.state == "training" and not record else outcome.state
            table.add_row(
                job.title, str(job.seed), f"{values.get('step', 0)}/{job.recipe.total_steps}",
                formatted(values.get("reward/mean"), ".3f"), formatted(values.get("entropy/rollout"), ".3f"),
                formatted(values.get("tokens_per_s"), ",.0f"), left, state,
            )  # fmt: skip
        return table
