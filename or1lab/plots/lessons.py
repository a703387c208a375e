"""The figures that the sliders of the quickstart notebook redraw: a group, the clip, the entropy bonus."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from or1lab.plots import style
from or1lab.sheet import number

RIGHT, WRONG, GREY = style.COLORS[0], style.COLORS[1], "0.6"


def group(advantages: pd.DataFrame, right: int) -> Figure:
    """A group with `right` right responses: the advantage of each, and beside it those of all other such groups.

    Args:
        advantages: as made by `lessons.group`, a row for every number of right responses.
    """
    size, here = len(advantages) - 1, advantages.iloc[right]
    verdict = "kept" if here["kept"] else "rejected: all rewards are equal"
    with style.theme():
        figure, ((one, every),) = style.figure(2.6, columns=2)
        members = [here["of_right"]] * right + [here["of_wrong"]] * (size - right)
        for i, advantage in enumerate(members):
            color, sign, side = (RIGHT, "1", 1) if i < right else (WRONG, "0", -1)
            one.bar(i + 1, advantage, 0.7, color=color)
            one.annotate(sign, (i + 1, advantage), (0, 4 * side), textcoords="offset points", ha="center",
                         va="bottom" if side > 0 else "top")  # fmt: skip
        one.axhline(0, color="black", linewidth=0.8)
        style.dress(one, f"this group: {verdict}", "response, with its reward at the bar", "advantage")
        one.grid(axis="x", visible=False)
        for name, color, marker, label in (("of_right", RIGHT, "o", "right"), ("of_wrong", WRONG, "s", "wrong")):
            every.plot(advantages["right"], advantages[name], color=color, marker=marker, label=f"a {label} response")
        every.axvline(right, color=GREY, linestyle="--", linewidth=0.9, zorder=1)
        style.dress(every, "every group of this size", "right responses in the group", "advantage")
        every.legend(loc="upper right")
        for panel in (one, every):
            panel.set(ylim=(-2.9, 2.9), xticks=range(panel is one, size + 1))
    return figure


def clipping(terms: pd.DataFrame, clip_low: float, clip_high: float) -> Figure:
    """A token's term of the loss, and how strongly it is pushed, against the ratio; grey: outside of the clip range.

    Args:
        terms: as made by `lessons.clipping`.
    """
    panels = {"objective": "objective (clipped)", "push": "push on the log-probability"}
    with style.theme():
        figure, axes = style.figure(2.6, columns=2)
        for panel, (column, title) in zip(axes[0], panels.items(), strict=True):
            for advantage, color, line in ((1.0, RIGHT, "-"), (-1.0, WRONG, "--")):
                part = terms[terms["advantage"] == advantage]
                label = f"advantage {number(advantage, '+g')}"
                panel.plot(part["ratio"], part[column], color=color, linestyle=line, label=label)
            low, high = terms["ratio"].min(), terms["ratio"].max()
            for ends in ((low, 1 - clip_low), (1 + clip_high, high)):
                panel.axvspan(*ends, color="0.93", zorder=0)
            panel.set_title(title, fontweight="bold")
            panel.set(xlabel="ratio: probability now / in the rollout", xlim=(low, high), ylim=(-1.9, 1.9))
        axes[0][0].legend(loc="lower left")
    return figure


def bonus(without: pd.DataFrame, runs: pd.DataFrame, alpha: float) -> Figure:
    """Entropy, accuracy and kept groups of `lessons.bandit` with a bonus, over those without (grey, dashed): each run a
    thin line, the mean a thick one."""
    labels = {
        "entropy": "entropy (nats per answer)", "accuracy": "accuracy (share correct)", "kept": "groups kept (share)",
    }  # fmt: skip
    with style.theme():
        figure, axes = style.figure(2.6, columns=3)
        for panel, (column, label) in zip(axes[0], labels.items(), strict=True):
            for frame, color, line, name in ((without, GREY, "--", "α = 0"), (runs, RIGHT, "-", f"α = {alpha:g}")):
                table = frame.pivot(index="step", columns="seed", values=column)
                panel.plot(table.index, table, color=color, linewidth=0.7, alpha=0.6)
                panel.plot(table.index, table.mean(axis="columns"), color=color, linestyle=line, label=name)
            ticks, top = range(0, int(without["step"].max()) + 1, 10), 2.9 if column == "entropy" else 1.02
            panel.set(xlabel="training step", ylabel=label, xticks=ticks, ylim=(0, top))
            panel.margins(x=0.02)
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=2)
    return figure
