"""Intervals over runs, against textbook formulas, hand-made cases and simulation. All numbers are test data."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats as scipy_stats

from or1lab.stats import Difference, geometric_interval, log_ratio, mean_interval, welch

A, B = [0.62, 0.66, 0.61], [0.70, 0.71, 0.74, 0.69]


def reference(a: list[float], b: list[float], level: float) -> tuple[float, float, float]:
    """Welch's interval in plain sums."""
    means, errors = [], []
    for x in (a, b):
        mean = sum(x) / len(x)
        means.append(mean)
        errors.append(sum((value - mean) ** 2 for value in x) / (len(x) - 1) / len(x))
    total = sum(errors)
    freedom = total**2 / (errors[0] ** 2 / (len(a) - 1) + errors[1] ** 2 / (len(b) - 1))
    half = scipy_stats.t.ppf((1 + level) / 2, freedom) * math.sqrt(total)
    difference = means[0] - means[1]
    return difference, difference - half, difference + half


def half_width(x: list[float], level: float) -> float:
    """How far Student's interval of a mean reaches to each side."""
    return scipy_stats.t.ppf((1 + level) / 2, len(x) - 1) * scipy_stats.sem(x)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_welch_is_the_textbook_formula(level):
    result = welch(A, B, level)
    assert (result.estimate, result.low, result.high) == pytest.approx(reference(A, B, level))
    assert (result.n_a, result.n_b) == (3, 4)
    assert result.known


def test_swapping_the_arms_swaps_the_signs():
    one, other = welch(A, B), welch(B, A)
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low))


def test_a_mean_of_three_runs():
    result = mean_interval([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.303
    assert (result.estimate, result.n) == (2.0, 3)
    assert result.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert 2.0 - result.low == pytest.approx(result.high - 2.0)


def test_a_log_ratio_is_the_factor_between_geometric_means():
    result = log_ratio([0.2, 0.1, 0.2], [0.4, 0.2, 0.4])
    assert result.estimate == pytest.approx(-math.log(2))
    assert result.exp().estimate == pytest.approx(0.5)
    assert result.exp().low == pytest.approx(math.exp(result.low))
    assert result.exp().high == pytest.approx(math.exp(result.high))
    assert isinstance(result.exp(), Difference) and result.exp().n_a == 3


def test_a_log_ratio_does_not_depend_on_the_unit():
    a, b = [3.0, 4.0, 3.5], [5.0, 7.0, 6.0]
    scaled = log_ratio([1000 * x for x in a], [1000 * x for x in b])
    assert (scaled.low, scaled.high) == pytest.approx((log_ratio(a, b).low, log_ratio(a, b).high))


def test_geometric_mean():
    assert geometric_interval([1.0, 4.0]).estimate == pytest.approx(2.0)
    assert geometric_interval([1.0, 4.0]).low > 0


@pytest.mark.parametrize("level", [0.8, 0.99])
def test_intervals_of_logarithms_have_the_level_that_is_asked_for(level):
    logs = [[math.log(value) for value in values] for values in (A, B)]
    ratio, mean = log_ratio(A, B, level), geometric_interval(A, level)
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx(reference(*logs, level))
    assert mean.high / mean.estimate == pytest.approx(math.exp(half_width(logs[0], level)))
    assert mean.estimate / mean.low == pytest.approx(math.exp(half_width(logs[0], level)))


def test_runs_that_do_not_vary_have_no_interval():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        difference = welch([0.5, 0.5, 0.5], [0.3, 0.3])
        zeros = mean_interval([0.0, 0.0])
        mean = mean_interval([0.1 + 0.2, 0.3, 0.3])  # apart by rounding only
    assert difference.estimate == pytest.approx(0.2)
    assert mean.estimate == pytest.approx(0.3)
    assert (difference.n_a, difference.n_b, zeros.n) == (3, 2, 2)
    for result in (difference, mean, zeros):
        assert not result.known and math.isnan(result.low) and math.isnan(result.high)


def test_one_arm_without_spread_leaves_the_others_t_interval():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = welch([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    alone = mean_interval([1.0, 2.0, 3.0])
    assert (result.low, result.high) == pytest.approx((alone.low - 1, alone.high - 1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: welch([0.5], [0.5, 0.6]), "at least 2"),
        (lambda: welch([0.5, 0.6], []), "at least 2"),
        (lambda: mean_interval([]), "at least 2"),
        (lambda: welch([0.5, math.nan], [0.5, 0.6]), "finite"),
        (lambda: mean_interval([0.5, math.inf]), "finite"),
        (lambda: log_ratio([0.5, 0.0], [0.5, 0.6]), "positive"),
        (lambda: geometric_interval([0.5, -1.0]), "positive"),
        (lambda: log_ratio([0.5, math.nan], [0.5, 0.6]), "finite"),
        (lambda: mean_interval([0.5, 0.6], level=95), "level"),
        (lambda: mean_interval([0.5, 0.6], level=1.5), "level"),
        (lambda: mean_interval([0.5, 0.6], level=1), "level"),
        (lambda: mean_interval([0.5, 0.6], level=0), "level"),
    ],
)
def test_what_has_no_interval_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_generators_are_welcome():
    assert welch((x for x in A), (x for x in B)) == welch(A, B)


def test_coverage_with_three_runs_an_arm():
    """Of 4,000 experiments without effect and with unequal spreads, the 95% interval excludes 0 in at most 5%."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (4000, 3)), rng.normal(0, 3, (4000, 3))
    wrong = sum(not (result.low <= 0 <= result.high) for result in map(welch, a, b))
    assert 0.02 < wrong / 4000 < 0.058
