"""What was measured here, for the tables and figures that stand beside the paper's: below one folder of results.

Evaluations come from evaluation folders, times from finished runs, difficulty from curations. Nothing is read before
it is asked for, and everything once.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from or1lab import stats
from or1lab.errors import Or1labError
from or1lab.recipe import Recipe
from or1lab.store import Run
from or1lab.tracker import find_runs

EVALUATIONS = [
    "label", "run", "model", "step", "suite", "k", "tau", "limit", "problems", "accuracy", "low", "high", "length",
    "truncated", "never", "always", "left_out",
]  # fmt: skip
LIMITS = ["label", "run", "model", "step", "suite", "k", "tau", "problems", "limit", "accuracy", "low", "high"]
TIMES = [
    "setting", "quadruple", "responses", "machine", "runs", "rollout", "update", "other", "total", "low", "high",
]  # fmt: skip
CLOCKS = ("time/rollout", "time/update", "time/sync", "time/other")
SHORTER = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)  # of the limit of an evaluation


class _Answers(NamedTuple):
    """Tables (P, K) of the problems of an evaluation, or of a band of it, whose responses all have a verdict."""

    told: dict[str, Any]  # its manifest
    suite: str
    correct: NDArray[Any]
    lengths: NDArray[Any]
    truncated: NDArray[Any]
    left_out: int  # problems with a response that nothing could judge


class Measured:
    """The results below `folder`; a folder that does not exist holds none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row a finished evaluation, and one for each band of its problems (suite: `tiny/2-3`): what was sampled
        and how; accuracy (percent, with a 95% interval over problems), mean length (tokens), share truncated, shares
        of problems never and always solved (percent)."""
        from or1lab.estimators import avg_at_k

        rows = []
        for told, suite, correct, lengths, truncated, left_out in self._answers:
            estimate, solved = avg_at_k(correct, correct.shape[1]), correct.mean(axis=1)
            percent = [100 * value for value in (estimate.value, estimate.low, estimate.high)]
            shares = [100 * float(share) for share in (truncated.mean(), (solved == 0).mean(), (solved == 1).mean())]
            rows.append([
                *names(told), told["model"], told["step"], suite, correct.shape[1],
                told["temperature"], told["limit"], len(correct), *percent, float(lengths.mean()), *shares, left_out,
            ])  # fmt: skip
        frame = pd.DataFrame(rows, columns=EVALUATIONS)
        return frame.sort_values(["run", "step"], kind="stable", na_position="first", ignore_index=True)

    @cached_property
    def limits(self) -> pd.DataFrame:
        """Accuracy (percent, with its interval) under the limit of an evaluation and shorter ones (tokens): a response
        that is longer is wrong, as in the paper's Figure 8."""
        from or1lab.estimators import avg_at_k

        rows = []
        for told, suite, correct, lengths, *_ in self._answers:
            for T in shorter(told["limit"]):
                found = avg_at_k(correct & (lengths <= T), correct.shape[1])
                percent = [100 * value for value in (found.value, found.low, found.high)]
                asked = [told["model"], told["step"], suite, correct.shape[1], told["temperature"], len(correct)]
                rows.append([*names(told), *asked, T, *percent])
        return pd.DataFrame(rows, columns=LIMITS)

    @cached_property
    def _answers(self) -> list[_Answers]:
        """The responses to each finished evaluation and to its bands; one that is damaged, or that nothing could judge,
        costs a warning."""
        from or1lab.evaluation import find_evaluations
        from or1lab.evaluation_summary import tables

        found = []
        for evaluation in find_evaluations(self.folder):
            try:
                if evaluation.status != "finished":
                    continue
                told, made = evaluation.manifest, tables(evaluation)
            except Or1labError as error:
                warnings.warn(f"left out: {error}", stacklevel=1)
                continue
            bands = [problem.meta.get("band") for problem in made.problems]
            for suite, rows in _bands(told["suite"], bands):
                parts = (made.correct[rows], made.lengths[rows], made.truncated[rows])
                found.append(_Answers(told, suite, *parts, len(made.left_out) if suite == told["suite"] else 0))
        return found

    @cached_property
    def times(self) -> pd.DataFrame:
        """Seconds a training step, of finished runs whose stages all have one batch: one row a setting
        (recipe, contexts, precision), quadruple (N_SGD, D_R, D_T, N_reuse), number of responses a step and machine;
        total with a 95% interval over runs."""
        finished = (run for run in find_runs(self.folder) if run.status == "finished")
        rows = [row for run in finished if (row := _seconds(run))]
        if not rows:
            return pd.DataFrame([], columns=TIMES)
        found = []
        for key, group in pd.DataFrame(rows).groupby(TIMES[:4], sort=False):
            parts = [float(group[name].mean()) for name in ("rollout", "update", "other", "total")]
            interval = stats.mean_interval(group["total"]) if len(group) > 1 else None
            bounds = (interval.low, interval.high) if interval and interval.known else (None, None)
            found.append([*key, len(group), *parts, *bounds])
        return pd.DataFrame(found, columns=TIMES)

    @cached_property
    def difficulty(self) -> pd.DataFrame:
        """Shares of every curation with a difficulty stage, as by `data.difficulty.shares`."""
        folders = [path.parent for path in sorted(self.folder.rglob("funnel.json")) if _has_difficulty(path)]
        if not folders:
            return pd.DataFrame()
        from or1lab.data.difficulty import shares

        return pd.concat([shares(folder) for folder in folders], ignore_index=True)


def shorter(limit: int) -> list[int]:
    """That limit and shorter ones, in tokens, shortest first."""
    return sorted({max(1, round(part * limit)) for part in SHORTER})


def names(told: dict[str, Any]) -> tuple[str, str]:
    """The model of an evaluation for readers, with and without its step: `demo/on-policy/seed-0, step 40` for a run."""
    if told["step"] is None:
        return (told["model"],) * 2
    run = told["model"].rpartition("@")[0] or told["model"]
    run = "/".join(run.rstrip("/").split("/")[-3:]).removeprefix("runs/")
    return f"{run}, step {told['step']}", run


def _bands(suite: str, bands: list[str | None]) -> Iterator[tuple[str, Any]]:
    """The whole suite, then its bands by their names, each with the rows of its problems."""
    yield suite, slice(None)
    for band in dict.fromkeys(band for band in bands if band):
        yield f"{suite}/{band}", np.array([one == band for one in bands])


def _seconds(run: Run) -> dict[str, Any] | None:
    """Mean seconds a step of a run; None if its stages differ in their batches, or it took no step. A run whose recipe
    is no recipe any more, or whose metrics are damaged, costs a warning."""
    try:
        recipe, metrics = run.recipe, run.metrics_of(CLOCKS)
    except Or1labError as error:
        return warnings.warn(f"left out: {error}", stacklevel=1)
    steps = metrics[metrics["kind"] == "step"]
    batches = {(stage.N_SGD, stage.D_R, stage.D_T, stage.N_reuse, stage.gs) for stage in recipe.by_stage}
    if len(batches) > 1 or "time/rollout" not in steps:
        return None
    ((*quadruple, gs),) = batches
    rollout, update = steps["time/rollout"].mean(), steps["time/update"].mean()
    other = steps["time/sync"].mean() + steps["time/other"].mean()
    return {
        "setting": setting(recipe), "quadruple": tuple(quadruple), "responses": quadruple[1] * gs,
        "machine": machine(run),
        "rollout": rollout, "update": update, "other": other, "total": rollout + update + other,
    }  # fmt: skip


def setting(recipe: Recipe) -> str:
    """What besides the batches decides the time of a step, in a few words."""
    limits = "/".join(str(stage.T) for stage in recipe.by_stage)
    return f"{recipe.name} T {limits}" + ("" if recipe.dtype == "float32" else f", {recipe.dtype}")


def machine(run: Run) -> str:
    """What a run was made on, in a few words: its GPUs, or its CPU threads."""
    hardware = run.manifest["hardware"]
    gpus = hardware["gpus"]
    if gpus:
        return f"{len(gpus)} {gpus[0].partition(',')[0]}"
    return f"{hardware['threads']} CPU thread{'s' * (hardware['threads'] > 1)}"


def _has_difficulty(funnel: Path) -> bool:
    return any(stage["stage"] == "difficulty" for stage in json.loads(funnel.read_text(encoding="utf-8"))["stages"])
