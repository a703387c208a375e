"""A run while it trains, seen from its folder alone: a process may write it here, or on a machine that shares it.

Nothing is written and nothing is locked for longer than a look; half-written lines are left for the next look.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

import pandas as pd

from or1lab.errors import Or1labError
from or1lab.store import METRICS, PACKED_METRICS, Run
from or1lab.tracker import QUIET, elsewhere, last_write, state

RECENT = 10  # steps whose pace tells the time left
PATIENCE = 3  # such steps of silence before a run on another machine counts as broken off, if that is more than QUIET
ANSWERS = 3  # sampled responses that are shown
TIMES = ("time/rollout", "time/update", "time/sync", "time/other", "time/eval")


class Follower:
    """The records of a run as they come."""

    def __init__(self, run: Run, total: int | None = None) -> None:
        """`total` steps: as its recipe says, where there is one yet."""
        self.run = run
        self.records: list[dict[str, Any]] = []
        self.total = total or run.recipe.total_steps
        self._file, self._offset = 0, 0  # the inode, and where its next line begins
        self._answers: tuple[tuple[int, int], tuple[int, list[dict[str, Any]]]] | None = None  # by file and records

    def look(self) -> bool:
        """Take in what was written since the last look; whether there was anything."""
        if (self.run.folder / PACKED_METRICS).exists():
            new, self.records = not self.records, self.records or self.run.records()
            return new
        try:
            with (self.run.folder / METRICS).open("rb") as file:
                about = os.fstat(file.fileno())
                changed = about.st_ino != self._file or about.st_size < self._offset
                if changed:  # a resumed run has cut off what it does again
                    self.records, self._file, self._offset = [], about.st_ino, 0
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:  # for a moment, on a network
            return False
        self._offset += len(whole) + len(newline)
        for line in whole.split(b"\n"):
            with contextlib.suppress(ValueError):  # what is broken is for `runs show` to name
                if isinstance(record := json.loads(line), dict) and "kind" in record and "step" in record:
                    self.records.append(record)
        return changed or bool(newline)

    @property
    def frame(self) -> pd.DataFrame:
        """The records so far, as `Run.metrics`."""
        return pd.DataFrame(self.records) if self.records else pd.DataFrame({"kind": [], "step": []})

    def newest(self, name: str) -> Any:
        """The last value of a metric in a step or an evaluation, None if there is none."""
        told = (record[name] for record in reversed(self.records) if record["kind"] != "sgd" and name in record)
        return next((value for value in told if value is not None and value == value), None)

    def values(self, name: str) -> list[float]:
        """All values of a metric, those of SGD steps left out."""
        told = (record.get(name) for record in self.records if record["kind"] != "sgd")
        return [value for value in told if value is not None and value == value]

    @property
    def answers(self) -> tuple[int, list[dict[str, Any]]]:
        """`answers` of the run, read again only where there are new records: a file may have tens of MB."""
        seen = self._file, len(self.records)
        if self._answers is None or self._answers[0] != seen:
            self._answers = seen, answers(self.run)
        return self._answers[1]

    @property
    def step(self) -> int:
        """The newest training step that has a record; 0 before the first."""
        return next((record["step"] for record in reversed(self.records)), 0)

    @property
    def left(self) -> float | None:
        """Seconds until the last planned step at the pace of the last ones; None before there is a pace."""
        told = [(r["step"], r["time/elapsed"]) for r in self.records if r["kind"] == "step" and "time/elapsed" in r]
        (k, begin), (n, end) = (told[-RECENT:][0], told[-1]) if len(told) > 1 else ((0, 0), (0, 0))
        return (end - begin) / (n - k) * (self.total - n) if n > k and end > begin else None

    @property
    def state(self) -> str:
        """As `tracker.state`, with more patience for a run on another machine whose steps are long; interrupted, too,
        when its folder was removed."""
        try:
            manifest = self.run.manifest
            found = state(self.run, manifest)
        except (Or1labError, OSError) as error:  # for a moment, on a network; but a folder that is gone stays so
            gone = isinstance(error, FileNotFoundError) and not self.run.folder.exists()
            return "interrupted" if gone else "running"
        if found == "interrupted" and elsewhere(manifest):
            step = sum(self.newest(name) or 0.0 for name in TIMES)
            return "running" if time.time() - last_write(self.run) < max(QUIET, PATIENCE * step) else found
        return found


def answers(run: Run) -> tuple[int, list[dict[str, Any]]]:
    """The newest step whose responses are stored, and a few of them with prompt, response, correct and reason: right
    and wrong ones in turn. Step 0 and none where there are none, or no texts (packed runs)."""
    try:
        steps = run.rollout_steps
        frame = run.rollouts(steps[-1]) if steps else pd.DataFrame()
    except (Or1labError, OSError):  # cut off by a resumed run meanwhile
        return 0, []
    if "response" not in frame:
        return 0, []
    turn = frame.groupby("correct", dropna=False).cumcount()
    rows = frame.loc[turn.sort_values(kind="stable").index[:ANSWERS]]
    return int(steps[-1]), rows[["prompt", "response", "correct", "reason"]].to_dict("records")
