"""Runs -> the data frames of the studies' figures, beside them the paper's curves (`experiments/figures.yaml`).

A frame has one row a point: panel, read (ours, eye: read by eye off the paper's figure, printed), series (arm, or the
paper's name of a curve), seed (ours), step (ours, where there is one), x, y. The units are those of the panel's axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from or1lab import paper
from or1lab.claims import study
from or1lab.errors import check_names
from or1lab.experiment import EXPERIMENTS, TINY
from or1lab.measured import CLOCKS
from or1lab.recipe import ROOT, Recipe, read_yaml
from or1lab.recipe_errors import checked
from or1lab.recipe_parts import Strict
from or1lab.results import Arms, Shelf
from or1lab.run_statistics import STATISTICS, Records, accuracy_at_limit, forecast, law, makespan, simulated_time

TABLE = ROOT / "experiments" / "figures.yaml"
COLUMNS = ["panel", "read", "series", "seed", "step", "x", "y"]
SLOTS = (1, 2, 4, 8, 16, 32, 64)  # places for 128 responses, each decoding one at a time; in proportion for more
SHARES = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)  # of the limit of an evaluation: shorter limits
FLOOR = -0.25  # what a forecast of an accuracy is drawn down to: a law can say -15
KINDS = ("on-policy, no entropy bonus", "off-policy, no entropy bonus", "with entropy control or a bonus")

Numbers = NDArray[np.float64]


class Curve(Strict):
    """A quantity of runs against another: see the head of figures.yaml."""

    y: str
    label: str
    x: Literal[
        "step", "tokens", "accuracy", "limit", "simulated", "wall", "slots", "arm", "entropy", "forecast"
    ] = "step"  # fmt: skip
    zero: bool = False
    log: bool = False


class Panel(Strict):
    """One curve of ours, and the paper's that stand beside it."""

    curve: str
    paper: tuple[str, ...] = ()
    paper_label: str | None = None
    paper_x: str | None = None
    title: str = ""
    arms: tuple[str, ...] = ()
    study: str | None = None


class Words(Strict):
    """What a figure says of real models instead of the tiny world."""

    labels: dict[str, str] = {}
    note: str = ""


class Spec(Strict):
    """A figure of `experiments/figures.yaml`."""

    panels: tuple[Panel, ...] = Field(min_length=1)
    study: str | None = None  # the figure's name if not said
    labels: dict[str, str] = {}
    same: dict[str, str] = {}
    switch: tuple[int, ...] = ()
    target: float | None = None
    note: str = ""
    real: Words | None = None

    def at(self, tier: str) -> Spec:
        """The figure in the words of a tier."""
        if tier == TINY or self.real is None:
            return self
        return self.model_copy(update={"labels": self.labels | self.real.labels, "note": self.real.note})

    @property
    def names(self) -> tuple[str, ...]:
        """What the panels are called in the frame: by their curves, with their places where two have the same."""
        curves = [panel.curve for panel in self.panels]
        return tuple(c if curves.count(c) == 1 else f"{c}-{n}" for n, c in enumerate(curves, start=1))


PLAIN = Spec(panels=(Panel(curve="entropy"), Panel(curve="accuracy")))


class Table(Strict):
    """figures.yaml: the curves there are, and which figure has which."""

    curves: dict[str, Curve]
    figures: dict[str, Spec]

    def study(self, name: str) -> str:
        """The study whose arms a figure shows. Raises UsageError for an unknown figure."""
        check_names([name], names(), "figure")
        return self.spec(name).study or name

    def spec(self, name: str) -> Spec:
        """A figure as figures.yaml has it, or the plain one of its experiment."""
        return self.figures.get(name, PLAIN)

    def curve(self, name: str, panel: str) -> Curve:
        """The curve of a figure's panel."""
        spec = self.spec(name)
        return self.curves[spec.panels[spec.names.index(panel)].curve]


@cache
def table() -> Table:
    """The curves and figures of figures.yaml. Raises UsageError naming what is wrong with them."""
    return checked(Table, read_yaml(TABLE), str(TABLE))


@cache
def names() -> list[str]:
    """The figures of experiments: those of figures.yaml, and a plain one of each experiment that has none there."""
    drawn = {spec.study or name for name, spec in table().figures.items()}
    return [*table().figures, *sorted(path.stem for path in EXPERIMENTS.glob("*.yaml") if path.stem not in drawn)]


def with_runs(shelf: Shelf) -> list[str]:
    """The figures of whose study there is a finished run."""
    return [name for name in names() if shelf.has(table().study(name))]


def richer(named: Sequence[str], *folders: Path) -> Path:
    """The folder in which most of the named figures or studies have finished runs; of equals the first."""
    asked = {table().study(name) for name in names() if {name, table().study(name)}.intersection(named)}
    return max(folders, key=lambda folder: sum(map(Shelf(folder).has, asked)))


# -------------------------------------------------------------------------------------------------------- frames


def data(name: str, shelf: Shelf) -> pd.DataFrame:
    """The frame of a figure. Its attributes say what the drawing needs beside it: `seeds` (arm -> runs), `switches`
    (panel -> steps at which a stage of ours begins), `target` (our target entropy, where a controller is on) and
    `notes` (what a reader has to know of the runs). Of a panel whose arms have no finished run it has no row of ours.

    Raises:
        UsageError: there is no finished run of the figure's study.
    """
    spec = table().spec(name)
    own = table().study(name)
    there = shelf.some(own)
    rows: list[list[Any]] = []
    seeds: dict[str, int] = {}
    switches: dict[str, set[int]] = {name: set() for name in spec.names}
    targets, low = set(), 0
    for place, panel in zip(spec.names, spec.panels, strict=True):
        curve = table().curves[panel.curve]
        for series, read, x, y in theirs(panel.paper):
            rows.append([place, read, spec.same.get(series, series), None, None, x, y])
        arms = shelf.arms(panel.study or own)
        arms = {arm: runs for arm, runs in arms.items() if not panel.arms or arm in panel.arms}
        limits = _limits([run.recipe for runs in arms.values() for run in runs.values()]) if curve.x == "limit" else []
        for arm, runs in arms.items():
            for seed, run in runs.items():
                measured = shelf.measured(run)
                rows += [[place, "ours", arm, seed, *point] for point in points(curve, measured, limits)]
                if "stage" in measured.steps:
                    switches[place].update(measured.steps.groupby("stage")["step"].max().tolist()[:-1])
                if measured.recipe.entropy not in ("none", "constant"):
                    targets.add(measured.recipe.tgt_ent)
            seeds.setdefault(arm, len(runs))
        if curve.x == "forecast":
            forecasts = sorted(_forecasts(shelf), key=lambda row: KINDS.index(row[1]))
            low = sum(x < FLOOR for *_, x, _ in forecasts)
            rows += [[place, *row] for row in forecasts]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"seed": "Int64", "step": "Int64", "x": float, "y": float})
    stages = {place: sorted(steps) for place, steps in switches.items()}
    shown = {arm for panel in spec.panels if not panel.study for arm in panel.arms or study(own, shelf.tier).arms}
    missing = [spec.labels.get(arm, arm) for arm in study(own, shelf.tier).arms if arm in shown - there.keys()]
    notes = [f"Not run yet: {'; '.join(missing)}."] if missing else []
    for same in _alike(shelf, {arm: runs for arm, runs in there.items() if arm in shown}):
        named = "; ".join(spec.labels.get(arm, arm) for arm in same)
        notes.append(f"Seed by seed the same, one over the other, as what sets them apart never acted: {named}.")
    notes += [f"Forecasts of less than {FLOOR:g} ({low}) stand at the edge."] if low else []
    frame.attrs = {"seeds": seeds, "switches": stages, "target": min(targets) if len(targets) == 1 else None}
    frame.attrs["notes"] = notes
    return frame


def points(curve: Curve, run: Records, limits: Sequence[int] = ()) -> Iterator[tuple[int | None, float, float]]:
    """The points of a curve of one run: step (None where there is none), x, y; without those not measured. `limits`:
    those of the axis, if it is one of limits (tokens)."""
    if curve.x == "limit":
        for limit in limits:
            yield None, float(limit), accuracy_at_limit(run, limit)
    elif curve.x == "slots":
        more = max(1, run.recipe.D_R * run.recipe.gs // 128)
        for slots in (more * n for n in SLOTS):
            yield None, float(slots), float(np.mean([makespan(step, slots) for step in run.steps["length/all"]]))
    elif curve.x == "arm":
        yield None, 0.0, STATISTICS[curve.y](run)
    elif curve.x == "entropy":
        yield from _by_step(run.evals, run.evals["eval/entropy"], curve.y)
    elif curve.y == "residual":
        x, y = (run.evals[name].to_numpy(float) for name in ("eval/entropy", "eval/accuracy"))
        rest = run.evals.assign(residual=y - law(x, y)(x))
        yield from _by_step(rest, rest["step"], "residual")
    elif curve.x != "forecast":
        records = run.evals if curve.y.startswith("eval/") else run.steps
        if curve.y in AXES:
            records = records.assign(**{curve.y: AXES[curve.y](run)[records["step"].to_numpy(int)]})
        if curve.y == "kl/reference":  # recorded as 0 where there is no reference to measure it from
            measured = [i for i, stage in enumerate(run.recipe.by_stage) if stage.beta]
            records = records[records["stage"].isin(measured)]
        yield from _by_step(records, AXES[curve.x](run)[records["step"].to_numpy(int)], curve.y)


def theirs(places: tuple[str, ...]) -> Iterator[tuple[str, str, float, float]]:
    """The paper's curves at places such as `figure_16/accuracy`, only the series named behind that, if any: series, how
    it was read (eye, printed), x, y. A series that an earlier place has is not given again."""
    seen: set[str] = set()
    for place in places:
        item, quantity, *only = place.split("/")
        told = paper.load("times" if item.startswith("table") else "curves")[item]
        curves = _told(item, quantity, told)
        check_names(only, curves, f"curve {item}/{quantity}")
        chosen = {name: curve for name, curve in curves.items() if name not in seen and (not only or name in only)}
        seen |= chosen.keys()
        for name, curve in chosen.items():
            for x, y in curve:
                yield name, told["read"], float(x), float(y)


# ------------------------------------------------------------------------------------------------------- helpers


def _total(run: Records, columns: tuple[str, ...]) -> Numbers:
    """The running sum of metrics of the steps: at step 0 nothing."""
    known = [column for column in columns if column in run.steps]
    return np.concatenate([[0.0], run.steps[known].fillna(0).sum(axis="columns").cumsum()])


AXES: Mapping[str, Any] = {  # what lies along an axis, at every step from 0 to the last
    "step": lambda run: np.arange(run.last_step + 1.0),
    "tokens": lambda run: _total(run, ("tokens/generated",)) / 1e6,
    "accuracy": lambda run: run.accuracy,
    "simulated": lambda run: np.concatenate([[0.0], simulated_time(run)]) / 1e3,
    "wall": lambda run: _total(run, CLOCKS) / 60,
}


def _by_step(records: pd.DataFrame, x: Any, y: str) -> Iterator[tuple[int, float, float]]:
    if y in records:
        x, values = np.asarray(x, float), records[y].to_numpy(float)
        known = np.isfinite(x) & np.isfinite(values)
        yield from zip(*(row[known].tolist() for row in (records["step"].to_numpy(int), x, values)), strict=True)


def _limits(recipes: Sequence[Recipe]) -> list[int]:
    """Where all runs of a panel are compared (tokens): shares of their evaluation's limit, and those trained under."""
    longest = min((recipe.eval.T or recipe.max_T for recipe in recipes), default=0)
    trained = {min(stage.T, longest) for recipe in recipes for stage in recipe.by_stage}
    return sorted({round(share * longest) for share in SHARES} | trained)


def _alike(shelf: Shelf, arms: Arms) -> list[list[str]]:
    """Groups of arms whose runs have the same entropy at every step, seed by seed."""
    groups: dict[Any, list[str]] = {}
    for arm, runs in arms.items():
        own = tuple((seed, *shelf.measured(run).steps["entropy/rollout"]) for seed, run in runs.items())
        groups.setdefault(own, []).append(arm)
    return [same for same in groups.values() if len(same) > 1]


def _forecasts(shelf: Shelf) -> Iterator[list[Any]]:
    """For every run: the accuracy that the law of its first half says for its last entropy (x), and its last (y)."""
    for number, run in enumerate(shelf.everything()):
        kind = KINDS[2 if run.recipe.entropy != "none" else int(run.recipe.N_SGD > 1)]
        yield ["ours", kind, number, run.last_step, *forecast(run)]


def _told(item: str, quantity: str, told: dict[str, Any]) -> dict[str, list[Any]]:
    """The curves of a quantity as they stand in the paper's files: name -> points."""
    if item == "figure_5b":
        return {quantity: [[point["aime24"], point["length"]] for point in told["points"]]}
    if item == "figure_7":  # where each arm starts and ends
        return {arm: [[0, told["start"][quantity]], [end["step"], end[quantity]]] for arm, end in told["end"].items()}
    if item == "figure_8":
        return {name: list(zip(told["T"], shares, strict=True)) for name, shares in told[quantity].items()}
    if item == "figure_14":
        baseline = max(told["step_2000"]["D_R"])  # gs varies around the largest D_R
        ends = {f"{quantity}-{n}": end for n, end in told["step_2000"][quantity].items()}
        if quantity == "gs":
            ends[f"D_R-{baseline}"] = ends.pop(f"gs-{max(told['step_2000']['gs'])}")
        return {arm: [[0, told["start"]], [2000, end]] for arm, end in ends.items()}
    if item == "table_8":
        share = 0.01 if quantity.startswith("share") else 1
        return {"-".join(map(str, row["quadruple"])): [[0, share * row[quantity]]] for row in told["rows"]}
    if item == "table_9":
        return {"the paper's": [[row["h800"], row[quantity]] for row in told["rows"]]}
    return {name: curve for name, curve in told[quantity].items() if name != "unit"}
