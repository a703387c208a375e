"""All studies as one grid, in which a run that several of them name is made once; the runs of each, wherever they lie.

A run is known by the hash of its recipe, seed and world included. Only runs of the frozen world stand in for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from or1lab.claims import load_claims, study
from or1lab.recipe import recipe_hash
from or1lab.store import Run, find_runs
from or1lab.sweep import EXPERIMENTS, Experiment, Job, expand, load_experiment
from or1lab.world import WORLD, content_hash

TIERS = ("tiny",)  # of which there is a frozen world


def studies(folder: Path = EXPERIMENTS) -> list[Experiment]:
    """The experiments of a folder with study seeds (from 100 on, unlike the demo's), those of primary claims first."""
    found = [load_experiment(path) for path in sorted(folder.glob("*.yaml"))]
    primary = {claim.experiment for claim in load_claims() if claim.family == "primary"}
    chosen = [experiment for experiment in found if min(experiment.seeds) >= 100]
    return sorted(chosen, key=lambda experiment: experiment.name not in primary)


def grid(
    experiments: list[Experiment], out: Path, seeds: list[int] | None = None, packed: Path | None = None
) -> list[Job]:
    """The jobs of all, each recipe once; where a finished run below `out` or `packed` has it, that run, whatever study
    made it."""
    done = by_recipe(out) | (by_recipe(packed) if packed else {})
    jobs: dict[str, Job] = {}
    for experiment in experiments:
        for job in expand(experiment, seeds, out):
            name = recipe_hash(job.recipe)
            folder = done[name].folder if name in done else job.folder
            jobs.setdefault(name, replace(job, folder=folder, of_many=True))
    return list(jobs.values())


def by_recipe(folder: Path) -> dict[str, Run]:
    """Finished runs of the frozen world below a folder, by the hash of their recipe; of copies the first by name."""
    found, here = dict[str, Run](), content_hash(WORLD)
    for run in find_runs(folder):
        manifest = run.manifest
        if manifest.get("status") == "finished" and manifest.get("world_hash") == here:
            found.setdefault(manifest["recipe_hash"], run)
    return found


@cache
def planned(name: str) -> Mapping[str, list[str]]:
    """Arm -> the recipe hashes of a study's planned runs, seed by seed."""
    jobs = expand(study(name))
    return {arm: [recipe_hash(job.recipe) for job in jobs if job.arm == arm] for arm in study(name).arms}


class Borrowed(Run):
    """A run of another study as an arm of this one: its manifest says so."""

    def __init__(self, run: Run, experiment: str, arm: str) -> None:
        super().__init__(run.folder)
        self.labels = {"experiment": experiment, "arm": arm}

    @property
    def manifest(self) -> dict[str, Any]:
        return {**super().manifest, **self.labels}

    def update_manifest(self, **changes: Any) -> None:
        raise TypeError("a borrowed run is for reading")


def borrowed(name: str, folder: Path) -> list[Run]:
    """The runs below a folder that other studies made and that are planned arms of this one too, as its own."""
    if not (EXPERIMENTS / f"{name}.yaml").is_file():
        return []
    runs = {key: run for key, run in by_recipe(folder).items() if run.manifest["experiment"] != name}
    return [Borrowed(runs[key], name, arm) for arm, keys in planned(name).items() for key in keys if key in runs]
