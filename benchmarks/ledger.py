"""How often the ledger errs, and what it finds, at the run-to-run spread observed:

    python -m benchmarks.ledger [--results experiments/results] [--ledgers 2000]

Ledgers of the primary claims are made up and decided by the rules of or1lab/verdicts.py. Without effect every claim is
just not right: its arms do not differ, or by the margin of a *no worse than*. With an effect they differ by three
standard deviations of a run (root mean square of the claim's arms), or by one more than the smallest effect that
counts where that is more, since less than it rightly does not hold. In logarithms where the claim's scale is log.

Each planned run is one draw, whichever claims share it: the deviations of its statistics from their arm's mean, all of
one run observed (resampled), or normal with the same covariances (normal); then as wide as the arm's own spread. An arm
with fewer than two finished runs is taken to be as wide as the others are on average; one that does not vary (all
censored at the last step) has nothing to be found. Arms are drawn independently. That they share seeds makes Welch's
test more careful, not less.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.timing import add_output_options, deliver
from or1lab import verdicts
from or1lab.claims import Claim, load_claims
from or1lab.errors import Or1labError, UsageError
from or1lab.ledger import comparable, decide, effect_of, values
from or1lab.run_statistics import Records
from or1lab.studies import by_recipe, planned
from or1lab.verdicts import Question

LIMIT, ASKED = 0.06, 0.80  # false alarms at most, planted effects found at least
PLANTED = 3.0  # standard deviations of a run

Floats = NDArray[np.float64]
Arm = tuple[str, ...]  # the recipe hashes of its planned runs
Number = tuple[str, str]  # statistic, scale
Spread = Callable[[Arm, Number], float]
Draw = Callable[[], Mapping[Number, float]]


def arms_of(claim: Claim) -> list[Arm]:
    return [tuple(planned(claim.experiment)[arm]) for arm in claim.arms]


def number_of(claim: Claim) -> Number:
    return claim.statistic, claim.scale


class Observed:
    """The finished runs of the primary claims' arms: how far their statistics spread.

    Raises:
        UsageError: no arm has two of them.
    """

    def __init__(self, claims: Sequence[Claim], results: Path) -> None:
        found = by_recipe(results)
        self.numbers = {number_of(claim): claim for claim in claims}
        self.runs: dict[Arm, int] = {}
        self.spread: dict[tuple[Arm, Number], float] = {}
        parts = []
        for arm in dict.fromkeys(arm for claim in claims for arm in arms_of(claim)):
            there = [Records.of(found[name]) for name in arm if name in found]
            self.runs[arm] = len(there)
            if len(there) < 2:
                continue
            table = np.column_stack([_on_scale(claim, there) for claim in self.numbers.values()])
            self.spread |= {
                (arm, number): float(std) for number, std in zip(self.numbers, table.std(axis=0, ddof=1), strict=True)
            }
            parts.append((table - table.mean(axis=0)) * math.sqrt(len(there) / (len(there) - 1)))
        if not parts:
            raise UsageError(f"{results} has no two finished runs of an arm that a primary claim names")
        rest = np.concatenate(parts)
        self.average = dict(zip(self.numbers, np.sqrt((rest**2).mean(axis=0)).tolist(), strict=True))
        wide = np.array(list(self.average.values()))
        self.rest = np.divide(rest, wide, out=np.zeros_like(rest), where=wide > 0)  # (runs, statistics), of spread 1

    def of(self, arm: Arm, number: Number) -> float:
        """Standard deviation of a statistic from run to run, that of its logarithm where the scale is log."""
        return self.spread.get((arm, number), self.average[number])

    def draws(self, rng: np.random.Generator) -> dict[str, Draw]:
        """What gives the deviations of one run, by name."""
        count = len(self.rest)

        def named(row: Floats) -> Mapping[Number, float]:
            return dict(zip(self.numbers, row.tolist(), strict=True))

        return {
            "normal": lambda: named(rng.standard_normal(count) @ self.rest / math.sqrt(count)),
            "resampled": lambda: named(self.rest[rng.integers(count)]),
        }


def _on_scale(claim: Claim, runs: list[Records]) -> Floats:
    (found,) = values(claim, comparable(claim, [runs]))
    return np.log(found) if claim.scale == "log" else np.array(found)


def planted(claim: Claim, spread: Spread) -> float:
    """The effect that should be found, on the claim's scale."""
    wide = math.sqrt(np.mean([spread(arm, number_of(claim)) ** 2 for arm in arms_of(claim)]))
    return max(PLANTED * wide + min(claim.effect, 0.0), claim.effect + wide)


def made_up(claims: Sequence[Claim], spread: Spread, draw: Draw, *, effect: bool) -> list[verdicts.Verdict]:
    """The verdicts of one made-up ledger (of claims of a direction: greater, less, ordered).

    Args:
        spread: standard deviation of a run, by arm and statistic.
        draw: the deviations of a run's statistics, each of spread 1.
        effect: whether every claim has its planted effect, or none.
    """
    drawn: dict[str, Mapping[Number, float]] = {}
    questions = []
    for claim in claims:
        number, log = number_of(claim), claim.scale == "log"
        difference = planted(claim, spread) if effect else min(claim.effect, 0.0)
        arms = arms_of(claim)
        runs = []
        for place, arm in enumerate(arms):
            rises = place / (len(arms) - 1) if claim.kind == "ordered" else 1 - place
            middle = difference * rises * (-1 if claim.kind == "less" else 1)
            drawn |= {name: draw() for name in arm if name not in drawn}
            own = [middle + spread(arm, number) * drawn[name][number] for name in arm]
            runs.append([math.exp(value) for value in own] if log else own)
        questions.append(Question(claim.kind, max(claim.effect, 0.0), effect_of(claim, runs)))
    # The seeds that a study would take are slow to find, and no part of a verdict.
    with mock.patch.object(verdicts, "needed_seeds", return_value=None):
        return [answer.verdict for answer in decide(claims, questions)]


def share(hits: Sequence[bool]) -> dict[str, float]:
    """A share with its 95% interval (Wilson)."""
    interval = stats.binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return {"share": sum(hits) / len(hits), "low": float(interval.low), "high": float(interval.high)}


def measure(claims: Sequence[Claim], results: Path, ledgers: int) -> dict[str, Any]:
    """How often ledgers without effect say anything wrong, and how often each claim's planted effect is found."""
    observed = Observed(claims, results)
    alarms, found = {}, {}
    for name, draw in observed.draws(np.random.default_rng(1)).items():
        without = [made_up(claims, observed.of, draw, effect=False) for _ in range(ledgers)]
        alarms[name] = share([bool({"holds", "reversed"} & set(told)) for told in without])
        with_one = [made_up(claims, observed.of, draw, effect=True) for _ in range(max(1, ledgers // 4))]
        found[name] = [share([verdict == "holds" for verdict in told]) for told in zip(*with_one, strict=True)]
    rows = {}
    for place, claim in enumerate(claims):
        named = zip(claim.arms, arms_of(claim), strict=True)
        arms = {name: {"runs": observed.runs[a], "spread": observed.of(a, number_of(claim))} for name, a in named}
        varies = any(arm["spread"] > 0 for arm in arms.values())
        rows[claim.id] = {
            "statistic": claim.statistic, "scale": claim.scale, "arms": arms,
            "planted": planted(claim, observed.of) if varies else None,
            "found": {name: told[place] for name, told in found.items()} if varies else None,
        }  # fmt: skip
    runs = {"finished": sum(observed.runs.values()), "planned": sum(map(len, observed.runs))}
    return {"ledgers": ledgers, "runs": runs, "false_alarms": alarms, "claims": rows}


def show(results: dict[str, Any], console: Console) -> None:
    """One row a claim, then what is asked of all."""
    runs, rows = results["runs"], results["claims"]
    title = f"{results['ledgers']} made-up ledgers; spread of {runs['finished']} of {runs['planned']} planned runs"
    table = Table("claim", "spread (runs)", "planted", "found (%)", box=box.SIMPLE, title=title, title_justify="left")
    for name, row in rows.items():
        arms = "\n".join(f"{arm} {told['spread']:.2g} ({told['runs']})" for arm, told in row["arms"].items())
        effect = f"{'log ' * (row['scale'] == 'log')}{row['planted']:.2g}" if row["found"] else ""
        found = "\n".join(f"{how} {_percent(told, 0)}" for how, told in (row["found"] or {}).items())
        table.add_row(name, arms, effect, found or "the runs do not vary")
    console.print(table)
    for name, told in results["false_alarms"].items():
        console.print(f"a wrong verdict in {_percent(told)}% of them, {name}; at most {LIMIT:.0%}", highlight=False)
    least = [told for row in rows.values() for told in (row["found"] or {}).values()]
    if least:
        worst = _percent(min(least, key=lambda told: told["share"]))
        console.print(f"a planted effect is found in {worst}% at least; asked are {ASKED:.0%}", highlight=False)


def _percent(told: Mapping[str, float], digits: int = 1) -> str:
    share, low, high = (f"{100 * told[name]:.{digits}f}" for name in ("share", "low", "high"))
    return f"{share} [{low}, {high}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="folder of finished runs")
    parser.add_argument("--ledgers", type=int, default=2000, help="without effect; a quarter of it with one")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        claims = [claim for claim in load_claims() if claim.family == "primary"]
        results = measure(claims, options.results, options.ledgers)
    except Or1labError as error:
        raise SystemExit(f"error: {error}") from None
    deliver("ledger", results, options, lambda: show(results, Console()))


if __name__ == "__main__":
    main()
