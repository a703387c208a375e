"""Run folders -> the data frames that figures and tables are made of. Only finished runs count."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from or1lab.errors import UsageError
from or1lab.experiment import TINY
from or1lab.recipe import Recipe
from or1lab.store import Run, find_runs, frame
from or1lab.studies import borrowed, by_recipe, no_run_of, planned, same_origin
from or1lab.tiers import tier_name

LAST = 5  # steps whose mean is a run's final entropy: one step of 128 responses is noisy


def finished_runs(results: Path, experiment: str, tier: str = TINY) -> list[Run]:
    """The finished runs of an experiment at a tier below `results`, the arms with fewer SGD steps a training step
    first. Those that another study has made and that are planned arms of this one too count as its own.

    Raises:
        UsageError: there is none, or two runs of the same arm and seed (which of them counts?).
    """
    found: dict[tuple[int, str, int], Run] = {}
    name = tier_name(experiment, tier)

    def place(run: Run) -> tuple[int, str, int]:
        return recipe_of(run).N_SGD, run.manifest["arm"], run.manifest["seed"]

    for run in find_runs(results):
        if run.manifest["experiment"] == name and run.status == "finished":
            if (key := place(run)) in found:
                raise UsageError(f"{found[key].folder} and {run.folder} are the same arm and seed; move one away")
            found[key] = run
    for run in borrowed(experiment, results, tier):  # where it has none of its own
        found.setdefault(place(run), run)
    if not found:
        raise UsageError(no_run_of(experiment, results, tier))
    same_origin(found.values(), f"'{name}' in {results}")
    return [found[key] for key in sorted(found)]


def with_runs(names: Iterable[str], results: Path, tier: str = TINY) -> list[str]:
    """Which of these experiments have finished runs at a tier below `results`, their own or another study's."""
    own = {run.manifest["experiment"] for run in find_runs(results) if run.status == "finished"}
    known = by_recipe(results).keys()

    def has(name: str) -> bool:
        return tier_name(name, tier) in own or any(known & set(keys) for keys in planned(name, tier).values())

    return [name for name in names if has(name)]


def recipe_of(run: Run) -> Recipe:
    """The recipe that a run was made with."""
    return Recipe.model_validate(run.manifest["recipe"])


def label(run: Run) -> str:
    """What a run's arm is called in figures and tables: its name and its N_SGD."""
    return f"{run.manifest['arm']}, N_SGD = {recipe_of(run).N_SGD}"


def curves(runs: list[Run]) -> pd.DataFrame:
    """Entropy and test accuracy against training steps.

    One row a record: experiment, arm, label, seed, kind, step, entropy/rollout (kind step), eval/accuracy (kind eval).
    """
    parts = []
    for run in runs:
        both = pd.concat([frame([run], "step"), frame([run], "eval")])
        both.insert(2, "label", label(run))
        parts.append(both)
    columns = ["experiment", "arm", "label", "seed", "kind", "step", "entropy/rollout", "eval/accuracy"]
    return pd.concat(parts, ignore_index=True)[columns]


def summaries(runs: list[Run]) -> pd.DataFrame:
    """One row a run: arm, label, seed, n_sgd, final_accuracy, peak_accuracy, final_entropy, tokens, seconds.

    Accuracy is the share correct on held-out problems: that of the last (largest) evaluation, and the highest of all.
    Entropy is the mean of the last 5 steps (nats per token), tokens are those generated for training.
    """
    return pd.DataFrame([_summary(run) for run in runs])


def _summary(run: Run) -> dict[str, Any]:
    metrics, manifest = run.metrics_of(("eval/accuracy", "entropy/rollout", "tokens/generated")), run.manifest
    steps, evals = (metrics[metrics["kind"] == kind] for kind in ("step", "eval"))
    return {
        "arm": manifest["arm"],
        "label": label(run),
        "seed": manifest["seed"],
        "n_sgd": recipe_of(run).N_SGD,
        "final_accuracy": evals["eval/accuracy"].iloc[-1],
        "peak_accuracy": evals["eval/accuracy"].max(),
        "final_entropy": steps["entropy/rollout"].tail(LAST).mean(),
        "tokens": int(steps["tokens/generated"].sum()),
        "seconds": manifest["seconds"],
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
