"""Response lengths of a training step: measured ones, or a log-normal law over problems.

Without a measurement the responses to one problem are taken to be equally long. That is the careful reading: groups
stay together, so an engine that gets a hard problem gets gs long responses. The report's Table 9 speaks for it
(docs/scale.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from or1lab.errors import UsageError
from or1lab.planner.hardware import known

Lengths = NDArray[np.int64]  # (problems, responses to each), tokens


@dataclass(frozen=True)
class Law:
    """How long responses are. `groups` (problems, responses) where a run has measured them, else median and sigma.

    prompt: mean tokens of a prompt; kept: share of the groups that rejection leaves."""

    prompt: float
    kept: float = 1.0
    median: float = 0.0
    sigma: float = 0.0
    groups: Lengths | None = None
    source: str = ""

    def drawn(self, problems: int, responses: int, T: int) -> Lengths:
        """(problems, responses) lengths under the limit T, in an order that is random and always the same.

        Of the law, its quantiles rather than draws, so that every number of problems has the same shape."""
        rng = np.random.default_rng(0)
        if self.groups is not None:
            picked = self.groups[rng.integers(len(self.groups), size=problems)]
            columns = rng.integers(picked.shape[1], size=(problems, responses))
            whole = picked if picked.shape[1] == responses else np.take_along_axis(picked, columns, axis=1)
            return np.minimum(whole, T)
        scores = [NormalDist().inv_cdf((i + 0.5) / problems) for i in range(problems)]
        lengths = np.exp(math.log(self.median) + self.sigma * np.array(scores)).round().clip(1, T).astype(np.int64)
        return np.repeat(rng.permutation(lengths)[:, None], responses, axis=1)

    def plain(self) -> dict[str, Any]:
        """As JSON has it: median and sigma, or how many groups were measured."""
        return {"source": self.source, "prompt": self.prompt, "kept": self.kept} | (
            {"median": self.median, "sigma": self.sigma} if self.groups is None else {"groups": len(self.groups)}
        )


def law(model: str) -> Law:
    """What is assumed of a model without a run of it."""
    table = known()["lengths"]
    own = model if model in table else "default"
    return Law(**table[own], source=f"log-normal, '{own}' of experiments/hardware.yaml; all groups kept")


def measured(folder: Path, prompt: float) -> Law:
    """The lengths of a run's sampled groups and the share of them it kept.

    Raises:
        UsageError: no run there, or one without a training step.
    """
    from or1lab.store import Run

    run = Run.open(folder)
    recipe = run.recipe
    steps = [record for record in run.records() if record["kind"] == "step"]
    if not steps:
        raise UsageError(f"--lengths {folder}: that run has no training step yet")
    width = {recipe.stage(step["stage"]).gs for step in steps}
    if len(width) > 1:
        last = recipe.stage(steps[-1]["stage"]).gs  # groups of one size: those of the last stage
        steps = [step for step in steps if recipe.stage(step["stage"]).gs == last]
    groups = np.concatenate([np.reshape(step["length/all"], (-1, recipe.stage(step["stage"]).gs)) for step in steps])
    kept = float(np.mean([step["groups/kept_frac"] for step in steps]))
    return Law(prompt, kept=kept, groups=groups, source=f"{len(steps)} steps of {folder}")
