"""What MODEL names on the command line: a preset, a run of ours at a step, an entry of the registry, a folder, a Hub
name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from or1lab import sources
from or1lab.errors import Or1labError, UsageError
from or1lab.manifest import MANIFEST
from or1lab.recipe import Recipe, load_recipe
from or1lab.results import best_step, stored_as
from or1lab.store import METRICS, Run

PRESETS = ("tiny", "smol")
SEQUENCES = 256  # decoded together, where no recipe says otherwise


@dataclass(frozen=True)
class Model:
    """A model to sample from. `recipe` and `step` are those of its training, `entry` is that of the registry."""

    name: str
    folder: str  # or a Hub name
    recipe: Recipe | None = None
    step: int | None = None
    entry: Any = None

    @property
    def label(self) -> str:
        """A name for folders."""
        plain = self.name.rstrip("/").replace("@", "-at-")
        parts = [part for part in plain.split("/") if part not in ("", ".", "..", "runs")]
        return "-".join(parts[-3:]) or "model"

    @property
    def max_num_seqs(self) -> int:
        """Sequences decoded together."""
        return self.recipe.rollout.max_num_seqs if self.recipe else SEQUENCES

    def dtype(self) -> str:
        """Of the engine: the recipe's, else that of the stored weights."""
        if self.recipe:
            return self.recipe.dtype
        from transformers import AutoConfig

        try:
            stored = AutoConfig.from_pretrained(self.folder).dtype
        except (OSError, ValueError) as error:
            raise Or1labError(
                f"no model '{self.folder}': it is no folder here, and the Hub does not give it ({error}); download it "
                "where there is a network and give its folder"
            ) from None
        return str(stored or "bfloat16").removeprefix("torch.")


def find_model(name: str) -> Model:
    """The model of that name.

    Raises:
        UsageError: there is none; a run without that step, naming those it has.
    """
    if name in PRESETS:
        return Model(name, sources.model_folder(name), load_recipe(name))
    path, _, step = name.rpartition("@")
    if path and (Path(path) / METRICS).is_file():
        return _of_run(name, Run.open(path), step)
    if (Path(name) / MANIFEST).is_file() and (Path(name) / METRICS).is_file():
        return _of_run(name, Run.open(name), "final")
    from or1lab.registry import resolve_model

    if not Path(name).exists() and (entry := resolve_model(name)) is not None:
        return Model(name, sources.model_folder(entry.hub), entry=entry)
    return Model(name, sources.model_folder(name))


def _of_run(name: str, run: Run, wanted: str) -> Model:
    recipe = run.recipe
    folder, last = run.folder / "checkpoints", run.last("step")
    if wanted == "final" and last:
        wanted, found = str(last["step"]), folder / "final" if (folder / "final").is_dir() else None
    else:
        best = best_step(run) if wanted == "best" else None
        step = str(best["step"]) if best else wanted
        wanted, found = step, stored_as(run, int(step)) if step.isdecimal() else None
    if found is None:
        steps = sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*[0-9]"))
        there = [f"@{step}" for step in steps] + ["@final"] * (folder / "final").is_dir()
        raise UsageError(
            f"{run.folder} holds no model of step '{wanted}'; there are: {', '.join(there) or 'none'} (how many stay: "
            "checkpoint.keep of the recipe)"
        )
    return Model(name, sources.model_folder(str(found)), recipe, int(wanted))
