"""The tiers of a study: the tiny world, as its file stands, and real models, for which the paper's own numbers hold.

At the tier of a real model the file's own `set` and `arms` are not used. What an arm is there comes, each over the one
before, from
    the recipe of the tier's name,
    the baseline of the paper's section 4 (baseline.yaml), which the recipe tiny is in small,
    the `paper` block of the file (its settings, then those of the arm), wherever the paper printed something,
    its `scale` block, for the rest: ours.
An arm that neither block names is not there at these tiers.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from or1lab.errors import UsageError, check_names
from or1lab.experiment import TINY, Arm, Experiment, Paper, Real, Scale, load_experiment

TIERS: tuple[str, ...] = (TINY, *get_args(Real))
BASELINE = "baseline"


def tier_name(name: str, tier: str) -> str:
    """What runs and folders of an experiment are called at a tier: its name, or `sgd_steps-7b`."""
    check_names([tier], TIERS, "tier")
    return name if tier == TINY else f"{name}-{tier}"


def option(tier: str) -> str:
    """What a command that is told to the user needs behind it: nothing, or ` --tier 7b`."""
    return "" if tier == TINY else f" --tier {tier}"


def is_at(experiment: Experiment, tier: str) -> bool:
    """Whether the experiment says what its baseline is at a tier."""
    return tier == TINY or any(experiment.baseline in block.arms for block in _blocks(experiment))


def at_tier(experiment: Experiment, tier: str) -> Experiment:
    """The experiment as it is at a tier.

    Raises:
        UsageError: no such tier, or the experiment does not say what its baseline is with a real model.
    """
    name = tier_name(experiment.name, tier)
    if tier == TINY:
        return experiment
    paper, scale = _blocks(experiment)
    told = {arm: paper.arms.get(arm, {}) | scale.arms.get(arm, {}) for arm in (*paper.arms, *scale.arms)}
    if not is_at(experiment, tier):
        raise UsageError(
            f"the experiment '{experiment.name}' cannot run at the tier {tier}: neither its paper nor its scale block "
            f"says what the arm '{experiment.baseline}' is with a real model (docs/add_study.md#with-real-models)"
        )
    arms = {arm: Arm(set=told[arm]) for arm in experiment.arms if arm in told}
    settings = _baseline() | paper.settings | scale.set
    here = {"name": name, "recipe": tier, "set": settings, "arms": arms, "seconds": None}
    return experiment.model_copy(update=here)


def left_out(experiment: Experiment, tier: str) -> list[str]:
    """The keys that the file sets for the tiny world alone, and neither of its blocks for the tier."""
    paper, scale = _blocks(experiment)
    if tier == TINY:
        return []
    told = [paper.settings, scale.set, *paper.arms.values(), *scale.arms.values()]
    keys = dict.fromkeys([*experiment.set, *(key for arm in experiment.arms.values() for key in arm.set)])
    return [key for key in keys if not any(key in block for block in told)]


@cache
def _baseline() -> dict[str, Any]:
    paper, scale = _blocks(load_experiment(BASELINE))
    return paper.settings | scale.set


def _blocks(experiment: Experiment) -> tuple[Paper, Scale]:
    return experiment.paper or Paper(place=""), experiment.scale or Scale()
