"""The experiment tracker: the runs below a folder as rows, filtered, sorted, written to a file, or as a table in a
notebook. Only what a question needs is read, so that hundreds of runs answer at once."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from or1lab.errors import Or1labError, UsageError, check_names, did_you_mean
from or1lab.manifest import MANIFEST, STATUSES, full_disk_explained, ours
from or1lab.recipe import split_override
from or1lab.searchable import searchable
from or1lab.store import METRICS, PACKED_METRICS, Run
from or1lab.terminal import RUNS

if TYPE_CHECKING:
    from IPython.display import HTML

STATES = (*STATUSES, "interrupted")
SHOWN = ("step", "reward/mean", "entropy/rollout", "eval/accuracy")  # newest values in each row
TOLD = ("seed", "seconds", "created", "finished")  # of the manifest, to sort by
QUIET = 600.0  # seconds without a word after which a run on another machine counts as broken off
FORMATS = (".csv", ".parquet", ".jsonl")
Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The runs below a folder with their manifests, and what looks like a run but is none: folder -> why."""

    runs: list[tuple[Run, dict[str, Any]]]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """Which runs, and in which order: `keys` are KEY=VALUE of the recipe, `sort` a metric, seed, seconds, created or
    finished, the highest first (-METRIC: the lowest)."""

    experiment: str | None = None
    arm: str | None = None
    state: str | None = None
    keys: Sequence[str] = ()
    sort: str | None = None
    limit: int | None = None


def find(root: str | Path) -> Found:
    """All runs below `root` in the order of their folders; neither run folders nor hidden ones are searched further.

    Raises:
        UsageError: there is no such folder (the default one may be missing: there are no runs yet).
    """
    if not Path(root).is_dir() and Path(root) != RUNS:
        raise UsageError(f"there is no folder {root}")
    runs, unreadable = [], {}
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if METRICS in files or PACKED_METRICS in files:
            subfolders.clear()
            try:
                run = open_run(folder)
                runs.append((run, run.manifest))
            except (Or1labError, OSError) as error:
                unreadable[folder] = str(error)
    return Found(runs, unreadable)


def find_runs(root: str | Path) -> list[Run]:
    """All runs below `root`, as by `find`; none where there is no such folder. What looks like a run but is none costs
    a warning."""
    found = find(root) if Path(root).is_dir() else Found([], {})
    for why in found.unreadable.values():
        warnings.warn(f"left out: {why}", stacklevel=1)  # of one place: told once
    return [run for run, _ in found.runs]


def open_run(folder: str | Path) -> Run:
    """A run for reading.

    Raises:
        UsageError: the folder holds no run, or one of another program.
        Or1labError: its manifest is damaged.
    """
    run = Run(folder)
    if not (run.folder / MANIFEST).is_file() and (run.folder / METRICS).is_file():
        raise UsageError(f"{run.folder} has no {MANIFEST}: no run of ours, or one that died as it began")
    ours(Run.open(folder))
    if not any((run.folder / name).is_file() for name in (METRICS, PACKED_METRICS)):
        raise UsageError(f"{run.folder} holds no run: it has a {MANIFEST}, but no {METRICS}")
    return run


def state(run: Run, manifest: dict[str, Any]) -> str:
    """One of STATES. A run of another machine, whose lock is not seen here, is running while its folder changes."""
    found = run.status
    if found == "interrupted" and elsewhere(manifest) and time.time() - last_write(run) < QUIET:
        return "running"
    return found


def elsewhere(manifest: dict[str, Any]) -> bool:
    """Whether a run that has not ended was last written on another machine."""
    host = manifest.get("host")
    return host is not None and host != platform.node()


def last_write(run: Run) -> float:
    """When the run folder was last written to, in seconds since 1970."""
    return max(path.stat().st_mtime for name in (MANIFEST, METRICS) if (path := run.folder / name).exists())


def row(run: Run, manifest: dict[str, Any], names: Iterable[str] = SHOWN) -> Row:
    """State and newest numbers of a run. Raises Or1labError where they are damaged."""
    seconds = manifest.get("seconds")
    return {  # the keys of `runs list --json`
        "folder": str(run.folder),
        "experiment": manifest.get("experiment"),
        "arm": manifest.get("arm"),
        "seed": manifest["recipe"]["seed"],
        "status": state(run, manifest),
        "seconds": round(seconds) if seconds else None,
        **run.latest(names),
    }


def rows(root: str | Path, wanted: Wanted | None = None, *, whole: bool = False) -> tuple[list[Row], dict[str, str]]:
    """The rows of the wanted runs, and what could not be read: folder -> why.

    Args:
        whole: with every knob of the recipe (`recipe.KEY`) and the newest value of every metric.

    Raises:
        UsageError: an experiment, arm, state, recipe key or metric that no run has (names the nearest).
    """
    wanted, found = wanted or Wanted(), find(root)
    runs, unreadable = _chosen(found.runs, wanted), dict(found.unreadable)
    if wanted.sort:
        runs = _sorted(runs, wanted.sort, unreadable)
    made = list[Row]()
    for run, manifest in runs:
        if len(made) == wanted.limit:
            break
        try:
            made.append(_whole(run, manifest) if whole else row(run, manifest, _names(wanted)))
        except Or1labError as error:
            unreadable[str(run.folder)] = str(error)
    return made, unreadable


def _chosen(runs: list[tuple[Run, dict[str, Any]]], wanted: Wanted) -> list[tuple[Run, dict[str, Any]]]:
    for kind, name in (("experiment", wanted.experiment), ("arm", wanted.arm)):
        if name is not None:
            check_names([name], sorted({str(m[kind]) for _, m in runs if m.get(kind)}), kind)
            runs = [(run, manifest) for run, manifest in runs if manifest.get(kind) == name]
    for text in wanted.keys:
        key, value = split_override(text)
        flat = [flatten(manifest["recipe"]) for _, manifest in runs]
        known = {name for one in flat for name in one}
        if runs and key not in known:
            raise UsageError(f"no recipe of these runs has a key '{key}'{did_you_mean(key, sorted(known))}")
        runs = [pair for pair, one in zip(runs, flat, strict=True) if key in one and one[key] == value]
    if wanted.state is not None:
        check_names([wanted.state], STATES, "state")
        runs = [(run, manifest) for run, manifest in runs if state(run, manifest) == wanted.state]
    return runs


def _sorted(
    runs: list[tuple[Run, dict[str, Any]]], by: str, unreadable: dict[str, str]
) -> list[tuple[Run, dict[str, Any]]]:
    """By a metric or what the manifest tells, those without a value last."""
    name, values = by.removeprefix("-"), dict[Path, Any]()
    for run, manifest in runs:
        try:
            value = manifest.get(name) if name in TOLD else run.latest([name])[name]
        except Or1labError as error:
            unreadable[str(run.folder)] = str(error)
            continue
        if value is not None and not isinstance(value, list):
            values[run.folder] = value
    if runs and not values and name not in TOLD:
        known = {known for run, _ in runs if str(run.folder) not in unreadable for known in run.metric_names}
        if name not in known:
            raise UsageError(
                f"no metric '{name}' in these runs{did_you_mean(name, sorted(known))}; `or1lab runs show RUN --json` "
                f"has them all, and {', '.join(TOLD)} sort, too"
            )
    has = [pair for pair in runs if pair[0].folder in values]
    has.sort(key=lambda pair: values[pair[0].folder], reverse=not by.startswith("-"))
    return [*has, *(pair for pair in runs if pair[0].folder not in values and str(pair[0].folder) not in unreadable)]


def sorted_by(wanted: Wanted) -> list[str]:
    """What the runs are sorted by, if they are."""
    return [wanted.sort.removeprefix("-")] if wanted.sort else []


def _names(wanted: Wanted) -> list[str]:
    return list(dict.fromkeys([*SHOWN, *(name for name in sorted_by(wanted) if name not in TOLD)]))


def _whole(run: Run, manifest: dict[str, Any]) -> Row:
    names = list(dict.fromkeys([*SHOWN, *run.metric_names]))
    values = {name: v for name, v in row(run, manifest, names).items() if not isinstance(v, list)}
    told = {key: manifest.get(key) for key in ("created", "finished", "recipe_hash", "model_hash", "data_hash")}
    return values | told | {f"recipe.{key}": value for key, value in flatten(manifest["recipe"]).items()}


def flatten(plain: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of everything in nested mappings and lists of mappings; other lists stay whole."""
    if isinstance(plain, list) and plain and all(isinstance(one, dict) for one in plain):
        plain = dict(enumerate(plain))
    if not isinstance(plain, dict) or not plain:
        return {prefix.removesuffix("."): plain}
    return {key: value for name, one in plain.items() for key, value in flatten(one, f"{prefix}{name}.").items()}


def export(table: list[Row], path: Path) -> None:
    """Write rows to a file: .csv, .parquet or .jsonl, by its ending.

    Raises:
        UsageError: another ending, or no such folder.
        Or1labError: no room on the disk.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"--export {path}: its ending says how to write it, one of {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--export {path}: there is no folder {path.parent}")
    frame = pd.DataFrame(table)
    for name in frame.columns[frame.dtypes == "object"]:  # knobs of several types, which parquet does not know
        kinds = {type(value) for value in frame[name] if value is not None and value == value}
        if len(kinds) > 1 or kinds & {list, dict}:
            frame[name] = [None if value is None or value != value else str(value) for value in frame[name]]
    with full_disk_explained(path.parent):
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        elif path.suffix == ".parquet":
            frame.to_parquet(path, index=False)
        else:
            frame.to_json(path, orient="records", lines=True)


def table(root: str | Path = "runs", wanted: Wanted | None = None) -> HTML:
    """The list of runs in a notebook: search, sort by a column, choose experiments, arms and states; needs no network.

    Raises UsageError as `rows`."""
    from html import escape

    from IPython.display import HTML

    made, unreadable = rows(root, wanted)
    frame = pd.DataFrame([{**one, "folder": str(Path(one["folder"]).relative_to(root))} for one in made])
    frame = frame.rename(columns={"folder": "run", "status": "state"})
    numbers = [name for name in frame if frame[name].dtype.kind == "f"]
    frame[numbers] = frame[numbers].round(4)
    caption = f"{len(frame)} runs in {root}" + (f"; {len(unreadable)} folders are unreadable" if unreadable else "")
    page = searchable(frame, caption, ("experiment", "arm", "state"), pageLength=25)
    below = "".join(f"<div><small>{escape(why)}</small></div>" for why in unreadable.values())
    return HTML(page + below)
