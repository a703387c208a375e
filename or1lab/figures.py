"""`or1lab figures`: every figure by its name, drawn from run folders alone, with the data behind it beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from or1lab import results
from or1lab.errors import check_names
from or1lab.plots import entropy, style
from or1lab.store import Run, full_disk_explained


@dataclass(frozen=True)
class Drawing:
    """What a figure is made of: the runs of an experiment -> data frame -> figure."""

    experiment: str
    data: Callable[[list[Run]], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


FIGURES = {name: Drawing(name, results.curves, entropy.arms) for name in ("demo", "verifier")}


def make_figures(names: list[str], folder: Path, out: Path) -> list[Path]:
    """Write name.png, name.pdf and name.csv of the named figures (none named: all that have runs) to `out`.

    Raises:
        UsageError: an unknown figure, or no finished run of its experiment below `folder`.
    """
    check_names(names, FIGURES, "figure")
    written = []
    for name in names or results.with_runs({name: figure.experiment for name, figure in FIGURES.items()}, folder):
        figure = FIGURES[name]
        data = figure.data(results.finished_runs(folder, figure.experiment))
        with full_disk_explained(out):
            written += style.save(figure.draw(data), out / name)
            written.append(out / f"{name}.csv")
            data.to_csv(written[-1], index=False, float_format="%.6g")
    return written
