"""What the commands have in common: the console, and JSON."""

from __future__ import annotations

import codecs
import io
import json as jsonlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column

from or1lab.errors import UsageError
from or1lab.process import cores

console = Console(emoji=False)  # :x: in an answer is what was sampled, no picture
Job = TypeVar("Job")
Made = TypeVar("Made")
FEW = 6  # jobs that are done sooner than a second process has begun

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

RUNS, KEPT = Path("runs"), Path("experiments/results")  # where runs are made, and those of the study kept
Results = Annotated[Path | None, typer.Option(help=f"Folder of runs; default {RUNS}, or {KEPT} for what is not there.")]
OfStudy = Annotated[Path | None, typer.Option(help=f"Folder of runs; default {KEPT}, or {RUNS} of a real model.")]
Tier = Annotated[str, typer.Option(help="tiny (the files as they stand), or a real model: 1.5b, 7b, 32b.")]


def runs_at(given: Path | None, tier: str, of_study: bool = False, named: Sequence[str] = ()) -> Path:
    """The folder of `Results`, or of `OfStudy`, at a tier; KEPT also where the study's runs alone have what is `named`.
    Raises UsageError for one that is not there."""
    from or1lab.tracker import find_runs

    folder = given or (RUNS if tier != "tiny" or not of_study and find_runs(RUNS) else KEPT)
    if named and not given and tier == "tiny" and folder == RUNS:
        from or1lab.study_figures import richer

        folder = richer(named, RUNS, KEPT)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: name one with --results; `or1lab sweep demo` makes {RUNS}")
    return folder


# What stands for a letter that the locale's encoding does not have: a number must not lose its sign.
PLAIN = {"−": "-", "–": "-", "×": "x ", "≈": "~", "≥": ">=", "≤": "<=", "±": "+-", "…": "...", "α": "alpha"}


def printable_anywhere() -> None:
    """Let output in a locale without UTF-8 say what it can, instead of failing at the first letter that it cannot."""

    def plain(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        return "".join(PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end

    codecs.register_error("or1lab", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="or1lab")


def print_json(value: Any) -> None:
    """Print to standard output; what JSON does not know, such as paths, as text."""
    print(jsonlib.dumps(value, indent=2, default=str))


def right(*titles: str, no_wrap: bool = False) -> list[Column]:
    """Columns of numbers for a table, set to the right."""
    return [Column(title, justify="right", no_wrap=no_wrap) for title in titles]


def answer(value: Any, json: bool, show: Callable[[], object]) -> None:
    """Print what a command has found: as JSON where that is asked for, else as `show` does, for people."""
    if json:
        print_json(value)
    else:
        show()


@contextmanager
def _counted(total: int, what: str) -> Iterator[Callable[[object], None]]:
    """A bar on a terminal that the function it gives, called with anything, moves on by one; nothing is left of it."""
    errors = Console(stderr=True)
    silent = errors.is_jupyter or not errors.is_terminal
    # Without a thread of its own, which a process that is forked meanwhile would find half-way through a line.
    with Progress(console=errors, transient=True, auto_refresh=False, disable=silent) as bar:
        task = bar.add_task(what, total=total)

        def one_more(_: object) -> None:
            bar.advance(task)
            bar.refresh()

        bar.refresh()
        yield one_more


def side_by_side(make: Callable[[Job], Made], jobs: Iterable[Job], number: int, what: str) -> list[Made]:
    """What is made of each of a `number` of jobs, in their order: by a process a core while further jobs come in, with
    a bar that says `what` is counted. A few are made here, sooner than a second process has begun. A script that asks
    for more has to stand under `if __name__ == "__main__"`, as with all of Python's processes."""
    if number <= FEW:
        return [make(job) for job in jobs]
    with _counted(number, what) as one_more, ProcessPoolExecutor(min(cores(), number)) as pool:
        made = []
        for job in jobs:
            made.append(pool.submit(make, job))
            made[-1].add_done_callback(one_more)
        return [one.result() for one in made]
