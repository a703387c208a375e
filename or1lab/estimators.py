"""What a table of samples says about a model, each number with its 95% interval (paper section 8.1 reports avg@k).

A table is (P, K): P problems, K samples of each. Every function takes `over`, the meaning of its interval:

    "problems"  these are a sample of the problems one could ask. Only problem means count: they already carry the
                noise of sampling, and to resample samples inside resampled problems would count it twice.
    "samples"   these very problems, and new samples of the same model.

Intervals over runs (seeds of a training) are in `stats.py`. How the bounds come about is in `intervals.py`, how often
they hold the truth in benchmarks/results/coverage.json (`python -m benchmarks.coverage`). One problem alone says
nothing over problems, and one sample of each nothing about how lengths vary: such bounds are NaN
(`Estimate.known` is False).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from or1lab import intervals
from or1lab.intervals import Bools, Floats, Over
from or1lab.majority import chance_right


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; `over` says what the interval is about, `problems` and `samples` are P and K."""

    value: float
    low: float
    high: float
    over: Over = "problems"
    problems: int = 0
    samples: int = 0

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not np.isnan(self.low + self.high)


@dataclass(frozen=True)
class Paired:
    """Mean of a minus mean of b on the same problems, its 95% interval over problems, and the permutation test's p."""

    difference: float
    low: float
    high: float
    p: float
    problems: int


# -------------------------------------------------------------------------------------------- shares of right responses


def avg_at_k(correct: ArrayLike, k: int, *, over: Over = "problems") -> Estimate:
    """Mean share of right responses: the mean of avg@k over every choice of k of the K samples, so that of all of them.

    Args:
        correct: (P, K) bool, whether sample j of problem i is right.

    Raises:
        ValueError: k > K, an empty table, one that is not (P, K) bool, or an unknown `over`.

    Example:
        >>> avg_at_k([[True, False], [True, True]], k=2).value
        0.75
    """
    _checked_k(k, table := _bools(correct, "correct"))
    return _share(table, 1, over)


def pass_at_k(correct: ArrayLike, k: int, *, over: Over = "problems") -> Estimate:
    """Chance that at least one of k samples is right: 1 - C(K - c, k) / C(K, k), unbiased (Chen et al. 2021, eq. 1).

    Args, Raises: as `avg_at_k`.

    Example:
        >>> pass_at_k([[True, False], [True, True]], k=2).value
        1.0
    """
    _checked_k(k, table := _bools(correct, "correct"))
    return _share(table, k, over)


def pass_hat_k(correct: ArrayLike, k: int, *, over: Over = "problems") -> Estimate:
    """pass^k, the chance that all of k samples are right: C(c, k) / C(K, k), unbiased (Yao et al. 2024, tau-bench).

    Args, Raises: as `avg_at_k`.
    """
    _checked_k(k, table := _bools(correct, "correct"))
    fails = _share(~table, k, over)
    return Estimate(1 - fails.value, 1 - fails.high, 1 - fails.low, over, *table.shape)


def maj_at_k(labels: ArrayLike, correct: ArrayLike, k: int, *, over: Over = "problems") -> Estimate:
    """Chance that the most frequent answer of k samples is right: the exact mean over every choice of k of the K.

    Classes that tie for most votes share the win evenly. Samples without an answer have no vote, and "no answer" wins
    only where none of the k has one. A winning class counts as the share of its members that are right (all or none,
    unless the verifier contradicts itself), so that maj@1 is avg@1.

    The interval over samples rests on an upper bound of the variance (Hoeffding 1948: at most k / K of that of one
    committee of k, here one drawn with replacement from the observed classes), so it covers at least 95%.

    Args:
        labels: (P, K) int, the class of each answer within its problem (`majority.labels`), -1 = no answer.
        correct: (P, K) bool.

    Raises:
        ValueError: as `avg_at_k`; labels of another shape than correct, not integers, or below -1.
    """
    table = _bools(correct, "correct")
    _checked_k(k, table)
    classes = np.asarray(labels)
    if classes.dtype.kind not in "iu" or classes.shape != table.shape or classes.min() < -1:
        raise ValueError(
            f"labels must be integers from -1 (no answer) in the shape of correct, {table.shape}, not "
            f"{classes.dtype} {classes.shape}"
        )
    rows = list(zip(classes, table, strict=True))
    means = np.array([chance_right(*row, k) for row in rows])
    (P, K), m = table.shape, float(means.mean())
    if _checked(over) == "problems":
        return Estimate(m, *intervals.share_of_means(means, P * K / k), over, P, K)
    drawn = np.array([chance_right(*row, k, replace=True) for row in rows])
    variance = float((drawn * (1 - drawn)).mean()) * k / K / P
    n = max(P * K / k, m * (1 - m) / variance) if variance else P * K / k
    return Estimate(m, *intervals.wilson(m, n, intervals.student(np.inf)), over, P, K)


def truncation_share(truncated: ArrayLike, *, over: Over = "problems") -> Estimate:
    """Mean share of responses cut off at the limit. Args, Raises: as `avg_at_k`, with truncated (P, K) bool."""
    return _share(_bools(truncated, "truncated"), 1, over)


def nontruncated_accuracy(correct: ArrayLike, truncated: ArrayLike, *, over: Over = "problems") -> Estimate:
    """Share of right responses among those not cut off: sum of right and finished / sum of finished, over the table.

    NaN where none was finished. Args, Raises: as `avg_at_k`; both are (P, K) bool.
    """
    right, finished = _bools(correct, "correct"), ~_bools(truncated, "truncated")
    _checked_shapes(correct=right, truncated=finished)
    P, K = right.shape
    if not finished.any():
        return Estimate(np.nan, np.nan, np.nan, _checked(over), P, K)
    share, error, _ = intervals.ratio((right & finished).astype(float), finished.astype(float), _checked(over))
    if np.isnan(error):
        return Estimate(share, np.nan, np.nan, over, P, K)
    alike = finished.any(1).sum() if over == "problems" else finished.sum()  # observations, if nothing varies
    n = max(1.0, share * (1 - share) / error**2) if error else float(alike)
    quantile = intervals.student(P - 1 if over == "problems" else np.inf)
    return Estimate(share, *intervals.wilson(share, n, quantile), over, P, K)


# --------------------------------------------------------------------------------------------------------------- tokens


def mean_length(lengths: ArrayLike, *, over: Over = "problems") -> Estimate:
    """Mean length of responses in tokens.

    Args:
        lengths: (P, K) numbers from 0.

    Raises:
        ValueError: an empty table, one that is not (P, K) numbers from 0, or an unknown `over`.
    """
    tokens = _lengths(lengths)
    mean, error, freedom = intervals.ratio(tokens, np.ones_like(tokens), _checked(over))
    return Estimate(mean, *intervals.positive(mean, error, freedom), over, *tokens.shape)


def length_quantiles(lengths: ArrayLike, qs: Sequence[float], *, over: Over = "problems") -> dict[float, Estimate]:
    """Quantiles of the length of responses in tokens, over the whole table.

    The interval of quantile q is between the quantiles at the bounds of the share q of responses that are no longer
    (Woodruff 1952).

    Args:
        lengths: (P, K) numbers from 0.
        qs: shares, each between 0 and 1.

    Raises:
        ValueError: as `mean_length`, or a share outside (0, 1).
    """
    tokens = _lengths(lengths)
    found = {}
    for q in qs:
        if not 0 < q < 1:
            raise ValueError(f"q = {q}; a quantile's share lies between 0 and 1, e.g. 0.95")
        value = float(np.quantile(tokens, q))
        _, *shares = intervals.at_least_one(tokens <= value, 1, _checked(over), around=q)
        low, high = np.nan, np.nan
        if not np.isnan(shares).any():
            low, high = np.quantile(tokens, shares, method="inverted_cdf").tolist()
        found[q] = Estimate(value, min(low, value), max(high, value), over, *tokens.shape)
    return found


def tokens_per_solved(correct: ArrayLike, lengths: ArrayLike, k: int = 1, *, over: Over = "problems") -> Estimate:
    """Tokens spent for each solved problem where every problem gets k samples: k x mean length / pass@k.

    With k = 1 these are the tokens per right response, sum of lengths / number of right ones; with k = K the tokens of
    the table per problem with at least one right response. Infinite where nothing is right. Over samples with k = K
    the error is that of k = K - 1 (leaving one sample out must leave k).

    Args:
        correct: (P, K) bool.
        lengths: (P, K) numbers from 0, tokens.

    Raises:
        ValueError: as `avg_at_k` and `mean_length`; tables of different shapes.
    """
    right, tokens = _bools(correct, "correct"), _lengths(lengths)
    _checked_shapes(correct=right, lengths=tokens)
    _checked_k(k, right)
    solved = _share(right, k, over)
    (P, K), cost = right.shape, k * float(tokens.mean())
    if not solved.value:
        return Estimate(np.inf, cost / solved.high, np.inf if solved.known else np.nan, over, P, K)
    value, error, freedom = intervals.ratio(k * tokens, intervals.pseudovalues(right, k, over), over)
    low, high = intervals.positive(value, error, freedom)
    if error == 0:  # nothing varies: what is known is how many problems or samples there were
        low, high = cost / solved.high, cost / solved.low if solved.low else np.inf
    return Estimate(value, low, high, over, P, K)


# ----------------------------------------------------------------------------------------------------------- two models


def paired(correct_a: ArrayLike, correct_b: ArrayLike) -> Paired:
    """Two models on the same problems: mean of a minus mean of b.

    p is two-sided and exact: the share of all 2^P ways to swap a and b within problems whose difference is at least as
    large as the one seen. It is counted, not drawn: differences are whole numbers of samples, so the distribution of
    their sum is a product of polynomials.

    Args:
        correct_a, correct_b: (P, K) bool, the same problems in the same order.

    Raises:
        ValueError: different shapes, an empty table, or one that is not (P, K) bool.
    """
    a, b = _bools(correct_a, "correct_a"), _bools(correct_b, "correct_b")
    _checked_shapes(correct_a=a, correct_b=b)
    P, K = a.shape
    differences = a.sum(1) - b.sum(1)
    low, high = intervals.share_of_means((1 + differences / K) / 2, np.inf)  # on [0, 1], where that of shares applies
    return Paired(float(differences.mean()) / K, 2 * low - 1, 2 * high - 1, _sign_flips(differences), P)


def _sign_flips(differences: NDArray[np.int64]) -> float:
    steps = np.abs(differences[differences != 0])
    if not len(steps):
        return 1.0
    unit = int(np.gcd.reduce(steps))
    steps, seen = steps // unit, abs(int(differences.sum())) // unit
    chance = np.ones(1)  # of the sum of the negative steps, 0 ... their total
    for step in steps.tolist():
        longer = np.zeros(len(chance) + step)
        longer[: len(chance)] += chance / 2
        longer[step:] += chance / 2
        chance = longer
    sums = len(chance) - 1 - 2 * np.arange(len(chance))
    return min(1.0, float(chance[np.abs(sums) >= seen].sum()))


# --------------------------------------------------------------------------------------------------------------- checks


def _share(right: Bools, k: int, over: Over) -> Estimate:
    return Estimate(*intervals.at_least_one(right, k, _checked(over)), over, *right.shape)


def _table(table: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(table)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be a table of problems x samples with at least one of each, not {array.shape}")
    return array


def _bools(table: ArrayLike, name: str) -> Bools:
    array = _table(table, name)
    if array.dtype != np.bool_:
        raise ValueError(f"{name} must be True or False in each place, not {array.dtype}")
    return array


def _lengths(table: ArrayLike) -> Floats:
    array = _table(table, "lengths")
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"lengths must be finite numbers of tokens from 0; these are {array.dtype}")
    return array.astype(np.float64)


def _checked_k(k: int, table: Bools) -> None:
    K = table.shape[1]
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k = {k}; it is a whole number of samples from 1")
    if k > K:
        raise ValueError(f"k = {k}, but each problem has only {K} sample{'s' * (K > 1)}: sample more, or take k <= {K}")


def _checked(over: Over) -> Over:
    if over not in ("problems", "samples"):
        raise ValueError(f"over = {over!r}; an interval is over 'problems' or over 'samples'")
    return over


def _checked_shapes(**tables: NDArray[Any]) -> None:
    shapes = {name: table.shape for name, table in tables.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError("different shapes: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
