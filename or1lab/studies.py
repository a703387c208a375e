"""All studies as one grid, in which a run that several of them name is made once; the runs of each, wherever they lie.

A run is known by the hash of its recipe, seed and world included. In a world only runs of the frozen one stand in for
others; outside, at the tiers of real models, `same_origin` watches that compared runs had the same base and problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from or1lab.claims import load_claims, study
from or1lab.errors import UsageError
from or1lab.experiment import EXPERIMENTS, TINY, Experiment, Job, expand, load_experiment
from or1lab.recipe import recipe_hash
from or1lab.store import Run
from or1lab.terminal import KEPT
from or1lab.tiers import option, tier_name
from or1lab.tracker import find_runs
from or1lab.world import WORLD, content_hash


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
    """Finished runs below a folder, by the hash of their recipe; of a world only those of the frozen one, of copies the
    first by name."""
    found, here = dict[str, Run](), content_hash(WORLD)
    for run in find_runs(folder):
        manifest = run.manifest
        world = here if manifest.get("recipe", {}).get("world") else None
        if manifest.get("status") == "finished" and manifest.get("world_hash") == world:
            found.setdefault(manifest["recipe_hash"], run)
    return found


@cache
def planned(name: str, tier: str = TINY, further: tuple[int, ...] = ()) -> Mapping[str, list[str]]:
    """Arm -> the recipe hashes of a study's planned runs at a tier, seed by seed, and of those with `further` seeds."""
    experiment = study(name, tier)
    jobs = expand(experiment, [*experiment.seeds, *further])
    return {arm: [recipe_hash(job.recipe) for job in jobs if job.arm == arm] for arm in experiment.arms}


def all_planned(tier: str = TINY) -> set[str]:
    """The recipe hashes of the planned runs of all studies at a tier."""
    return {key for one in studies() for keys in planned(one.name, tier).values() for key in keys}


def no_run_of(experiment: str, folder: Path, tier: str = TINY) -> str:
    """What to do where there is no finished run of an experiment."""
    kept = f" (those of the study are kept in {KEPT})" if tier == TINY and Path(folder) != KEPT else ""
    return (
        f"no finished run of the experiment '{tier_name(experiment, tier)}' in {folder}; "
        f"make them with `or1lab sweep {experiment}{option(tier)}`, or name their folder with --results{kept}"
    )


def same_origin(runs: Iterable[Run], what: str) -> None:
    """Raise UsageError where runs whose recipes name the same model, or the same problems, had different ones."""
    told = [(run.recipe, run.manifest) for run in runs]
    for name, knob in (("model_hash", "model"), ("data_hash", "data")):
        hashes: dict[str, set[str]] = {}  # of what the recipe says: arms may have problems of their own
        for recipe, manifest in told:
            hashes.setdefault(repr(getattr(recipe, knob)), set()).add(manifest[name])
        if any(len(different) > 1 for different in hashes.values()):
            raise UsageError(
                f"the runs of {what} have different {name} (another base policy, or other problems), so they cannot be "
                "compared; `or1lab runs show` prints it. Move the old ones away"
            )
