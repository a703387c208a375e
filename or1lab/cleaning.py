"""`or1lab runs gc`: what finished runs no longer need, removed by rule.

Only numbered checkpoints and stored responses ever go. A run that is not finished is left whole, for it goes on from
its checkpoint; so are a checkpoint that another run started from (marked by lineage.py, or named by a run found here),
the last model of a run without a final one, and every folder that is no run of ours.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from or1lab import lineage, tracker
from or1lab.errors import Or1labError, UsageError, check_names
from or1lab.magic.checkpoints import checkpoints, step_of
from or1lab.manifest import LOCK, is_locked
from or1lab.results import best_step
from or1lab.store import Run
from or1lab.terminal import RUNS

CHECKPOINTS = ("none", "last", "best")
ROLLOUTS = ("none", "last", "every=N")
DAY = 86400.0


@dataclass(frozen=True)
class Cleaned:
    """What goes (path -> bytes), and what was left for a reason (path -> why)."""

    removed: dict[str, int]
    left: dict[str, str]
    dry_run: bool

    @property
    def bytes(self) -> int:
        """Bytes that were freed, or would be with `dry_run`."""
        return sum(self.removed.values())

    def as_json(self) -> dict[str, Any]:
        """Its fields and `bytes`, as `or1lab runs gc --json` prints them."""
        return {**asdict(self), "bytes": self.bytes}


def clean(
    root: Path, keep_checkpoints: str | None, keep_rollouts: str | None, days: float | None = None, *, dry_run: bool
) -> Cleaned:
    """Remove from the finished runs below `root` what the rules do not keep.

    Args:
        keep_checkpoints: which numbered checkpoints stay: none, last or best; None: all.
        keep_rollouts: of which steps the responses stay: none, last, or every=N with the last; None: all.
        days: only in runs that finished longer ago.

    Raises:
        UsageError: no rule, or one that is none.
    """
    if keep_checkpoints is None and keep_rollouts is None:
        raise UsageError(
            f"what may go? --checkpoints ({', '.join(CHECKPOINTS)} stay), --rollouts ({', '.join(ROLLOUTS)})"
        )
    check_names([keep_checkpoints or "none"], CHECKPOINTS, "rule for checkpoints")
    if not re.fullmatch(r"none|last|every=[1-9]\d*", keep_rollouts or "none"):
        raise UsageError(f"no rule for rollouts '{keep_rollouts}'; there are: {', '.join(ROLLOUTS)} (as every=50)")
    found = tracker.find(root)
    removed, left, used = dict[str, int](), dict(found.unreadable), _started_from(root, found)
    for run, manifest in found.runs:
        if (state := tracker.state(run, manifest)) != "finished" or is_locked(run.folder / LOCK):
            left[str(run.folder)] = f"it is {state}" if state != "finished" else "a process has it"
            continue
        if days is not None and _age(manifest) < days:
            continue
        try:
            going = _checkpoints(run, keep_checkpoints) + _rollouts(run, keep_rollouts)
        except Or1labError as error:
            left[str(run.folder)] = str(error)
            continue
        for path in going:
            if users := used.get(path.resolve(), []) + lineage.children(path):
                left[str(path)] = f"{users[0]} started from it"
            elif path.resolve() != run.folder.resolve() / path.parent.name / path.name:
                left[str(path)] = "a link leads to it: what lies elsewhere may be another run's"
            else:
                size = _size(path)
                try:
                    if not dry_run:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                except OSError as error:
                    left[str(path)] = f"it could not be removed whole ({error.strerror})"
                else:
                    removed[str(path)] = size
    return Cleaned(removed, left, dry_run)


def _started_from(root: Path, found: tracker.Found) -> dict[Path, list[str]]:
    """Model folder -> runs that started from it, of those found and of the default folder of runs."""
    used: dict[Path, list[str]] = {}
    for run, manifest in [*found.runs, *(tracker.find(RUNS).runs if root != RUNS else [])]:
        used.setdefault(Path(manifest["recipe"].get("model", "")).expanduser().resolve(), []).append(str(run.folder))
    return used


def _checkpoints(run: Run, keep: str | None) -> list[Path]:
    there = checkpoints(run.folder / "checkpoints") if keep else []
    if not there:
        return []
    final = any((run.folder / "checkpoints" / "final").glob("*.safetensors"))
    stay = {there[-1]} if keep == "last" or not final else set()
    if keep == "best":
        best = best_step(run)
        stay |= {path for path in there if best and step_of(path) == best["step"]}
    return [path for path in there if path not in stay]


def _rollouts(run: Run, keep: str | None) -> list[Path]:
    there = sorted((run.folder / "rollouts").glob("step-*.parquet")) if keep else []
    there = [path for path in there if re.fullmatch(r"step-\d+", path.stem)]
    every = int(keep.removeprefix("every=")) if keep and keep.startswith("every=") else 0
    last = [] if keep == "none" else there[-1:]
    return [path for path in there if path not in last and not (every and _step(path) % every == 0)]


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _age(manifest: dict[str, Any]) -> float:
    """Days since a run has finished; 0 where its manifest does not say."""
    told = manifest.get("finished")
    return (datetime.now(UTC) - datetime.fromisoformat(told)).total_seconds() / DAY if told else 0.0


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())


def show(done: Cleaned, console: Console) -> None:
    """What went, or would go, a folder a row."""
    table = Table(Column("would go" if done.dry_run else "removed", overflow="fold"), Column("MiB", justify="right"))
    groups: dict[Path, list[int]] = {}  # a run may have hundreds of files of responses
    for name, size in done.removed.items():
        path = Path(name)
        groups.setdefault(path if path.parent.name == "checkpoints" else path.parent, []).append(size)
    for path, sizes in groups.items():
        count = f" ({len(sizes)} steps)" if path.name == "rollouts" else ""
        table.add_row(f"{path}{count}", f"{sum(sizes) / 2**20:.2f}")
    if groups:
        console.print(table, markup=False)
    for name, why in done.left.items():
        console.out(f"left: {name}: {why}", highlight=False)
    verb = "would be freed; nothing was removed (--dry-run)" if done.dry_run else "freed"
    console.print(f"{done.bytes:,} bytes {verb}", highlight=False)
