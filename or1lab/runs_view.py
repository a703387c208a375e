"""`or1lab runs`: the run folders of a tree, in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from or1lab.results import best_step, stored_as
from or1lab.store import Run, find_runs


def summary(run: Run) -> dict[str, Any]:
    """State and last numbers of a run."""
    metrics = run.metrics
    last: dict[str, Any] = {}
    if len(metrics):
        for name in ("step", "reward/mean", "entropy/rollout", "eval/accuracy"):
            values = metrics[name].dropna().tolist() if name in metrics else []
            last[name] = values[-1] if values else None
    manifest = run.manifest
    return {
        "folder": str(run.folder),
        "experiment": manifest.get("experiment"),
        "arm": manifest.get("arm"),
        "seed": manifest["recipe"]["seed"],
        "status": run.status,
        "seconds": round(manifest["seconds"]) if manifest.get("seconds") else None,
        **last,
    }


def listing(root: Path, console: Console, emit: Callable[[Any], None] | None) -> None:
    rows = [summary(run) for run in find_runs(root)]
    if emit:
        emit(rows)
        return
    columns = {
        "status": "state", "step": "step", "reward/mean": "reward", "entropy/rollout": "entropy",
        "eval/accuracy": "accuracy", "seconds": "seconds",
    }  # fmt: skip
    table = Table(Column(f"run in {root}", overflow="fold"))
    for title in columns.values():
        table.add_column(title, justify="left" if title == "state" else "right", no_wrap=True)
    for row in rows:
        table.add_row(str(Path(row["folder"]).relative_to(root)), *(_cell(row.get(name)) for name in columns))
    console.print(table if rows else f"no runs under {root}")


def show(folder: Path, console: Console, emit: Callable[[Any], None] | None) -> None:
    run = Run.open(folder)
    found = best(run)
    if emit:
        emit({**summary(run), "best": found, "manifest": run.manifest})
        return
    for key, value in summary(run).items():
        console.print(f"{key:>16}  {_cell(value)}", highlight=False)
    if found:
        kept = f"{folder}@best" if found["stored"] else "its checkpoint is not kept (recipe: checkpoint.keep)"
        text = f"step {found['step']}, accuracy {found['accuracy']:.3f} on {found['problems']} problems; {kept}"
        console.print(f"{'best evaluated':>16}  {text}", highlight=False, markup=False, soft_wrap=True)
    for key in ("backend", "model_hash", "data_hash", "recipe_hash", "error"):
        if run.manifest.get(key):
            console.print(f"{key:>16}  {run.manifest[key]}", highlight=False, markup=False)
    steps = run.rollout_steps
    if steps:
        response = run.rollouts(steps[-1]).iloc[0]
        console.rule(f"a response of step {steps[-1]}: {response['reason']}")
        console.print(f"{response['prompt']}\n{response['response']}", markup=False, highlight=False)


def best(run: Run) -> dict[str, Any] | None:
    """The step that the rule of `results.best_step` chooses, and whether its model is still there."""
    found = best_step(run)
    return found and {**found, "stored": stored_as(run, found["step"]) is not None}


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
