"""Released models by name, what was reported of them, and how a measurement of ours compares.

The models stand in `experiments/models.yaml`, every reported number in `experiments/paper/results.yaml`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from or1lab import paper
from or1lab.errors import UsageError, did_you_mean
from or1lab.recipe import ROOT, read_yaml
from or1lab.recipe_errors import checked
from or1lab.recipe_parts import Positive, Strict
from or1lab.suites import load_suite

MODELS = ROOT / "experiments" / "models.yaml"
SOURCES = ("table-13", "readme")  # whose row counts; what others print of the same cell is a note


@dataclass(frozen=True)
class Reported:
    """One reported score: percent, as avg@k, and where it is printed; `notes` on what contradicts it or is not known.

    `window`: the contest months, where the suite is one of those."""

    value: float
    k: int
    place: str
    read: Literal["printed", "eye"]
    window: str | None = None
    notes: tuple[str, ...] = ()


class ModelEntry(Strict):
    """A model of the registry. `script` holds what its released evaluation script sets otherwise than the report."""

    key: str
    name: str
    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    kind: Literal["released", "preview", "base", "peer"]
    size: Positive
    script: dict[str, float] = {}
    temperature: float
    top_p: float
    limit: Positive
    reported: dict[str, Reported]


@dataclass(frozen=True)
class Comparison:
    """A cell of the table again. Shares of 0 to 1; `inside`: the reported score lies within our 95% interval.

    `differences` says in which settings the two measurements differ: empty where they are the same."""

    reported: Reported
    value: float
    low: float
    high: float
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def inside(self) -> bool:
        """Whether the reported score lies in our 95% interval, ends included."""
        return self.low - 1e-9 <= self.reported.value / 100 <= self.high + 1e-9

    def __str__(self) -> str:
        """Reported, ours and whether they agree in one line; then a line for each difference and note."""
        first = (
            f"reported {self.reported.value:.1f} ({self.reported.place}, avg@{self.reported.k}); ours "
            f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]: the reported value lies "
            f"{'within' if self.inside else 'outside'} our interval"
        )
        return "\n".join([first, *(f"not as reported: {one}" for one in self.differences), *self.notes])

    def as_json(self) -> dict[str, Any]:
        """Its fields and `inside`. Ours are shares of 0 to 1, reported is percent."""
        return {**asdict(self), "inside": self.inside}


@functools.cache
def models() -> dict[str, ModelEntry]:
    """key -> model, in the order of the registry. Raises UsageError for an entry that is none."""
    reported = paper.load("results")
    found = {}
    for key, plain in read_yaml(MODELS).items():
        rows = [row for source in SOURCES for row in paper.results(source) if row["model"] == key]
        if not rows:
            raise UsageError(f"{MODELS.name}: nothing is reported of '{key}' in results.yaml")
        entry = {
            "key": key,
            "name": rows[0]["name"],
            **reported["protocol"],
            **plain,
            "reported": _reported(rows[0], reported),
        }
        found[key] = checked(ModelEntry, entry, f"{MODELS.name}, {key}")
    return found


def _reported(row: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Reported]:
    source = told["sources"][row["source"]]
    found = {}
    for suite, settings in told["suites"].items():
        cell = (row["model"], suite)
        notes = [one["note"] for one in told["contradictions"] if (one["model"], one["suite"]) == cell]
        notes += [source["note"]] if "note" in source else []
        if row[suite] is not None:
            where = {"place": source["place"], "read": source["read"], "notes": tuple(notes)}
            found[suite] = Reported(row[suite], **where, **settings)
    return found


def resolve_model(name: str) -> ModelEntry | None:
    """The model of that key, printed name or Hub name, in any case; None for a folder or a name that means another.

    Raises UsageError for a name that is neither, and is near to one of the registry."""
    if Path(name).expanduser().exists():
        return None
    wanted = name.lower()
    for entry in models().values():
        if wanted in (entry.key, entry.name.lower(), entry.hub.lower()):
            return entry
    near = did_you_mean(wanted, models())
    if near and not set(name) & set("/@~") and name not in ("tiny", "smol"):
        raise UsageError(
            f"no model '{name}'{near}; a folder, a run, a Hub name, or one that or1lab suites --models lists"
        )
    return None


def compare(entry: ModelEntry, measured: Mapping[str, Any], value: float, low: float, high: float) -> Comparison | None:
    """Our score of a suite beside the reported one; None where none is reported.

    Args:
        measured: `Suite.record()`, with the settings that were used in fact, and `problems`, their number.
        value, low, high: our avg@k with its 95% interval, shares of 0 to 1.
    """
    reported = entry.reported.get(measured["suite"])
    if reported is None:
        return None
    suite = load_suite(measured["suite"])
    theirs = {
        "k": reported.k, "temperature": entry.temperature, "top_p": entry.top_p, "limit": entry.limit,
        "problems": suite.size, "window": reported.window, "prompt_suffix": suite.suffixes.get("released", ""),
    }  # fmt: skip
    ours = {"problems": suite.size, **measured, "window": measured["options"].get("window")}
    differences = tuple(
        f"{key} {ours[key]!r} instead of {their!r}" for key, their in theirs.items() if ours[key] != their
    )
    script = (f"The released script sets {key} {value:g}, the report otherwise." for key, value in entry.script.items())
    return Comparison(reported, value, low, high, differences, (*script, *reported.notes))
