"""`or1lab figures`: every figure by its name, with the data behind it beside it.

The demo's is drawn from run folders alone, those of the studies with the paper's curves beside ours, those of the paper
from its numbers with ours over them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from or1lab import paper_figures, results, study_figures
from or1lab.errors import check_names
from or1lab.measured import Measured
from or1lab.plots import benchmarks, entropy, study, style
from or1lab.store import full_disk_explained

Draw = Callable[[pd.DataFrame], Figure]

FEW = 6  # figures that are drawn sooner than a second process has begun
DEMO = "demo"  # of no study: its seeds are its own
PAPER: dict[str, Draw] = {
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
    check_names(names, [DEMO, *study_figures.table().figures, *PAPER], "figure")
    measured, shelf = Measured(folder), study_figures.Shelf(folder)
    chosen = names or [*results.with_runs({DEMO: DEMO}, folder), *study_figures.with_runs(shelf), *PAPER]
    jobs = [(out / name, *prepared(name, measured, shelf)) for name in chosen]
    if len(jobs) <= FEW:
        return [path for job in jobs for path in _write(job)]
    with ProcessPoolExecutor() as pool:
        return [path for paths in pool.map(_write, jobs) for path in paths]


def prepared(name: str, measured: Measured, shelf: study_figures.Shelf) -> tuple[pd.DataFrame, Draw]:
    """The data of a figure, and what draws it. Raises UsageError without a finished run of its experiment."""
    if name in PAPER:
        return paper_figures.data(name, measured), PAPER[name]
    if name == DEMO:
        return results.curves(results.finished_runs(shelf.folder, DEMO)), entropy.arms
    table = study_figures.table()
    draw = partial(study.draw, spec=table.figures[name], curves=table.curves)
    return study_figures.data(name, shelf), draw


def _write(job: tuple[Path, pd.DataFrame, Draw]) -> list[Path]:
    """Draw a figure and keep it with its data."""
    stem, data, draw = job
    with full_disk_explained(stem.parent):
        written = style.save(draw(data), stem)
        written.append(stem.with_name(f"{stem.name}.csv"))
        data.to_csv(written[-1], index=False, float_format="%.6g")
    return written
