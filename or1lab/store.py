"""The run folder: the one truth about a run. Figures, tables and trackers only ever read what is written here.

    manifest.json     what ran, on what, with which state (replaced as a whole)
    metrics.jsonl     one JSON record a line, kind step | sgd | eval (appended to; a resume cuts what it does again)
    rollouts/ evals/  parquet, one file a step (written aside, then renamed)
    failures/         likewise: a mini-batch that could not be stepped on
    online_filter.json  problems dropped at the start of each stage
    checkpoints/      see magic/checkpoints.py; final/ is the trained model

A process may die anywhere: a half-written last line of metrics.jsonl is ignored by readers and cut off by the next
writer, and every other file is either the old one or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from or1lab.environment import environment, installed
from or1lab.errors import Or1labError, UsageError
from or1lab.kill_points import kill_point
from or1lab.manifest import (  # noqa: F401 (part of what this module gives)
    LOCK,
    MANIFEST,
    Recorded,
    begun,
    full_disk_explained,
    held,
    is_locked,
    known_values,
    now,
    ours,
    plain,
    write_atomic,
)
from or1lab.recipe import Recipe, parse_recipe, recipe_hash

METRICS = "metrics.jsonl"
PACKED_METRICS = "metrics.parquet"  # instead of it in a packed run: see pack.py
WINDOW = 65536  # bytes of metrics.jsonl read at a time from its end


class Run(Recorded):
    """One run folder. Make it with `Run.create`, read it with `Run.open`."""

    doing = "trained"
    again = "remove the run folder and train again"

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._descriptor: int | None = None

    @classmethod
    def create(cls, folder: str | Path, *, recipe: dict[str, Any], extra: dict[str, Any] | None = None) -> Run:
        """Make a run folder with its manifest; `extra` sets further manifest keys (experiment, arm, model_hash, ...).

        Raises:
            Or1labError: the folder already holds a run, or there is no room on the disk.
        """
        run = cls(folder)
        if (run.folder / MANIFEST).exists():
            raise Or1labError(
                f"{run.folder} already holds a run: continue it with --resume, or write elsewhere with --out"
            )
        manifest = {
            "name": recipe["name"],
            "experiment": None,
            "arm": None,
            "seed": recipe["seed"],
            "recipe": recipe,
            "recipe_hash": recipe_hash(Recipe.model_validate(recipe)),
            "world": recipe["world"],
            "world_hash": None,
            "claims_hash": None,
            "follow_ups_hash": None,
            **environment(),
            "installed": installed(),
            "model_hash": None,
            "data_hash": None,
            **begun(),
            "parent": None,
            "host": None,
            "backend": None,
            "sandbox": None,
            "error": None,
        }
        with full_disk_explained(run.folder):
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / METRICS).touch()
        run._write_manifest(manifest | (extra or {}))
        return run

    @classmethod
    def open(cls, folder: str | Path, *, writes: bool = True) -> Run:
        """An existing run, for reading or continuing; without `writes`, what would be written is dropped.

        Raises UsageError where there is none."""
        run = cls(folder)
        run.writes = writes
        if not (run.folder / MANIFEST).is_file():
            raise UsageError(f"{run.folder} holds no run (no {MANIFEST}); `or1lab runs list` shows those there are")
        return run

    @property
    def recipe(self) -> Recipe:
        """What it was made with. Raises UsageError for that of another version, with keys that there are no more."""
        another = f"{self.folder} was made by another version of or1lab (manifest.json names it under code)"
        return parse_recipe(self.manifest["recipe"], another)

    # -------------------------------------------------------------------------------------------------- writing

    def log(self, kind: str, **values: Any) -> None:
        """Append one record (kind step, sgd or eval) in a single write; numpy and torch scalars are welcome."""
        if not self.writes:
            return
        line = (json.dumps({"kind": kind, **values}, default=plain) + "\n").encode()
        kill_point("metrics/before")
        with full_disk_explained(self.folder):
            if self._descriptor is None:
                _cut_half_line(self.folder / METRICS)
                self._descriptor = os.open(self.folder / METRICS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            descriptor = self._descriptor
            kill_point("metrics/half", lambda: os.write(descriptor, line[: len(line) // 2]))
            _write_all(descriptor, line)
        kill_point("metrics/after")

    def alarm(self, message: str) -> None:
        """Keep a warning in the manifest, once: a resumed run meets those beyond its checkpoint again."""
        told = self.manifest.get("alarms", [])
        if message not in told:
            self.update_manifest(alarms=[*told, message])

    def write_rollouts(self, step: int, frame: pd.DataFrame) -> None:
        """Store the responses of a training step: one row a response."""
        self._write_frame("rollouts", step, frame)

    def write_evals(self, step: int, frame: pd.DataFrame) -> None:
        """Store an evaluation: one row per problem and sample (the final one beside the periodic one of its step)."""
        final = "final" in frame and bool(frame["final"].all())
        self._write_frame("evals", step, frame, "-final" if final else "")

    def write_failure(self, step: int, frame: pd.DataFrame) -> Path:
        """Keep the mini-batch on which a training step failed; where it is."""
        return self._write_frame("failures", step, frame)

    def write_filtered(self, dropped: dict[int, list[str]]) -> None:
        """Keep which problems the online filter has dropped at the start of each stage."""
        if self.writes:
            write_atomic(self.folder / "online_filter.json", json.dumps(dropped, indent=1).encode(), "filter")

    def _write_frame(self, kind: str, step: int, frame: pd.DataFrame, suffix: str = "") -> Path:
        path = self.folder / kind / f"step-{step:06d}{suffix}.parquet"
        if not self.writes:
            return path
        with full_disk_explained(self.folder):
            (self.folder / kind).mkdir(exist_ok=True)
        # Serialised in memory first, so that a full disk is met in one place only.
        content = frame.assign(step=step).to_parquet(index=False)
        write_atomic(path, content, kind)
        return path

    def truncate_after(self, step: int) -> None:
        """Forget everything beyond training step `step`, and any final evaluation: what a resumed run does again.

        Also what a killed process had written aside: only whoever holds the lock may call this."""
        if not self.writes:
            return
        self.close()
        kept = [record for record in self.records() if record["step"] <= step and not record.get("final")]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomic(self.folder / METRICS, lines.encode(), "truncate")
        for kind in ("rollouts", "evals", "failures"):
            for path in self._frames(kind):
                if _step_of(path) > step or path.stem.endswith("-final"):
                    path.unlink()
        for left in (".*.json*.*", "*/.*.parquet.*"):
            for path in self.folder.glob(left):
                path.unlink()
        kill_point("truncate/after")

    def close(self) -> None:
        """Give the descriptor of metrics.jsonl back; the next `log` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    # -------------------------------------------------------------------------------------------------- reading

    def records(self) -> list[dict[str, Any]]:
        """All records in the order written, without a half-written last line.

        Raises:
            Or1labError: a line elsewhere is broken; names file and line.
        """
        if (packed := self.folder / PACKED_METRICS).exists():
            return [known_values(record) for record in self._table(packed).to_pylist()]
        path = self.folder / METRICS
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        records = []
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty or half a line
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise Or1labError(
                    f"{path}, line {number} is broken ({error}); delete that line, or train the run again"
                ) from None
        return records

    def newest(self) -> Iterator[dict[str, Any]]:
        """Records from the newest back, read from the end of the file; a broken line is passed over."""
        if (self.folder / PACKED_METRICS).exists():
            yield from reversed(self.records())
        elif (path := self.folder / METRICS).exists():
            for line in _backwards(path):
                with contextlib.suppress(ValueError):
                    if isinstance(record := json.loads(line), dict):
                        yield record

    def last(self, kind: str = "step") -> dict[str, Any] | None:
        """The newest record of a kind, from the end of the file only (for progress displays)."""
        return next((record for record in self.newest() if record.get("kind") == kind), None)

    def latest(self, names: Iterable[str]) -> dict[str, Any]:
        """The newest value of each of these metrics in a step or an evaluation, None where there is none (NaN counts as
        none). Reads no more of the run than that takes.

        Raises:
            Or1labError: a packed run whose metrics are damaged.
        """
        found: dict[str, Any] = dict.fromkeys(names)
        if (packed := self.folder / PACKED_METRICS).exists():
            table = self._table(packed, ["kind", *found])
            table = table.filter(pa.array([kind != "sgd" for kind in table["kind"].to_pylist()]))
            for name in found.keys() & set(table.column_names):
                found[name] = next(filter(_known, reversed(table[name].to_pylist())), None)
            return found
        left = set(found)
        lines = _backwards(self.folder / METRICS) if left and (self.folder / METRICS).exists() else ()
        for line in lines:
            if not any(f'"{name}"'.encode() in line for name in left):  # most lines need not be parsed
                continue
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                here = {name for name in left if record["kind"] != "sgd" and _known(record.get(name))}
                found |= {name: record[name] for name in here}
                left -= here
            if not left:
                break
        return found

    @property
    def metric_names(self) -> list[str]:
        """What the newest step and evaluation hold, without kind and step."""
        if (packed := self.folder / PACKED_METRICS).exists():
            self._table(packed, [])  # says so if it is damaged
            names = pq.read_schema(packed).names
        else:
            names = [name for kind in ("step", "eval") for name in self.last(kind) or {}]
        return [name for name in dict.fromkeys(names) if name not in ("kind", "step")]

    def _table(self, path: Path, names: Sequence[str] | None = None) -> pa.Table:
        """A parquet file, or those of these columns that it has. Raises Or1labError where it is damaged."""
        try:
            file = pq.ParquetFile(path)
            there = set(file.schema_arrow.names)
            return file.read(names and [name for name in names if name in there], use_threads=False)
        except (OSError, ValueError) as error:
            raise Or1labError(f"{path} is damaged ({' '.join(str(error).split())[:200]}); {self.again}") from None

    @property
    def metrics(self) -> pd.DataFrame:
        """All records as a frame, every kind; columns kind and step always exist."""
        return self.metrics_of(None)

    def metrics_of(self, names: Sequence[str] | None) -> pd.DataFrame:
        """The same; of a packed run with kind, step and those of these columns alone that it has, which is quicker."""
        if (packed := self.folder / PACKED_METRICS).exists():  # the frame of the records, without making them first
            table = self._table(packed, names and ["kind", "step", *names])
            known = table.select([field.name for field in table.schema if not pa.types.is_null(field.type)]).to_pandas()
            for name in known.columns[known.dtypes == "object"]:  # lists and flags
                known[name] = known[name].where(known[name].notna())  # None to NaN
            return known
        frame = pd.DataFrame.from_records(self.records())
        return frame if len(frame) else pd.DataFrame({"kind": pd.Series(dtype=str), "step": pd.Series(dtype=int)})

    def rollouts(self, step: int) -> pd.DataFrame:
        """The stored responses of a training step. Raises UsageError naming the nearest that there are."""
        steps = self.rollout_steps
        if step not in steps:
            nearest = ", ".join(map(str, sorted(sorted(steps, key=lambda there: abs(there - step))[:3])))
            stored = f"the nearest are of {nearest}" if steps else "none are stored (recipe: save_rollouts)"
            raise UsageError(f"{self.folder} has no rollouts of step {step}; {stored}")
        if (packed := self._packed("rollouts")) is not None:
            return packed[packed["step"] == step].reset_index(drop=True)
        return self.read_frame(self.folder / "rollouts" / f"step-{step:06d}.parquet")

    @property
    def rollout_steps(self) -> list[int]:
        """Training steps whose responses are stored, ascending."""
        if (packed := self._packed("rollouts", ["step"])) is not None:
            return sorted(packed["step"].unique().tolist())
        return [_step_of(path) for path in self._frames("rollouts")]

    @property
    def evals(self) -> pd.DataFrame:
        """All evaluations, one row per problem and sample, with the column step; empty if there are none."""
        return self._whole("evals")

    @property
    def all_rollouts(self) -> pd.DataFrame:
        """All stored responses, with the column step; empty if there are none."""
        return self._whole("rollouts")

    @property
    def main_evals(self) -> pd.DataFrame:
        """`evals` at the main temperature, `eval.tau`, alone."""
        frame = self.evals
        return frame[frame["tau"] == self.manifest["recipe"]["eval"]["tau"]] if "tau" in frame else frame

    def _whole(self, kind: str) -> pd.DataFrame:
        if (packed := self._packed(kind)) is not None:
            return packed
        frames = [self.read_frame(path) for path in self._frames(kind)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _packed(self, kind: str, columns: list[str] | None = None) -> pd.DataFrame | None:
        path = self.folder / f"{kind}.parquet"
        return self.read_frame(path, columns) if path.exists() else None

    def _frames(self, kind: str) -> list[Path]:
        return sorted((self.folder / kind).glob("step-*.parquet"))


def _write_all(descriptor: int, content: bytes) -> None:
    size = os.fstat(descriptor).st_size
    try:
        while content:  # one pass, unless the disk fills up in the middle of the line
            content = content[os.write(descriptor, content) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _cut_half_line(path: Path) -> None:
    """Remove a half-written last line left by a killed process, or the next record would be glued to it."""
    if not path.exists():
        return
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _backwards(path: Path) -> Iterator[bytes]:
    """Whole lines of a file, the last one first; without a half-written last one."""
    with path.open("rb") as file:
        at, tail, ended = file.seek(0, os.SEEK_END), b"", False
        while at:
            begin = max(0, at - WINDOW)
            file.seek(begin)
            tail, at = file.read(at - begin) + tail, begin
            if not ended:
                whole, newline, _ = tail.rpartition(b"\n")
                if not newline:
                    continue
                tail, ended = whole, True
            tail, *lines = tail.split(b"\n")
            yield from reversed(lines)
        if ended:
            yield tail


def _known(value: Any) -> bool:
    return value is not None and value == value


def _step_of(path: Path) -> int:
    return int(path.stem.split("-")[1])
