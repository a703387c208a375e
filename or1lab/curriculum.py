"""Stages and the prompts of each training step.

The prompts of step k are a pure function of (seed, stage, problems, k): there is no data position to save, and a
resumed run sees the same prompts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from or1lab.data.problem import Problem
from or1lab.errors import UsageError
from or1lab.recipe import Recipe


class Curriculum:
    """Which stage a training step belongs to, and which problems it samples.

    Steps count from 1 and run through all stages. Raises UsageError when there are fewer problems than D_R.
    """

    def __init__(self, recipe: Recipe, problems: Sequence[Problem]) -> None:
        self.stages = [recipe.stage(i) for i in range(len(recipe.stages))]
        self.problems = list(problems)
        self.seed = recipe.seed
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
        D_R = self.stages[i].D_R
        epoch, place = divmod(within, len(self.problems) // D_R)
        order = list(range(len(self.problems)))
        random.Random(f"{self.seed}/{i}/{epoch}").shuffle(order)
        return [self.problems[n] for n in order[place * D_R : (place + 1) * D_R]]
