"""What shows a run while it goes: the progress line, and the mirror in Weights & Biases.

Both are fed with the records that already lie in the run folder. Neither is ever read back, and nothing is lost if one
of them fails: the mirror starts only with the first record and gives up with a single warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
import warnings
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from or1lab.store import Run

PLAIN_EVERY = 60.0  # seconds between lines where there is no terminal


class Tracker:
    """Mirrors records to wandb (recipe key wandb: offline | online | off), files inside the run folder."""

    def __init__(self, recipe: dict[str, Any], run: Run) -> None:
        self.recipe = recipe
        self.run = run
        self.mode = recipe["wandb"]
        self._mirror: Any = None

    def log(self, record: dict[str, Any]) -> None:
        """Mirror one record; never raises."""
        if self.mode == "off":
            return
        try:
            if self._mirror is None:
                self._mirror = self._start()
            prefix = "sgd/" if record["kind"] == "sgd" else ""
            values = {name: value for name, value in record.items() if name not in ("kind", "step")}
            self._mirror.log({f"{prefix}{name}": value for name, value in values.items()} | {"step": record["step"]})
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the mirror; never raises."""
        try:
            if self._mirror is not None:
                self._mirror.finish()
        except Exception as error:
            self._give_up(error)
        self._mirror = None

    def _start(self) -> Any:
        import wandb  # only here: off must not even import it

        manifest = self.run.manifest
        about = {key: value for key, value in manifest.items() if key != "recipe"}
        who = f"{manifest['created']} {manifest['recipe_hash']} {manifest['experiment']} {manifest['arm']}"
        mirror = wandb.init(
            project="or1lab",
            id=hashlib.blake2b(who.encode(), digest_size=8).hexdigest(),  # the same in each sitting of a run
            resume="allow" if self.mode == "online" else None,
            name=self.recipe["name"] or self.run.folder.name,
            group=manifest["arm"] or manifest["experiment"],
            config={**self.recipe, "manifest": about},
            dir=str(self.run.folder),
            mode=self.mode,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=30,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
            ),
        )
        mirror.define_metric("*", step_metric="step")
        return mirror

    def _give_up(self, error: Exception) -> None:
        self.mode = "off"
        if isinstance(error, ConnectionResetError | BrokenPipeError):  # wandb's own process is dead
            import wandb

            self._mirror = None
            with contextlib.suppress(Exception):
                wandb.teardown()  # else it fails at our exit, with a traceback
        warnings.warn(
            f"wandb is switched off for this run ({type(error).__name__}: {error}); "
            f"all records are in {self.run.folder}",
            stacklevel=3,
        )


class Progress:
    """Step, reward, entropy, tokens/s and time left: a live line in a terminal, else a plain line a minute."""

    def __init__(self, total: int, *, title: str = "", console: Console | None = None) -> None:
        """`total` training steps of the whole run, those done before a resume included."""
        self.total, self.title = total, title
        # A notebook counts as no terminal: under papermill its output is a log file.
        self.console = console or Console(file=sys.stderr if sys.stderr.isatty() else sys.stdout)
        self.begun = self.printed = time.monotonic()
        self.before: int | None = None  # steps done before the first record seen (a resumed run)
        self.latest: dict[str, Any] | None = None
        self._bar: RichProgress | None = None
        if self.console.is_terminal and not self.console.is_jupyter:
            self._bar, self._task = live_bar(self.console, total, TextColumn("{task.description}"), title=title)

    def update(self, record: dict[str, Any]) -> None:
        """Take a record of the run (others than kind step are passed over)."""
        if record["kind"] != "step":
            return
        self.latest = record
        if self.before is None:
            self.before = record["step"] - 1
        if self._bar is not None:
            self._bar.update(self._task, completed=record["step"], text=self._text(record))
        elif time.monotonic() - self.printed >= PLAIN_EVERY:
            self._print(record)

    def close(self) -> None:
        """Leave the terminal in order; where there is none, print the last line."""
        if self._bar is not None:
            self._bar.stop()
        elif self.latest is not None:
            self._print(self.latest)
        self.latest = None

    def _text(self, record: dict[str, Any]) -> str:
        a_step = (time.monotonic() - self.begun) / (record["step"] - (self.before or 0))
        return f"{describe(record)}, {duration(a_step * (self.total - record['step']))} left"

    def _print(self, record: dict[str, Any]) -> None:
        title = f"{self.title}: " if self.title else ""
        print(
            f"{title}step {record['step']}/{self.total}, {self._text(record)}",
            file=self.console.file,
            flush=True,
        )
        self.printed = time.monotonic()


def live_bar(console: Console, total: int, *before: TextColumn, title: str = "") -> tuple[RichProgress, TaskID]:
    """A line in a terminal that is drawn anew: what stands before, a bar, how many of how many, and a text."""
    columns = (*before, BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    bar = RichProgress(*columns, console=console)
    task = bar.add_task(title, total=total, text="")
    bar.start()
    return bar, task


def describe(record: dict[str, Any]) -> str:
    """The three numbers worth watching in a step record; '-' for what is not there."""
    parts = (
        ("reward", "reward/mean", ".3f"),
        ("entropy", "entropy/rollout", ".3f"),
        ("tokens/s", "tokens_per_s", ",.0f"),
    )
    return ", ".join(f"{word} {formatted(record.get(key), form)}" for word, key, form in parts)


def formatted(value: float | None, form: str) -> str:
    """A number for people, '-' if it is missing."""
    return "-" if value is None else format(value, form)


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3 min 20 s or 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
