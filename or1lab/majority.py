"""Majority voting: which answers are the same, and how often the right one wins a vote.

Answers are the same by the verifier, not by their letters: 1/2 and 0.5 vote together.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Same = Callable[[str, str], bool]

CLASSES = 8  # of wrong answers in a problem, the most frequent, that others are compared with; the rest hardly win
THREADS = 2  # comparisons at a time, as many as the verifier has workers
NEGLIGIBLE = 1e-16  # chance of a count that rounding would swallow anyway


def same_math(gold: str, answer: str) -> bool:
    """The mathematics reward's word on two answers; it remembers them (`rewards/math.py`)."""
    from or1lab.rewards.math import boxed, verify_math

    return verify_math(boxed(answer), gold).correct


def labels(
    answers: Sequence[Sequence[str | None]],
    golds: Sequence[str | Sequence[str] | None] | None = None,
    same: Same | None = None,
    *,
    correct: Sequence[Sequence[bool]] | NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Classes of the answers of each problem, (P, K) int; -1 where there is no answer (None or blank).

    Class 0 is the gold's, the others follow by how often their first wording was given. Equal strings are the same;
    then each remaining wording is compared with the gold, and with the most frequent wording of each class, once at
    most: that is up to 1 + CLASSES comparisons of each distinct wording, few of them at a time. Whatever is left then
    is a class of its own letters.

    Args:
        answers: K answers of each of P problems, as extracted.
        golds: the gold answer of each problem, several that are all right, or None.
        same: whether two answers (the first may be a gold) are the same, e.g. `same_math`; None: equal strings alone.
        correct: verdicts of `same`'s verifier on the samples, (P, K), if they are known: right answers are then the
            gold's class without being compared again, and no wrong one is in it. Of no effect without `same`: tests,
            say, find two programs right that are not the same answer.

    Raises:
        ValueError: another number of golds or verdicts than of problems or answers; unequal numbers of samples.
    """
    sizes = {len(row) for row in answers}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"each problem needs the same number of answers, at least one; there are {sorted(sizes)}")
    if golds is not None and len(golds) != len(answers):
        raise ValueError(f"{len(golds)} golds of {len(answers)} problems")
    if correct is not None and np.shape(correct) != (len(answers), *sizes):
        raise ValueError(f"verdicts {np.shape(correct)} on answers {(len(answers), *sizes)}")
    texts = [[(answer or "").strip() for answer in row] for row in answers]
    found: list[dict[str, int]] = []  # of each problem: wording -> class
    right: list[set[str]] = []
    for i, row in enumerate(texts):
        gold = golds[i] if golds is not None else None
        wanted = {one.strip() for one in ([gold] if isinstance(gold, str) else gold or [])}
        if same and correct is not None:
            wanted = {text for text, verdict in zip(row, correct[i], strict=True) if verdict and text}
        right.append(wanted)
        found.append({text: 0 for text in row if text in wanted})
    alike = same or operator.eq
    with ThreadPoolExecutor(THREADS) as threads:

        def join(firsts: list[list[str]], label: int) -> None:
            """Put what is still open and the same as one of `firsts` into the class `label` of its problem."""
            pairs = [
                (i, first, text)
                for i, row in enumerate(texts)
                for first in firsts[i]
                for text in dict.fromkeys(row)
                if text and text not in found[i]
            ]
            for (i, _, text), yes in zip(pairs, threads.map(lambda pair: alike(*pair[1:]), pairs), strict=True):
                if yes:
                    found[i][text] = label

        if same and correct is None:
            join([sorted(golds_) for golds_ in right], 0)
        label = 1
        while any(open_ := [_most_frequent(row, known) for row, known in zip(texts, found, strict=True)]):
            for known, first in zip(found, open_, strict=True):
                known.update(dict.fromkeys(first, label))
            if same and label <= CLASSES:
                join(open_, label)
            label += 1
    return np.array([[known[text] if text else -1 for text in row] for row, known in zip(texts, found, strict=True)])


def _most_frequent(row: list[str], known: dict[str, int]) -> list[str]:
    """The wording without a class that occurs most (the first of them), if there is one."""
    return [text for text, _ in Counter(text for text in row if text and text not in known).most_common(1)]


# ------------------------------------------------------------------------------------------------------ who wins a vote


def chance_right(labels: NDArray[np.int64], correct: NDArray[np.bool_], k: int, *, replace: bool = False) -> float:
    """Chance that the most frequent answer among k of a problem's K samples is right; the rule is `maj_at_k`'s.

    Args:
        labels, correct: (K,) class, -1 = no answer, and verdict of each sample.
        replace: draw the k with replacement, as new samples would come if the shares of the classes were the chances.
    """
    right = Counter(labels[correct].tolist())
    if not right:
        return 0.0
    sizes = Counter(labels.tolist())
    blank = sizes.pop(-1, 0)
    votes = tuple(sorted(sizes.values()))
    total = sum(
        right[label] / size * win_share(votes, blank, size, k, replace) for label, size in sizes.items() if right[label]
    )
    if right[-1]:  # without an answer, but judged right: that wins only alone
        K = len(labels)
        alone = _drawn(blank, k, K, replace)[k] * _drawn(K - blank, k, K, replace)[0] / _drawn(K, k, K, replace)[k]
        total += right[-1] / blank * alone
    return float(total)


@functools.lru_cache(maxsize=65_536)
def win_share(votes: tuple[int, ...], blank: int, size: int, k: int, replace: bool = False) -> float:
    """Chance that a class of `size` samples wins among k of all, a tie of t counting as 1 / t of a win.

    Only the sizes of the classes matter. Drawing k samples is drawing each with chance k / K (with replacement: a
    Poisson number of each class), given that it makes k in all; so the counts of the classes are independent, and the
    chances of a total are the coefficients of a product of polynomials, here taken from its values at roots of unity.
    With m votes for this class the others have at most m; those with just m are marked by y, and the mean of
    1 / (1 + ties) is the integral of y^ties over [0, 1], for which Gauss-Legendre quadrature is exact.

    Args:
        votes: sizes of all classes, this one among them; `blank`: samples without an answer.
    """
    K = sum(votes) + blank
    others = Counter(votes)
    others[size] -= 1
    points = (k + 40 if replace else K) | 1  # above the degree; for Poisson numbers, where chances are nil
    roots = np.exp(2j * np.pi * np.arange(points // 2 + 1) / points)  # the others are their conjugates
    parts = np.where(np.arange(len(roots)), 2, 1) / points
    powers = roots ** np.arange(k + 1)[:, None]
    terms = {n: _drawn(n, k, K, replace)[:, None] * powers for n in others if others[n]}
    below = {n: np.cumsum(term, axis=0) - term for n, term in terms.items()}  # at most m - 1 votes
    share = 0.0
    for m in range(1, k + 1):
        own = _drawn(size, k, K, replace)[m]
        if own < NEGLIGIBLE:
            continue
        rivals = {n: others[n] for n in terms if _drawn(n, k, K, replace)[m:].sum() > NEGLIGIBLE}
        free = K - size - sum(n * count for n, count in rivals.items())  # samples of which any number may be drawn
        y, weights = _quadrature(min(sum(rivals.values()), (k - m) // m))
        drawn = np.exp(free * k / K * (roots - 1)) if replace else (1 + k / K * (roots - 1)) ** free
        value = drawn * roots ** (m - k)
        for n, count in rivals.items():
            factor = below[n][m] + y * terms[n][m]
            value = value * (factor if count == 1 else factor**count)
        share += own * float((weights @ np.atleast_2d(value)).real @ parts)
    return share / float(_drawn(K, k, K, replace)[k])


@functools.cache
def _quadrature(degree: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes, as a column, and weights on [0, 1] that are exact for polynomials of that degree."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    return (nodes[:, None] + 1) / 2, weights / 2


@functools.lru_cache(maxsize=4096)
def _drawn(n: int, k: int, K: int, replace: bool) -> NDArray[np.float64]:
    """Chance that 0 ... k of n samples are drawn when each is with chance k / K."""
    from scipy import stats  # takes a second

    counts = np.arange(k + 1)
    return stats.poisson.pmf(counts, n * k / K) if replace else stats.binom.pmf(counts, n, k / K)
