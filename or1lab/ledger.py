"""The ledger: each claim of `experiments/claims.yaml` with its verdict, from run folders alone.

A claim's runs are known by the hashes of their recipes, so it does not matter which study made them or where they lie.
They must be finished and of the frozen world. A claim is looked at only when every planned run of it is there: until
then it says *not run*. The rules of the verdicts are in verdicts.py.

Effects are turned so that they are positive, or on the log scale above 1, where the claim is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from or1lab.claims import Claim, load_claims, study
from or1lab.errors import check_names
from or1lab.run_statistics import STATISTICS, Measured, simulated_time
from or1lab.store import Run
from or1lab.studies import TIERS, by_recipe, planned
from or1lab.verdicts import Answer, Effect, Question, contrast, primary, secondary
from or1lab.world import CLAIMS, content_hash

NOT_RUN = "not run"
NOTHING = Effect(0.0, 0.0, 1.0, 0)  # of a claim that waits for runs: it keeps its place in the family


@dataclass(frozen=True)
class Entry:
    """A line of the ledger; `effect`, `low`, `high` as differences, or as factors where the claim's scale is log."""

    claim: Claim
    verdict: str
    effect: float | None
    low: float | None
    high: float | None
    seeds: int  # runs of the arm that has fewest
    needed: int | None  # seeds an arm that 80% power would take, where not decided
    runs: tuple[str, ...]
    comment: str

    def plain(self) -> dict[str, Any]:
        """For --json."""
        claim = self.claim
        return {
            "id": claim.id, "statement": claim.statement, "where": claim.where, "evidence": claim.evidence,
            "family": claim.family, "kind": claim.kind, "scale": claim.scale, "tier": study(claim.experiment).recipe,
            "verdict": self.verdict, "effect": self.effect, "low": self.low, "high": self.high,
            "smallest_effect": claim.smallest_effect, "n_seeds": self.seeds, "needed_seeds": self.needed,
            "runs": list(self.runs), "figure": claim.figure, "comment": self.comment,
        }  # fmt: skip


def ledger(folder: Path, claims: Sequence[Claim] | None = None, *, tier: str = "tiny") -> list[Entry]:
    """Every claim (default: all of claims.yaml, primary ones first) by the runs below `folder` at a tier."""
    check_names([tier], TIERS, "tier")
    claims = load_claims() if claims is None else claims
    found = by_recipe(folder)
    measured: dict[str, Measured] = {}
    plans = [[planned(claim.experiment)[arm] for arm in claim.arms] for claim in claims]
    questions = []
    for claim, arms in zip(claims, plans, strict=True):
        effect = NOTHING
        if all(name in found for names in arms for name in names):
            for name in {name for names in arms for name in names} - set(measured):
                measured[name] = Measured.of(found[name])
            effect = effect_of(claim, values(claim, [[measured[name] for name in names] for names in arms]))
        questions.append(Question(claim.kind, max(claim.effect, 0.0), effect))
    answers = decide(claims, questions)
    now = content_hash(CLAIMS)
    entries = []
    for claim, answer, arms in zip(claims, answers, plans, strict=True):
        there = [[found[name] for name in names if name in found] for names in arms]
        entry = _entry(claim, answer, there, missing=sum(map(len, arms)) - sum(map(len, there)))
        if entry.verdict != NOT_RUN and any(run.manifest.get("claims_hash") != now for runs in there for run in runs):
            comment = "; ".join(filter(None, [entry.comment, "claims.yaml has changed since these runs"]))
            entry = replace(entry, comment=comment)
        entries.append(entry)
    return entries


def decide(claims: Sequence[Claim], questions: Sequence[Question]) -> list[Answer]:
    """The answers of both families, in the order of the claims."""
    answers: dict[int, Answer] = {}
    for family, rule in (("primary", primary), ("secondary", secondary)):
        members = [n for n, claim in enumerate(claims) if claim.family == family]
        answers |= zip(members, rule([questions[n] for n in members]), strict=True)
    return [answers[n] for n in range(len(claims))]


def values(claim: Claim, arms: Sequence[Sequence[Measured]]) -> list[list[float]]:
    """The claim's statistic of every run, arm by arm. Equal training time is what the fastest of them all reaches."""
    if claim.statistic == "accuracy_at_equal_time":
        horizon = min(float(simulated_time(run)[-1]) for runs in arms for run in runs)
        arms = [[replace(run, horizon=horizon) for run in runs] for runs in arms]
    return [[STATISTICS[claim.statistic](run) for run in runs] for runs in arms]


def effect_of(claim: Claim, arms: Sequence[Sequence[float]]) -> Effect:
    """The claim's contrast on its scale, the statistics given. A single arm is compared with `against`, by Student's t;
    a claim of no worse than is shifted by its margin, so that it too is right above 0. NaN, which decides nothing,
    where a statistic is no finite number (a ratio to an entropy of 0)."""
    if claim.scale == "log":
        arms = [[math.log(value) if value > 0 else -math.inf for value in arm] for arm in arms]
    if not all(math.isfinite(value) for arm in arms for value in arm):
        return Effect(math.nan, 0.0, 1.0, min(map(len, arms)))
    if claim.against is not None:
        known = math.log(claim.against) if claim.scale == "log" else claim.against
        effect = contrast([arms[0], [known] * len(arms[0])], claim.kind, paired=True)
    else:
        effect = contrast(arms, claim.kind)
    return replace(effect, estimate=effect.estimate - min(claim.effect, 0.0))


def _entry(claim: Claim, answer: Answer, runs: list[list[Run]], missing: int) -> Entry:
    folders = tuple(str(run.folder) for arm in runs for run in arm)
    seeds = min(map(len, runs))
    if missing:
        waits = f"waits for {missing} of {missing + len(folders)} runs"
        return Entry(claim, NOT_RUN, None, None, None, seeds, None, folders, waits)
    margin = min(claim.effect, 0.0)
    numbers = (_shown(claim, value + margin) for value in (answer.estimate, answer.low, answer.high))
    silent = "the runs do not vary, so nothing says how much they would"
    if math.isnan(answer.estimate):
        silent = f"{claim.statistic} is not a finite number in every run"
    comments = [
        *([silent] if math.isnan(answer.low) else []),
        *([f"{answer.needed} seeds an arm would decide it in 4 of 5 studies"] if answer.needed else []),
    ]
    effect, low, high = numbers
    return Entry(claim, answer.verdict, effect, low, high, seeds, answer.needed, folders, "; ".join(comments))


def _shown(claim: Claim, value: float) -> float | None:
    shown = math.exp(value) if claim.scale == "log" else value
    return shown if math.isfinite(shown) else None
