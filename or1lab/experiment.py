"""An experiment: a question, the arms that answer it, the seeds they run with; and its grid, one job for each run.

A file under `experiments/ablations` is one experiment at the tier `tiny`; tiers.py makes it one of real models, and
studies.py makes one grid of many.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from or1lab import notebook as notebooks
from or1lab.errors import UsageError, did_you_mean
from or1lab.manifest import LOCK, MANIFEST, Recorded, is_locked
from or1lab.recipe import ROOT, Recipe, find_file, load_recipe, parse_recipe, read_yaml, recipe_hash
from or1lab.recipe_errors import checked
from or1lab.recipe_parts import Strict

EXPERIMENTS = ROOT / "experiments" / "ablations"
TINY = "tiny"  # the tier at which an experiment is what its file says
Real = Literal["1.5b", "7b", "32b"]  # the tiers of real models, each a recipe

FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Arm(Strict):
    """One variant: the recipe keys it sets."""

    set: dict[str, Any] = {}


class Paper(Strict):
    """What the paper did in the study that an experiment repeats, with the paper's own numbers under our names.

    Only what it prints: an unknown value is left out. Tables 1-6 are made of these."""

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


class Scale(Strict):
    """What an experiment sets with real models beside, or instead of, what the paper printed: see tiers.py."""

    set: dict[str, Any] = {}
    arms: dict[str, dict[str, Any]] = {}
    reached: dict[Real, float] = {}  # tier -> accuracy at which cost and length are compared, from pilots there


class Experiment(Strict):
    """A question, the arms that answer it and the seeds they run with (`experiments/ablations/*.yaml`)."""

    name: FolderName
    title: str
    question: str
    recipe: str
    set: dict[str, Any] = {}
    arms: dict[FolderName, Arm] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    baseline: str
    figure: str  # its name in figures.yaml; that of the experiment if not said
    seconds: float | None = Field(None, gt=0)  # measured time of a run on one core, for estimates before the first one
    paper: Paper | None = None
    scale: Scale | None = None

    @model_validator(mode="before")
    @classmethod
    def _drawn(cls, told: dict[str, Any]) -> dict[str, Any]:
        return {"figure": told.get("name"), **told}

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
        """`arm seed 100`; with the experiment before it in a sweep over several."""
        return f"{self.title} seed {self.seed}"

    @property
    def log(self) -> Path:
        """What the job's process prints."""
        return self.folder / "train.log"

    @property
    def executed(self) -> Path:
        """The notebook that papermill writes, outputs and traceback included."""
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
        run = Recorded(self.folder)
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


def load_experiment(name: str | Path) -> Experiment:
    """An experiment from a file, or by the name of one under `experiments/ablations`.

    Raises:
        UsageError: missing file, unknown key (names the nearest right one), impossible value.
    """
    path = find_file(name, EXPERIMENTS, "experiment")
    return checked(Experiment, read_yaml(path), str(path))


def expand(experiment: Experiment, seeds: list[int] | None = None, out: str | Path = "runs") -> list[Job]:
    """The grid, seed by seed so that arms stay comparable when a sweep stops early; every recipe is checked here."""
    seeds = experiment.seeds if seeds is None else seeds
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"the seeds {seeds} repeat: the same run twice is no second run")
    jobs, arms = [], {}
    for name, arm in experiment.arms.items():
        overrides = tuple(f"{key}={json.dumps(value)}" for key, value in (experiment.set | arm.set).items())
        try:
            arms[name] = overrides, load_recipe(experiment.recipe, overrides).resolved()
        except UsageError as error:
            raise UsageError(f"experiment {experiment.name}, arm {name}: {error}") from None
    for seed in seeds:
        for name, (overrides, plain) in arms.items():
            folder = Path(out) / experiment.name / name / f"seed-{seed}"
            recipe = parse_recipe(plain | {"seed": seed}, f"experiment {experiment.name}, arm {name}, seed {seed}")
            jobs.append(Job(experiment, name, seed, recipe, overrides, folder))
    return jobs
