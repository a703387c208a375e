"""Verifiers side by side: how many of its responses each problem has right (paper Figure 27)."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from or1lab.plots import style


def solved(counts: pd.DataFrame, M: int) -> Figure:
    """One bar a verifier, cut by the number of right responses: 0 (no group to learn from) to M (likewise).

    Args:
        counts: one row a problem, one column a verifier; the number of right responses, 0 to M.
    """
    shades = matplotlib.colormaps["cividis"].resampled(M + 1).colors  # type: ignore[attr-defined]
    with style.theme():
        figure, axes = style.figure(0.9 + 0.36 * len(counts.columns))
        panel = axes[0, 0]
        left = pd.Series(0.0, counts.columns)
        for n in range(M + 1):
            share = (counts == n).mean()
            panel.barh(counts.columns, share, left=left, color=shades[n], height=0.7, label=str(n))
            for place, name in enumerate(counts.columns):
                if share[name] > 0.035:  # room for the number
                    colour = "white" if n < M / 2 else "black"
                    panel.text(left[name] + share[name] / 2, place, f"{share[name]:.0%}", ha="center", va="center",
                               color=colour, fontsize=8)  # fmt: skip
            left += share
        panel.invert_yaxis()
        panel.set(xlabel=f"share of {len(counts)} problems", xlim=(0, 1))
        panel.spines["left"].set_visible(False)
        panel.tick_params(left=False)
        panel.legend(title=f"right responses of {M}", ncols=M + 1, loc="lower left", bbox_to_anchor=(0, 1.0),
                     handlelength=1, columnspacing=1, borderpad=0)  # fmt: skip
    return figure
