"""Verdicts: contrasts against scipy, Holm and Benjamini-Hochberg against plain loops, each verdict by a made case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from or1lab.verdicts import Effect, Question, contrast, needed_seeds, primary, secondary

RNG = np.random.default_rng(5)
UP, DOWN = [0.80, 0.82, 0.79, 0.81, 0.83], [0.70, 0.72, 0.71, 0.69, 0.73]


def question(estimate, error=0.01, kind="greater", smallest=0.02, freedom=8.0, seeds=5):
    return Question(kind, smallest, Effect(estimate, error, freedom, seeds))


def alone(asked):
    return primary([asked])[0]


def test_two_arms_are_welchs_interval():
    effect = contrast([UP, DOWN], "greater")
    theirs = stats.ttest_ind(UP, DOWN, equal_var=False)
    assert effect.interval(0.95) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert 2 * effect.p_above(0.0) == pytest.approx(theirs.pvalue)
    assert effect.freedom == pytest.approx(theirs.df)
    assert contrast([UP, DOWN], "less").estimate == pytest.approx(-effect.estimate)


def test_an_arm_against_a_number_is_students_interval():
    theirs = stats.ttest_1samp(UP, 0.7).confidence_interval(0.9)
    effect = contrast([UP], "greater", 0.7)
    assert effect.interval(0.9) == pytest.approx((theirs.low - 0.7, theirs.high - 0.7))
    assert (effect.freedom, effect.seeds) == (pytest.approx(4), 5)
    assert contrast([UP], "less", 0.7).estimate == pytest.approx(-effect.estimate)


def test_ordered_is_the_difference_that_the_trend_predicts():
    arms = [RNG.normal(mean, 1.0, size=6) for mean in (1.0, 2.0, 4.0)]
    slope = stats.linregress([0] * 6 + [1] * 6 + [2] * 6, np.concatenate(arms)).slope
    assert contrast(arms, "ordered").estimate == pytest.approx(2 * slope)
    two = contrast(arms[:2], "ordered")
    assert two == contrast(arms[:2], "less")


def test_covers_as_it_says_where_arms_spread_unequally():
    inside = 0
    for _ in range(1000):
        arms = [RNG.normal(0, s, size=5) for s in (1.0, 3.0, 0.3)]
        low, high = contrast(arms, "ordered").interval(0.95)
        inside += low < 0 < high
    assert 0.93 < inside / 1000 < 0.985


@pytest.mark.parametrize(
    ("arms", "kind", "words"),
    [
        ([[1.0, 2.0]], "greater", "two arms, not 1"),
        ([[1.0, 2.0]] * 3, "less", "two arms, not 3"),
        ([[1.0, 2.0], [1.0]], "greater", "at least 2 in each arm"),
        ([[1.0, 2.0], [1.0, math.nan]], "greater", "finite"),
    ],
)
def test_contrasts_that_cannot_be_made(arms, kind, words):
    with pytest.raises(ValueError, match=words):
        contrast(arms, kind)


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        (question(0.10), "holds"),
        (question(0.10, kind="ordered"), "holds"),
        (question(0.03, error=0.001, smallest=0.05), "does not hold"),  # surely there, but too small to count
        (question(-0.10), "reversed"),
        (question(0.0, error=0.005), "does not hold"),
        (question(0.03, error=0.03), "not decided"),
        (question(0.001, error=0.002, kind="equivalent"), "holds"),
        (question(0.0, error=0.02, kind="equivalent"), "not decided"),  # nothing found proves nothing
        (question(-0.10, kind="equivalent"), "does not hold"),
        (question(0.5, error=0.0), "not decided"),  # no spread: no interval
        (question(0.5, error=0.0, kind="equivalent"), "not decided"),
    ],
)
def test_each_verdict(asked, verdict):
    assert alone(asked).verdict == verdict
    assert secondary([asked])[0].verdict == verdict


def test_reversed_needs_more_evidence_than_holds():
    """One-sided 5% for the paper's direction, 1% against it."""
    enough = stats.t.ppf(0.97, 8) * 0.01
    assert alone(question(enough, smallest=0.001)).verdict == "holds"
    assert alone(question(-enough, smallest=0.001)).verdict == "does not hold"


def test_holm_by_a_plain_loop():
    for _ in range(60):
        asked = [question(float(e), smallest=0.0) for e in RNG.normal(0.025, 0.015, size=6)]
        answers = primary(asked)
        expected: set[int] = set()
        for step, i in enumerate(sorted(range(6), key=lambda i: asked[i].p)):
            if asked[i].p > 0.05 / (6 - step):
                break
            expected.add(i)
        assert {i for i, answer in enumerate(answers) if answer.verdict == "holds"} == expected


def test_benjamini_hochberg_against_scipy():
    for _ in range(60):
        asked = [question(float(e), smallest=0.0) for e in RNG.normal(0.015, 0.02, size=8)]
        two_sided = [2 * min(q.p, q.p_reversed) for q in asked]
        passed = stats.false_discovery_control(two_sided) <= 0.10
        spoke = [answer.verdict in ("holds", "reversed") for answer in secondary(asked)]
        # 95% intervals on top: at few discoveries the rule is the stricter, at many the interval is.
        assert spoke == [bool(ok) and p < 0.05 for ok, p in zip(passed, two_sided, strict=True)]


def test_claims_without_spread_do_not_disturb_the_others():
    mute, loud = question(0.1, error=0.0), question(0.10)
    assert [a.verdict for a in primary([mute, loud])] == ["not decided", "holds"]
    assert [a.verdict for a in secondary([mute, loud])] == ["not decided", "holds"]


def test_claims_that_wait_keep_their_place_in_the_secondary_family():
    """Else a verdict could be lost when the runs of another claim come in."""
    waiting = question(0.0, error=0.0)
    spoke = [secondary([question(0.028)] + [waiting] * n)[0].verdict for n in (0, 1, 2, 3, 9)]
    assert spoke[0] == "holds" and spoke[-1] == "not decided"
    known = [secondary([question(0.028)] + [question(0.0, error=0.1)] * n)[0].verdict for n in (0, 1, 2, 3, 9)]
    assert spoke == known


def test_needed_seeds_are_found_where_the_distribution_of_scipy_special_is_not_known():
    """At some points far out `nctdtr` is NaN; by scipy.stats six seeds are enough here."""
    asked = Question("greater", 0.1, Effect(-0.1818, 0.03527, 2.476, 4))
    assert needed_seeds(asked, 0.998) == 6
    seeds, spread = np.arange(5, 20), 0.03527 * 2
    freedom, root = 2.476 / 3 * (seeds - 1), np.sqrt(seeds) / spread
    short = 0.1 + 0.1818
    leaves = [stats.nct.sf(stats.t.ppf(0.999, freedom), freedom, d * root) for d in (-0.1818, short)]
    power = np.minimum(leaves[0], stats.norm.sf(short * root)) + leaves[1]
    assert seeds[power >= 0.8][0] == 6



@pytest.mark.parametrize("true", [0.005, 0.028, 0.06])
def test_needed_seeds_reach_the_power_they_promise(true):
    """Four of five such studies decide: for a small effect that it does not hold, for a large one that it does."""
    spread = 0.03
    asked = Question("greater", 0.02, Effect(true, spread * math.sqrt(2 / 5), 8.0, 5))
    needed = needed_seeds(asked, 0.95)
    decided = 0
    for _ in range(1500):
        effect = contrast([RNG.normal(true, spread, needed), RNG.normal(0, spread, needed)], "greater")
        decided += secondary([Question("greater", 0.02, effect)])[0].verdict != "not decided"
    assert 0.76 < decided / 1500 < 0.88


def test_the_seeds_of_a_secondary_claim_count_the_claims_beside_it():
    asked, nothing = question(0.03, error=0.03), question(0.0, error=0.1)
    assert secondary([asked])[0].needed == needed_seeds(asked, 0.95)
    assert secondary([asked] + [nothing] * 49)[0].needed == needed_seeds(asked, 1 - 0.10 / 50)
    found = [question(0.10)] * 3  # beside discoveries it would be the fourth of fifty
    assert secondary([asked, *found] + [nothing] * 46)[0].needed == needed_seeds(asked, 1 - 4 * 0.10 / 50)


def test_no_number_of_seeds_is_promised_where_none_is_enough():
    assert needed_seeds(question(0.0201), 0.95) is None  # comes out above and below what counts equally often
    assert alone(question(0.5, error=0.0)).needed is None
    assert alone(question(0.03, error=0.03)).needed > 5
    assert alone(question(0.03, error=10.0)).needed is None
