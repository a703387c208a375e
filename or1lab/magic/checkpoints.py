"""Checkpoints of a run: folders that are whole or absent, with the state that Hugging Face does not know of."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from or1lab.store import full_disk_explained

STATE = "or1lab_state.json"  # written last: a folder that has it is whole


@contextmanager
def written_aside(final: Path) -> Iterator[Path]:
    """A folder to write `final` into, under its name: renamed once whole, removed if anything fails.

    Raises Or1labError where the disk is full."""
    aside = final.parent / "writing"
    shutil.rmtree(aside, ignore_errors=True)
    with full_disk_explained(final.parent):
        try:
            yield aside
            shutil.rmtree(final, ignore_errors=True)
            os.replace(aside / final.name, final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if (path / STATE).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def save_state(checkpoint: Path, **state: Any) -> None:
    """Plain data that a resumed run needs beyond model, optimizer and random streams."""
    (checkpoint / STATE).write_text(json.dumps(state), encoding="utf-8")


def load_state(checkpoint: str | Path) -> dict[str, Any]:
    return json.loads((Path(checkpoint) / STATE).read_text(encoding="utf-8"))
