"""Estimators against closed forms, plain loops over all choices, scipy and simulation."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from or1lab import estimators, intervals
from or1lab.estimators import (
    Estimate,
    avg_at_k,
    length_quantiles,
    maj_at_k,
    mean_length,
    nontruncated_accuracy,
    paired,
    pass_at_k,
    pass_hat_k,
    tokens_per_solved,
    truncation_share,
)
from or1lab.majority import chance_right

RNG = np.random.default_rng(0)
TABLE = RNG.random((7, 6)) < RNG.random((7, 1))
OVER = ("problems", "samples")


def choices(table: np.ndarray, k: int, value) -> float:
    """Mean of `value` over every choice of k samples of every problem."""
    return float(np.mean([[value(row[list(s)]) for s in itertools.combinations(range(len(row)), k)] for row in table]))


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_values_are_means_over_all_choices(k):
    assert avg_at_k(TABLE, k).value == pytest.approx(choices(TABLE, k, np.mean))
    assert pass_at_k(TABLE, k).value == pytest.approx(choices(TABLE, k, np.any))
    assert pass_hat_k(TABLE, k).value == pytest.approx(choices(TABLE, k, np.all))


def test_closed_forms():
    one = np.array([[True, False, False, False], [False] * 4])  # 1 of 4: a choice of 2 has it in 3 of 6
    assert pass_at_k(one, 2).value == 0.25
    assert pass_at_k(one, 4).value == 0.5
    assert pass_hat_k(~one, 2).value == pytest.approx(0.75)
    big = np.arange(1000)[None, :] < 1
    assert pass_at_k(big, 999).value == pytest.approx(0.999)  # no factorial overflows


def vote(labels: tuple[int, ...], correct: tuple[bool, ...]) -> float:
    """The rule of `maj_at_k` on one committee, in plain words."""
    votes = Counter(label for label in labels if label != -1)
    if not votes:
        return float(np.mean(correct))
    winners = [label for label in votes if votes[label] == max(votes.values())]
    shares = [np.mean([c for n, c in zip(labels, correct, strict=True) if n == label]) for label in winners]
    return float(np.mean(shares))


ROWS = st.lists(st.tuples(st.integers(-1, 3), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.data())
def test_majority_is_the_mean_over_all_choices(row, data):
    k = data.draw(st.integers(1, len(row)))
    labels, correct = np.array([label for label, _ in row]), np.array([right for _, right in row])
    plain = np.mean([vote(*zip(*some, strict=True)) for some in itertools.combinations(row, k)])
    assert chance_right(labels, correct, k) == pytest.approx(plain, abs=1e-12)
    if k == 1:
        assert maj_at_k(labels[None], correct[None], 1).value == pytest.approx(correct.mean())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 2), st.booleans()), min_size=1, max_size=4), st.data())
def test_majority_with_replacement(row, data):
    k = data.draw(st.integers(1, len(row)))
    labels, correct = np.array([label for label, _ in row]), np.array([right for _, right in row])
    plain = np.mean([vote(*zip(*some, strict=True)) for some in itertools.product(row, repeat=k)])
    assert chance_right(labels, correct, k, replace=True) == pytest.approx(plain, abs=1e-10)


@pytest.mark.parametrize(
    ("labels", "correct", "k", "value"),
    [
        ([0, 0, 1, 1], [True, True, False, False], 4, 0.5),  # a tie is shared
        ([0, 0, 1, 1], [True, True, False, False], 3, 0.5),
        ([0, -1, -1, -1], [True, False, False, False], 4, 1.0),  # no answer has no vote
        ([0, -1, -1, -1], [True, False, False, False], 2, 0.5),
        ([-1, -1], [False, False], 2, 0.0),
        ([0, 1, 2, 2], [True, False, False, False], 4, 0.0),
    ],
)
def test_majority_by_hand(labels, correct, k, value):
    assert maj_at_k([labels], [correct], k).value == pytest.approx(value)


def test_majority_of_many_samples_against_draws():
    labels = RNG.choice(5, size=(1, 256), p=[0.3, 0.28, 0.2, 0.12, 0.1]) - 1
    correct = labels == 1
    found = maj_at_k(labels, correct, 100).value
    draws = [RNG.choice(labels[0], 100, replace=False) for _ in range(4000)]
    assert found == pytest.approx(np.mean([vote(tuple(one), tuple(one == 1)) for one in draws]), abs=0.03)


def test_lengths_and_truncation():
    lengths = np.array([[1, 3], [5, 7]])
    cut = np.array([[False, False], [False, True]])
    right = np.array([[True, False], [True, True]])
    assert mean_length(lengths).value == 4
    assert truncation_share(cut).value == 0.25
    assert nontruncated_accuracy(right, cut).value == pytest.approx(2 / 3)  # the right one that was cut off is neither
    assert tokens_per_solved(right, lengths).value == pytest.approx(16 / 3)
    assert tokens_per_solved(right, lengths, 2).value == pytest.approx(16 / 2)
    assert {q: one.value for q, one in length_quantiles(lengths, [0.5, 0.25]).items()} == {0.5: 4.0, 0.25: 2.5}


def test_a_mean_length_is_students_t_on_the_logarithm():
    lengths = RNG.lognormal(5, 1, (20, 8))
    means = lengths.mean(1)
    relative = stats.sem(means) / means.mean()
    low, high = np.exp(stats.t.interval(0.95, 19, loc=math.log(means.mean()), scale=relative))
    found = mean_length(lengths)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_sample_a_problem_is_wilsons_interval():
    """With K = 1 and over samples nothing is known but P answers: the textbook interval."""
    table = np.arange(40)[:, None] < 13
    wanted = stats.binomtest(13, 40).proportion_ci(0.95, method="wilson")
    found = avg_at_k(table, 1, over="samples")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-2)


def test_no_problem_varies_and_still_the_interval_has_a_width():
    """30 of 30 unsolved: the interval of 30 problems, with Student's quantile."""
    for k in (1, 4):
        found = pass_at_k(np.zeros((30, 4), bool), k)
        assert (found.value, found.low) == (0, 0) and found.high == pytest.approx(1 / (1 + 30 / 2.0452296**2))
    solved = avg_at_k(np.ones((30, 4), bool), 4, over="samples")
    assert solved.high == 1 and 0.9 < solved.low < 0.99
    same = np.zeros((20, 3), bool)
    assert paired(same, same).p == 1 and paired(same, same).low == pytest.approx(-paired(same, same).high)
    half = avg_at_k(np.tile([True, False], (30, 1)), 2)  # no problem is always right or wrong: not 30 tosses of a coin
    assert half.high - 0.5 == pytest.approx(0.5 - half.low) == pytest.approx(0.5 / (1 + 30 / 2.0452296**2))
    assert paired(np.tile(TABLE, (5, 1)), np.tile(TABLE, (5, 1))).high == pytest.approx(1 / (1 + 35 / 2.0322445**2))


def test_nothing_solved_costs_without_bound():
    wrong, lengths = np.zeros((30, 4), bool), np.full((30, 4), 100)
    for over in OVER:
        found = tokens_per_solved(wrong, lengths, over=over)
        assert found.value == found.high == math.inf and 100 < found.low < 100 * 121
    always = tokens_per_solved(~wrong, lengths)
    assert always.value == always.low == 100 < always.high < 120


def test_what_cannot_be_known_is_nan():
    one = TABLE[:1]
    assert not avg_at_k(one, 2).known and avg_at_k(one, 2, over="samples").known
    assert avg_at_k(one, 2).value == one.mean()
    assert not mean_length(np.ones((4, 1)), over="samples").known  # one sample of each problem
    assert not mean_length(np.full((4, 3), 16384)).known  # all at the limit
    assert not length_quantiles(np.arange(6).reshape(1, 6), [0.5])[0.5].known
    assert not paired(one, ~one).low > -2
    nothing = nontruncated_accuracy(TABLE, np.ones_like(TABLE))
    assert math.isnan(nothing.value) and not nothing.known


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from(OVER))
def test_the_value_lies_in_its_interval(P, K, seed, over):
    rng = np.random.default_rng(seed)
    right, cut = rng.random((2, P, K)) < rng.choice([0.0, 0.1, 0.5, 1.0], (2, P, 1))
    lengths, k = rng.integers(1, 50, (P, K)), int(rng.integers(1, K + 1))
    labels = np.where(right, 0, rng.integers(-1, 3, (P, K)))
    for found in (
        avg_at_k(right, k, over=over),
        pass_at_k(right, k, over=over),
        pass_hat_k(right, k, over=over),
        maj_at_k(labels, right, k, over=over),
        truncation_share(cut, over=over),
        nontruncated_accuracy(right, cut, over=over),
        mean_length(lengths, over=over),
        tokens_per_solved(right, lengths, k, over=over),
        *length_quantiles(lengths, [0.1, 0.5, 0.95], over=over).values(),
    ):
        assert isinstance(found, Estimate) and found.over == over and (found.problems, found.samples) == (P, K)
        assert not found.known or found.low <= found.value + 1e-9 and found.value <= found.high + 1e-9


def test_the_order_of_problems_and_samples_does_not_matter():
    shuffled = RNG.permuted(TABLE, axis=1)[RNG.permutation(len(TABLE))]
    for over in OVER:
        one, other = pass_at_k(TABLE, 3, over=over), pass_at_k(shuffled, 3, over=over)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


# ----------------------------------------------------------------------------------------------------------- two models


def test_p_is_scipys_exact_test():
    a, b = RNG.random((10, 5)) < 0.6, RNG.random((10, 5)) < 0.4
    wanted = stats.permutation_test(
        (a.mean(1) - b.mean(1),), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert paired(a, b).p == pytest.approx(wanted.pvalue)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_p_counts_all_swaps(differences):
    swaps = [abs(np.dot(signs, differences)) for signs in itertools.product([1, -1], repeat=len(differences))]
    wanted = np.mean(np.array(swaps) >= abs(sum(differences)))
    assert estimators._sign_flips(np.array(differences)) == pytest.approx(wanted)


def test_a_pair_has_the_difference_of_its_means():
    a, b = RNG.random((50, 8)) < 0.6, RNG.random((50, 8)) < 0.5
    found, other = paired(a, b), paired(b, a)
    assert found.difference == pytest.approx(a.mean() - b.mean()) and found.problems == 50
    assert (found.low, found.high, found.p) == pytest.approx((-other.high, -other.low, other.p))
    plain = stats.t.interval(0.95, 49, loc=found.difference, scale=stats.sem(a.mean(1) - b.mean(1)))
    assert (found.low, found.high) == pytest.approx(plain, abs=0.01)


# ------------------------------------------------------------------------------------------------------------- coverage


@pytest.mark.parametrize(("P", "K", "a", "b"), [(30, 4, 0.5, 0.5), (60, 16, 1, 3), (30, 16, 0.5, 9.5)])
def test_coverage(P, K, a, b):
    """Of 600 tables; 0.916 is four standard errors below 0.95. `benchmarks.coverage` has it for many more."""
    rng, held = np.random.default_rng(P + K), Counter()
    k = K // 2
    i = np.arange(k)
    passed = 1 - np.prod((b + i) / (a + b + i))  # mean of 1 - (1 - p)^k
    for _ in range(600):
        p = rng.beta(a, b, (P, 1))
        table = rng.random((P, K)) < p
        for what, found, true in (
            ("avg, problems", avg_at_k(table, K), a / (a + b)),
            ("avg, samples", avg_at_k(table, K, over="samples"), p.mean()),
            ("pass, problems", pass_at_k(table, k), passed),
            ("pass, samples", pass_at_k(table, k, over="samples"), (1 - (1 - p) ** k).mean()),
        ):
            held[what] += found.low <= true <= found.high
    assert len(held) == 4
    for what, count in held.items():
        assert count / 600 > 0.916, what
        assert count / 600 < 0.985, what


def test_variance_within_problems():
    """Given the chances' distribution, `within` finds what new samples really vary by."""
    rng = np.random.default_rng(1)
    for K, k in ((8, 1), (8, 4), (4, 4)):
        p = rng.beta(0.5, 1.5, 20_000)
        counts = rng.binomial(K, p)
        chance = intervals.chances(K, k)
        true = (chance[counts] - (1 - (1 - p) ** k)) ** 2
        found, fails = intervals.within(counts, K, k)
        assert found == pytest.approx(true.mean(), rel=0.05)
        assert fails == pytest.approx(((1 - p) ** k).mean(), rel=0.03)


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: avg_at_k(TABLE, 7), "k = 7.*only 6 samples"),
        (lambda: pass_at_k(TABLE, 0), "from 1"),
        (lambda: pass_at_k(TABLE, 1.0), "whole number"),
        (lambda: pass_hat_k(TABLE[:, :0], 1), "at least one"),
        (lambda: avg_at_k(TABLE[:0], 1), "at least one"),
        (lambda: avg_at_k(TABLE[0], 1), "problems x samples"),
        (lambda: avg_at_k(TABLE.astype(int), 1), "True or False.*int"),
        (lambda: avg_at_k(np.where(TABLE, 1.0, np.nan), 1), "True or False"),
        (lambda: avg_at_k(TABLE, 1, over="runs"), "over = 'runs'"),
        (lambda: maj_at_k(TABLE.astype(int), TABLE, 7), "k = 7"),
        (lambda: maj_at_k(TABLE[:2].astype(int), TABLE, 2), "shape of correct"),
        (lambda: maj_at_k(TABLE.astype(float), TABLE, 2), "integers"),
        (lambda: maj_at_k(TABLE.astype(int) - 2, TABLE, 2), "-1"),
        (lambda: maj_at_k(TABLE.astype(int), TABLE, 2, over="runs"), "over = 'runs'"),
        (lambda: nontruncated_accuracy(TABLE, TABLE[:3]), "different shapes"),
        (lambda: nontruncated_accuracy(TABLE, TABLE, over="runs"), "over = 'runs'"),
        (lambda: mean_length(np.full((2, 2), -1)), "from 0"),
        (lambda: mean_length([[1.0, np.nan]]), "finite"),
        (lambda: mean_length([[]]), "at least one"),
        (lambda: length_quantiles([[1, 2]], [95]), "between 0 and 1"),
        (lambda: tokens_per_solved(TABLE, np.ones((7, 5))), "different shapes"),
        (lambda: tokens_per_solved(TABLE, np.ones((7, 6)), 7), "k = 7"),
        (lambda: paired(TABLE, TABLE[:, :3]), "different shapes"),
    ],
)
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_lists_are_welcome():
    assert avg_at_k([[True, False], [True, True]], 2).value == 0.75


def test_it_needs_no_torch():
    code = "import sys, or1lab.estimators; print([m for m in ('torch', 'transformers', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
