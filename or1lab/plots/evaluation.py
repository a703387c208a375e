"""Figures of one evaluation: its problems one by one, its bands, and its accuracy under shorter limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from or1lab import paper
from or1lab.plots import style

KINDS = ("no verdict", "truncated", "wrong", "right")
SHADES = ("#FFFFFF", "#999999", "#F2D9A6", style.COLORS[0])  # told apart in grey print, too
LINED = 45  # problems at most that have room for lines between them


def solved(frame: pd.DataFrame) -> Figure:
    """A heat map of problems (columns, by band, the hardest left) and samples (rows), right ones below.

    The samples of a problem have no order of their own, so equal verdicts are put together.

    Args:
        frame: as by `reading.answers`.
    """
    kind = np.select(
        [frame["correct"].isna(), frame["truncated"].astype(bool), ~frame["correct"].fillna(False).astype(bool)],
        [0, 1, 2], 3,
    )  # fmt: skip
    columns: list[Any] = []
    edges, names = [0], []
    for name, band in frame.assign(kind=kind).groupby("band", observed=True):
        problems = [np.sort(own["kind"])[::-1] for _, own in band.groupby("problem_id", sort=False)]
        columns += sorted(problems, key=lambda own: (np.sum(own == 3), -np.sum(own == 1)))
        edges.append(len(columns))
        names.append(str(name))
    cells = np.array(columns).T
    K, P = cells.shape
    with style.theme():
        figure, axes = style.figure(2.6)
        panel = axes[0, 0]
        panel.pcolormesh(
            np.arange(P + 1), np.arange(K + 1), cells, cmap=ListedColormap(SHADES), vmin=0, vmax=3,
            edgecolors="white" if P <= LINED else "none", linewidth=0.4, rasterized=P > LINED,
        )  # fmt: skip
        for edge in edges[1:-1]:
            panel.axvline(edge, color="black", linewidth=1)
        if len(names) > 1:
            middles = [(low + high) / 2 for low, high in zip(edges, edges[1:], strict=False)]
            top = panel.secondary_xaxis("top")
            top.set_xticks(middles, names)
            top.tick_params(length=0)
            top.spines["top"].set_visible(False)
        panel.set_xlabel("problems, in each band from the hardest to the easiest" if len(names) > 1 else
                         "problems, from the hardest to the easiest")  # fmt: skip
        panel.set_ylabel("samples")
        panel.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.grid(False)
        there = [i for i in (3, 2, 1, 0) if (cells == i).any()]
        handles = [Patch(facecolor=SHADES[i], edgecolor="#666666", linewidth=0.6, label=KINDS[i]) for i in there]
        figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1.2)
    return figure


def bands(found: dict[str, Any]) -> Figure:
    """Accuracy of each band with its 95% interval over problems, and its mean length.

    Args:
        found: `bands` of an evaluation's summary.
    """
    rows = pd.DataFrame(found["rows"])
    y = np.arange(len(rows))
    with style.theme():
        figure, axes = style.figure(1.0 + 0.28 * len(rows), columns=2)
        left, right = axes[0]
        value, low, high = (100 * rows[name].astype(float) for name in ("value", "low", "high"))
        left.errorbar(value, y, xerr=[value - low, high - value], fmt="o", capsize=2.5, elinewidth=1, linewidth=0)
        left.set(xlabel=f"{rows['name_of'].iloc[0]} (%), 95% interval", xlim=(0, min(1.1 * high.max(), 101)))
        left.set_yticks(y, [f"{name} (n = {n})" for name, n in zip(rows["name"], rows["problems"], strict=True)])
        left.set_ylabel(found["by"])
        right.barh(y, rows["length"], height=0.55, color=style.COLORS[5])
        right.set_xlabel("mean length (tokens)")
        right.set_yticks(y, [""] * len(y))
        for panel in (left, right):
            panel.set_ylim(len(rows) - 0.5, -0.5)
            panel.tick_params(axis="y", length=0)
            panel.grid(axis="y", visible=False)
    return figure


def limits(curve: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy (with its 95% interval over problems) and share truncated against the limit, on a logarithmic axis.

    Args:
        curve: as by `evaluation_summary.curve`.
    """
    rows = pd.DataFrame(curve)
    with style.theme():
        figure, axes = style.figure(2.5, columns=2)
        left, right = axes[0]
        left.fill_between(rows["limit"], *(100 * rows[name].astype(float) for name in ("low", "high")), alpha=0.15,
                          linewidth=0)  # fmt: skip
        left.plot(rows["limit"], 100 * rows["value"], marker="o")
        left.set_ylabel(f"{rows['name'].iloc[0]} (%)")
        right.plot(rows["limit"], 100 * rows["truncated"], color=style.COLORS[1], marker="s")
        right.set_ylabel("truncated (%)")
        for panel in (left, right):
            panel.set_xscale("log", base=2)
            panel.set_xticks(rows["limit"])
            panel.xaxis.set_major_formatter(FuncFormatter(lambda T, _: paper.tokens(int(T))))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xlabel("limit on the response (tokens)")
            panel.set_ylim(bottom=0)
    return figure
