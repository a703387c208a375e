"""The frozen world of the tiny studies: what it is, and the three hashes that each run in it keeps.

`experiments/world.yaml` names base policy, problems and recipe by their hashes, `experiments/claims.yaml` the claims,
`experiments/follow_ups.yaml` those asked later. Each was committed before any run for it; one whose manifest has other
hashes was made in another world, or for other claims. Runs of real models are in no world: they keep those of the
claims alone.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from or1lab.recipe import ROOT, Recipe, read_yaml

WORLD = ROOT / "experiments" / "world.yaml"
CLAIMS = ROOT / "experiments" / "claims.yaml"
FOLLOW_UPS = CLAIMS.with_name("follow_ups.yaml")


def content_hash(path: Path) -> str:
    """Identity of what a YAML file says, whatever its comments and layout."""
    plain = json.dumps(read_yaml(path), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def stamps(recipe: Recipe, model_hash: str) -> dict[str, Any]:
    """`world_hash`, `claims_hash` and `follow_ups_hash` of a run in the frozen world, the last two of one in no world;
    empty for another world or base policy."""
    asked = {"claims_hash": content_hash(CLAIMS), "follow_ups_hash": content_hash(FOLLOW_UPS)}
    if recipe.world is None:
        return asked
    world = read_yaml(WORLD)
    if (recipe.world, model_hash) != (world["world"], world["base"]):
        return {}
    return {"world_hash": content_hash(WORLD), **asked}
