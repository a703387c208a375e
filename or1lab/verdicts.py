"""From the statistics of runs to verdicts: *holds*, *reversed*, *does not hold*, *not decided*.

An effect is a contrast of the means of arms, turned so that it is positive where the paper is right. The unit is one
run; intervals are Welch's (Satterthwaite's degrees of freedom for more than two arms), or Student's where one arm is
compared with a number. Rules, fixed before any run:

    holds          the adjusted lower bound is above 0 and the estimate reaches the smallest effect that counts
    reversed       the adjusted upper bound is below 0
    does not hold  the adjusted upper bound is below the smallest effect
    not decided    else, with the number of seeds an arm at which 80% of such studies would decide

Equivalence holds by two one-sided tests inside plus and minus the smallest effect only (that nothing significant was
found proves nothing); it does not hold where the whole interval lies outside. The primary family is adjusted by Holm:
5% one-sided for *holds*, and 1% for *reversed*, since a ledger can err both ways. The secondary family has unadjusted
95% intervals; it says *holds* or *reversed* only where Benjamini and Hochberg's rule at a false discovery rate of 10%
passes too, and *does not hold* by the interval alone. Claims that wait for their runs keep their place in a family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

Kind = Literal["greater", "less", "equivalent", "ordered"]
Verdict = Literal["holds", "reversed", "does not hold", "not decided"]

FAMILY_ERROR = 0.05  # primary: chance of any wrong *holds*
REVERSED_ERROR = 0.01  # and of any wrong *reversed*
FALSE_DISCOVERIES = 0.10  # secondary
POWER = 0.80
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Effect:
    """A contrast of arms in the direction of the claim, with what its t interval is made of."""

    estimate: float
    error: float  # standard error
    freedom: float  # degrees of freedom
    seeds: int  # runs in the smallest arm

    def interval(self, level: float) -> tuple[float, float]:
        """Two-sided; NaN where the runs do not vary, which says nothing about how much they would."""
        if not self.error > 0:
            return math.nan, math.nan
        reach = float(special.stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return self.estimate - reach, self.estimate + reach

    def p_above(self, bound: float) -> float:
        """One-sided p-value against an effect of at most `bound`; NaN as `interval`."""
        if not self.error > 0:
            return math.nan
        return float(special.stdtr(self.freedom, (bound - self.estimate) / self.error))

    def p_below(self, bound: float) -> float:
        """Likewise against an effect of at least `bound`."""
        return 1 - self.p_above(bound)


@dataclass(frozen=True)
class Question:
    """A claim as the rules see it."""

    kind: Kind
    smallest: float
    effect: Effect

    @property
    def p(self) -> float:
        """One-sided, against the claim's being wrong: the larger one of the two tests of an equivalence."""
        if self.kind != "equivalent":
            return self.effect.p_above(0.0)
        return max(self.effect.p_below(self.smallest), self.effect.p_above(-self.smallest))

    @property
    def p_reversed(self) -> float:
        """One-sided, for the opposite; an equivalence has none."""
        return math.nan if self.kind == "equivalent" else self.effect.p_below(0.0)


@dataclass(frozen=True)
class Answer:
    """What the ledger says: the verdict, the interval it was read from, and the seeds an arm that it would take."""

    verdict: Verdict
    estimate: float
    low: float
    high: float
    level: float
    needed: int | None  # None where decided, or beyond `MOST_SEEDS`


def contrast(arms: Sequence[Sequence[float]], kind: Kind, against: float | None = None) -> Effect:
    """The effect that a claim of this kind is about.

    greater, equivalent: first minus second arm. less: second minus first. ordered: the arms should rise from the first
    to the last; the linear trend over their places, as the difference of the last and the first that it predicts.
    `against`: a number that is known, in the place of the second arm.

    Raises:
        ValueError: fewer than two arms (or not exactly two where not ordered), fewer than two runs in an arm, values
            that are not finite.
    """
    values = [np.asarray(arm, dtype=np.float64) for arm in arms]
    if against is not None:
        values.append(np.full(2, against))
    if len(values) < 2 or (kind != "ordered" and len(values) != 2):
        raise ValueError(f"{kind} compares {'two or more' if kind == 'ordered' else 'two'} arms, not {len(values)}")
    if min(map(len, values)) < 2:
        raise ValueError(f"an interval over runs needs at least 2 in each arm, here {[len(arm) for arm in values]}")
    if not all(np.isfinite(arm).all() for arm in values):
        raise ValueError("values of runs must be finite numbers")
    weights = signs(len(values), kind)
    seeds = min(map(len, arms))
    parts = np.array([w**2 * _spread(arm) ** 2 / len(arm) for w, arm in zip(weights, values, strict=True)])
    estimate = float(sum(w * arm.mean() for w, arm in zip(weights, values, strict=True)))
    if not (variance := parts.sum()) > 0:
        return Effect(estimate, 0.0, 1.0, seeds)
    freedom = variance**2 / sum(part**2 / (len(arm) - 1) for part, arm in zip(parts, values, strict=True))
    return Effect(estimate, math.sqrt(variance), float(freedom), seeds)


def signs(arms: int, kind: Kind) -> np.ndarray:
    """What each arm's mean counts in the contrast."""
    if kind == "ordered":
        places = np.arange(arms) - (arms - 1) / 2
        return places * (arms - 1) / (places**2).sum()
    return np.array([-1.0, 1.0] if kind == "less" else [1.0, -1.0])


def _spread(values: np.ndarray) -> float:
    """Standard deviation; 0 where nothing varies beyond the rounding of the last digits."""
    return 0.0 if np.ptp(values) <= 1e-12 * np.abs(values).max() else float(values.std(ddof=1))


# ------------------------------------------------------------------------------------------------------- families


def primary(questions: Sequence[Question]) -> list[Answer]:
    """Answers of the primary family. Both bounds of a claim's interval are one-sided at the level of its Holm step:
    the smallest p of m is read at 5% / m; as long as one passes, the next is read at 5% divided by those left; from
    the first that fails on, all are read at the level where it failed."""
    levels = _holm([question.p for question in questions], FAMILY_ERROR)
    reversals = _holm([question.p_reversed for question in questions], REVERSED_ERROR)
    return [
        _answer(question, 1 - 2 * level, holds=question.p <= level, reversed_=question.p_reversed <= reversal)
        for question, level, reversal in zip(questions, levels, reversals, strict=True)
    ]


def _holm(p: Sequence[float], error: float) -> list[float]:
    """The level at which each p-value is read; NaN is none and comes last."""
    levels, divisor = [0.0] * len(p), len(p)
    for i in sorted(range(len(p)), key=lambda i: (math.isnan(p[i]), p[i])):
        levels[i] = error / divisor
        if p[i] <= levels[i]:
            divisor = max(divisor - 1, 1)
    return levels


def secondary(questions: Sequence[Question]) -> list[Answer]:
    """Answers of the secondary family: 95% intervals; p-values are doubled, since they may speak in both directions."""
    p = [2 * min(q.p, q.p_reversed) if q.kind != "equivalent" else 2 * q.p for q in questions]
    known = sorted(value for value in p if not math.isnan(value))
    steps = [FALSE_DISCOVERIES * (rank + 1) / len(p) for rank in range(len(p))]
    passed = max((rank for rank, value in enumerate(known, start=1) if value <= steps[rank - 1]), default=0)
    limit = known[passed - 1] if passed else -1.0
    wanted = 1 - min([0.05, *steps[passed : passed + 1]])  # of the claim that would pass next
    asked = zip(questions, p, strict=True)
    return [_answer(q, 0.95, holds=v <= limit, reversed_=v <= limit, wanted=wanted) for q, v in asked]


def _answer(question: Question, level: float, *, holds: bool, reversed_: bool, wanted: float | None = None) -> Answer:
    """`wanted`: the level that the claim would have to pass to be decided, if not that of its interval."""
    low, high = question.effect.interval(level)
    verdict = _verdict(question, low, high, holds, reversed_)
    needed = needed_seeds(question, wanted or level) if verdict == "not decided" else None
    return Answer(verdict, question.effect.estimate, low, high, level, needed)


def _verdict(question: Question, low: float, high: float, holds: bool, reversed_: bool) -> Verdict:
    smallest, estimate = question.smallest, question.effect.estimate
    if question.kind == "equivalent":
        if holds and -smallest < low and high < smallest:
            return "holds"
        return "does not hold" if low > smallest or high < -smallest else "not decided"
    if holds and low > 0 and estimate >= smallest:
        return "holds"
    if reversed_ and high < 0:
        return "reversed"
    return "does not hold" if high < smallest else "not decided"


def needed_seeds(question: Question, level: float) -> int | None:
    """Seeds an arm at which 80% of such studies decide, runs spreading as they did; None beyond 1,000.

    A direction is taken to be as large as it was estimated: it is decided where the interval leaves 0 and the estimate
    comes out as large as counts, or where the interval leaves what counts below 0. An equivalence is taken to be exact.
    """
    effect = question.effect
    if not effect.error > 0:
        return None
    spread = effect.error * math.sqrt(effect.seeds)  # of the contrast, one run an arm
    per_seed = max(effect.freedom / max(effect.seeds - 1, 1), 1.0)
    seeds = np.arange(effect.seeds + 1, MOST_SEEDS + 1)
    freedom, root = per_seed * (seeds - 1), np.sqrt(seeds) / spread

    def leaves(distance: float) -> np.ndarray:
        """How often the interval leaves a bound at this distance from the effect."""
        beyond = 1 - special.nctdtr(freedom, distance * root, special.stdtrit(freedom, (1 + level) / 2))
        return np.where(np.isnan(beyond), distance > 0, beyond)  # NaN far out, where it is always or never

    if question.kind == "equivalent":
        power = 2 * leaves(question.smallest) - 1  # both sides have to pass
    else:
        short = question.smallest - effect.estimate
        power = np.minimum(leaves(effect.estimate), special.ndtr(-short * root)) + leaves(short)
    enough = seeds[power >= POWER]
    return int(enough[0]) if len(enough) else None
