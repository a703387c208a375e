"""One run at a glance: for the end of a training notebook, and redrawn while it trains."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from or1lab.plots import style

# Panel -> its quantity with unit, and the metrics in it with their names in the legend.
LINES = {
    "reward": ("share correct", {"reward/mean": "training", "eval/accuracy": "test"}),
    "entropy": ("nats per token", {"entropy/rollout": "rollouts", "eval/entropy": "test"}),
    "length": ("tokens", {"length/mean": "mean", "length/p95": "95% quantile"}),
    "truncated": ("share of responses", {"length/truncated_frac": "training", "eval/truncated_frac": "test"}),
}
STACKS = {
    "groups": (
        "share of groups",
        {"groups/kept_frac": "kept", "groups/all_right_frac": "all right", "groups/all_wrong_frac": "all wrong"},
    ),
    "time": (
        "seconds a step",
        {"time/rollout": "rollout", "time/update": "update", "time/sync": "sync", "time/other": "other"},
    ),
}


def card(metrics: pd.DataFrame, title: str = "") -> Figure:
    """Reward, entropy with alpha, length, truncation, kept groups and the time split of one run, or of one that trains.

    Args:
        metrics: the run's records, every kind (`Run.metrics`, or a frame of the records seen so far).
    """
    with style.theme():
        figure, axes = style.figure(4.6, rows=2, columns=3)
        panels = dict(zip(("reward", "length", "groups", "entropy", "truncated", "time"), axes.flat, strict=True))
        for name, (quantity, names) in LINES.items():
            _lines(panels[name], metrics, names)
            if name == "entropy":
                _coefficient(panels[name], metrics)
            _dress(panels[name], name, quantity)
        for name, (quantity, names) in STACKS.items():
            _stack(panels[name], metrics, names)
            _dress(panels[name], name, quantity)
        panels["groups"].set_ylim(0, 1)
        for panel in axes[1]:
            panel.set_xlabel("training step")
        if title:
            figure.suptitle(style.symbols(title), x=0.01, ha="left", fontsize=10)
    return figure


def _lines(panel: Axes, metrics: pd.DataFrame, names: dict[str, str]) -> None:
    for i, (metric, label) in enumerate(names.items()):
        if metric in metrics:
            seen = metrics.loc[metrics["kind"] == metric_kind(metric)].dropna(subset=[metric])
            marker = style.MARKERS[i] if metric_kind(metric) == "eval" or len(seen) == 1 else None
            panel.plot(seen["step"], seen[metric], label=label, marker=marker)
    panel.set_ylim(bottom=0)


def _coefficient(panel: Axes, metrics: pd.DataFrame) -> None:
    """alpha on an axis of its own, where there was any."""
    seen = metrics.dropna(subset=["entropy/alpha"]) if "entropy/alpha" in metrics else metrics[:0]
    seen = seen[seen["kind"] == "step"]
    if not len(seen) or not seen["entropy/alpha"].any():
        return
    right, look = panel.twinx(), {"color": style.COLORS[2], "linestyle": ":"}
    right.plot(seen["step"], seen["entropy/alpha"], **look)
    right.set_ylim(bottom=0)
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    panel.plot([], [], label="α (right)", **look)


def _stack(panel: Axes, metrics: pd.DataFrame, names: dict[str, str]) -> None:
    steps = metrics[metrics["kind"] == "step"]
    known = [metric for metric in names if metric in steps]
    if len(steps) and known:
        shares = [steps[metric].fillna(0) for metric in known]
        panel.stackplot(steps["step"], *shares, labels=[names[metric] for metric in known], alpha=0.85, linewidth=0)


def _dress(panel: Axes, name: str, quantity: str) -> None:
    panel.set_ylabel(quantity)
    panel.margins(x=0.02)
    labels = panel.get_legend_handles_labels()[1]
    panel.set_title(name, fontweight="bold", pad=30 if name in STACKS or len(labels) > 2 else 18)
    if labels:  # above the data, never on it
        panel.legend(loc="lower left", bbox_to_anchor=(-0.03, 0.98), ncols=2, borderpad=0.1, handlelength=1.2,
                     columnspacing=0.9, labelspacing=0.2, fontsize=8)  # fmt: skip


def metric_kind(metric: str) -> str:
    """The kind of record a metric is in."""
    return "eval" if metric.startswith("eval/") else "step"
