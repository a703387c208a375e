"""`or1lab figures`: every figure by its name, with the data behind it beside it.

Those of experiments are drawn from run folders alone, those of the paper from its numbers with ours over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from or1lab import paper_figures, results
from or1lab.errors import check_names
from or1lab.measured import Measured
from or1lab.plots import benchmarks, entropy, style
from or1lab.store import Run, full_disk_explained


@dataclass(frozen=True)
class Drawing:
    """What a figure is made of: the runs of an experiment -> data frame -> figure."""

    experiment: str
    data: Callable[[list[Run]], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


FIGURES = {name: Drawing(name, results.curves, entropy.arms) for name in ("demo", "verifier")}
PAPER: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "figure1": benchmarks.training_curve,
    "figure2": benchmarks.bars,
    "figure3": benchmarks.bars,
    "figure5b": benchmarks.token_efficiency,
    "figure8": benchmarks.limits,
}


def make_figures(names: list[str], folder: Path, out: Path) -> list[Path]:
    """Write name.png, name.pdf and name.csv of the named figures to `out` (none named: the paper's, and those of
    experiments that have runs).

    Raises:
        UsageError: an unknown figure, or no finished run of its experiment below `folder`.
    """
    check_names(names, [*FIGURES, *PAPER], "figure")
    experiments = {name: figure.experiment for name, figure in FIGURES.items()}
    measured, written = Measured(folder), []
    for name in names or [*results.with_runs(experiments, folder), *PAPER]:
        if name in PAPER:
            data, draw = paper_figures.data(name, measured), PAPER[name]
        else:
            figure = FIGURES[name]
            data, draw = figure.data(results.finished_runs(folder, figure.experiment)), figure.draw
        with full_disk_explained(out):
            written += style.save(draw(data), out / name)
            written.append(out / f"{name}.csv")
            data.to_csv(written[-1], index=False, float_format="%.6g")
    return written
