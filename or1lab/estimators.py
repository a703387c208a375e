"""What a table of samples says about a model, each number with its 95% interval (paper section 8.1 reports avg@k).

A table is (P, K): P problems, K samples of each. Every function takes `over`, the meaning of its interval:

    "problems"  these are a sample of the problems one could ask. Only problem means count: they already carry the
                noise of sampling, and to resample samples inside resampled problems would count it twice.
    "samples"   these very problems, and new samples of the same model.

Intervals over runs (seeds of a training) are in `stats.py`.

Shares (avg@k, pass@k, ...) have Wilson's interval at the effective number of observations n = m (1 - m) / v, where v is
the variance of the mean m (Korn and Graubard 1998 and Dean and Pagano 2015, for clustered surveys): it stays inside
[0, 1], has no width zero, and is analytic. Over problems v is that of problem means and the quantile Student's
t(P - 1); over samples v is that of the samples within problems, smoothed (`_within`). What `benchmarks/coverage.py`
finds for them is in benchmarks/results/coverage.json. Where the problem means are all alike they say nothing about v,
and n is P, the least that it can be.

Positive amounts (tokens) have Student's t on the logarithm. One problem alone says nothing over problems, and one
sample of each nothing about how lengths vary: such bounds are NaN (`Estimate.known` is False), never a guess.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from or1lab.majority import worths

Over = Literal["problems", "samples"]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEVEL = 0.95


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


# ------------------------------------------------------------------------------------------- shares of right responses


def avg_at_k(correct: ArrayLike, k: int, *, over: Over = "problems") -> Estimate:
    """Mean share of right responses: the mean of avg@k over every choice of k of the K samples, so that of all of them.

    Args:
        correct: (P, K) bool, whether sample j of problem i is right.

    Raises:
        ValueError: k > K, an empty table, one that is not (P, K) bool, or an unknown `over`.
    """
    _checked_k(k, table := _bools(correct, "correct"))
    return _at_least_one(table, 1, over)


def pass_at_k(correct: ArrayLike, k: int, *, over: Over = "problems") -> Estimate:
    """Chance that at least one of k samples is right: 1 - C(K - c, k) / C(K, k), unbiased (Chen et al. 2021, eq. 1).

    Args, Raises: as `avg_at_k`.
    """
    _checked_k(k, table := _bools(correct, "correct"))
    return _at_least_one(table, k, over)


def pass_hat_k(correct: ArrayLike, k: int, *, over: Over = "problems") -> Estimate:
    """pass^k, the chance that all of k samples are right: C(c, k) / C(K, k), unbiased (Yao et al. 2024, tau-bench).

    Args, Raises: as `avg_at_k`.
    """
    _checked_k(k, table := _bools(correct, "correct"))
    fails = _at_least_one(~table, k, over)
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
    means = np.array([worths(*row, k) for row in zip(classes, table, strict=True)])
    if over == "problems":
        return _over_problems(means, table.shape[1])
    _checked_over(over)
    (P, K), m = table.shape, float(means.mean())
    drawn = np.array([worths(*row, k, replace=True) for row in zip(classes, table, strict=True)])
    variance = float((drawn * (1 - drawn)).mean()) * k / K / P
    n = P * K / k  # what the bound leaves at least
    return Estimate(m, *_wilson(m, max(n, m * (1 - m) / variance) if variance else n, _z()), over, P, K)


def truncation_share(truncated: ArrayLike, *, over: Over = "problems") -> Estimate:
    """Mean share of responses cut off at the limit. Args, Raises: as `avg_at_k`, with truncated (P, K) bool."""
    return _at_least_one(_bools(truncated, "truncated"), 1, over)


def nontruncated_accuracy(correct: ArrayLike, truncated: ArrayLike, *, over: Over = "problems") -> Estimate:
    """Share of right responses among those not cut off: sum of right and finished / sum of finished, over the table.

    NaN where none was finished. Args, Raises: as `avg_at_k`; both are (P, K) bool.
    """
    right, finished = _bools(correct, "correct"), ~_bools(truncated, "truncated")
    _checked_shapes(correct=right, truncated=finished)
    if not finished.any():
        return Estimate(np.nan, np.nan, np.nan, _checked_over(over), *right.shape)
    ratio, error, _ = _ratio((right & finished).astype(float), finished.astype(float), over)
    P, K = right.shape
    if np.isnan(error):
        return Estimate(ratio, np.nan, np.nan, over, P, K)
    least = finished.sum() if over == "samples" else finished.any(1).sum()  # of observations, where they are all alike
    n = ratio * (1 - ratio) / error**2 if error else least
    return Estimate(ratio, *_wilson(ratio, max(n, 1.0), _t(P - 1) if over == "problems" else _z()), over, P, K)


# --------------------------------------------------------------------------------------------------------------- tokens


def mean_length(lengths: ArrayLike, *, over: Over = "problems") -> Estimate:
    """Mean length of responses in tokens.

    Args:
        lengths: (P, K) numbers from 0.

    Raises:
        ValueError: an empty table, one that is not (P, K) numbers from 0, or an unknown `over`.
    """
    tokens = _lengths(lengths)
    mean, error, freedom = _ratio(tokens, np.ones_like(tokens), over)
    return Estimate(mean, *_positive(mean, error, freedom), over, *tokens.shape)


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
        share = _at_least_one(tokens <= value, 1, over, around=q)
        low, high = np.nan, np.nan
        if share.known:
            low, high = np.quantile(tokens, [share.low, share.high], method="inverted_cdf").tolist()
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
    solved = _at_least_one(right, k, over)
    (P, K), cost = right.shape, k * float(tokens.mean())
    if not solved.value:
        return Estimate(np.inf, cost / solved.high, np.inf if solved.known else np.nan, over, P, K)
    value, error, freedom = _ratio(k * tokens, _pseudovalues(right, k, over), over)
    low, high = _positive(value, error, freedom)
    if error == 0:  # nothing varies: what is known is how many problems there were
        low, high = cost / solved.high, cost / solved.low if solved.low else np.inf
    return Estimate(value, low, high, over, P, K)


# ------------------------------------------------------------------------------------------------------------ two models


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
    half = _over_problems((1 + differences / K) / 2, K)  # on [0, 1], where the interval of shares applies
    return Paired(float(differences.mean()) / K, 2 * half.low - 1, 2 * half.high - 1, _sign_flips(differences), P)


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


# ------------------------------------------------------------------------------------------------------------- intervals


def _at_least_one(right: Bools, k: int, over: Over, around: float | None = None) -> Estimate:
    """Mean chance that one of k samples is right. `around`: the share that the interval is put round instead."""
    (P, K), counts = right.shape, right.sum(1)
    chance = _chances(K, k)
    means = chance[counts]
    if over == "problems":
        return _over_problems(means, K, around)
    _checked_over(over)
    m = float(means.mean()) if around is None else around
    variance, fails = _within(counts, K, k, chance)
    least = P * K / k  # an average over all choices of k has at most the variance of so many committees (Hoeffding 1948)
    n = max(least, fails * (1 - fails) * P / variance) if variance else least
    return Estimate(m, *_wilson(m, n, _z()), over, P, K)


def _over_problems(means: Floats, K: int, around: float | None = None) -> Estimate:
    """The mean of problem means that lie in [0, 1]."""
    P, m = len(means), float(means.mean())
    if P == 1:
        return Estimate(m, np.nan, np.nan, "problems", P, K)
    alike = np.ptp(means) <= 1e-12
    n = P if alike else m * (1 - m) * P / float(means.var(ddof=1))
    m = m if around is None else around
    return Estimate(m, *_wilson(m, n, _t(P - 1)), "problems", P, K)


def _within(counts: NDArray[np.int64], K: int, k: int, chance: Floats) -> tuple[float, float]:
    """Mean over problems of the variance that new samples give `chance[count]`, and the chance that all k are wrong.

    A problem with c of K right has not therefore the chance c / K: 0 of 4 would claim no variance at all. So the
    chances are taken as Beta distributed over problems, with the moments of the table, and a problem's variance is its
    mean over what the count leaves (empirical Bayes).
    """
    P = len(counts)
    m = (counts.sum() + 0.5) / (P * K + 1)
    x = counts / K
    inside = (x * (1 - x)).mean() / (K - 1) if K > 1 else np.inf  # one sample: all variance could be within problems
    between = max(0.0, float(x.var(ddof=1)) - inside) if P > 1 else 0.0
    alike = float(np.clip(between / (m * (1 - m)), 1e-4, 0.999))
    a, b = m * (1 - alike) / alike, (1 - m) * (1 - alike) / alike
    observed, times = np.unique(counts, return_counts=True)
    a_, b_ = (a + observed)[:, None], (b + K - observed)[:, None]
    # Of the chance that none of k is right, for the digits where it is small: mean of its square - square of its mean.
    drawn = np.arange(K + 1)  # beta-binomial
    log_chances = _log_choose(K) + special.betaln(a_ + drawn, b_ + K - drawn) - special.betaln(a_, b_)
    square = np.exp(log_chances) @ (1 - chance) ** 2
    variance = np.maximum(square - _all_wrong(a_, b_, 2 * k), 0.0)
    return float(variance @ times) / P, float(_all_wrong(a, b, k)[0])


def _all_wrong(a: Any, b: Any, k: int) -> Floats:
    """Mean of (1 - p)^k, p from Beta(a, b): the product of (b + i) / (a + b + i)."""
    i = np.arange(k)
    return np.prod((b + i) / (a + b + i), axis=-1, keepdims=np.ndim(a) == 0).reshape(-1)


@functools.lru_cache(maxsize=64)
def _log_choose(K: int) -> Floats:
    return special.gammaln(K + 1) - special.gammaln(np.arange(K + 1) + 1) - special.gammaln(K - np.arange(K + 1) + 1)


@functools.lru_cache(maxsize=64)
def _chances(K: int, k: int) -> Floats:
    """Share of the choices of k of K samples with at least one of the c right ones, for c = 0 ... K."""
    if k == 1:
        return np.arange(K + 1) / K
    wrong = K - np.arange(K + 1)[:, None] - np.arange(k)
    return 1 - np.prod(np.maximum(wrong, 0) / (K - np.arange(k)), axis=1)


def _pseudovalues(right: Bools, k: int, over: Over) -> Floats:
    """(P, K) values of single samples whose mean in each problem is its pass@k (jackknife)."""
    K = right.shape[1]
    whole = _chances(K, k)[right.sum(1)][:, None]
    if over == "problems" or K == 1:
        return np.broadcast_to(whole, right.shape)
    size = min(k, K - 1)
    without = _chances(K - 1, size)[right.sum(1)[:, None] - right]
    return whole + (K - 1) * (without.mean(1, keepdims=True) - without)


def _ratio(y: Floats, x: Floats, over: Over) -> tuple[float, float, float]:
    """Sum of y / sum of x of two (P, K) tables, its standard error (linearised), and the degrees of freedom."""
    ratio = float(y.mean() / x.mean())
    rest = (y - ratio * x) / x.mean()
    P, K = y.shape
    if over == "problems":
        if P == 1:
            return ratio, np.nan, np.nan
        error, freedom = float(rest.mean(1).std(ddof=1)) / P**0.5, P - 1.0
    else:
        _checked_over(over)
        if K == 1:
            return ratio, np.nan, np.nan
        variances = rest.var(1, ddof=1)
        error, total = float(variances.sum() / K) ** 0.5 / P, float((variances**2).sum())
        freedom = float(variances.sum() ** 2 / total) * (K - 1) if total else np.nan  # Welch and Satterthwaite
    return ratio, 0.0 if error <= 1e-12 * abs(ratio) else error, freedom


def _positive(value: float, error: float, freedom: float) -> tuple[float, float]:
    """Student's t on the logarithm; no spread at all is no knowledge of it, as in `stats.py`."""
    if not value or not error or np.isnan(error):
        return np.nan, np.nan
    factor = float(np.exp(_t(freedom) * error / value))
    return value / factor, value * factor


def _wilson(m: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share m of n observations (n need not be whole)."""
    more = quantile**2 / n
    centre, half = m + more / 2, (more * m * (1 - m) + more**2 / 4) ** 0.5
    return max(0.0, (centre - half) / (1 + more)), min(1.0, (centre + half) / (1 + more))


@functools.lru_cache(maxsize=1024)
def _t(freedom: float) -> float:
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def _z() -> float:
    return _t(np.inf)


# ---------------------------------------------------------------------------------------------------------------- checks


def _bools(table: ArrayLike, name: str) -> Bools:
    array = np.asarray(table)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be a table of problems x samples with at least one of each, not {array.shape}")
    if array.dtype != np.bool_:
        raise ValueError(f"{name} must be True or False in each place, not {array.dtype}")
    return array


def _lengths(table: ArrayLike) -> Floats:
    array = np.asarray(table)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"lengths must be a table of problems x samples with at least one of each, not {array.shape}")
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"lengths must be numbers of tokens from 0, not {array.dtype} {array.ravel()[:5].tolist()} ...")
    return array.astype(np.float64)


def _checked_k(k: int, table: Bools) -> None:
    K = table.shape[1]
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k = {k}; it is a whole number of samples from 1")
    if k > K:
        raise ValueError(f"k = {k}, but each problem has only {K} sample{'s' * (K > 1)}: sample more, or take k <= {K}")


def _checked_over(over: str) -> Any:
    if over not in ("problems", "samples"):
        raise ValueError(f"over = {over!r}; an interval is over 'problems' or over 'samples'")
    return over


def _checked_shapes(**tables: NDArray[Any]) -> None:
    shapes = {name: table.shape for name, table in tables.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError("different shapes: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
