"""What the Skywork-OR1 report says, from `experiments/paper/*.yaml`: the one place from which its numbers are read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from or1lab.recipe import ROOT, read_yaml

FOLDER = ROOT / "experiments" / "paper"


@cache
def load(topic: str) -> dict[str, Any]:
    """A file of the paper's numbers: settings, stages, times, results, curves, text, data, contradictions."""
    return read_yaml(FOLDER / f"{topic}.yaml")


@dataclass(frozen=True)
class Contradiction:
    """Two places that say different things: the text of its footnote, and the cell it belongs to, if it is one."""

    text: str
    cell: tuple[Any, ...] | None


def contradictions(at: str) -> list[Contradiction]:
    """Those that concern a table or figure of ours, such as `table10`."""
    return [
        Contradiction(row["note"].format(**row["values"]), tuple(row["cell"]) if "cell" in row else None)
        for row in load("contradictions")["rows"]
        if at in row["at"]
    ]


def results(source: str) -> list[dict[str, Any]]:
    """The rows of one source of results.yaml: `table-13`, `figure-2`, `figure-3` or `readme`."""
    return [row for row in load("results")["results"] if row["source"] == source]


def names() -> dict[str, str]:
    """Model -> its name as the paper prints it."""
    return {row["model"]: row["name"] for row in load("results")["results"] if "name" in row}


def tokens(T: int) -> str:
    """A limit as the paper writes it: 16384 is 16K."""
    return f"{T // 1024}K" if T % 1024 == 0 else f"{T:,}"
