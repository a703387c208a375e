"""Where a run's model comes from and where it went: from stage to stage, and from run to run.

A run starts from another one where its recipe's `model` is a model in that run's `checkpoints/`. The manifest of the
later one keeps that (`parent`), and the checkpoint is marked (CHILDREN), so that neither `or1lab runs gc` nor the first
run, when it goes on, removes it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from or1lab.magic.checkpoints import CHILDREN, checkpoints, step_of
from or1lab.manifest import MANIFEST
from or1lab.store import Run


def parent(model: str) -> dict[str, Any] | None:
    """The run and step that a model folder is of; None for a model that no run has made."""
    folder = Path(model).expanduser().absolute()
    run = Run(folder.parent.parent)
    if folder.parent.name != "checkpoints" or not (run.folder / MANIFEST).is_file():
        return None
    step = folder.name.removeprefix("checkpoint-")
    last = run.last() or {}
    reached = int(step) if step.isdecimal() else last.get("step")
    return {"run": str(run.folder), "checkpoint": folder.name, "step": reached}


def mark(model: str, child: Path) -> None:
    """Note in the checkpoint that a run starts from; where that cannot be written, nothing happens."""
    if parent(model):
        with contextlib.suppress(OSError), (Path(model).expanduser() / CHILDREN).open("a", encoding="utf-8") as file:
            file.write(f"{child.absolute()}\n")


def children(model: Path) -> list[str]:
    """Folders of the runs that started from a checkpoint, by its mark."""
    path = model / CHILDREN
    return list(dict.fromkeys(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []


def lineage(run: Run) -> dict[str, Any]:
    """What a run started from, its stages, and what started from it.

    Returns:
        ancestors: run, checkpoint and step of each, the nearest first; base: the model that the last one began with;
        stages: stage, T, planned steps, its first and last step so far (None: not begun), and the checkpoint at its end
        that is still there; children: folders of runs, with the checkpoint that each started from.
    """
    manifest, ancestors = run.manifest, list[dict[str, Any]]()
    while above := manifest.get("parent") or parent(manifest["recipe"]["model"]):
        ancestors.append(above)
        if above in ancestors[:-1] or not (Path(above["run"]) / MANIFEST).is_file():  # moved or removed since
            break
        manifest = Run(above["run"]).manifest
    folder = run.folder / "checkpoints"
    models = [*checkpoints(folder), *([folder / "final"] if (folder / "final").is_dir() else [])]
    return {
        "base": manifest["recipe"]["model"],
        "ancestors": ancestors,
        "stages": _stages(run),
        "children": [{"run": child, "checkpoint": model.name} for model in models for child in children(model)],
    }


def _stages(run: Run) -> list[dict[str, Any]]:
    recipe, metrics = run.recipe, run.metrics
    steps = metrics[metrics["kind"] == "step"]
    folder, rows = run.folder / "checkpoints", []
    kept = {step_of(path): path.name for path in checkpoints(folder)}
    for i, stage in enumerate(recipe.by_stage):
        own = steps.loc[steps["stage"] == i, "step"] if "stage" in steps else steps["step"]
        first, last = (int(own.min()), int(own.max())) if len(own) else (None, None)
        ends = i + 1 == len(recipe.stages) and (folder / "final").is_dir()
        rows.append({
            "stage": i, "T": stage.T, "planned": stage.total_steps, "first": first, "last": last,
            "checkpoint": "final" if ends else kept.get(last or -1),
        })  # fmt: skip
    return rows
