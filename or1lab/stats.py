"""Intervals over runs: Student's t for a mean, Welch's t for a difference, on logarithms for what acts as a factor.

The unit is one run (one seed of one arm). There is no bootstrap here on purpose: over 3 to 5 runs a percentile
bootstrap calls 9-12% of nothing an effect on one side, where t intervals keep their 2.5%.

Runs that do not vary at all say nothing about how much runs vary: such an interval has the bounds NaN (`known` is
False), not the width zero that the formula would give.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

Values = Iterable[float]


@dataclass(frozen=True)
class Bounded:
    """An estimate with the bounds of its interval; both are NaN where the runs do not vary."""

    estimate: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def exp(self) -> Self:
        """The same on the scale of factors, when these are logarithms."""
        low, estimate, high = np.exp([self.low, self.estimate, self.high]).tolist()
        return replace(self, estimate=estimate, low=low, high=high)


@dataclass(frozen=True)
class Mean(Bounded):
    """Mean of `n` runs."""

    n: int


@dataclass(frozen=True)
class Difference(Bounded):
    """Difference a - b of the means of `n_a` and `n_b` independent runs."""

    n_a: int
    n_b: int


def mean_interval(values: Values, level: float = 0.95) -> Mean:
    """Mean of runs with its Student t interval.

    Raises:
        ValueError: fewer than two runs, a value that is not finite, or a level outside (0, 1).
    """
    x = _runs(values, level)
    mean, n = float(x.mean()), len(x)
    if _constant(x):
        return Mean(mean, np.nan, np.nan, n)
    reach = _reach(n - 1, level) * math.sqrt(x.var(ddof=1) / n)
    return Mean(mean, mean - reach, mean + reach, n)


def geometric_interval(values: Values, level: float = 0.95) -> Mean:
    """Geometric mean of runs with its interval (Student's t on the logarithms).

    Raises:
        ValueError: as `mean_interval`, or a value that is not positive.
    """
    return mean_interval(_logs(values), level).exp()


def welch(a: Values, b: Values, level: float = 0.95) -> Difference:
    """Mean of `a` minus mean of `b`, runs of two arms, with Welch's interval (Welch-Satterthwaite degrees of freedom).

    Raises:
        ValueError: fewer than two runs in an arm, a value that is not finite, or a level outside (0, 1).

    Example:
        >>> difference = welch([0.62, 0.64, 0.61], [0.55, 0.57, 0.56])
        >>> f"{difference.estimate:.3f} [{difference.low:.3f}, {difference.high:.3f}]"
        '0.063 [0.032, 0.095]'
    """
    x, y = _runs(a, level), _runs(b, level)
    estimate = float(x.mean() - y.mean())
    if _constant(x) and _constant(y):
        return Difference(estimate, np.nan, np.nan, len(x), len(y))
    parts = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(x) - 1) + parts[1] ** 2 / (len(y) - 1))
    reach = _reach(freedom, level) * math.sqrt(sum(parts))
    return Difference(estimate, estimate - reach, estimate + reach, len(x), len(y))


def log_ratio(a: Values, b: Values, level: float = 0.95) -> Difference:
    """Mean log of `a` minus mean log of `b` with Welch's interval; `.exp()` is the ratio of the geometric means.

    Raises:
        ValueError: as `welch`, or a value that is not positive.
    """
    return welch(_logs(a), _logs(b), level)


def _reach(freedom: float, level: float) -> float:
    """How many standard errors an interval reaches to each side."""
    return float(special.stdtrit(freedom, (1 + level) / 2))  # scipy.stats does the same, and takes a second to import


def _runs(values: Values, level: float) -> NDArray[np.float64]:
    if not 0 < level < 1:
        raise ValueError(f"level = {level}; a confidence level lies between 0 and 1, e.g. 0.95")
    x = np.asarray(list(values), dtype=np.float64)
    if len(x) < 2:
        raise ValueError(f"an interval over runs needs at least 2 in each arm, not {len(x)}")
    if not np.isfinite(x).all():
        raise ValueError(f"values of runs must be finite numbers, not {x.tolist()}")
    return x


def _logs(values: Values) -> NDArray[np.float64]:
    x = np.asarray(list(values), dtype=np.float64)
    if (x <= 0).any():
        raise ValueError(f"a ratio needs positive values, not {x.tolist()}")
    return np.log(x)


def _constant(x: NDArray[np.float64]) -> bool:
    """No spread beyond the rounding of the last digits."""
    return bool(np.ptp(x) <= 1e-12 * np.abs(x).max())
