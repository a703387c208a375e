"""`or1lab tables`: every table by its name, as markdown, HTML and LaTeX.

Those of experiments are computed from run folders alone, those of the paper from its numbers with ours beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from or1lab import results, stats
from or1lab.claims import study
from or1lab.errors import check_names
from or1lab.experiment import EXPERIMENTS, TINY, Experiment
from or1lab.measured import Measured
from or1lab.paper_tables import SHEETS
from or1lab.sheet import Cell, Sheet, number
from or1lab.store import full_disk_explained
from or1lab.terminal import side_by_side

LEARNED = ["seed", "final_accuracy", "peak_accuracy", "final_entropy", "tokens"]


def arms(experiment: Experiment, runs: results.Arms) -> Sheet:
    """The arms of an experiment, one row each, and a line for the difference of each to the baseline."""
    frame = results.summaries(runs)
    rows = [_row(arm) for _, arm in frame.groupby("label", sort=False)]
    lines = [contrast(frame, experiment.baseline, arm) for arm in experiment.arms if arm != experiment.baseline]
    note = "Accuracy, and entropy of the last 5 steps: means with 95% intervals over runs."
    return Sheet(list(rows[0]), {"": [list(map(Cell, row.values())) for row in rows]}, notes=[note, *lines])


def contrast(frame: pd.DataFrame, baseline: str, arm: str) -> str:
    """One line: final accuracy and entropy of `arm` against `baseline`, with Welch's 95% intervals over runs.

    Args:
        frame: as made by `results.summaries`.
    """
    a, b = (frame[frame["arm"] == name] for name in (arm, baseline))
    if min(len(a), len(b)) < 2:
        return f"{arm} against {baseline}: an interval needs two finished runs an arm, here {len(a)} and {len(b)}"
    if np.array_equal(a[LEARNED], b[LEARNED]):
        return f"{arm} against {baseline}: seed by seed the same numbers; what sets them apart never acted"
    accuracy = _compared(a["final_accuracy"], b["final_accuracy"], stats.welch)
    ratio = _compared(a["final_entropy"], b["final_entropy"], stats.log_ratio)
    how = f"Welch's 95% intervals, {len(a)} + {len(b)} runs; not the ledger"
    return f"{arm} against {baseline}: final accuracy {accuracy}; log ratio of final entropy {ratio} ({how})"


def _compared(a: pd.Series, b: pd.Series, interval: Callable[[pd.Series, pd.Series], stats.Difference]) -> str:
    try:
        found = interval(a, b)
    except ValueError:
        return f"(means {a.mean():.3f} and {b.mean():.3f}) {_no_interval(pd.concat([a, b]))}"
    return signed(found) + (f", a factor of {found.exp().estimate:.2f}" if interval is stats.log_ratio else "")


def _no_interval(values: pd.Series) -> str:
    """Why there can be none: no response of a run was judged, or its entropy is 0."""
    return f"[no interval: {'not a number in every run' if values.isna().any() else '0 has no logarithm'}]"


def signed(value: stats.Difference) -> str:
    """`+0.120 [+0.080, +0.160]`."""
    if not value.known:
        return f"{_sign(value.estimate)} [no interval: the runs do not vary]"
    return f"{_sign(value.estimate)} [{_sign(value.low)}, {_sign(value.high)}]"


def _sign(value: float) -> str:
    return number(value, "+.3f")


def _row(arm: pd.DataFrame) -> dict[str, str]:
    return {
        "arm": arm["label"].iloc[0],
        "runs": str(len(arm)),
        "final accuracy": _mean(arm["final_accuracy"], stats.mean_interval),
        "peak accuracy": f"{arm['peak_accuracy'].mean():.3f}",
        "final entropy (nats)": _mean(arm["final_entropy"], stats.geometric_interval),
        "tokens (M)": f"{arm['tokens'].mean() / 1e6:.2f}",
        "seconds": f"{arm['seconds'].mean():.0f}",
    }


def _mean(values: pd.Series, interval: Callable[[pd.Series], stats.Mean]) -> str:
    if len(values) < 2:
        return f"{values.iloc[0]:.3f}"
    try:
        mean = interval(values)
    except ValueError:
        return f"{values.mean():.3f} {_no_interval(values)}"
    return f"{mean.estimate:.3f} [{mean.low:.3f}, {mean.high:.3f}]" if mean.known else f"{mean.estimate:.3f}"


def make_tables(names: list[str], folder: Path, out: Path, tier: str = TINY) -> dict[Path, str]:
    """Write the named tables (none named: the paper's, and those of experiments that have runs at the tier) to `out`.

    Returns:
        The text of each markdown file, by its path; name.html and name.tex lie beside it.

    Raises:
        UsageError: an unknown table or tier, or no finished run of its experiment below `folder`.
    """
    experiments = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
    check_names(names, [*SHEETS, *experiments], "table")
    measured, shelf = Measured(folder), results.Shelf(folder, tier)
    names = names or [*filter(shelf.has, experiments), *_possible(measured)]
    jobs = (
        (out / f"{name}.md", SHEETS[name](measured) if name in SHEETS else (study(name, tier), shelf.some(name)))
        for name in names
    )
    return dict(side_by_side(_write, jobs, len(names), "tables"))


def _write(job: tuple[Path, Sheet | tuple[Experiment, results.Arms]]) -> tuple[Path, str]:
    """Keep a table, given or still to be made of runs; its path and its text."""
    path, of = job
    made = of if isinstance(of, Sheet) else arms(*of)
    text = made.markdown()
    with full_disk_explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
        path.with_suffix(".html").write_text(made.html(path.stem), encoding="utf-8")
        path.with_suffix(".tex").write_text(made.latex(path.stem), encoding="utf-8")
    return path, text


def show(written: dict[Path, str], console: Console) -> None:
    """Print tables: whole words on a terminal, whole lines into a file or pipe."""
    for path, text in written.items():
        for line in text.splitlines():
            long = line.startswith("|") or not console.is_terminal
            console.print(line, markup=False, highlight=False, soft_wrap=long)
        console.out(f"wrote {path} (.html and .tex beside it)", highlight=False)


def _possible(measured: Measured) -> list[str]:
    """The paper's tables, and that of our evaluations if there are any."""
    return [name for name in SHEETS if name != "evaluations" or len(measured.evaluations)]
