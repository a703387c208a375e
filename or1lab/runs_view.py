"""`or1lab runs`: the run folders of a tree, in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from or1lab import tracker
from or1lab.comparison import compare as compared
from or1lab.data_view import safe
from or1lab.lineage import lineage
from or1lab.results import best_step, stored_as
from or1lab.store import Run

COLUMNS = {
    "status": "state", "step": "step", "reward/mean": "reward", "entropy/rollout": "entropy",
    "eval/accuracy": "accuracy", "seconds": "seconds",
}  # fmt: skip
NARROW, FEW = 70, ("status", "step", "eval/accuracy")  # in a terminal of fewer columns these are listed
Emit = Callable[[Any], None] | None  # prints JSON, if that is asked for


def listing(root: Path, wanted: tracker.Wanted, console: Console, emit: Emit, export: Path | None = None) -> None:
    """The wanted runs below a folder; with `export` in a file, with their whole recipes and all newest metrics."""
    rows, unreadable = tracker.rows(root, wanted, whole=export is not None)
    if export:
        tracker.export(rows, export)
    for why in unreadable.values():
        Console(stderr=True).out(f"unreadable: {why}", highlight=False)
    if emit:
        emit(rows)
        return
    if export:
        console.out(f"wrote {export} (runs: {len(rows)})", highlight=False)
        return
    more = {name: name.replace("/", "/\n") for name in tracker.sorted_by(wanted) if name not in (*COLUMNS, "seed")}
    fit = FEW if console.width < NARROW else [name for name in COLUMNS if not more or name != "seconds"]  # 80 columns
    columns = {name: COLUMNS[name] for name in fit} | more
    room = console.width - 8 - sum(max(map(len, title.split("\n"))) + 3 for title in columns.values())
    table = Table(Column(f"run in {root}", overflow="fold"))
    for key, head in columns.items():
        table.add_column(head, justify="left" if head == "state" else "right", overflow="fold", no_wrap=key not in more)
    for row in rows:
        path = str(Path(row["folder"]).relative_to(root)).replace("/", "/ ")  # broken behind a slash, if at all
        within = "\n".join(textwrap.wrap(path, max(room, 1), break_on_hyphens=False)).replace("/ ", "/")
        table.add_row(within if within != "." else row["folder"], *(_cell(row.get(name), ".3f") for name in columns))
    console.print(table if rows else f"no runs in {root}", markup=False)


def show(folder: Path, console: Console, emit: Emit) -> None:
    """One run. Raises as `tracker.open_run`, and Or1labError where its numbers are damaged."""
    run = tracker.open_run(folder)
    manifest = run.manifest
    row, found, origin = tracker.row(run, manifest), best(run), lineage(run)
    if emit:
        newest = run.latest(run.metric_names)
        emit({**row, "best": found, "lineage": origin, "metrics": newest, "manifest": manifest})
        return

    def line(key: str, text: str) -> None:
        console.out(f"{key:>16}  {text}", highlight=False)

    for key, value in row.items():
        line(key, _cell(value))
    if found:
        kept = f"{folder}@best" if found["stored"] else "its checkpoint is not kept (recipe: checkpoint.keep)"
        line(
            "best evaluated",
            f"step {found['step']}, accuracy {found['accuracy']:.3f} on {found['problems']} problems; {kept}",
        )
    for above in origin["ancestors"]:
        line("started from", f"{above['run']}, {above['checkpoint']} (step {_cell(above['step'])})")
    line("base model", origin["base"])
    for stage in origin["stages"]:
        done = f"steps {stage['first']} to {stage['last']}" if stage["first"] else "not begun"
        line(f"stage {stage['stage']}", f"T = {stage['T']}, {done} of {stage['planned']}, {_left_by(stage)}")
    for child in origin["children"]:
        line("went on in", f"{child['run']}, from {child['checkpoint']}")
    for key in ("backend", "model_hash", "data_hash", "recipe_hash", "error"):
        if manifest.get(key):
            line(key, str(manifest[key]))
    for alarm in manifest.get("alarms", []):
        line("alarm", alarm)
    steps = run.rollout_steps
    response = run.rollouts(steps[-1]).iloc[0].to_dict() if steps else {}
    if "response" in response:
        console.rule(Text(safe(f"a response of step {steps[-1]}: {response['reason']}")))
        console.print(safe(f"{response['prompt']}\n{response['response']}"), markup=False, highlight=False)


def compare(one: Path, other: Path, console: Console, emit: Emit) -> None:
    """Two runs: the differences of their recipes and environments, and their newest numbers."""
    found = compared(tracker.open_run(one), tracker.open_run(other))
    if emit:
        emit(found)
        return
    for letter, folder, state in zip("AB", found["runs"], found["state"], strict=True):
        console.out(f"{letter}  {folder} ({state})", highlight=False)
    for part in ("recipe", "environment", "packages", "metrics"):
        if not found[part]:
            console.print(f"{part}: no difference", highlight=False)
            continue
        table = Table(Column(part if part == "metrics" else f"{part}: what differs", overflow="fold"))
        for letter in "AB":
            table.add_column(letter, justify="right" if part == "metrics" else "left", overflow="fold")
        if part == "metrics":
            table.add_column("B - A", justify="right")
        for key, (a, b) in found[part].items():
            change = ["" if a is None or b is None else _cell(b - a)] if part == "metrics" else []
            table.add_row(key, _cell(a), _cell(b), *change)
        console.print(table, markup=False)
    a, b = found["evaluated"]
    if a is not None or b is not None:
        apart = "" if a == b else ": their numbers are not of the same step"
        console.out(f"newest evaluation: A of step {_cell(a)}, B of step {_cell(b)}{apart}", highlight=False)


def best(run: Run) -> dict[str, Any] | None:
    """The step that the rule of `results.best_step` chooses, and whether its model is still there."""
    found = best_step(run)
    return found and {**found, "stored": stored_as(run, found["step"]) is not None}


def _cell(value: Any, form: str = ".4g") -> str:
    if value is None:
        return "-"
    return format(value, form) if isinstance(value, float) else str(value)


def _left_by(stage: dict[str, Any]) -> str:
    return f"model in checkpoints/{stage['checkpoint']}" if stage["checkpoint"] else "no model of its end is kept"
