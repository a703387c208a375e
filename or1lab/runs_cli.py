"""`or1lab runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from or1lab.errors import UsageError
from or1lab.terminal import KEPT, RUNS, Json, answer, console, print_json

app = typer.Typer(no_args_is_help=True, help="Look at runs, compare, export and tidy them.", rich_markup_mode="rich")

RunArg = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]


@app.command("list", epilog="Example: or1lab runs list runs D_T=4 --state finished --sort eval/accuracy --limit 5")
def runs_list(
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FOLDER] [KEY=VALUE]...", help="Folder of runs, default runs; and keys of the recipe."),
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="Only runs of this experiment.")] = None,
    arm: Annotated[str | None, typer.Option(help="Only runs of this arm.")] = None,
    state: Annotated[str | None, typer.Option(help="Only running, finished, failed or interrupted runs.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="By the newest value of any metric, or by seed, seconds, created or finished: the highest first; with "
            "a minus before it, the lowest.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write them to a file (.csv, .parquet, .jsonl): whole recipes and all newest metrics."),
    ] = None,
    json: Json = False,
) -> None:
    """Every run under a folder, with its state and newest numbers."""
    from or1lab import runs_view, tracker

    root, keys = folder_and_keys(places or [])
    wanted = tracker.Wanted(experiment, arm, state, keys, sort, limit)
    runs_view.listing(root, wanted, console, print_json if json else None, export)


def folder_and_keys(places: list[str]) -> tuple[Path, list[str]]:
    """What of the arguments is the folder, and which are KEY=VALUE. Raises UsageError for a second folder."""
    keys = [text for text in places if "=" in text and not Path(text).exists()]
    folders = [text for text in places if text not in keys]
    if len(folders) > 1:
        raise UsageError(f"one folder is wanted, not {' and '.join(folders)}; keys of the recipe are KEY=VALUE")
    return Path(folders[0]) if folders else RUNS, keys


@app.command("show", epilog="Example: or1lab runs show runs/demo/on-policy/seed-0")
def runs_show(folder: RunArg, json: Json = False) -> None:
    """One run: its state, newest numbers, stages, where its model comes from and went, and a sampled response."""
    from or1lab import runs_view

    runs_view.show(folder, console, print_json if json else None)


@app.command("compare", epilog="Example: or1lab runs compare runs/demo/on-policy/seed-0 runs/demo/off-policy/seed-0")
def runs_compare(one: RunArg, other: RunArg, json: Json = False) -> None:
    """Two runs: what differs in recipe, environment and packages, and their newest metrics side by side."""
    from or1lab import runs_view

    runs_view.compare(one, other, console, print_json if json else None)


@app.command("watch", epilog="Example: or1lab runs watch runs/demo")
def runs_watch(
    folder: Annotated[Path, typer.Argument(metavar="[RUN or FOLDER]", help="A run, or a folder of them.")] = RUNS,
) -> None:
    """Follow a run, or all that are running in a folder, until they end.

    It reads only files, so the runs may train on another machine that shares the folder. Ctrl-C stops the watching, not
    the run."""
    from or1lab import watch

    watch.watch(folder, console)


@app.command("pack", epilog="Example: or1lab runs pack runs/sgd_steps --out experiments/results")
def runs_pack(
    root: Annotated[Path, typer.Argument(help="Run folder, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Where packed runs go.")] = KEPT,
    json: Json = False,
) -> None:
    """Keep finished runs as small files that figures, tables and claims read like run folders.

    Without texts, models and notebooks. Runs that are not finished, or of no experiment, are named and left."""
    from or1lab.pack import pack_all

    packed, left = pack_all(root, out)
    if json:
        print_json({"packed": packed, "left": left})
        return
    for folder, why in left.items():
        console.print(f"left: {folder} {why}", highlight=False, markup=False)
    console.print(f"packed {len(packed)} runs in {out}", highlight=False, markup=False)


@app.command("gc", epilog="Example: or1lab runs gc runs --checkpoints none --rollouts every=50 --dry-run")
def runs_gc(
    root: Annotated[Path, typer.Argument(help="Run folder, or a folder of them.")] = RUNS,
    checkpoints: Annotated[
        str | None, typer.Option(help="Which stay beside the final model: none, last, or best (evaluated).")
    ] = None,
    rollouts: Annotated[
        str | None, typer.Option(help="Of which steps responses stay: none, last, or every=N (and the last).")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Only of runs that finished so many days ago.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove checkpoints and stored responses of finished runs, by rule.

    Final models, metrics and evaluations stay, and so do runs that are not finished, checkpoints that other runs
    started from, and folders that are no runs."""
    from or1lab import cleaning

    done = cleaning.clean(root, checkpoints, rollouts, older_than, dry_run=dry_run)
    answer(done.as_json(), json, lambda: cleaning.show(done, console))


@app.command("export", epilog="Example: or1lab runs export runs/demo/on-policy/seed-0 my-model")
def runs_export(
    run: Annotated[str, typer.Argument(metavar="RUN[@STEP]", help="Run folder: its final model, or @20, @best.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    json: Json = False,
) -> None:
    """Write a run's model as a folder ready for the Hub: safetensors, tokenizer, model card with recipe, figure, limits
    and licence."""
    from or1lab.export import export

    made = export(run, out)
    if json:
        print_json(made)
        return
    console.out(
        f"wrote {out} ({made['bytes'] / 2**20:.1f} MiB); read {out / 'README.md'} before you publish it, then: "
        f"hf upload NAME {out}", highlight=False,
    )  # fmt: skip
