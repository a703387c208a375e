"""Run folders -> the runs of each study, and their numbers for figures and tables. Only finished ones count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from or1lab.claims import study
from or1lab.errors import UsageError
from or1lab.experiment import TINY
from or1lab.run_statistics import Records
from or1lab.store import Run
from or1lab.studies import all_planned, by_recipe, no_run_of, planned, same_origin
from or1lab.tiers import is_at, tier_name

LAST = 5  # steps whose mean is a run's final entropy: one step of 128 responses is noisy

Arms = dict[str, dict[int, Run]]  # arm -> seed -> run


class Shelf:
    """The finished runs of a tier below a folder by study and arm, each read once however many figures show it."""

    def __init__(self, folder: Path, tier: str = TINY) -> None:
        self.folder, self.tier = folder, tier
        self._read: dict[Path, Records] = {}
        self._arms: dict[str, Arms] = {}

    @cached_property
    def by_recipe(self) -> dict[str, Run]:
        """The finished runs below the folder, by the hash of their recipe."""
        return by_recipe(self.folder)

    @cached_property
    def _swept(self) -> set[tuple[str, int]]:
        return {(told["experiment"], told["seed"]) for told in (run.manifest for run in self.by_recipe.values())}

    def has(self, name: str) -> bool:
        """Whether a study that can be made at the tier has a finished run."""
        return is_at(study(name), self.tier) and bool(self.arms(name))

    def some(self, name: str) -> Arms:
        """The arms of a study. Raises UsageError, besides what `arms` raises, where it has no finished run."""
        if not self.arms(name):
            raise UsageError(no_run_of(name, self.folder, self.tier))
        return self.arms(name)

    def arms(self, name: str) -> Arms:
        """The runs of a study, arms in its order: those of its recipes, whichever study made them, with the seeds it
        plans and any further ones it was swept with. Empty if there are none.

        Raises:
            UsageError: the study cannot be made at the tier, or its runs had different base models or problems.
        """
        if name not in self._arms:
            seeds, own = study(name, self.tier).seeds, tier_name(name, self.tier)
            further = tuple(sorted({seed for experiment, seed in self._swept if experiment == own}.difference(seeds)))
            found: Arms = {}
            for arm, keys in planned(name, self.tier, further).items():
                both = zip((*seeds, *further), keys, strict=True)
                runs = {seed: self.by_recipe[key] for seed, key in both if key in self.by_recipe}
                found |= {arm: runs} if runs else {}
            same_origin((run for runs in found.values() for run in runs.values()), f"'{own}' in {self.folder}")
            self._arms[name] = found
        return self._arms[name]

    def measured(self, run: Run) -> Records:
        """A run's records, with one evaluation a step: of two after the last step the final one, which is larger."""
        if run.folder not in self._read:
            known = Records.of(run)
            self._read[run.folder] = replace(known, evals=known.evals.drop_duplicates("step", keep="last"))
        return self._read[run.folder]

    def everything(self) -> Iterator[Records]:
        """All runs of the studies at this tier."""
        own = all_planned(self.tier)
        return (self.measured(run) for key, run in self.by_recipe.items() if key in own)


def summaries(arms: Arms) -> pd.DataFrame:
    """One row a run: arm, label, seed, n_sgd, final_accuracy, peak_accuracy, final_entropy, tokens, seconds.

    Accuracy is the share correct on held-out problems: that of the last (largest) evaluation, and the highest of all.
    Entropy is the mean of the last 5 steps (nats per token), tokens are those generated for training.
    """
    return pd.DataFrame([_summary(arm, seed, run) for arm, runs in arms.items() for seed, run in runs.items()])


def _summary(arm: str, seed: int, run: Run) -> dict[str, Any]:
    metrics = run.metrics_of(("eval/accuracy", "entropy/rollout", "tokens/generated"))
    steps, evals = (metrics[metrics["kind"] == kind] for kind in ("step", "eval"))
    return {
        "arm": arm,
        "label": f"{arm}, N_SGD = {run.recipe.N_SGD}",
        "seed": seed,
        "n_sgd": run.recipe.N_SGD,
        "final_accuracy": evals["eval/accuracy"].iloc[-1],
        "peak_accuracy": evals["eval/accuracy"].max(),
        "final_entropy": steps["entropy/rollout"].tail(LAST).mean(),
        "tokens": int(steps["tokens/generated"].sum()),
        "seconds": run.manifest["seconds"],
    }


def stored_as(run: Run, step: int) -> Path | None:
    """The folder of the model after that training step, if it is still there: a checkpoint, or the final model."""
    checkpoint, final = (run.folder / "checkpoints" / name for name in (f"checkpoint-{step}", "final"))
    if checkpoint.is_dir():
        return checkpoint
    last = run.last("step")
    return final if final.is_dir() and last and last["step"] == step else None


def best_step(run: Run) -> dict[str, Any] | None:
    """The rule that chooses a checkpoint: the training step (from 1) whose evaluation has the highest accuracy at the
    main temperature, over the problems that all of the run's evaluations share; the earliest of equal ones.

    It looks at the held-out problems of the run's own data, never at a suite. Returns step, accuracy and the number of
    problems, or None where nothing was evaluated."""
    frame = run.main_evals
    if not len(frame):
        return None
    frame = frame[(frame["step"] > 0) & ~frame["reason"].str.startswith("error")]
    steps = frame.groupby("step")["problem_id"].agg(set)
    shared = set.intersection(*steps) if len(steps) else set()
    if not shared:
        return None
    means = frame[frame["problem_id"].isin(shared)].groupby("step")["correct"].mean()
    return {"step": int(means.idxmax()), "accuracy": float(means.max()), "problems": len(shared)}
