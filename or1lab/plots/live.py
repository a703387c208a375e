"""A run in a notebook while it trains: its card, redrawn, and sampled answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from or1lab import tracker
from or1lab.following import Follower, answers
from or1lab.plots.card import card
from or1lab.reading import block, plain, response
from or1lab.store import Run
from or1lab.tracking import duration

EVERY = 5.0  # seconds between redraws: each takes about half of one
ASKED = 400  # characters of a prompt that are shown
CSS = """
.or1lab-answers td { vertical-align: top; text-align: left !important; }
.or1lab-answers td:first-child { white-space: nowrap; }
.or1lab-answers pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


class _Below:
    """What stands below a cell: a line of text, the card, sampled answers; each is replaced in its place."""

    def __init__(self, text: str) -> None:
        from IPython.display import HTML, display

        self.line, self.figure, self.answers = (display(HTML(escape(t)), display_id=True) for t in (text, "", ""))

    def update(self, text: str, metrics: pd.DataFrame, title: str, folder: Path | None) -> None:
        from IPython.display import HTML

        self.line.update(HTML(escape(text)))
        self.figure.update(card(metrics, title))
        self.answers.update(HTML(sampled(Run(folder)) if folder else ""))


def live_card(title: str = "", folder: str | Path | None = None) -> Callable[[dict[str, Any]], None]:
    """A watcher for `train.run(on_record=...)` that keeps one card below the cell up to date; with the run's folder
    also answers that it has sampled."""
    records: list[dict[str, Any]] = []
    below = _Below("waiting for the next step (a finished run has none)")
    drawn = 0.0

    def see(record: dict[str, Any]) -> None:
        nonlocal drawn
        records.append(record)
        due = record["kind"] != "sgd" and time.monotonic() - drawn >= EVERY
        if due or record.get("final"):
            below.update("", pd.DataFrame(records), title, Path(folder) if folder else None)
            drawn = time.monotonic()

    return see


def watch(folder: str | Path, title: str = "") -> None:
    """Follow a run below the cell until it ends, from its folder alone: it may train in another process, or on a
    machine that shares the folder. Stopping the cell, or closing the page, stops the watching and not the run.

    Raises:
        UsageError: the folder holds no run, or one of another program.
        Or1labError: its manifest is damaged.
    """
    follower = Follower(tracker.open_run(folder))
    below, begun = _Below(f"waiting for the first record of {folder}"), False
    try:
        while True:
            state = follower.state  # before the look: no last record is missed
            if follower.look() or not begun or state != "running":
                begun = True
                left = f", {duration(follower.left)} left" if state == "running" and follower.left is not None else ""
                text = f"{folder}: {state}, step {follower.step} of {follower.total}{left}"
                below.update(text, follower.frame, title, Path(folder))
            if state != "running":
                return
            time.sleep(EVERY)
    except KeyboardInterrupt:
        print("stopped watching; the run goes on")


def sampled(run: Run) -> str:
    """A few of the newest stored responses, as HTML; they are untrusted text."""
    step, rows = answers(run)
    told = [
        f"<tr><td>{'✓ right' if row['correct'] else '✗ wrong'}<br><small>{plain(str(row['reason']))}</small></td>"
        f"<td>{block(str(row['prompt']), ASKED)}</td><td>{response(str(row['response']))}</td></tr>"
        for row in rows
    ]
    head = f"<tr><th>verdict</th><th>problem, step {step}</th><th>response</th></tr>"
    return f"<style>{CSS}</style><table class='or1lab-answers'>{head}{''.join(told)}</table>" if rows else ""
