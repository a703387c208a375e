"""The figures of the studies: the paper's curves and ours in panels side by side, each with its own axes.

Hollow markers and no seeds: the paper's. Ours: every run a thin line, the mean of its arm a thick one, drawn as far as
all runs of the arm reach. A colour and a marker stand for the same arm in all panels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from or1lab.plots import style
from or1lab.study_figures import FLOOR, Curve, Panel, Spec, law

X = {
    "step": "training step",
    "tokens": "tokens sampled for training (millions)",
    "accuracy": "test accuracy (share correct)",
    "limit": "limit on the response (tokens)",
    "simulated": "simulated time (thousand token times)",
    "wall": "training time here (minutes)",
    "slots": "places that decode side by side",
    "entropy": "entropy of the test responses (nats per token)",
    "forecast": "forecast from the first half (share correct)",
}
BY_EYE = "Hollow markers: read by eye off the paper's figure ({}), not numbers that it gives."
PRINTED = "Hollow: as printed in the paper ({})."
EACH = "thin for each run, thick for the mean of the n runs of an arm."
OURS = f"Filled: ours, {EACH}"
STAGES = "Dotted lines: a stage begins."
TARGET = "Dashed lines: target entropy."
NO_RUN = "no finished run yet"
PALE: dict[str, Any] = {"linewidth": 0.6, "alpha": 0.4}
GREY = "0.45"
MARKED = 9  # markers along a curve
STEPS = (1, 2, 2.5, 5, 10)  # between ticks, but for powers of ten


def draw(frame: pd.DataFrame, spec: Spec, curves: dict[str, Curve], width: float = style.WIDTH) -> Figure:
    """A figure of `experiments/figures.yaml` from its frame (`study_figures.data`, whose attributes it needs).

    A panel with curves of the paper has a row to itself, theirs on the left; the others stand two in a row.
    In a narrow figure every panel has a row.
    """
    rows: list[list[tuple[str, str, Panel]]] = []  # per row: name in the frame, whose, panel
    for name, panel in zip(spec.names, spec.panels, strict=True):
        if panel.paper:
            rows.append([(name, "paper", panel), (name, "ours", panel)])
        elif rows and len(rows[-1]) == 1:
            rows[-1].append((name, "ours", panel))
        else:
            rows.append([(name, "ours", panel)])
    if width < style.NARROW:
        rows = [[panel] for row in rows for panel in row]
    looks = _looks(frame)
    with style.theme():
        made = Figure(figsize=(width, 0.9 + (2.15 if len(rows) < 4 else 1.85) * len(rows)))
        grid = made.add_gridspec(len(rows), 2)
        notes: dict[str, list[str]] = {}
        for i, row in enumerate(rows):
            for j, (name, whose, panel) in enumerate(row):
                axes = made.add_subplot(grid[i, j] if len(row) == 2 else grid[i, :])
                curve, part = curves[panel.curve], frame[frame["panel"] == name]
                x = X.get(curve.x, "")
                if whose == "paper":
                    told, place, x = part[part["read"] != "ours"], places(panel.paper), panel.paper_x or x
                    notes.setdefault(told["read"].iloc[0], []).extend(panel.paper)
                    _theirs(axes, told, curve, looks)
                    style.dress(axes, f"Paper, {place}", x, panel.paper_label or curve.label)
                    stages, target = spec.switch, spec.target
                else:
                    part = part[part["read"] == "ours"]
                    _ours(axes, part, curve, looks, spec.labels)
                    style.dress(axes, panel.title or "Ours" * bool(panel.paper), x, curve.label)
                    stages, target = frame.attrs["switches"][name], frame.attrs["target"]
                if part.empty:
                    _empty(axes)
                    continue
                _scales(axes, curve)
                for step in stages if x == X["step"] else ():
                    axes.axvline(step, color=GREY, linestyle=":", linewidth=0.9, zorder=1)
                if spec.target and target and curve.y == "entropy/rollout":
                    axes.axhline(target, color=GREY, linestyle="--", linewidth=0.9, zorder=1)
        _legend(made, frame, looks, spec, width)
        made.supxlabel(_note(frame, spec, notes, width), x=0.01, ha="left", fontsize=8)
        return made


def _looks(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Colour and marker of each series: our arms in their order, then what the paper alone has."""
    ours = frame["read"] == "ours"
    names = [*frame.attrs["seeds"], *frame.loc[ours, "series"], *frame.loc[~ours, "series"]]
    several = zip(style.COLORS * 2, style.MARKERS * 2, strict=True)
    return {name: {"color": c, "marker": m} for name, (c, m) in zip(dict.fromkeys(names), several, strict=False)}


def _theirs(axes: Axes, told: pd.DataFrame, curve: Curve, looks: dict[str, dict[str, Any]]) -> None:
    """The paper's curves; where ours are bars, hollow bars with the printed number."""
    series = list(told.groupby("series", sort=False))
    for place, (name, points) in enumerate(series):
        look = looks[str(name)]
        if curve.x == "arm":
            axes.bar(place, points["y"].iloc[0], 0.6, color="white", edgecolor=GREY, linewidth=1.2)
            number = f"{points['y'].iloc[0]:.3g}"
            axes.annotate(number, (place, points["y"].iloc[0]), (0, 2), textcoords="offset points", ha="center",
                          fontsize=8)  # fmt: skip
        else:
            axes.plot(points["x"], points["y"], **look, markerfacecolor="white", linewidth=1.2)
    if curve.x == "arm":
        _arms(axes, [str(name) for name, _ in series], {})


def _ours(
    axes: Axes, ours: pd.DataFrame, curve: Curve, looks: dict[str, dict[str, Any]], labels: dict[str, str]
) -> None:
    series = list(ours.groupby("series", sort=False))
    for place, (name, arm) in enumerate(series):
        look = looks[str(name)]
        if curve.x == "arm":
            axes.bar(place, arm["y"].mean(), 0.6, color=GREY, alpha=0.5)
            spread = np.linspace(-0.15, 0.15, len(arm)) * (len(arm) > 1)
            axes.plot(place + spread, arm["y"], color="black", marker="o", markersize=3, linestyle="none")
        elif curve.x in ("entropy", "forecast"):
            x = arm["x"].clip(lower=FLOOR) if curve.x == "forecast" else arm["x"]
            axes.plot(x, arm["y"], **look, linestyle="none", alpha=0.6, markersize=3.5, markeredgewidth=0)
            if curve.x == "entropy":
                _fits(axes, arm, look)
        else:
            _curves(axes, arm, look)
    if curve.x == "arm":
        _arms(axes, [str(name) for name, _ in series], labels)
    if curve.x == "forecast" and len(ours):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.9, zorder=1)
    if curve.y == "residual":
        axes.axhline(0, color=GREY, linewidth=0.9, zorder=1)


def _curves(axes: Axes, arm: pd.DataFrame, look: dict[str, Any]) -> None:
    """Each run, and their mean where all runs have a point: at the same step, or, where there are none, the same x."""
    runs = arm.groupby("seed", sort=False)
    for _, run in runs:
        axes.plot(run["x"], run["y"], color=look["color"], **PALE)
    points = arm.groupby("step" if arm["step"].notna().all() else "x")[["x", "y"]]
    mean = points.mean()[points.size() == runs.ngroups]
    axes.plot(mean["x"], mean["y"], **look, markevery=max(1, len(mean) // MARKED))


def _fits(axes: Axes, arm: pd.DataFrame, look: dict[str, Any]) -> None:
    """The law fitted to each run."""
    for _, run in arm.groupby("seed", sort=False):
        x = np.linspace(run["x"].min(), run["x"].max(), 50)
        axes.plot(x, law(run["x"].to_numpy(), run["y"].to_numpy())(x), color=look["color"], linewidth=1)


def _arms(axes: Axes, names: list[str], labels: dict[str, str]) -> None:
    axes.set_xticks(range(len(names)), [labels.get(name, name) for name in names])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)


def _empty(axes: Axes) -> None:
    """A panel whose arms have no finished run yet."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, NO_RUN, transform=axes.transAxes, ha="center", va="center", color=GREY)


def _scales(axes: Axes, curve: Curve) -> None:
    if curve.x in ("limit", "slots"):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1024:g}K" if x >= 1024 else f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    elif curve.x != "arm":
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axes.margins(x=0.02)
    if curve.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    if curve.zero:  # with room for markers and numbers above
        axes.set_ylim(0, (1.16 if curve.x == "arm" else 1.07) * axes.dataLim.y1 or None)


def places(places: tuple[str, ...]) -> str:
    """`figure_17/accuracy`, `figure_16/accuracy` -> Figures 16 and 17."""
    items = sorted({place.partition("/")[0] for place in places}, key=lambda item: (len(item.rstrip("ab")), item))
    kind = items[0].partition("_")[0].capitalize() + "s" * (len(items) > 1)
    *before, last = (item.partition("_")[2] for item in items)
    return f"{kind} {' and '.join(filter(None, [', '.join(before), last]))}"


def _legend(made: Figure, frame: pd.DataFrame, looks: dict[str, dict[str, Any]], spec: Spec, width: float) -> None:
    """One legend above all panels: our arms with their runs, then what the paper alone has, hollow."""
    bars = [panel.curve for panel in spec.panels if panel.study]  # an arm's name is below each bar
    shown = set(frame.loc[~frame["panel"].isin(bars), "series"])
    handles, names, plain = [], [], []
    for name, look in looks.items():
        part = frame[frame["series"] == name]
        ours = part[part["read"] == "ours"]
        if name not in shown:
            continue  # a bar has its name below it
        label = spec.labels.get(name, name)
        if len(ours):
            label += f" (n = {ours.groupby('panel')['seed'].nunique().max()})"
        face: dict[str, Any] = {} if len(ours) else {"markerfacecolor": "white", "linewidth": 1.2}
        handles.append(Line2D([], [], **look, **face))
        names.append(style.symbols(label))
        plain.append(label)  # as long as it is printed
    made.legend(handles, names, loc="outside upper left", ncols=style.legend_columns(plain, width))


def _note(frame: pd.DataFrame, spec: Spec, notes: dict[str, list[str]], width: float) -> str:
    lines = []
    for read, told in (("eye", BY_EYE), ("printed", PRINTED)):
        if read in notes:
            lines.append(told.format(places(tuple(notes[read]))))
    lines.append(OURS if notes else EACH.capitalize())
    if spec.switch or any(frame.attrs["switches"].values()):
        lines.append(STAGES)
    if spec.target and frame.attrs["target"]:
        lines.append(TARGET)
    text = [" ".join(lines), spec.note, " ".join(frame.attrs["notes"])]
    return "\n".join(style.symbols(style.filled(line, width)) for line in text if line)
