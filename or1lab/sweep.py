"""Arms x seeds of an experiment, each a papermill job that executes `notebooks/train.ipynb` into its own run folder.

A job that fails or is killed is reported and stops no other. What is done and what is left is read from the run folders
alone, so a sweep that died anywhere goes on with --resume. Where jobs run is a backend's: see backends/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from or1lab import notebook as notebooks
from or1lab import studies, tiers
from or1lab.backends import check_options, open_backend
from or1lab.backends.work import work
from or1lab.comparison import other_recipe
from or1lab.errors import Or1labError, UsageError
from or1lab.experiment import EXPERIMENTS, TINY, Experiment, Job, Outcome, expand, load_experiment
from or1lab.process import wait_until
from or1lab.recipe import ROOT
from or1lab.store import MANIFEST, Run
from or1lab.sweep_view import Screen, print_grid, print_outcome, print_studies
from or1lab.tracker import find_runs

STUDY = "study"  # instead of an experiment: all of EXPERIMENTS with study seeds
NOTEBOOK = ROOT / "notebooks" / "train.ipynb"
GRACE = 15.0  # seconds in which the children of a killed sweep are surely gone


@dataclass
class SweepResult:
    """All jobs of the grid in order; exit_code is 0 only if every run is finished (a dry run always is 0)."""

    outcomes: list[Outcome]
    exit_code: int


def parse_seeds(text: str) -> list[int]:
    """`"0,1,2"` -> [0, 1, 2]. Raises UsageError for anything else."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds '{text}' is not a list such as 0,1,2") from None


def run_sweep(
    experiment: str | Path | Experiment,
    *,
    tier: str = TINY,
    seeds: list[int] | None = None,
    jobs: int = 2,
    resume: bool = False,
    dry_run: bool = False,
    out: str | Path = "runs",
    packed: Path | None = None,
    backend: str = "local",
    gpus: int | None = None,
    cluster: Mapping[str, Any] | None = None,
    notebook: Path = NOTEBOOK,
    console: Console | None = None,
) -> SweepResult:
    """Run what of the grid is not done yet, `jobs` at a time, and report on `console`.

    A folder of experiments, or 'study' for ours, is one grid of all its studies (studies.py): what several of them name
    runs once. `tier`: TINY, as the files stand, or one of tiers.py. Into `packed` each run that ends well is packed
    (pack.py), and what lies there is done. `backend`: one of BACKENDS, which takes the options `cluster`; `gpus`: of
    each job, by default one on this machine if it has any.

    Raises:
        UsageError: a wrong experiment file, recipe, notebook parameter or option; nothing has been started then.
        Or1labError: run folders exist and `resume` is off, or hold another recipe; or the sweep was stopped (Ctrl-C).
    """
    console = console or Console()
    check_options(backend, jobs, gpus, cluster or {})
    if tier != TINY and backend != "local" and gpus is None:
        raise UsageError(f"--gpus N: a job of {backend} gets no GPU unless it asks for some, and {tier} wants them")
    if experiment == STUDY:
        experiment = EXPERIMENTS
    if not isinstance(experiment, Experiment) and Path(experiment).is_dir():
        chosen = [tiers.at_tier(study, tier) for study in studies.studies(Path(experiment))]
        grid, whole = studies.grid(chosen, Path(out), seeds, packed), Path(out)
        if not grid:
            raise UsageError(f"{experiment} holds no study: no experiment with seeds from 100 on")
    else:
        if packed:
            raise UsageError("--pack is for a folder of studies; `or1lab runs pack` packs the runs of one experiment")
        loaded = experiment if isinstance(experiment, Experiment) else load_experiment(experiment)
        loaded, left = tiers.at_tier(loaded, tier), tiers.left_out(loaded, tier)
        if left and dry_run:
            console.print(f"set for the tiny world alone: {', '.join(left)} (docs/add_study.md)", highlight=False)
        grid, whole = expand(loaded, seeds, out), Path(out) / loaded.name
    notebooks.check_parameters(notebook, grid[0].parameters)
    if dry_run:
        outcomes = [Outcome(job, job.state) for job in grid]
        (print_studies if grid[0].of_many else print_grid)(console, outcomes, estimate(grid, Path(out)), jobs)
        return SweepResult(outcomes, 0)
    outcomes = _plan(grid, resume)
    place = open_backend(backend, jobs, gpus, cluster or {}, Path(out))
    with Screen(console, outcomes) as screen:
        try:
            work(outcomes, place, notebook, screen, packed)
        except KeyboardInterrupt:
            raise Or1labError(place.stopped) from None
    print_outcome(console, outcomes, whole, tiers.option(tier))
    return SweepResult(outcomes, int(any(outcome.state != "finished" for outcome in outcomes)))


def estimate(grid: list[Job], out: Path) -> dict[str, float | None]:
    """Seconds that each job still needs (by name), from finished runs of the experiment, else from
    what its file says; None where neither is there."""
    rates: dict[str, dict[str, list[float]]] = {}  # experiment -> arm -> seconds a step of each run
    for name in {job.experiment.name for job in grid}:
        for run in find_runs(out / name):
            manifest = run.manifest
            if manifest["status"] == "finished" and manifest["seconds"]:
                steps = sum(stage["steps"] for stage in manifest["recipe"]["stages"])
                arms = rates.setdefault(name, {})
                arms.setdefault(manifest["arm"], []).append(manifest["seconds"] / steps)
    seconds: dict[str, float | None] = {}
    for job in grid:
        arms = rates.get(job.experiment.name, {})
        every = [rate for arm in arms.values() for rate in arm]
        known = arms.get(job.arm, every)  # an arm that never ran takes about as long as the others
        last = Run(job.folder).last() or {"step": 0}
        left = 0 if job.state == "finished" else job.recipe.total_steps - last["step"]
        told = job.experiment.seconds
        rate = sum(known) / len(known) if known else told and told / job.recipe.total_steps
        seconds[job.name] = None if rate is None else left * rate
    return seconds


def _plan(grid: list[Job], resume: bool) -> list[Outcome]:
    """What is to be done with each job: state waiting, or finished or running if it is not to be touched."""
    existing = [job for job in grid if (job.folder / MANIFEST).exists()]
    if existing and not resume:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise Or1labError(
            f"{existing[0].folder} already holds a run{more}: continue with --resume, or write elsewhere with --out"
        )
    wait_until(lambda: all(job.state != "running" for job in grid), GRACE, pause=0.2)
    outcomes = []
    for job in grid:
        state = job.state
        if state == "other recipe":
            raise Or1labError(other_recipe(Run(job.folder), job.recipe))
        outcomes.append(Outcome(job, state if state in ("finished", "running") else "waiting"))
    return outcomes
