"""A folder with a manifest: what training runs and evaluations share. Files that are whole or absent, locks, and what a
full disk looks like.

Non-finite numbers in JSON are written as NaN and Infinity, which Python's json reads back.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from or1lab.errors import Or1labError, UsageError
from or1lab.kill_points import kill_point

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
LOCK = ".lock"
Kept = TypeVar("Kept", bound="Recorded")
STATUSES = ("running", "finished", "failed")  # of a run, in its manifest


class FullDisk(Or1labError):
    """No room is left: what else would be written fails, too."""


class Recorded:
    """A folder whose manifest.json says what was made there, of what, and with which state."""

    doing = "written to"  # what the process that holds the lock does
    again = "remove the folder and begin again"  # what helps when the manifest is damaged

    writes = True  # False: of the other processes of a run, which compute the same and leave the folder to the first

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands on disk."""
        path = self.folder / MANIFEST
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # no JSON, or no text
            raise Or1labError(f"{path} is damaged ({error}); {self.again}") from None

    def read_frame(self, path: Path, columns: list[str] | None = None) -> pd.DataFrame:
        """A parquet file of the folder. Raises Or1labError naming one that is damaged."""
        import pandas as pd

        try:
            return pd.read_parquet(path, columns=columns)
        except (OSError, ValueError) as error:  # pyarrow's are among them
            reason = " ".join(str(error).split())[:200]
            raise Or1labError(f"{path} is damaged ({reason}); bring it back from a copy, or {self.again}") from None

    def update_manifest(self, **changes: Any) -> None:
        """Replace keys of the manifest, all or none."""
        if self.writes:
            self._write_manifest(self.manifest | changes)

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        text = json.dumps(manifest, indent=2, default=plain)
        write_atomic(self.folder / MANIFEST, (text + "\n").encode(), "manifest")

    @property
    def status(self) -> str:
        """running, finished, failed, or interrupted (the manifest says running, but no process holds the lock)."""
        status = self.manifest["status"]
        return "interrupted" if status == "running" and not is_locked(self.folder / LOCK) else status

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while writing; freed by the system when the process dies. Raises Or1labError if another holds it."""
        if not self.writes:
            yield
            return
        with held(self.folder / LOCK, f"{self.folder} is being {self.doing} by another process"):
            yield


def ours(run: Kept) -> Kept:
    """A run whose manifest is of ours. Raises UsageError for another program's, Or1labError for a damaged one."""
    told = run.manifest
    recipe = told.get("recipe") if isinstance(told, dict) else None
    if not isinstance(recipe, dict) or "seed" not in recipe or told.get("status") not in STATUSES:
        raise UsageError(f"{run.folder} holds no run of ours: its {MANIFEST} lacks a recipe or a status")
    return run


def known_values(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the keys that have no value."""
    return {name: value for name, value in record.items() if value is not None}


def now() -> str:
    """The time as the manifest writes it (UTC, seconds)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def begun() -> dict[str, Any]:
    """The keys of a manifest that say how far its work is, as it begins."""
    return {"status": "running", "created": now(), "finished": None, "seconds": None}


def plain(value: Any) -> Any:
    """JSON form of what json does not know: numpy and torch scalars and arrays (neither imported here), paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def write_atomic(path: Path, content: bytes, what: str) -> None:
    """Write beside the file, sync, then rename: readers see the old content or the new, never half. `what` names the
    file's kill points.

    Raises:
        Or1labError: no room on the disk.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    kill_point(f"{what}/before")
    with full_disk_explained(path.parent):
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            kill_point(f"{what}/aside")
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    kill_point(f"{what}/renamed")


def file_hash(path: Path, *, sync: bool = False) -> str:
    """SHA-256 of a file; `sync`: it is on the disk, not only on its way there, when this returns."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def held(path: Path, message: str) -> Iterator[None]:
    """Hold a file lock; Or1labError with `message` if another process has it for longer than a moment."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=2)  # not 0: `is_locked` holds it for an instant to look
    except Timeout:
        raise Or1labError(message) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock."""
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0.03, poll_interval=0.01):  # not 0: another may be looking, too
            return False
    except Timeout:
        return True
    except OSError:  # a read-only copy of a run: nobody can be training it
        return False


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn 'no space left' into a message that says where, how much is left, and how to go on.

    Libraries that save models raise errors of their own; theirs are told by the room that is left."""
    try:
        yield
    except Or1labError:
        raise
    except Exception as error:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free / 2**20
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) if isinstance(error, OSError) and error.errno else free < 1
        if not full:
            raise
        raise FullDisk(
            f"no disk space left for {folder} ({free:.1f} MiB free): free some, then continue the run with --resume"
        ) from error
