"""Two runs side by side: what differs in their recipes and environments, and where their numbers ended."""

from __future__ import annotations

from typing import Any

from or1lab.recipe import Recipe, identity
from or1lab.store import Run
from or1lab.tracker import flatten, state

# What a manifest tells of where a run was made, besides `installed`, its whole package list (older runs: `packages`).
PLACE = (
    "code", "hardware", "backend", "sandbox", "model_hash", "data_hash", "world_hash", "claims_hash", "follow_ups_hash",
)  # fmt: skip
Pairs = dict[str, tuple[Any, Any]]


def compare(one: Run, other: Run) -> dict[str, Any]:
    """Returns:
    runs: the two folders; state: the two states; recipe, environment, packages: dotted key -> the two values,
    where they differ (None: not there); metrics: name -> the two newest values, of every metric that is a number;
    evaluated: the steps of the two newest evaluations, whose values these are for metrics of an evaluation.
    """
    runs = (one, other)
    manifests = [run.manifest for run in runs]
    names = list(dict.fromkeys(name for run in runs for name in ("step", *run.metric_names)))
    newest = [run.latest(names) for run in runs]
    values = {name: (newest[0][name], newest[1][name]) for name in names}
    return {
        "runs": tuple(str(run.folder) for run in runs),
        "state": tuple(state(run, manifest) for run, manifest in zip(runs, manifests, strict=True)),
        "recipe": differing(*(flatten(manifest["recipe"]) for manifest in manifests)),
        "environment": differing(*(flatten({key: m.get(key) for key in PLACE}) for m in manifests)),
        "packages": differing(*packages(*manifests)),
        "evaluated": tuple((run.last("eval") or {}).get("step") for run in runs),
        "metrics": {name: pair for name, pair in values.items() if any(map(_is_number, pair))},
    }


def other_recipe(run: Run, recipe: Recipe) -> str:
    """What to tell where a folder holds a run of another recipe: the keys that make it another, with both values."""
    changed = differing(*(flatten(identity(plain)) for plain in (run.manifest["recipe"], recipe.resolved())))
    told = [f"{key} was {was}, is now {now}" for key, (was, now) in changed.items()]
    told[3:] = [f"and {len(told) - 3} more"] * (len(told) > 3)
    what = f" ({'; '.join(told)})" * bool(told)  # none where other code left out other keys
    return f"{run.folder} was made with another recipe{what}: go back to it or write elsewhere with --out"


def differing(one: dict[str, Any], other: dict[str, Any]) -> Pairs:
    """Key -> the two values, where they are not the same."""
    keys = dict.fromkeys([*one, *other])
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def packages(one: dict[str, Any], other: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The package lists of two manifests: whole where both have theirs, else of the ten that every manifest names."""
    whole = all(manifest.get("installed") for manifest in (one, other))
    first, second = (m.get("installed" if whole else "packages") or {} for m in (one, other))
    return first, second


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
