"""The paper's Figures 1, 2, 3, 5b and 8 from its numbers, with our evaluations over them or in panels of their own.

Every function takes a frame of `paper_figures` and gives a figure. Hollow markers were read by eye off the paper's
figure; the star, levels and bars are printed in it; filled markers with 95% intervals over problems are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from or1lab.plots import style

BY_EYE = "Hollow markers: read by eye off the paper's figure, about ±0.5 points; not numbers that it gives."
OURS = "Filled markers with bars or bands: measured here, with 95% intervals over problems."
PANELS, SERIES = 4, 7  # of ours that a figure has room for
ACROSS = 6  # columns of the grid: rows of one, two or three panels


class Parts:
    """What is drawn where: the paper's panels, ours, and the colour and marker of each series of ours."""

    def __init__(self, frame: pd.DataFrame, width: float) -> None:
        self.width = width
        names = list(dict.fromkeys(frame.loc[frame["read"] == "ours", "series"]))
        drawn = frame[(frame["read"] != "ours") | frame["series"].isin(names[:SERIES])]
        panels = {str(name): part for name, part in drawn.groupby("panel", sort=False)}
        self.theirs = {name: part for name, part in panels.items() if (part["read"] != "ours").any()}
        ours = [(name, part) for name, part in panels.items() if name not in self.theirs]
        self.ours = dict(ours[:PANELS])
        looks = zip(reversed(style.COLORS), reversed(style.MARKERS), strict=True)
        self.looks: dict[str, dict[str, Any]] = {
            name: {"color": color, "marker": marker} for name, (color, marker) in zip(names, looks, strict=False)
        }
        lines = [BY_EYE] if (frame["read"] == "eye").any() else []
        if names:
            lines.append(OURS)
        if len(names) > SERIES or len(ours) > PANELS:
            lines.append(
                f"Drawn are {SERIES} of our {len(names)} series at most, and {PANELS} suites; the CSV has all."
            )
        self.note = "\n".join(style.filled(line, width) for line in [*lines, *frame.attrs.get("notes", ())])

    def figure(self, height: float, more: float) -> tuple[Figure, list[tuple[Axes, str, pd.DataFrame]]]:
        """A figure with the paper's panels in its first row, `height` inches, and ours below, `more` a row of two."""
        pair = 1 if self.width < style.NARROW else 2  # of ours in a row
        top = len(self.theirs) if pair == 1 else 1  # rows of the paper's panels
        rows = -(-len(self.ours) // pair)
        made = Figure(figsize=(self.width, height + (height - 0.9) * (top - 1) + more * rows))
        grid = made.add_gridspec(top + rows, ACROSS, height_ratios=[*[height - 0.9] * top, *[more] * rows])
        panels = []
        for i, (name, part) in enumerate(self.theirs.items()):
            span = ACROSS * top // len(self.theirs)
            first = i * span % ACROSS
            panels.append((made.add_subplot(grid[i * top // len(self.theirs), first : first + span]), name, part))
        for i, (name, part) in enumerate(self.ours.items()):
            alone = i == len(self.ours) - 1 and i % pair == 0
            columns = slice(0, ACROSS) if alone else slice(i % pair * ACROSS // pair, (i % pair + 1) * ACROSS // pair)
            panels.append((made.add_subplot(grid[top + i // pair, columns]), f"{name} (ours)", part))
        if self.note:
            made.supxlabel(self.note, x=0.01, ha="left", fontsize=8)
        return made, panels


def training_curve(frame: pd.DataFrame, width: float = style.WIDTH) -> Figure:
    """Figure 1: accuracy against the training step; released model as a star, its peers as dashed lines."""
    parts = Parts(frame, width)
    with style.theme():
        figure, panels = parts.figure(2.9, 1.8)
        for panel, name, part in panels:
            for series, points in part[part["x"].notna()].groupby("series", sort=False):
                if points["read"].iloc[0] == "ours":
                    _ours(panel, points, label=str(series), linewidth=1.2, **parts.looks[str(series)])
                elif points["read"].iloc[0] == "eye":
                    panel.plot(points["x"], points["y"], color=style.COLORS[0], marker="o", markerfacecolor="white",
                               label=str(series))  # fmt: skip
                else:
                    panel.plot(points["x"], points["y"], "*", color=style.COLORS[1], markersize=13, zorder=4,
                               markeredgecolor="black", markeredgewidth=0.6, label=str(series))  # fmt: skip
            levels = part[part["x"].isna()].sort_values("y")
            for i, row in enumerate(levels.itertuples()):
                _level(panel, row, i)
            panel.set_xlim(left=0)
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            style.dress(panel, name, "training step", "accuracy (%)")
        _legend(figure, [panel for panel, _, _ in panels], width)
    return figure


def _level(panel: Axes, row: Any, i: int) -> None:
    """The `i`-th level from below, with its number at the right end: the lowest has it below its line."""
    color, dashes = ((style.COLORS[2], ":"), (style.COLORS[3], "--"))[i % 2]
    panel.axhline(row.y, color=color, linestyle=dashes, linewidth=1.4, label=row.series)
    panel.annotate(f"{row.y:.1f}", (1, row.y), (3, 1 if i else -1), xycoords=("axes fraction", "data"), color=color,
                   va="bottom" if i else "top", textcoords="offset points", fontsize=8)  # fmt: skip


def bars(frame: pd.DataFrame, width: float = style.WIDTH) -> Figure:
    """Figures 2 and 3: finished models side by side on each suite. What we measured of one of them lies on its bar; all
    else that we measured has bars of its own in a second panel."""
    printed, ours = frame[frame["read"] == "printed"], frame[frame["read"] == "ours"]
    bar = set(zip(printed["panel"], printed["series"], strict=True))
    on_a_bar = [pair in bar for pair in zip(ours["panel"], ours["series"], strict=True)]
    own = ours[[not on for on in on_a_bar]]
    parts = Parts(pd.concat([printed, own.assign(panel="ours")]), width)
    with style.theme():
        suites, slots = list(dict.fromkeys(printed["panel"])), list(dict.fromkeys(printed["series"]))
        groups = [[suite] for suite in suites] if width < style.NARROW else [suites]  # of suites, a panel each
        rows = len(groups) + bool(len(own))
        figure = Figure(figsize=(width, 1.0 + 2.1 * rows))
        axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
        thick = 0.86 / len(slots)
        for panel, group in zip(axes, groups, strict=False):
            for row in printed[printed["panel"].isin(group)].itertuples():
                slot = slots.index(row.series)
                x, color = group.index(row.panel) + (slot - (len(slots) - 1) / 2) * thick, style.COLORS[slot]
                panel.bar(x, row.y, 0.92 * thick, color=color, label=row.series)
                over = ours[(ours["panel"] == row.panel) & (ours["series"] == row.series)]
                _ours(panel, over.assign(x=x), label="measured here", color="black", marker="D", linewidth=0)
                _number(panel, row.y, x, inside=len(over) > 0, color=color)
            panel.set_xticks(range(len(group)), group)
        if len(own):
            _own_bars(axes[-1], own[own["series"].isin(list(parts.looks))], parts)
        for panel in axes:
            panel.set(ylabel="accuracy (%)", ylim=(0, 100))
            panel.tick_params(axis="x", length=0)
            panel.grid(axis="x", visible=False)
        _legend(figure, axes, width)
        if notes := [*([OURS] if len(ours) else []), *frame.attrs.get("notes", ())]:
            note = "\n".join(style.filled(line, width) for line in notes)
            figure.supxlabel(note, x=0.01, ha="left", fontsize=8)
    return figure


def _number(panel: Axes, y: float, x: float, *, inside: bool, color: str) -> None:
    """A bar's number: above it, or at its foot where a marker of ours is in the way."""
    dark = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), to_rgb(color), strict=True)) < 0.45
    place = (
        {"xy": (x, 0), "xytext": (0, 3), "color": "white" if dark else "black"}
        if inside
        else {"xy": (x, y), "xytext": (0, 2)}
    )
    panel.annotate(f"{y:.1f}", textcoords="offset points", ha="center", fontsize=8, **place)


def _own_bars(panel: Axes, own: pd.DataFrame, parts: Parts) -> None:
    """Groups of hatched bars, one a suite, as wide as they have bars."""
    x, ticks = 0.0, {}
    for name, group in own.groupby("panel", sort=False):
        ticks[name] = x + (len(group) - 1) / 2
        for row in group.itertuples():
            color = parts.looks[row.series]["color"]
            panel.bar(x, row.y, 0.9, color="white", edgecolor=color, hatch="////", linewidth=0.8, label=row.series)
            one = pd.DataFrame([{"x": x, "y": row.y, "low": row.low, "high": row.high}])
            _ours(panel, one, color="black", marker="D", linewidth=0)
            x += 1
        x += 1
    names = [name.replace(" ", "\n") if parts.width < style.NARROW else name for name in ticks]
    panel.set_xticks(list(ticks.values()), [f"{name}\n(ours)" for name in names])
    panel.set_xlim(-1, max(x - 1, 9))


def token_efficiency(frame: pd.DataFrame, width: float = style.WIDTH) -> Figure:
    """Figure 5b: mean response length against accuracy; the stages of the paper's model in their order."""
    parts = Parts(frame, width)
    with style.theme():
        figure, panels = parts.figure(3.3, 2.1)
        for panel, name, part in panels:
            eye = part[part["read"] == "eye"]
            panel.plot(eye["x"], eye["y"], color=style.COLORS[0], linestyle=":", linewidth=1.2)
            last = eye["x"].min() + 0.75 * (eye["x"].max() - eye["x"].min())
            for i, row in enumerate(eye.itertuples()):
                alone = len(eye) == len(part) and width >= style.NARROW  # else names go to the legend
                panel.plot(row.x, row.y, color=style.COLORS[0], marker="o" if alone else style.MARKERS[i], markersize=6,
                           markerfacecolor="white", linestyle="none", label="" if alone else row.series)  # fmt: skip
                if alone:  # clear of the line that rises to the right
                    offset, side = ((-8, 8), "right") if row.x > last else ((8, -9), "left")
                    panel.annotate(row.series, (row.x, row.y), offset, textcoords="offset points", ha=side, va="center",
                                   fontsize=8)  # fmt: skip
            for row in part[part["read"] == "ours"].itertuples():
                bounds = [[row.x - row.low], [row.high - row.x]]
                panel.errorbar(row.x, row.y, xerr=bounds, label=row.series, capsize=2.5, elinewidth=1, linewidth=0,
                               markersize=6, **parts.looks[row.series])  # fmt: skip
            panel.margins(x=0.12)
            panel.set_ylim(0, 1.15 * part["y"].max())
            panel.yaxis.set_major_formatter("{x:,.0f}")
            style.dress(panel, name, "accuracy (%)", "mean length (tokens)")
        _legend(figure, [panel for panel, _, _ in panels], width)
    return figure


def limits(frame: pd.DataFrame, width: float = style.WIDTH) -> Figure:
    """Figure 8: accuracy against the limit on the response, on a logarithmic axis."""
    parts = Parts(frame, width)
    with style.theme():
        figure, panels = parts.figure(3.4, 2.1)
        for panel, name, part in panels:
            for i, (series, points) in enumerate(part.groupby("series", sort=False)):
                if points["read"].iloc[0] == "ours":
                    look = parts.looks[str(series)]
                    panel.fill_between(points["x"], points["low"], points["high"], color=look["color"], alpha=0.15,
                                       linewidth=0)  # fmt: skip
                    panel.plot(points["x"], points["y"], label=str(series), **look)
                else:
                    panel.plot(points["x"], points["y"], color=style.COLORS[i], marker=style.MARKERS[i],
                               markerfacecolor="white", label=str(series))  # fmt: skip
            panel.set_xscale("log", base=2)
            told = part.loc[part["read"] == "eye", "x"]
            ticks = sorted(set(told if len(told) else part["x"]))
            panel.set_xticks([T for T in ticks if width >= style.NARROW or math.log2(T).is_integer()])
            panel.xaxis.set_major_formatter(FuncFormatter(_limit))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_ylim(bottom=0)
            style.dress(panel, name, "limit on the response (tokens)", "accuracy (%)")
        _legend(figure, [panel for panel, _, _ in panels], width)
    return figure


def _limit(T: float, _: Any) -> str:
    return f"{T / 1024:g}K" if T >= 1024 and T % 1024 == 0 else f"{T:g}"


def _ours(panel: Axes, points: pd.DataFrame, **look: Any) -> None:
    """Our points with their intervals; nothing for none."""
    if len(points):
        error = [points["y"] - points["low"], points["high"] - points["y"]]
        panel.errorbar(points["x"], points["y"], yerr=error, capsize=2.5, elinewidth=1, zorder=5,
                       **{"markersize": 4.5, **look})  # fmt: skip


def _legend(figure: Figure, axes: Iterable[Axes], width: float) -> None:
    """One legend above all panels, each name once, in as many columns as fit."""
    found: dict[str, Any] = {}
    for panel in axes:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if not found:
        return
    figure.legend(found.values(), list(found), loc="outside upper left", ncols=style.legend_columns(list(found), width))
