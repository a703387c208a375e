"""The 95% intervals of `estimators.py`, from (P, K) tables of P problems and K samples; analytic, no draws.

A share m has Wilson's score interval at the effective number of observations n = m (1 - m) / v, v the variance of m
(Korn and Graubard 1998, Dean and Pagano 2015, for clustered surveys). It stays inside [0, 1] and is never without
width, as Student's t and bootstraps of problem means are in tables of hard or easy problems. For the mean of
committees of k out of K samples, n is kept on the side of caution:

    over problems   v is the variance of problem means / P, the quantile Student's t(P - 1). At most P K / k: as many
                    committees with no sample in common there are. Where the problem means are all alike they say
                    nothing about v: then up to a share u of the problems may be unlike them, always right or always
                    wrong, with u Wilson's bound for 0 of P (for m = 0 and 1 this is Wilson's interval of P).
    over samples    v comes from a Beta distribution of the problems' chances (`within`). At least P K / k (Hoeffding
                    1948: the mean over all choices of k has no more variance than that over choices without overlap).

So shares of committees that nearly always or nearly never succeed get intervals that are too wide (pass@k close to 1).
Too narrow, by up to four points, are those over 30 problems of which almost none is ever solved, and by up to two
those of pass@32 of 64 over 30 problems mostly near 0 and 1: a table says little of what it has hardly met.

Amounts above 0 (tokens) have Student's t on the logarithm, with the linearised error of a ratio of sums.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Over = Literal["problems", "samples"]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bounds = tuple[float, float]

LEVEL = 0.95
UNKNOWN = (np.nan, np.nan)
ROUNDING = 1e-12  # what is apart by less is alike


# --------------------------------------------------------------------------------------------------------------- shares


def at_least_one(right: Bools, k: int, over: Over, around: float | None = None) -> tuple[float, float, float]:
    """Mean chance that one of k samples is right, and its bounds; they lie around another share if one is given."""
    (P, K), counts = right.shape, right.sum(1)
    chance = chances(K, k)
    means = chance[counts]
    m = float(means.mean())
    if over == "problems":
        return m, *share_of_means(means, P * K / k, around)
    variance, fails = within(counts, K, k)
    least = P * K / k
    n = max(least, fails * (1 - fails) * P / variance) if variance else least
    return m, *wilson(m if around is None else around, n, student(np.inf))


def share_of_means(means: Floats, most: float, around: float | None = None) -> Bounds:
    """Over problems: of the mean of problem means in [0, 1] that stand for `most` observations or fewer."""
    P, m = len(means), float(means.mean())
    if P == 1:
        return UNKNOWN
    centre, quantile = m if around is None else around, student(P - 1)
    if np.ptp(means) <= ROUNDING:
        unlike = quantile**2 / (P + quantile**2)
        return centre * (1 - unlike), centre + unlike * (1 - centre)
    return wilson(centre, min(most, m * (1 - m) * P / float(means.var(ddof=1))), quantile)


def within(counts: NDArray[np.int64], K: int, k: int) -> tuple[float, float]:
    """Mean over problems of the variance that new samples give pass@k, and the chance that all of k are wrong.

    A problem with c of K right has not therefore the chance c / K: 0 of 4 would claim no variance at all. So the
    chances are taken as Beta distributed over problems, with the moments of the table, and a problem's variance is its
    mean over what the count leaves (empirical Bayes).
    """
    P = len(counts)
    m = (counts.sum() + 0.5) / (P * K + 1)
    x = counts / K
    # One sample: all variance could be within problems. One more problem, whose samples are as unlike each other as
    # those of different problems: few samples that agree are no proof that they always do.
    inside = ((x * (1 - x)).sum() / (K - 1) + m * (1 - m) / K) / (P + 1) if K > 1 else np.inf
    between = max(0.0, float(x.var(ddof=1)) - inside) if P > 1 else 0.0
    alike = float(np.clip(min(between, m * (1 - m) - K * inside) / (m * (1 - m)), 1e-4, 0.999))
    a, b = m * (1 - alike) / alike, (1 - m) * (1 - alike) / alike
    observed, times = np.unique(counts, return_counts=True)
    a_, b_ = a + observed, b + K - observed
    # Of the chance that none of k is right, for the digits where it is small: mean of its square - square of its mean.
    variance = np.maximum(_beta_binomial(K, a_, b_) @ (1 - chances(K, k)) ** 2 - _all_wrong(a_, b_, 2 * k), 0.0)
    return float(variance @ times) / P, float(_all_wrong(np.array([a]), np.array([b]), k)[0])


def _beta_binomial(K: int, a: Floats, b: Floats) -> Floats:
    """(len(a), K + 1) chances of 0 ... K right ones."""
    drawn = np.arange(K + 1)
    choose = special.gammaln(K + 1) - special.gammaln(drawn + 1) - special.gammaln(K - drawn + 1)
    before, after = (a[:, None], b[:, None]), (a[:, None] + drawn, b[:, None] + K - drawn)
    return np.exp(choose + special.betaln(*after) - special.betaln(*before))


def _all_wrong(a: Floats, b: Floats, k: int) -> Floats:
    """Mean of (1 - p)^k, p from Beta(a, b): the product of (b + i) / (a + b + i), i < k."""
    i = np.arange(k)[:, None]
    return np.prod((b + i) / (a + b + i), axis=0)


@functools.lru_cache(maxsize=64)
def chances(K: int, k: int) -> Floats:
    """Share of the choices of k of K samples with at least one of the c right ones, for c = 0 ... K."""
    if k == 1:
        return np.arange(K + 1) / K
    wrong = K - np.arange(K + 1)[:, None] - np.arange(k)
    return 1 - np.prod(np.maximum(wrong, 0) / (K - np.arange(k)), axis=1)


def wilson(m: float, n: float, quantile: float) -> Bounds:
    """Wilson's score interval of a share m of n observations (n need not be whole)."""
    more = quantile**2 / n
    centre, half = m + more / 2, (more * m * (1 - m) + more**2 / 4) ** 0.5
    return max(0.0, (centre - half) / (1 + more)), min(1.0, (centre + half) / (1 + more))


@functools.lru_cache(maxsize=1024)
def student(freedom: float) -> float:
    """Two-sided 95% quantile; of the normal distribution at infinity."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


# --------------------------------------------------------------------------------------------------------------- ratios


def ratio(y: Floats, x: Floats, over: Over) -> tuple[float, float, float]:
    """Sum of y / sum of x of two (P, K) tables, its standard error (linearised), and the degrees of freedom.

    The error is NaN over one problem, and over one sample of each problem; 0 if nothing varies.
    """
    found = float(y.mean() / x.mean())
    rest = (y - found * x) / x.mean()
    P, K = y.shape
    if (P if over == "problems" else K) == 1:
        return found, np.nan, np.nan
    if over == "problems":
        error, freedom = float(rest.mean(1).std(ddof=1)) / P**0.5, P - 1.0
    else:
        variances = rest.var(1, ddof=1)
        error, squares = float(variances.sum() / K) ** 0.5 / P, float((variances**2).sum())
        freedom = float(variances.sum() ** 2 / squares) * (K - 1) if squares else np.inf  # Welch and Satterthwaite
    return found, 0.0 if error <= ROUNDING * abs(found) else error, freedom


def positive(value: float, error: float, freedom: float) -> Bounds:
    """Student's t on the logarithm; no spread at all is no knowledge of it, as in `stats.py`."""
    if not value or not error or np.isnan(error):
        return UNKNOWN
    factor = float(np.exp(student(freedom) * error / value))
    return value / factor, value * factor


def pseudovalues(right: Bools, k: int, over: Over) -> Floats:
    """(P, K) values of single samples whose mean in each problem is its pass@k (jackknife).

    With k = K one left out must leave k - 1: the spread of the values then is that of k = K - 1.
    """
    K = right.shape[1]
    counts: Any = right.sum(1, keepdims=True)
    whole = chances(K, k)[counts]
    if over == "problems" or K == 1:
        return np.broadcast_to(whole, right.shape)
    without = chances(K - 1, min(k, K - 1))[counts - right]
    return whole + (K - 1) * (without.mean(1, keepdims=True) - without)
