"""`or1lab figures`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from or1lab.process import without_collection
from or1lab.terminal import Json, Results, Tier, console, print_json, runs_at


@without_collection()
def figures(
    names: Annotated[list[str] | None, typer.Argument(help="Figures to draw; default all.")] = None,
    results: Results = None,
    out: Annotated[Path, typer.Option(help="Where figures go.")] = Path("figures"),
    tier: Tier = "tiny",
    width: Annotated[
        float, typer.Option(min=3, max=12, help="Inches in print: 6.9 a page of two columns, 5.5 of one, 3.3 a column.")
    ] = 6.9,
    names_only: Annotated[bool, typer.Option("--list", help="What there is to draw; draws nothing.")] = False,
    json: Json = False,
) -> None:
    """Draw figures of experiments and of the paper, ours over its own: PNG, PDF, the data behind them and a caption.

    Letters have 8 to 9 points at any --width: draw a figure as wide as it is printed, and do not scale it. Below 5
    inches every panel has a row of its own; a figure of many panels is then longer than a page."""
    from or1lab import figures as drawing

    folder = runs_at(results, tier, named=names or ())
    if names_only:
        listed = drawing.listed(folder, tier, names or ())
        if json:
            print_json([{"name": name, "shows": shows, "runs": runs} for name, shows, runs in listed])
            return
        table = Table("figure", "shows", "runs", box=None, pad_edge=False)
        for name, shows, runs in listed:
            table.add_row(name, shows, runs)
        console.print(table, f"runs counted in {folder}; others: --results FOLDER", highlight=False)
        return
    written = drawing.make_figures(names or [], folder, out, tier, width)
    if json:
        print_json(written)
        return
    for path in written:
        console.print(f"wrote {path}", highlight=False)
    told = "" if names else "; what has none there is not drawn: or1lab figures --list"
    console.print(f"runs read from {folder}{told}", highlight=False, markup=False)
