"""Checkpoints of a run: folders that are whole or absent, with the state that Hugging Face does not know of.

Each holds, written last, the hash of every other file in it. What a disk or a copy has damaged since is so told from
what is whole before anything is loaded: the newest whole one wins.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from or1lab.kill_points import kill_point
from or1lab.manifest import file_hash, full_disk_explained

if TYPE_CHECKING:  # it imports torch
    from or1lab.rollout.together import Processes

STATE = "or1lab_state.json"
CHILDREN = "or1lab_children.txt"  # in a checkpoint: the folder of each run that started from it, a line each
SEAL = "or1lab_seal.json"  # file name -> SHA-256 of its content


@contextmanager
def written_aside(final: Path, team: Processes) -> Iterator[Path]:
    """A folder to write `final` into, under its name: renamed once whole, removed if anything fails. All processes of
    the run write into it; the first one makes and renames it.

    Raises Or1labError where the disk is full."""
    aside = final.parent / "writing"
    kind = final.name.partition("-")[0]
    kill_point(f"{kind}/before")
    if team.first:
        shutil.rmtree(aside, ignore_errors=True)
    team.wait()
    with full_disk_explained(final.parent):
        try:
            yield aside
            kill_point(f"{kind}/aside")
            team.wait()
            if team.first:
                shutil.rmtree(final, ignore_errors=True)  # damaged, or of a sitting which did not get to its end
                kill_point(f"{kind}/gap")
                os.replace(aside / final.name, final)
                kill_point(f"{kind}/renamed")
        finally:
            if team.first:
                shutil.rmtree(aside, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first, damaged ones included."""
    found = folder.glob("checkpoint-*")
    return sorted((path for path in found if path.name.removeprefix("checkpoint-").isdecimal()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The training step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint to go on from; None if there is none. Newer ones that are damaged are named in a warning."""
    damaged = []
    for checkpoint in reversed(checkpoints(folder)):
        if (why := damage(checkpoint)) is None:
            break
        damaged.append(f"{checkpoint} is damaged ({why})")
    else:
        checkpoint = None
    if damaged:
        instead = f"goes on from {checkpoint.name}" if checkpoint else "starts from its beginning"
        warnings.warn(f"{'; '.join(damaged)}: the run {instead}", stacklevel=2)
    return checkpoint


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, naming the file; None if it is as it was written."""
    try:
        hashes = json.loads((checkpoint / SEAL).read_bytes())
        for name, expected in hashes.items():
            if file_hash(checkpoint / name) != expected:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, AttributeError) as error:
        return f"{SEAL} is unreadable: {error}"
    except OSError as error:
        return str(error)
    return None if STATE in hashes else f"{SEAL} does not name {STATE}"


def save_state(checkpoint: Path, **state: Any) -> None:
    """Plain data that a resumed run needs beyond model, optimizer and random streams; then the seal on all files."""
    kill_point("checkpoint/unsealed")
    (checkpoint / STATE).write_text(json.dumps(state), encoding="utf-8")
    kill_point("checkpoint/state")
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    hashes = {path.relative_to(checkpoint).as_posix(): file_hash(path, sync=True) for path in files}
    (checkpoint / SEAL).write_text(json.dumps(hashes, indent=2), encoding="utf-8")
    file_hash(checkpoint / SEAL, sync=True)


def load_state(checkpoint: str | Path) -> dict[str, Any]:
    """What `save_state` wrote. Whether the checkpoint is whole is `damage`'s to say, beforehand."""
    return json.loads((Path(checkpoint) / STATE).read_text(encoding="utf-8"))


def prune(folder: Path, step: int, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints, the one of `step` being the newest; those that other runs started
    from stay.

    Later ones are damaged, or the run would have gone on from there: they must not count as kept."""
    olds = [path for path in checkpoints(folder) if step_of(path) <= step][:-keep]
    for old in (path for path in olds if not (path / CHILDREN).exists()):
        kill_point("prune/before")
        kill_point("prune/half", lambda: (old / "model.safetensors").unlink(missing_ok=True))  # noqa: B023
        shutil.rmtree(old)
        kill_point("prune/after")
