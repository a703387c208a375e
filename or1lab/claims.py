"""The claims of `experiments/claims.yaml` and the later ones of `follow_ups.yaml`, read and checked against the
studies. Their verdicts: ledger.py."""

from __future__ import annotations

import math
from collections import Counter
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from or1lab.errors import UsageError, did_you_mean
from or1lab.experiment import TINY, Experiment, load_experiment
from or1lab.recipe import read_yaml
from or1lab.recipe_errors import checked
from or1lab.recipe_parts import Strict
from or1lab.run_statistics import REACHED, REACHING, STATISTICS
from or1lab.tiers import at_tier
from or1lab.world import CLAIMS, FOLLOW_UPS

COMMENTS = CLAIMS.with_name("comments.yaml")  # what a reader should know of how a claim is asked, by its id
MOST_PRIMARY = 10
SEEDS = {"primary": 5, "secondary": 3}  # at least, an arm


class Claim(Strict):
    """One contrast of runs: see the head of claims.yaml."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    statement: str
    where: str
    evidence: str
    experiment: str
    arms: tuple[str, ...] = Field(min_length=1)
    against: float | None = None  # what a single arm is compared with
    statistic: str
    kind: Literal["greater", "less", "equivalent", "ordered"]
    scale: Literal["linear", "log"] = "linear"
    smallest_effect: float
    family: Literal["primary", "secondary"]
    registered: date | None = None  # of a follow-up: the day on which it was asked, after results had been seen
    figure: str

    @model_validator(mode="after")
    def _possible(self) -> Claim:
        if self.statistic not in STATISTICS:
            raise ValueError(f"unknown statistic '{self.statistic}'{did_you_mean(self.statistic, STATISTICS)}")
        wanted = 1 if self.against is not None else 2
        number = len(self.arms)
        if len(set(self.arms)) < number or (number < 3 if self.kind == "ordered" else number != wanted):
            raise ValueError(
                f"arms = {list(self.arms)}: two different ones, one and the number `against`, "
                "or, if ordered, three or more"
            )
        if self.scale == "log" and min(self.smallest_effect, 1 if self.against is None else self.against) <= 0:
            raise ValueError("on the log scale smallest_effect and `against` are factors, above 0")
        if self.kind != "greater" and self.effect < 0 or self.kind == "equivalent" and self.effect == 0:
            raise ValueError(f"smallest_effect = {self.smallest_effect} of a claim of kind {self.kind}")
        return self

    @property
    def effect(self) -> float:
        """The smallest effect as a difference on the claim's scale: its logarithm where that is log."""
        return math.log(self.smallest_effect) if self.scale == "log" else self.smallest_effect

    @property
    def group(self) -> str:
        """Claims that are decided together: those of a family, or the follow-ups."""
        return "follow-up" if self.registered else self.family


class _File(Strict):
    claims: tuple[Claim, ...]


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """All claims, primary ones first, each checked against its study.

    Raises:
        UsageError: an unknown key, statistic, study or arm, an id twice, too many primary claims, too few seeds.
    """
    claims = checked(_File, read_yaml(path), str(path)).claims
    twice = [name for name, count in Counter(claim.id for claim in claims).items() if count > 1]
    if twice:
        raise UsageError(f"{path}: the claim '{twice[0]}' is there twice")
    primary = [claim for claim in claims if claim.family == "primary"]
    if len(primary) > MOST_PRIMARY:
        raise UsageError(f"{path}: {len(primary)} primary claims, at most {MOST_PRIMARY}: each costs the others power")
    for claim in claims:
        _check(claim, study(claim.experiment))
    return [*primary, *(claim for claim in claims if claim.family != "primary")]


def load_follow_ups(path: Path = FOLLOW_UPS) -> list[Claim]:
    """The claims that were asked after the first results.

    Raises:
        UsageError: as load_claims, or one that is primary or does not say when it was registered.
    """
    claims = load_claims(path)
    for claim in claims:
        if claim.family == "primary" or not claim.registered:
            raise UsageError(f"{path}: {claim.id}: a follow-up is secondary, and says when it was registered")
    return claims


def _check(claim: Claim, experiment: Experiment) -> None:
    for arm in claim.arms:
        if arm not in experiment.arms:
            known = did_you_mean(arm, experiment.arms)
            raise UsageError(f"claim {claim.id}: the study {experiment.name} has no arm '{arm}'{known}")
    if len(experiment.seeds) < SEEDS[claim.family]:
        raise UsageError(
            f"claim {claim.id}: {claim.family}, so {SEEDS[claim.family]} seeds at least, but the study "
            f"{experiment.name} has {len(experiment.seeds)}"
        )


@cache
def study(name: str, tier: str = TINY) -> Experiment:
    """The study of that name as it is at a tier, read once."""
    return at_tier(load_experiment(name), tier)


def not_asked(claim: Claim, tier: str) -> str:
    """Why a claim cannot be asked at a tier; empty where it can."""
    own = study(claim.experiment, tier)
    if missing := [arm for arm in claim.arms if arm not in own.arms]:
        return f"the study {claim.experiment} has no arm {', '.join(missing)} there"
    if claim.statistic in REACHING and reached(claim, tier) is None:
        return f"no accuracy to reach is fixed there: scale.reached of {claim.experiment}.yaml, from pilots"
    return ""


def reached(claim: Claim, tier: str) -> float | None:
    """The accuracy at which the claim's study compares cost and length, if it is fixed."""
    if tier == TINY:
        return REACHED
    scale = study(claim.experiment).scale
    return next((accuracy for at, accuracy in scale.reached.items() if at == tier), None) if scale else None
