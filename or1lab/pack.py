"""`or1lab runs pack`: finished run folders as few small files, to be kept beside the code that draws from them.

    manifest.json     as it is
    metrics.parquet   every record of metrics.jsonl
    evals.parquet     every evaluation, one row per problem and sample
    rollouts.parquet  the stored responses without their texts: lengths, verdicts, advantages

`Run` reads packed folders like any other, so figures, tables and claims need not know. Left behind are texts, the
checkpoints and the executed notebook. What was packed is read back and compared before it takes its place.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from or1lab.errors import Or1labError, UsageError
from or1lab.manifest import MANIFEST, FullDisk, full_disk_explained
from or1lab.store import PACKED_METRICS, Run, known_values
from or1lab.tracker import find_runs

TEXTS = ("prompt", "response", "gold")


def pack(run: Run, out: Path) -> Path:
    """Write the packed form of a finished run to `out`/<experiment>/<arm>/seed-<seed>; one of the same run that is
    there already is left as it is.

    Raises:
        Or1labError: the run is not finished, belongs to no experiment, another run is there already, no room.
    """
    manifest = run.manifest
    if run.status != "finished":
        raise Or1labError(f"{run.folder} is {run.status}; only a finished run is packed")
    if not manifest["experiment"]:
        raise Or1labError(f"{run.folder} belongs to no experiment: `or1lab sweep` makes runs that do")
    target = out / manifest["experiment"] / manifest["arm"] / f"seed-{manifest['seed']}"
    if (target / MANIFEST).exists():
        if Run.open(target).manifest != manifest:
            raise Or1labError(f"{target} holds another run of this arm and seed; move it away")
        return target
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    for left in target.parent.glob(f".{target.name}.*"):  # by a process that was killed
        if left.suffix[1:].isdecimal() and not psutil.pid_exists(int(left.suffix[1:])):
            shutil.rmtree(left, ignore_errors=True)
    with full_disk_explained(out):
        aside.mkdir(parents=True)
        try:
            _write(run, aside)
            _compare(run, Run.open(aside))
            aside.replace(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def pack_all(root: Path, out: Path) -> tuple[list[Path], dict[str, str]]:
    """`pack` of every finished run of an experiment below `root`; the packed folders, and why others were left, damaged
    ones among them.

    Raises:
        UsageError: there is no run.
        FullDisk: no room on the disk.
    """
    runs = find_runs(root)
    if not runs:
        raise UsageError(f"no runs in {root}")
    packed, left = [], {}
    for run in runs:
        try:
            packed.append(pack(run, out))
        except FullDisk:
            raise
        except Or1labError as error:  # it is not finished, or damaged, say: the others are packed all the same
            left[str(run.folder)] = f"stays: {error}"
    return packed, left


def _write(run: Run, folder: Path) -> None:
    shutil.copyfile(run.folder / MANIFEST, folder / MANIFEST)
    records = run.records()
    columns = {name: [record.get(name) for record in records] for name in dict.fromkeys(n for r in records for n in r)}
    _save(pa.table(columns), folder / PACKED_METRICS)
    for name, frame in (("evals.parquet", run.evals), ("rollouts.parquet", run.all_rollouts)):
        if len(frame):
            _save(pa.Table.from_pandas(_narrow(frame), preserve_index=False), folder / name)


def _save(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=19)


def _narrow(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=[name for name in TEXTS if name in frame])


def _compare(run: Run, packed: Run) -> None:
    same = _numbers(map(known_values, run.records())) == _numbers(packed.records())
    for ours, theirs in ((run.evals, packed.evals), (run.all_rollouts, packed.all_rollouts)):
        same = same and _narrow(ours).equals(theirs)
    if not same:
        raise Or1labError(f"{run.folder} could not be packed without loss; nothing was kept (please report this)")


def _numbers(records: Iterable[dict[str, Any]]) -> str:
    """Records as text, in which NaN equals itself and 1 equals 1.0: a column has one type."""
    return json.dumps(
        [{name: float(v) if isinstance(v, int | float) else v for name, v in sorted(r.items())} for r in records]
    )
