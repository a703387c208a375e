"""Arms x seeds of an experiment, each a papermill job that executes `notebooks/train.ipynb` into its own run folder.

A job that fails or is killed is reported and stops no other. What is done and what is left is read from the run folders
alone, so a sweep that died anywhere goes on with --resume. Where jobs run is a backend's: see backends/.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from rich.console import Console

from or1lab import notebook as notebooks
from or1lab.backends import BACKENDS, open_backend
from or1lab.backends.work import work
from or1lab.errors import Or1labError, UsageError, check_names, did_you_mean
from or1lab.recipe import ROOT, Recipe, load_recipe, read_yaml, recipe_hash
from or1lab.recipe_errors import explain
from or1lab.store import LOCK, MANIFEST, Run, find_runs, is_locked
from or1lab.sweep_view import Screen, print_grid, print_outcome, print_studies

EXPERIMENTS = ROOT / "experiments" / "ablations"
TINY = "tiny"  # the tier at which an experiment is what its file says
Real = Literal["1.5b", "7b", "32b"]  # the tiers of real models, each a recipe
STUDY = "study"  # instead of an experiment: all of EXPERIMENTS with study seeds
NOTEBOOK = ROOT / "notebooks" / "train.ipynb"
GRACE = 15.0  # seconds in which the children of a killed sweep are surely gone

FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Arm(BaseModel):
    """One variant: the recipe keys it sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    set: dict[str, Any] = {}


class Paper(BaseModel):
    """What the paper did in the study that an experiment repeats, with the paper's own numbers under our names.

    Only what it prints: an unknown value is left out. Tables 1-6 are made of these."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    place: str
    table: int | None = Field(None, ge=1)
    base: str | None = None  # the model that training starts from, as the paper prints its name
    settings: dict[str, Any] = {}  # common to all arms
    arms: dict[str, dict[str, Any]] = {}  # what differs, for arms of this file and those that only the paper has

    @model_validator(mode="after")
    def _our_names(self) -> Paper:
        for values in (self.settings, *self.arms.values()):
            for key in values:
                if key.partition(".")[0] not in Recipe.model_fields:
                    raise ValueError(f"'{key}' is no key of a recipe{did_you_mean(key, Recipe.model_fields)}")
        return self


class Scale(BaseModel):
    """What an experiment sets with real models beside, or instead of, what the paper printed: see tiers.py."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    set: dict[str, Any] = {}
    arms: dict[str, dict[str, Any]] = {}
    reached: dict[Real, float] = {}  # tier -> accuracy at which cost and length are compared, from pilots there


class Experiment(BaseModel):
    """A question, the arms that answer it and the seeds they run with (`experiments/ablations/*.yaml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: FolderName
    title: str
    question: str
    recipe: str
    set: dict[str, Any] = {}
    arms: dict[FolderName, Arm] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    baseline: str
    figure: str
    seconds: float | None = Field(None, gt=0)  # measured time of a run on one core, for estimates before the first one
    paper: Paper | None = None
    scale: Scale | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if self.baseline not in self.arms:
            raise ValueError(f"the baseline '{self.baseline}' is no arm{did_you_mean(self.baseline, self.arms)}")
        for name in self.scale.arms if self.scale else ():
            if name not in self.arms:
                raise ValueError(f"scale.arms: '{name}' is no arm{did_you_mean(name, self.arms)}")
        return self


@dataclass(frozen=True)
class Job:
    """One run of the grid."""

    experiment: Experiment
    arm: str
    seed: int
    recipe: Recipe
    overrides: tuple[str, ...]
    folder: Path
    of_many: bool = False  # of a sweep over several experiments: its title tells which

    @property
    def title(self) -> str:
        """The arm as shown."""
        return f"{self.experiment.name}/{self.arm}" if self.of_many else self.arm

    @property
    def name(self) -> str:
        return f"{self.title} seed {self.seed}"

    @property
    def log(self) -> Path:
        return self.folder / "train.log"

    @property
    def executed(self) -> Path:
        return self.folder / "train.ipynb"

    @property
    def parameters(self) -> dict[str, Any]:
        """What the notebook's parameters cell receives. It may always go on with what it finds: the sweep has seen to
        it that this is its own run, and whoever opens the executed notebook and runs its cells again gets that run."""
        preset = self.experiment.recipe
        return {
            "recipe": str(Path(preset).resolve()) if Path(preset).is_file() else preset,
            "overrides": list(self.overrides),
            "seed": self.seed,
            "out": str(self.folder.resolve()),
            "resume": True,
            "experiment": self.experiment.name,
            "arm": self.arm,
        }

    @property
    def state(self) -> str:
        """new, running (a living process has it), finished, failed, interrupted, or other recipe."""
        if is_locked(self.folder / notebooks.JOB_LOCK) or is_locked(self.folder / LOCK):
            return "running"
        if not (self.folder / MANIFEST).exists():
            return "new"
        run = Run.open(self.folder)
        if run.manifest["recipe_hash"] != recipe_hash(self.recipe):
            return "other recipe"
        if run.status == "finished" and self.executed.exists() and notebooks.execution_failed(self.executed):
            return "failed"  # trained, but a later cell (a figure) is missing: executing again is cheap
        return run.status


@dataclass
class Outcome:
    """What became of a job: finished, failed, running (in another process), stopped or waiting (dry run: Job.state)."""

    job: Job
    state: str
    seconds: float | None = None  # of this sweep; None if it did not start the job
    error: str | None = None


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


def load_experiment(name: str | Path) -> Experiment:
    """An experiment from a file, or by the name of one under `experiments/ablations`.

    Raises:
        UsageError: missing file, unknown key (names the nearest right one), impossible value.
    """
    path = Path(name) if Path(name).is_file() else EXPERIMENTS / f"{name}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in EXPERIMENTS.glob("*.yaml"))
        raise UsageError(
            f"no experiment '{name}'{did_you_mean(str(name), names)}; a file, or one of: {', '.join(names)}"
        )
    try:
        return Experiment.model_validate(read_yaml(path))
    except ValidationError as error:
        problems = [explain(e, Arm if e["loc"][:1] == ("arms",) else Experiment) for e in error.errors()]
        raise UsageError(f"{path}: " + "; ".join(problems)) from None


def expand(experiment: Experiment, seeds: list[int] | None = None, out: str | Path = "runs") -> list[Job]:
    """The grid, seed by seed so that arms stay comparable when a sweep stops early; every recipe is checked here."""
    seeds = experiment.seeds if seeds is None else seeds
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"the seeds {seeds} repeat: the same run twice is no second run")
    jobs = []
    for seed in seeds:
        for name, arm in experiment.arms.items():
            overrides = tuple(f"{key}={json.dumps(value)}" for key, value in (experiment.set | arm.set).items())
            try:
                recipe = load_recipe(experiment.recipe, [*overrides, f"seed={seed}"])
            except UsageError as error:
                raise UsageError(f"experiment {experiment.name}, arm {name}: {error}") from None
            folder = Path(out) / experiment.name / name / f"seed-{seed}"
            jobs.append(Job(experiment, name, seed, recipe, overrides, folder))
    return jobs


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
    check_names([backend], BACKENDS, "backend")
    if experiment == STUDY:
        experiment = EXPERIMENTS
    from or1lab import studies, tiers

    if not isinstance(experiment, Experiment) and Path(experiment).is_dir():
        chosen = [tiers.at_tier(study, tier) for study in studies.studies(Path(experiment))]
        grid, whole = studies.grid(chosen, Path(out), seeds, packed), Path(out)
        if not grid:
            raise UsageError(f"{experiment} holds no study: no experiment with seeds from 100 on")
    else:
        if packed:
            raise UsageError("--pack is for a folder of studies; `or1lab runs pack` packs the runs of one experiment")
        loaded = experiment if isinstance(experiment, Experiment) else load_experiment(experiment)
        loaded = tiers.at_tier(loaded, tier)
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
    deadline = time.monotonic() + GRACE
    while any(job.state == "running" for job in grid) and time.monotonic() < deadline:
        time.sleep(0.2)
    outcomes = []
    for job in grid:
        state = job.state
        if state == "other recipe":
            raise Or1labError(_other_recipe(job))
        outcomes.append(Outcome(job, state if state in ("finished", "running") else "waiting"))
    return outcomes


def _other_recipe(job: Job) -> str:
    there, here = Run.open(job.folder).manifest["recipe"], job.recipe.resolved()
    changed = [f"{key} was {there.get(key)}, is now {here[key]}" for key in here if there.get(key) != here[key]]
    return (
        f"{job.folder} was made with another recipe ({'; '.join(changed[:3])}): "
        "go back to it, or write elsewhere with --out"
    )
