"""Entropy against accuracy (paper section 4)."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from or1lab.plots import style


def arms(frame: pd.DataFrame, width: float = style.WIDTH) -> Figure:
    """The arms of an experiment side by side (the form of the paper's Figures 16 and 17): entropy, and test accuracy.

    Each run is a thin line, the mean of an arm a thick one with markers, drawn as far as all its runs reach.

    Args:
        frame: as made by `results.curves`; arms appear in the order of their first rows.
    """
    with style.theme():
        narrow = width < style.NARROW
        figure = Figure(figsize=(width, 5.2 if narrow else 3.0))
        entropy, accuracy = figure.subplots(1 + narrow, 2 - narrow).flat
        handles = []
        for i, (label, arm) in enumerate(frame.groupby("label", sort=False)):
            look: dict[str, Any] = {"color": style.COLORS[i], "marker": style.MARKERS[i]}
            _arm(entropy, arm, "entropy/rollout", look, markers=5)
            _arm(accuracy, arm, "eval/accuracy", look, markers=None)
            n = arm["seed"].nunique()
            handles.append(Line2D([], [], **look, label=style.symbols(f"{label} (n = {n})")))
        entropy.set_ylabel("rollout entropy (nats per token)")
        entropy.set_ylim(bottom=0)  # collapse is nearness to zero
        accuracy.set_ylabel("test accuracy (share correct)")
        for panel in (entropy, accuracy):
            panel.set_xlabel("training step")
            panel.margins(x=0.02)
        figure.legend(handles=handles, loc="outside upper left", ncols=2 - narrow)
    return figure


def _arm(panel: Axes, arm: pd.DataFrame, name: str, look: dict[str, Any], *, markers: int | None) -> None:
    """The runs of one arm and their mean; `markers` on every so many points."""
    runs = arm.dropna(subset=[name]).pivot(index="step", columns="seed", values=name)
    panel.plot(runs.index, runs, color=look["color"], linewidth=0.7, alpha=0.55)
    mean = runs.dropna().mean(axis="columns")
    panel.plot(mean.index, mean, **look, markevery=markers)
