"""Stages, the prompts of each training step, and the online filter between stages (paper section 3.1).

The prompts of step k are a pure function of (seed, stage and its first step, problems left by the filter, k): there is
no data position to save, and a resumed run sees the same prompts.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from scipy import stats

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import Recipe

RULES = {"last": lambda visits: visits[-1], "any": any, "all": all}


class Curriculum:
    """Which stage a training step belongs to, and which problems it samples.

    Steps count from 1 and run through all stages. A stage ends after its `steps`, or earlier by `until_converged`: see
    `evaluated`. At its end, before the next one samples anything, the online filter drops each problem that was sampled
    in it and solved by its whole group: in its most recent visit ("last"), in any or in all of them; the paper does not
    say which. Raises UsageError when there are fewer problems than D_R.

    Order of the calls: `see(k)`, then `evaluated(k)` where step k is followed by an evaluation, then a checkpoint.
    """

    def __init__(self, recipe: Recipe, problems: Sequence[Problem]) -> None:
        self.stages = recipe.by_stage
        self.problems = list(problems)
        self.seed = recipe.seed
        self.rule = recipe.online_filter
        self.ends = list(accumulate(stage.total_steps for stage in self.stages))  # last step of each stage, as planned
        self.evaluations: list[tuple[int, float]] = []  # (step, accuracy): the latest of the running stage
        self.visits: dict[str, list[bool]] = {}  # of the running stage: problem -> its whole group was right
        self.dropped: list[list[str]] = [[] for _ in self.stages]  # problems dropped at the start of each stage
        largest = max(stage.D_R for stage in self.stages)
        if largest > len(self.problems):
            raise UsageError(f"D_R = {largest} prompts a step, but there are only {len(self.problems)} problems")

    @property
    def last_step(self) -> int:
        """The last training step of the run: that planned, or an earlier one since a stage has converged."""
        return self.ends[-1]

    def at(self, step: int) -> tuple[int, int]:
        """(stage index, step within that stage, from 0) of training step `step`."""
        for i, end in enumerate(self.ends):
            if step <= end:
                return i, step - self._before(i) - 1
        raise ValueError(f"step {step} lies beyond the run's {self.last_step} steps")

    def _before(self, i: int) -> int:
        """Steps before stage `i`."""
        return self.ends[i - 1] if i else 0

    def prompts(self, step: int) -> list[Problem]:
        """The D_R problems of a training step: epochs of fresh shuffles, no problem twice in one step."""
        i, within = self.at(step)
        D_R, left = self.stages[i].D_R, self._left(i)
        epoch, place = divmod(within, len(left) // D_R)
        order = list(range(len(left)))
        random.Random(f"{self.seed}/{i}/{epoch}").shuffle(order)
        return [left[n] for n in order[place * D_R : (place + 1) * D_R]]

    def others(self, step: int, again: int, n: int, sampled: Sequence[Problem]) -> list[Problem]:
        """Up to `n` further problems in place of rejected groups, none of those already sampled in this step."""
        i, _ = self.at(step)
        taken = {problem.id for problem in sampled}
        left = [problem for problem in self._left(i) if problem.id not in taken]
        random.Random(f"{self.seed}/{i}/{step}/refill/{again}").shuffle(left)
        return left[:n]

    def _left(self, i: int) -> list[Problem]:
        gone = {name for names in self.dropped[: i + 1] for name in names}
        return [problem for problem in self.problems if problem.id not in gone]

    def see(self, step: int, solved: Iterable[tuple[str, bool]]) -> None:
        """Take in, in order, what became of a step: (problem id, its whole group was right).

        Raises:
            Or1labError: the stage ends and the filter would leave fewer problems than the next samples in one step.
        """
        for name, right in solved:
            self.visits.setdefault(name, []).append(right)
        i, _ = self.at(step)
        if step == self.ends[i]:
            self._end(i)

    def evaluated(self, step: int, accuracy: float) -> dict[str, float]:
        """Take in the accuracy after training step `step`; end the running stage there if it has converged.

        It has when, over its last `window` evaluations, accuracy cannot be told from standing still or falling: the 95%
        interval of the slope reaches down to 0. Noise hides a slow rise, so this ends a stage early rather than late:
        with 5 evaluations of standard error 0.03 (256 responses), a rise of 0.03 from each to the next is missed at the
        first look in 4 of 10 cases; with a window of 7 in 1 of 70. `min_steps` keeps it from looking too soon.

        Returns:
            The numbers of the decision, to be recorded; empty where the stage has no such rule, or still fewer
            evaluations. Accuracy NaN (no verdicts) decides nothing.

        Raises:
            Or1labError: as `see`.
        """
        i, within = self.at(step)
        rule = self.stages[i].stages[0].until_converged
        if rule is None:
            return {}
        # Earlier ones tell of the stage before, or (step 0) of the base policy.
        own = [(k, value) for k, value in self.evaluations if k > self._before(i)]
        self.evaluations = [*own, (step, accuracy)][-rule.window :]
        if len(self.evaluations) < rule.window:
            return {}
        slope, low, high = trend(self.evaluations)
        converged = low <= 0 and within + 1 >= rule.min_steps
        if converged and step < self.ends[i]:
            unused = self.ends[i] - step
            self.ends[i:] = [end - unused for end in self.ends[i:]]
            self._end(i)
        return {"stage/slope": slope, "stage/slope_low": low, "stage/slope_high": high, "stage/converged": converged}

    def _end(self, i: int) -> None:
        """Stage `i` is over: the filter acts on the next one."""
        if i + 1 == len(self.stages):
            return
        if self.rule != "off":
            self.dropped[i + 1] = sorted(name for name, visits in self.visits.items() if RULES[self.rule](visits))
        self.visits = {}
        left, needed = len(self.problems) - sum(map(len, self.dropped)), self.stages[i + 1].D_R
        if left < needed:
            raise Or1labError(
                f"the online filter leaves {left} problems for stage {i + 1}, which samples {needed} a step: use more "
                "problems (data.train), or online_filter: off"
            )

    def filtered(self) -> dict[int, list[str]]:
        """Stage -> ids of the problems that the online filter dropped at its start, for the stages it has acted on."""
        return {i: names for i, names in enumerate(self.dropped) if names}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; plain data."""
        return {name: getattr(self, name) for name in ("ends", "evaluations", "visits", "dropped")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up `state_dict` of a checkpoint: ends of stages, visits, dropped problems, evaluations."""
        self.ends, self.visits, self.dropped = state["ends"], state["visits"], state["dropped"]
        self.evaluations = [(step, accuracy) for step, accuracy in state["evaluations"]]


def trend(points: Sequence[tuple[int, float]]) -> tuple[float, float, float]:
    """Least-squares slope of values against steps, per step, and its 95% interval (Student's t, n - 2 degrees of
    freedom); NaN if a value is. Unlike scipy's `linregress`, equal values have the slope 0 and the interval [0, 0]."""
    table = np.array(points, dtype=np.float64)
    x, y = (table - table[0]).T  # from the first point: equal values then are exactly 0
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x)
    error = np.sqrt(((y - slope * x) ** 2).sum() / (len(x) - 2) / (x @ x))
    half = stats.t.ppf(0.975, len(x) - 2) * error
    return float(slope), float(slope - half), float(slope + half)
