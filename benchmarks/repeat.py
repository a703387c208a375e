"""Studies made once more, compared number by number with the runs that are kept:

    python -m benchmarks.repeat data_sensitivity kl [--results experiments/results] [--out again] [--jobs 2]

A run has a seed for everything drawn in it, so on the same kind of machine it comes out the same, bit for bit; on other
processors sums are rounded elsewhere, and after some steps the samples differ. Compared are all records but the
times, and every response of every evaluation. Folders of `out` that are finished already are not made again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.timing import add_output_options, deliver
from or1lab.errors import Or1labError, UsageError
from or1lab.experiment import expand, load_experiment
from or1lab.recipe import recipe_hash
from or1lab.store import Run
from or1lab.studies import by_recipe
from or1lab.sweep import run_sweep

MEASURED = ("time/", "tokens_per_s", "memory/")  # of the machine, not of the training


def differences(ours: Run, kept: Run) -> list[str]:
    """What differs between two runs of one recipe, in the order it happened; empty if nothing does."""
    found = [*_records(ours.records(), kept.records())]
    theirs = kept.evals
    both = (ours.evals[theirs.columns].reset_index(drop=True), theirs.reset_index(drop=True))
    return found if both[0].equals(both[1]) else [*found, "responses of the evaluations"]


def _records(ours: list[dict[str, Any]], kept: list[dict[str, Any]]) -> Iterator[str]:
    if len(ours) != len(kept):
        yield f"{len(ours)} records instead of {len(kept)}"
    for one, other in zip(ours, kept, strict=False):
        for name in sorted(one.keys() | other.keys()):
            if not name.startswith(MEASURED) and not _same(one.get(name), other.get(name)):
                yield f"{one.get('kind')} {one.get('step')}: {name} is {one.get(name)}, was {other.get(name)}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    both = isinstance(one, float) and isinstance(other, float)
    return bool(one == other or both and math.isnan(one) and math.isnan(other))


def repeat(names: list[str], results: Path, out: Path, jobs: int, console: Console) -> dict[str, list[str]]:
    """Make every run of the studies below `out`; what differs from the kept run of the same recipe, by its name.

    Raises:
        UsageError: a study is unknown, or has a run that is not kept.
        Or1labError: a run did not end well.
    """
    experiments = [load_experiment(name) for name in names]
    kept = by_recipe(results)
    planned = [job for experiment in experiments for job in expand(experiment, out=out)]
    missing = [f"{job.experiment.name}/{job.name}" for job in planned if recipe_hash(job.recipe) not in kept]
    if missing:
        raise UsageError(f"{results} lacks {len(missing)} runs of {', '.join(names)}; the first: {missing[0]}")
    for experiment in experiments:
        if run_sweep(experiment, jobs=jobs, resume=True, out=out, console=console).exit_code:
            raise Or1labError(f"a run of {experiment.name} did not end well; the same command goes on")
    return {
        f"{job.experiment.name}/{job.name}": differences(Run.open(job.folder), kept[recipe_hash(job.recipe)])
        for job in planned
    }


def show(runs: dict[str, list[str]], console: Console) -> None:
    """One row a run: the same, or how much differs and what first."""
    table = Table("run", "against the one kept")
    for name, found in runs.items():
        table.add_row(name, f"{len(found)} differences; the first: {found[0]}" if found else "the same")
    console.print(table)
    same = sum(not found for found in runs.values())
    console.print(f"{same} of {len(runs)} runs are the same in every number but the times", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", help="names of experiments/ablations")
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="folder of the kept runs")
    parser.add_argument("--out", type=Path, default=Path("again"), help="where the new ones go")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        runs = repeat(options.studies, options.results, options.out, options.jobs, Console(stderr=options.json))
    except Or1labError as error:
        raise SystemExit(f"error: {error}") from None
    deliver("repeat", runs, options, lambda: show(runs, Console()))


if __name__ == "__main__":
    main()
