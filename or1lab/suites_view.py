"""`or1lab suites`: what can be evaluated, in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from or1lab.data.published import SETS
from or1lab.registry import models
from or1lab.suites import load_suite, names
from or1lab.terminal import right


def suites() -> list[dict[str, Any]]:
    """One row a suite: settings, number of problems where it is known, and where they come from."""
    rows = []
    for name in names():
        suite = load_suite(name)
        origin = SETS[suite.set].hub if suite.set else f"generated ({suite.generate})"
        local = suite.local_file
        rows.append({
            **suite.record(), "title": suite.title, "domain": suite.domain, "problems": suite.size,
            "bands": {band: settings.n for band, settings in suite.bands.items()}, "suffixes": list(suite.suffixes),
            "source": str(local) if local else origin, "licence": suite.licence,
        })  # fmt: skip
    return rows


def registry() -> list[dict[str, Any]]:
    """One row a model: its Hub name, the report's settings, and what is reported of it, percent."""
    return [
        entry.model_dump(exclude={"reported"}) | {suite: one.value for suite, one in entry.reported.items()}
        for entry in models().values()
    ]


def show_suites(console: Console) -> None:
    """Print every suite with version, size, samples a problem and limit (tokens)."""
    numbers = right("version", "problems", "k", "limit", no_wrap=True)
    table = Table(Column("suite", no_wrap=True), *numbers, "what, and where from")
    for row in suites():
        what = row["title"] + (f" ({', '.join(row['bands'])})" if len(row["bands"]) > 1 else "")
        size = "?" if row["problems"] is None else str(row["problems"])
        cells = (row["suite"], str(row["version"]), size, str(row["k"]), f"{row['limit']:,}")
        table.add_row(*cells, f"{what}: {row['source']}")
    console.print(table)
    console.print("Evaluate one: or1lab evaluate MODEL --suite NAME. A file of problems is a suite, too: --suite FILE.")


def show_models(console: Console) -> None:
    """Print the registry's models with what the paper's Table 13 reports of them, percent."""
    first = next(iter(models().values())).reported
    numbers = right(*(f"{suite}\navg@{one.k}, %" for suite, one in first.items()), no_wrap=True)
    table = Table(Column("model", no_wrap=True), *numbers)
    for entry in models().values():
        cells = (f"{entry.reported[suite].value:.1f}" if suite in entry.reported else "-" for suite in first)
        table.add_row(entry.key, *cells)
    console.print(table)
    console.print(
        "Reported in Table 13 (previews: README of April); --json has the names on the Hub. Again: "
        "or1lab evaluate MODEL --suite NAME"
    )
