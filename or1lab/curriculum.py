"""Stages, the prompts of each training step, and the online filter between stages (paper section 3.1).

The prompts of step k are a pure function of (seed, stage, problems left by the filter, k): there is no data position to
save, and a resumed run sees the same prompts.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import Recipe

RULES = {"last": lambda visits: visits[-1], "any": any, "all": all}


class Curriculum:
    """Which stage a training step belongs to, and which problems it samples.

    Steps count from 1 and run through all stages. At the start of a stage the online filter drops each problem that was
    sampled in the stage before and solved by its whole group: in its most recent visit ("last"), in any or in all of
    them; the paper does not say which. Raises UsageError when there are fewer problems than D_R.
    """

    def __init__(self, recipe: Recipe, problems: Sequence[Problem]) -> None:
        self.stages = [recipe.stage(i) for i in range(len(recipe.stages))]
        self.problems = list(problems)
        self.seed = recipe.seed
        self.rule = recipe.online_filter
        self.visits: dict[str, list[bool]] = {}  # of the running stage: problem -> its whole group was right
        self.dropped: list[list[str]] = [[] for _ in self.stages]  # problems dropped at the start of each stage
        largest = max(stage.D_R for stage in self.stages)
        if largest > len(self.problems):
            raise UsageError(f"D_R = {largest} prompts a step, but there are only {len(self.problems)} problems")

    def at(self, step: int) -> tuple[int, int]:
        """(stage index, step within that stage, from 0) of training step `step`."""
        before = 0
        for i, stage in enumerate(self.stages):
            if step <= before + stage.total_steps:
                return i, step - before - 1
            before += stage.total_steps
        raise ValueError(f"step {step} lies beyond the recipe's {before} steps")

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
        """Take in, in order, what became of a step: (problem id, its whole group was right). After the last step of a
        stage the filter acts.

        Raises:
            Or1labError: it would leave fewer problems than the next stage samples in one step.
        """
        for name, right in solved:
            self.visits.setdefault(name, []).append(right)
        i, within = self.at(step)
        if within + 1 < self.stages[i].total_steps or i + 1 == len(self.stages):
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

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; plain data."""
        return {"visits": self.visits, "dropped": self.dropped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.visits, self.dropped = state["visits"], state["dropped"]
