"""`or1lab figures`: every figure by its name, with the data behind it beside it.

Those of experiments are drawn from run folders, with the paper's curves beside ours; those of the paper from its
numbers, with ours over them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from or1lab import captions, claims, paper_figures, study_figures
from or1lab.errors import check_names
from or1lab.experiment import TINY
from or1lab.measured import Measured
from or1lab.plots import benchmarks, study, style
from or1lab.results import Shelf
from or1lab.store import full_disk_explained
from or1lab.terminal import side_by_side
from or1lab.tiers import is_at

Draw = Callable[..., Figure]  # of a frame, and a width
Job = tuple[Path, pd.DataFrame, Draw, str]

PAPER: dict[str, Draw] = {
    "figure1": benchmarks.training_curve,
    "figure2": benchmarks.bars,
    "figure3": benchmarks.bars,
    "figure5b": benchmarks.token_efficiency,
    "figure8": benchmarks.limits,
}


def make_figures(names: list[str], folder: Path, out: Path, tier: str = TINY, width: float = style.WIDTH) -> list[Path]:
    """Write name.png, name.pdf, name.csv and the caption name.txt of the named figures, `width` inches wide, to `out`
    (none named: the paper's, and those of experiments that have runs at the tier).

    Raises:
        UsageError: an unknown figure or tier, or no finished run of its experiment below `folder`.
    """
    check_names(names, [*study_figures.names(), *PAPER], "figure")
    measured, shelf = Measured(folder), Shelf(folder, tier)
    names = names or [*study_figures.with_runs(shelf), *PAPER]
    jobs = (_job(name, out, measured, shelf, width) for name in names)
    return [path for paths in side_by_side(_write, jobs, len(names), "figures") for path in paths]


def prepared(name: str, measured: Measured, shelf: Shelf) -> tuple[pd.DataFrame, Draw]:
    """The data of a figure, and what draws it. Raises UsageError without a finished run of its experiment."""
    if name in PAPER:
        return paper_figures.data(name, measured), PAPER[name]
    table = study_figures.table()
    draw = partial(study.draw, spec=table.spec(name).at(shelf.tier), curves=table.curves)
    return study_figures.data(name, shelf), draw


def listed(folder: Path, tier: str = TINY, names: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """The named figures (none named: all): name, what it shows, and of a study how many of its runs are finished below
    `folder`. Raises UsageError for an unknown figure or tier."""
    shelf, table, titles = Shelf(folder, tier), study_figures.table(), captions.titles()
    check_names(names, titles, "figure")
    there: dict[str, str] = {}
    for name in study_figures.names():
        if is_at(claims.study(own := table.study(name)), tier):
            arms, experiment = shelf.arms(own), claims.study(own, tier)
            there[name] = f"{sum(map(len, arms.values()))} of {len(experiment.arms) * len(experiment.seeds)}"
    return [(name, title, there.get(name, "")) for name, title in titles.items() if name in (names or titles)]


def _job(name: str, out: Path, measured: Measured, shelf: Shelf, width: float) -> Job:
    data, draw = prepared(name, measured, shelf)
    return out / name, data, partial(draw, width=width), captions.caption(name, data, measured, shelf.tier)


def _write(job: Job) -> list[Path]:
    """Draw a figure and keep it with its data and its caption."""
    stem, data, draw, caption = job
    with full_disk_explained(stem.parent):
        written = style.save(draw(data), stem)
        written.append(stem.with_name(f"{stem.name}.csv"))
        data.to_csv(written[-1], index=False, float_format="%.6g")
        written.append(stem.with_name(f"{stem.name}.txt"))
        written[-1].write_text(textwrap.fill(caption, 100) + "\n", encoding="utf-8")
    return written
