"""The ledger: each claim of `experiments/claims.yaml` and `follow_ups.yaml` with its verdict, from run folders alone.

A claim's runs are known by the hashes of their recipes, so it does not matter which study made them or where they lie.
They must be finished and, at the tier tiny, of the frozen world. A claim is looked at only when every planned run of it
is there: until then it says *not run*. The rules of the verdicts are in verdicts.py.

Effects are turned so that they are positive, or on the log scale above 1, where the claim is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from or1lab.claims import COMMENTS, Claim, load_claims, load_follow_ups, not_asked, reached
from or1lab.experiment import TINY
from or1lab.recipe import read_yaml
from or1lab.run_statistics import CONTROL, GOALS, REACHING, STATISTICS, Records, bonus_share, censored, simulated_time
from or1lab.store import Run
from or1lab.studies import by_recipe, planned, same_origin
from or1lab.verdicts import MOST_SEEDS, Answer, Effect, Question, contrast, primary, secondary, signs
from or1lab.world import CLAIMS, FOLLOW_UPS, content_hash

NOT_RUN = "not run"
NOT_ASKED = "not asked"  # cannot be asked at the tier: it has no place in the family there
VERDICTS = {"holds", "reversed", "does not hold"}
STEADY = 1.2  # factor between the clock times of an arm's runs above which the ledger says so
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
    tier: str = TINY
    level: float | None = None  # of the interval, two-sided
    numbers: tuple[tuple[float, ...], ...] = ()  # the statistic of every run, arm by arm; none before all are there

    def plain(self) -> dict[str, Any]:
        """For --json."""
        claim = self.claim
        return {
            "id": claim.id, "statement": claim.statement, "where": claim.where, "evidence": claim.evidence,
            "family": claim.family, "registered": claim.registered and str(claim.registered),
            "kind": claim.kind, "scale": claim.scale, "tier": self.tier,
            "verdict": self.verdict, "effect": self.effect, "low": self.low, "high": self.high, "level": self.level,
            "smallest_effect": claim.smallest_effect, "n_seeds": self.seeds, "needed_seeds": self.needed,
            "runs": list(self.runs), "figure": claim.figure, "comment": self.comment,
            "numbers": [[value if math.isfinite(value) else None for value in own] for own in self.numbers],
        }  # fmt: skip


def ledger(folder: Path, claims: Sequence[Claim] | None = None, tier: str = TINY) -> list[Entry]:
    """Every claim (default: all of claims.yaml, primary ones first, then the follow-ups) by the runs of a tier below
    `folder`; those that cannot be asked there say why.

    Raises:
        UsageError: no such tier, or runs of a claim had different base models or problems.
    """
    claims = [*load_claims(), *load_follow_ups()] if claims is None else claims
    reasons = [not_asked(claim, tier) for claim in claims]
    asked = [claim for claim, reason in zip(claims, reasons, strict=True) if not reason]
    told = iter(_ledger(folder, asked, tier))
    return [
        Entry(claim, NOT_ASKED, None, None, None, 0, None, (), reason, tier) if reason else next(told)
        for claim, reason in zip(claims, reasons, strict=True)
    ]


def _ledger(folder: Path, claims: Sequence[Claim], tier: str) -> list[Entry]:
    found, comments = by_recipe(folder), read_yaml(COMMENTS)
    hashes = {path: content_hash(path) for path in (CLAIMS, FOLLOW_UPS)}
    measured: dict[str, Records] = {}
    plans = [[planned(claim.experiment, tier)[arm] for arm in claim.arms] for claim in claims]
    questions = []
    seen: dict[str, tuple[list[list[Records]], list[list[float]]]] = {}
    for claim, arms in zip(claims, plans, strict=True):
        effect = NOTHING
        if all(name in found for names in arms for name in names):
            for name in {name for names in arms for name in names} - set(measured):
                measured[name] = Records.of(found[name])
            runs = comparable(claim, [[measured[name] for name in names] for names in arms], tier)
            seen[claim.id] = runs, values(claim, runs)
            effect = effect_of(claim, seen[claim.id][1])
        questions.append(Question(claim.kind, max(claim.effect, 0.0), effect))
    answers = decide(claims, questions)
    entries = []
    for claim, answer, arms in zip(claims, answers, plans, strict=True):
        there = [[found[name] for name in names if name in found] for names in arms]
        if tier != TINY:
            same_origin([run for runs in there for run in runs], f"the claim {claim.id} in {folder}")
        entry = _entry(claim, answer, there, sum(map(len, arms)) - sum(map(len, there)), tier)
        if claim.id in seen:
            runs, numbers = seen[claim.id]
            kept_from = barred(claim, runs)
            if entry.verdict in kept_from:
                entry = replace(entry, verdict="not decided")
                kept_from = VERDICTS
            changed = changed_since(claim, [run for own in there for run in own], hashes)
            small = -claim.effect < answer.estimate
            said = [entry.comment, *remarks(claim, runs, numbers, kept_from == VERDICTS)]
            said += ["by less than would count for it"] if small and entry.verdict == "reversed" else []
            said += [f"{changed} has changed since these runs"] if changed else []
            entry = replace(entry, comment="; ".join(filter(None, said)), numbers=tuple(map(tuple, numbers)))
        if claim.id in comments:
            entry = replace(entry, comment="; ".join(filter(None, [entry.comment, comments[claim.id]])))
        entries.append(entry)
    return entries


def barred(claim: Claim, arms: Sequence[Sequence[Records]]) -> set[str]:
    """The verdicts that runs which never came to what the statistic waits for keep a claim from: their numbers are
    bounds from below, so an effect is at least what it seems where they should be large, at most where small. All of
    them, where the statistic is of how well control keeps to its target, and no arm's control ever acted."""
    shares = [_bonus(runs) for runs in arms]
    if claim.statistic in CONTROL and any(shares) and all(own == {0.0} for own in shares if own):
        return VERDICTS
    signed = zip(signs(max(2, len(arms)), claim.kind), arms, strict=False)  # one arm alone is compared with a number
    bounds = {sign > 0 for sign, runs in signed if sign and any(censored(claim.statistic, run) for run in runs)}
    if bounds and (claim.kind == "equivalent" or claim.statistic == "length_when_reached"):
        bounds = {True, False}
    return ({"reversed", "does not hold"} if True in bounds else set()) | ({"holds"} if False in bounds else set())


def remarks(
    claim: Claim, arms: Sequence[Sequence[Records]], numbers: Sequence[Sequence[float]], withheld: bool = False
) -> Iterator[str]:
    """What a reader has to know of the runs, and of their `numbers`, before the verdict is believed; `withheld`: they
    kept the claim from a verdict."""
    runs = [run for own in arms for run in own]
    kept = ", which keeps it from being decided" if withheld else ""
    cut = sum(censored(claim.statistic, run) for run in runs)
    if cut:
        yield f"in {cut} of {len(runs)} runs {GOALS[claim.statistic][1]}: their numbers are bounds{kept}"
    effect = effect_of(claim, numbers)
    if alike(numbers):
        yield "seed by seed the arms are the same runs: what sets them apart never acted"
        return
    if math.isnan(effect.estimate):
        yield f"{claim.statistic} is not a finite number in every run"
    elif not effect.error and not cut:
        yield "the runs do not vary, so nothing says how much they would"
    if silent := [arm for arm, own in zip(claim.arms, arms, strict=True) if _bonus(own) == {0.0}]:
        yield f"entropy control never gave a bonus in {', '.join(silent)}{'' if cut else kept}"
    clipped = [run.column("clip/high_frac") for run in runs if run.recipe.clip_high > run.recipe.clip_low]
    if touched := [values.mean() for values in clipped if len(values)]:
        yield f"the upper clip touched {max(touched):.2%} of the tokens at most"
    apart = max(max(own) / min(own) for own in numbers) if claim.statistic == "seconds_a_step" else 1.0
    if apart > STEADY:
        yield f"clock times of a machine with other work: those of one arm differ by a factor of up to {apart:.1f}"


def _bonus(runs: Sequence[Records]) -> set[float]:
    """The shares of steps with a bonus from entropy control; empty without control."""
    return {share for run in runs if (share := bonus_share(run)) is not None}


def changed_since(claim: Claim, runs: Sequence[Run], hashes: Mapping[Path, str]) -> str | None:
    """The file of the claim, if by its hash it said something else when the runs were made. Runs that a follow-up
    shares with the first studies are older than it is."""
    path, key = CLAIMS, "claims_hash"
    if claim.group == "follow-up":
        path, key = FOLLOW_UPS, "follow_ups_hash"
        runs = [run for run in runs if run.manifest["experiment"] == claim.experiment]
    return path.name if any(run.manifest.get(key) != hashes[path] for run in runs) else None


def decide(claims: Sequence[Claim], questions: Sequence[Question]) -> list[Answer]:
    """The answers of both families and of the follow-ups, in the order of the claims."""
    answers: dict[int, Answer] = {}
    for group, rule in (("primary", primary), ("secondary", secondary), ("follow-up", secondary)):
        members = [n for n, claim in enumerate(claims) if claim.group == group]
        answers |= zip(members, rule([questions[n] for n in members]), strict=True)
    return [answers[n] for n in range(len(claims))]


def comparable(claim: Claim, arms: list[list[Records]], tier: str = TINY) -> list[list[Records]]:
    """The runs with what they are compared at: equal training time is what the fastest of them all reaches, equal
    accuracy that of the tier."""
    if claim.statistic in REACHING and (level := reached(claim, tier)) is not None:
        return [[replace(run, reached=level) for run in runs] for runs in arms]
    if claim.statistic == "accuracy_at_equal_time":
        horizon = min(float(simulated_time(run)[-1]) for runs in arms for run in runs)
        return [[replace(run, horizon=horizon) for run in runs] for runs in arms]
    return arms


def values(claim: Claim, arms: Sequence[Sequence[Records]]) -> list[list[float]]:
    """The claim's statistic of every run, arm by arm."""
    return [[STATISTICS[claim.statistic](run) for run in runs] for runs in arms]


def effect_of(claim: Claim, arms: Sequence[Sequence[float]]) -> Effect:
    """The claim's contrast on its scale, the statistics given. A single arm is compared with `against`, by Student's t;
    a claim of no worse than is shifted by its margin, so that it too is right above 0. NaN, which decides nothing,
    where a statistic is no finite number (a ratio to an entropy of 0) or the arms are alike."""
    if claim.scale == "log":
        arms = [[math.log(value) if value > 0 else -math.inf for value in arm] for arm in arms]
    if alike(arms) or not all(math.isfinite(value) for arm in arms for value in arm):
        return Effect(math.nan, 0.0, 1.0, min(map(len, arms)))
    against = math.log(claim.against) if claim.against and claim.scale == "log" else claim.against
    effect = contrast(arms, claim.kind, against)
    return replace(effect, estimate=effect.estimate - min(claim.effect, 0.0))


def alike(arms: Sequence[Sequence[float]]) -> bool:
    """Whether several arms come to the same numbers seed by seed, and not to one and the same: a controller, say, that
    was never switched on. Nothing was compared then, whatever the interval between the seeds says."""
    return len(arms) > 1 and len(set(arms[0])) > 1 and all(list(arm) == list(arms[0]) for arm in arms)


def _entry(claim: Claim, answer: Answer, runs: list[list[Run]], missing: int, tier: str) -> Entry:
    folders = tuple(str(run.folder) for arm in runs for run in arm)
    seeds = min(map(len, runs))
    if missing:
        waits = f"waits for {missing} of {missing + len(folders)} runs"
        return Entry(claim, NOT_RUN, None, None, None, seeds, None, folders, waits, tier)
    margin = min(claim.effect, 0.0)
    numbers = (_shown(claim, value + margin) for value in (answer.estimate, answer.low, answer.high))
    comment = ""
    if answer.verdict == "not decided" and math.isfinite(answer.low):
        needed = answer.needed or f"more than {MOST_SEEDS:,}"
        comment = f"{needed} seeds an arm would decide it in 4 of 5 studies"
    effect, low, high = numbers
    return Entry(claim, answer.verdict, effect, low, high, seeds, answer.needed, folders, comment, tier, answer.level)


def _shown(claim: Claim, value: float) -> float | None:
    shown = math.exp(value) if claim.scale == "log" else value
    return shown if math.isfinite(shown) else None
