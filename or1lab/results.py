"""Run folders -> the data frames that figures and tables are made of. Only finished runs count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from or1lab.errors import UsageError
from or1lab.recipe import Recipe
from or1lab.store import Run, find_runs, frame
from or1lab.studies import borrowed, same_origin
from or1lab.sweep import TINY
from or1lab.tiers import option, tier_name

LAST = 5  # steps whose mean is a run's final entropy: one step of 128 responses is noisy


def finished_runs(results: Path, experiment: str, tier: str = TINY) -> list[Run]:
    """The finished runs of an experiment at a tier below `results`, the arms with fewer SGD steps a training step
    first. Those that another study has made and that are planned arms of this one too count as its own.

    Raises:
        UsageError: there is none, or two runs of the same arm and seed (which of them counts?).
    """
    found: dict[tuple[int, str, int], Run] = {}
    name = tier_name(experiment, tier)
    for run in [*find_runs(results), *borrowed(experiment, results, tier)]:
        manifest = run.manifest
        if manifest["experiment"] == name and run.status == "finished":
            key = (recipe_of(run).N_SGD, manifest["arm"], manifest["seed"])
            if key in found:
                raise UsageError(f"{found[key].folder} and {run.folder} are the same arm and seed; move one away")
            found[key] = run
    if not found:
        raise UsageError(
            f"no finished run of the experiment '{name}' in {results}; "
            f"make them with `or1lab sweep {experiment}{option(tier)}`, or name their folder with --results"
        )
    same_origin(found.values(), f"'{name}' in {results}")
    return [found[key] for key in sorted(found)]


def with_runs(experiments: Mapping[str, str], results: Path) -> list[str]:
    """The names of those experiments that have finished runs below `results`."""
    found = {run.manifest["experiment"] for run in find_runs(results) if run.status == "finished"}
    return [name for name, experiment in experiments.items() if experiment in found]


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
    metrics, manifest = run.metrics, run.manifest
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
