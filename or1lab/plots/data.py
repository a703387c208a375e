"""Data curation (paper section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from or1lab.plots import style

DOMAINS = ("math", "code")
WIDEST = 2  # reasons named beside a stage


def stages_frame(stages: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The stages of a curation (of funnel.json): stage, came, math, code (what stays of each), why the others went."""
    rows = []
    for stage in stages:
        gone = sorted(((sum(by.values()), kind) for kind, by in stage["removed"].items()), reverse=True)
        why = [f"{kind} {n:,}" for n, kind in gone[:WIDEST]]
        if rest := sum(n for n, _ in gone[WIDEST:]):
            why.append(f"others {rest:,}")
        came = sum(stage["in"].values())
        rows.append([stage["stage"], came, *(stage["out"].get(domain, 0) for domain in DOMAINS), "\n".join(why)])
    return pd.DataFrame(rows, columns=["stage", "came", *DOMAINS, "why"])


def funnel(frame: pd.DataFrame) -> Figure:
    """What each stage lets through, from top to bottom: mathematics, programs, and what is removed with its reasons.

    Args:
        frame: as made by `stages_frame`.
    """
    with style.theme():
        figure, axes = style.figure(0.7 + 0.42 * len(frame))
        panel = axes[0, 0]
        left = pd.Series(0, index=frame.index)
        for i, domain in enumerate(DOMAINS):
            if frame[domain].any():
                panel.barh(frame.index, frame[domain], left=left, height=0.62, color=style.COLORS[i], label=domain)
            left = left + frame[domain]
        gone = (frame["came"] - left).where(frame["came"] > left)  # no bar where nothing goes
        panel.barh(frame.index, gone, left=left, height=0.62, label="removed",
                   color="white", edgecolor=style.COLORS[4], hatch="////", linewidth=0.8)  # fmt: skip
        for row in frame.itertuples():
            if row.Index:  # what the stage before has passed on
                panel.fill_betweenx([row.Index - 0.69, row.Index - 0.31], 0, row.came, color="0.9", linewidth=0)
            text = f"{row.math + row.code:,}" + (f"   ({row.why})".replace("\n", ", ") if row.why else "")
            panel.annotate(text, (row.came, row.Index), (4, 0), textcoords="offset points", va="center", fontsize=8)
        panel.set_yticks(frame.index, frame["stage"])
        panel.set_ylim(len(frame) - 0.5, -0.5)
        widest = frame["came"].max()
        panel.set_xticks([tick for tick in panel.get_xticks() if tick <= widest])
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.set_xlim(0, widest * 1.75)  # room for the words
        panel.spines["bottom"].set_bounds(0, widest)
        panel.set_xlabel("problems", x=0, ha="left")
        panel.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=3)
    return figure

