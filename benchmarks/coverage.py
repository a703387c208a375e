"""How often the 95% intervals hold the truth, over simulated tables: python -m benchmarks.coverage [--json]

Tables of P problems and K samples, for P = 30, 60, 500, K = 4, 16, 64 and eight distributions of difficulty, each
table with new problems. The length of a response is log-normal, shorter on easy problems and when it is right, and cut
off at a limit. Truth over problems is the expectation over the distribution (of 300,000 problems), over samples
that of the table's own problems. A coverage of 2,000 tables has a standard error of half a percentage point.

Beside our interval of avg@k over problems stand plain Student's t and the percentile bootstrap of problem means, which
fall short where most problems are hard or easy. maj@k is measured on fewer and smaller tables; over samples its
interval is an upper bound by design. Last come seconds for a table of 500 x 64, and for scipy's bootstrap of it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import special, stats

from benchmarks.timing import add_output_options, deliver
from or1lab import estimators, intervals, majority

Floats = NDArray[np.float64]
PROBLEMS, SAMPLES = (30, 60, 500), (4, 16, 64)
ASKED = (0.93, 0.97)
SIGMA, LIMIT = 0.6, 900.0  # of log lengths within a problem; tokens: about a tenth of the responses are cut off
RESAMPLES = 10_000


def _mixture(rng: np.random.Generator, count: int) -> Floats:
    """40% never solved, 20% always."""
    kind, p = rng.random(count), rng.beta(2, 2, count)
    return np.where(kind < 0.4, 0.0, np.where(kind < 0.6, 1.0, p))


DIFFICULTIES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "Beta(0.5, 0.5)": lambda rng, count: rng.beta(0.5, 0.5, count),
    "Beta(2, 2)": lambda rng, count: rng.beta(2, 2, count),
    "Beta(1, 3)": lambda rng, count: rng.beta(1, 3, count),
    "40% zero, 20% one": _mixture,
    "mean 0.05": lambda rng, count: rng.beta(0.5, 9.5, count),
    "mean 0.95": lambda rng, count: rng.beta(9.5, 0.5, count),
    "mean 0.02": lambda rng, count: rng.beta(0.2, 9.8, count),  # beyond what such intervals can do at P = 30
    "all 0.3": lambda rng, count: np.full(count, 0.3),
}


class World:
    """Problems of one distribution, what is true of them, and tables of samples."""

    def __init__(self, p: Floats, rng: np.random.Generator) -> None:
        self.p, self.rng = p, rng
        self.mu = 6.0 + 0.3 * rng.standard_normal(len(p)) - 0.5 * p  # log length if right; if wrong, 0.3 more

    def truth(self, k: int) -> dict[str, float]:
        """Expectations over these problems."""
        p, right, wrong = self.p, self.mu, self.mu + 0.3
        finished = p * _below(right), (1 - p) * _below(wrong)
        length = (p * _cut_mean(right) + (1 - p) * _cut_mean(wrong)).mean()
        return {
            "avg@k": p.mean(),
            "pass@k": (1 - (1 - p) ** k).mean(),
            "non-truncated accuracy": finished[0].mean() / (finished[0] + finished[1]).mean(),
            "mean length": length,
            "tokens per right response": length / finished[0].mean(),
            "paired difference": 0.0,
        }

    def table(self, K: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]:
        """Right, cut off, length."""
        right = self.rng.random((len(self.p), K)) < self.p[:, None]
        noise = self.rng.standard_normal(right.shape)
        lengths = np.exp(self.mu[:, None] + np.where(right, 0.0, 0.3) + SIGMA * noise)
        return right, lengths > LIMIT, np.minimum(lengths, LIMIT)


def _below(mu: Floats) -> Floats:
    """Chance that a length stays below the limit."""
    return special.ndtr((np.log(LIMIT) - mu) / SIGMA)


def _cut_mean(mu: Floats) -> Floats:
    """Mean length, cut off at the limit."""
    return np.exp(mu + SIGMA**2 / 2) * _below(mu + SIGMA**2) + LIMIT * (1 - _below(mu))


def bounds_of(world: World, K: int, k: int) -> dict[tuple[str, str], tuple[float, float]]:
    """(name, over) -> low, high of one table."""
    right, cut, lengths = world.table(K)
    found: dict[tuple[str, str], Any] = {}
    for over in ("problems", "samples"):
        found |= {
            ("avg@k", over): estimators.avg_at_k(right, k, over=over),
            ("pass@k", over): estimators.pass_at_k(right, k, over=over),
            ("non-truncated accuracy", over): estimators.nontruncated_accuracy(right, cut, over=over),
            ("mean length", over): estimators.mean_length(lengths, over=over),
            ("tokens per right response", over): estimators.tokens_per_solved(right & ~cut, lengths, over=over),
        }
    found["paired difference", "problems"] = estimators.paired(right, world.table(K)[0])
    bounds = {key: (one.low, one.high) for key, one in found.items()}
    means = right.mean(1)
    half = stats.sem(means) * intervals.student(len(means) - 1)
    return bounds | {("avg@k by plain t", "problems"): (means.mean() - half, means.mean() + half)}


def cell(name: str, P: int, K: int, tables: int, seed: int) -> dict[tuple[str, str], float]:
    """(name, over) -> share of the tables whose interval holds the truth."""
    rng, k = np.random.default_rng(seed), K // 2
    whole = World(DIFFICULTIES[name](rng, 300_000), rng).truth(k)
    held: dict[tuple[str, str], int] = {}
    means = np.empty((tables, P))
    for number in range(tables):
        world = World(DIFFICULTIES[name](rng, P), rng)
        own = world.truth(k)
        for (what, over), (low, high) in bounds_of(world, K, k).items():
            true = (whole if over == "problems" else own)[what.removesuffix(" by plain t")]
            held[what, over] = held.get((what, over), 0) + (low - 1e-9 <= true <= high + 1e-9)
        means[number] = rng.binomial(K, world.p) / K
    weights = rng.multinomial(P, np.full(P, 1 / P), size=2000) / P
    low, high = np.quantile(means @ weights.T, [0.025, 0.975], axis=1)
    shares = {key: count / tables for key, count in held.items()}
    percentile = float(((low <= whole["avg@k"]) & (whole["avg@k"] <= high)).mean())
    return shares | {("avg@k by percentile bootstrap", "problems"): percentile}


def majority_cell(name: str, P: int, K: int, tables: int, seed: int) -> dict[tuple[str, str], float]:
    """The same for maj@k: wrong answers fall on three classes, or on none, one in ten."""
    rng, k = np.random.default_rng(seed), K // 2

    def answers(p: Floats, samples: int) -> NDArray[np.int64]:
        draws = rng.random((len(p), samples, 1))
        steps = np.cumsum(np.stack([p, *(share * (1 - p) for share in (0.5, 0.25, 0.15, 0.1))], axis=-1), axis=-1)
        label = (draws > steps[:, None, :]).sum(-1)
        return np.where(label >= 4, -1, label)

    def expected(p: Floats, repeats: int) -> float:
        """maj@k of these problems, by drawing."""
        labels = answers(p, repeats * k).reshape(len(p), repeats, k)
        votes = np.stack([(labels == label).sum(-1) for label in range(4)])
        top = votes.max(0)
        return float(np.where(top > 0, (votes[0] == top) / (votes == top).sum(0), 0.0).mean())

    whole = expected(DIFFICULTIES[name](rng, 100_000), 1)
    held = {("maj@k", "problems"): 0, ("maj@k", "samples"): 0}
    for _ in range(tables):
        p = DIFFICULTIES[name](rng, P)
        labels = answers(p, K)
        truth = {"problems": whole, "samples": expected(p, 500)}
        for over, true in truth.items():
            found = estimators.maj_at_k(labels, labels == 0, k, over=over)
            held["maj@k", over] += found.low <= true <= found.high
    return {key: count / tables for key, count in held.items()}


def seconds() -> dict[str, float]:
    """Of one call each on a table of 500 x 64."""
    rng = np.random.default_rng(0)
    world = World(rng.beta(0.5, 0.5, 500), rng)
    right, cut, lengths = world.table(64)
    labels = np.where(right, 0, rng.integers(1, 30, right.shape))
    calls: dict[str, Callable[[], Any]] = {
        f"{what}, over {over}": lambda call=call, over=over: call(over)
        for over in ("problems", "samples")
        for what, call in {
            "avg@64": lambda over: estimators.avg_at_k(right, 64, over=over),
            "pass@32": lambda over: estimators.pass_at_k(right, 32, over=over),
            "maj@32": lambda over: estimators.maj_at_k(labels, right, 32, over=over),
            "non-truncated accuracy": lambda over: estimators.nontruncated_accuracy(right, cut, over=over),
            "five length quantiles": lambda over: estimators.length_quantiles(
                lengths, (0.05, 0.25, 0.5, 0.75, 0.95), over=over
            ),
        }.items()
    }
    calls["paired difference and p"] = lambda: estimators.paired(right, world.table(64)[0])
    calls[f"scipy's bootstrap of avg@64, {RESAMPLES} resamples"] = lambda: stats.bootstrap(
        (right.mean(1),), np.mean, n_resamples=RESAMPLES, method="percentile", rng=0
    )
    taken = {}
    for what, call in calls.items():
        times = []
        for _ in range(3):
            majority.win_share.cache_clear()
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        taken[what] = median(times)
    return taken


def measure(tables: int) -> dict[str, Any]:
    shares: dict[str, dict[str, float]] = {}
    cells = [(name, P, K) for P in PROBLEMS for K in SAMPLES for name in DIFFICULTIES]
    for seed, (name, P, K) in enumerate(cells):
        found = cell(name, P, K, tables, seed)
        if P < 500 and K < 64:
            found |= majority_cell(name, P, K, max(1, tables // 10), seed)
        for (what, over), share in found.items():
            shares.setdefault(f"{what}, over {over}", {})[f"{name}, P = {P}, K = {K}"] = share
    summary = {}
    for what, values in shares.items():
        low, high = min(values, key=lambda one: values[one]), max(values, key=lambda one: values[one])
        summary[what] = {
            "lowest": values[low], "lowest_at": low, "highest": values[high], "highest_at": high, "cells": len(values),
            "outside": {at: share for at, share in values.items() if not ASKED[0] <= share <= ASKED[1]},
        }  # fmt: skip
    return {"tables": tables, "asked": ASKED, "coverage": summary, "seconds": seconds(), "load": os.getloadavg()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=int, default=2000, help="a cell; a tenth of it for maj@k (default: 2000)")
    add_output_options(parser)
    options = parser.parse_args()
    results = measure(options.tables)

    def show() -> None:
        table = Table(title=f"coverage of 95% intervals, {options.tables} tables a cell", title_justify="left")
        for column in ("", "lowest", "where", "highest", "where", "cells outside 93-97%"):
            table.add_column(column, justify="right" if "est" in column or "cells" in column else "left")
        for what, found in results["coverage"].items():
            table.add_row(
                what, f"{found['lowest']:.1%}", found["lowest_at"], f"{found['highest']:.1%}", found["highest_at"],
                f"{len(found['outside'])} of {found['cells']}",
            )  # fmt: skip
        Console().print(table)
        for what, taken in results["seconds"].items():
            print(f"{what}: {1000 * taken:.1f} ms")

    deliver("coverage", results, options, show)


if __name__ == "__main__":
    main()
