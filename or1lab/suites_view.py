"""`or1lab suites`: what can be evaluated, in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from or1lab.data.published import SETS
from or1lab.registry import models
from or1lab.suites import load_suite, names


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
    table = Table("suite", "version", "problems", "k", "temperature", "limit", "what", "from")
    for row in suites():
        what = row["title"] + (f" ({', '.join(row['bands'])})" if len(row["bands"]) > 1 else "")
        cells = (row[key] for key in ("suite", "version", "problems", "k", "temperature", "limit"))
        table.add_row(*(str(cell) for cell in cells), what, row["source"])
    console.print(table)
    console.print("Evaluate one: or1lab evaluate MODEL --suite NAME. A file of problems is a suite, too: --suite FILE.")


def show_models(console: Console) -> None:
    first = next(iter(models().values())).reported
    table = Table("model", "on the Hub", "kind", *(f"{suite}, avg@{one.k}" for suite, one in first.items()))
    for entry in models().values():
        cells = (f"{entry.reported[suite].value:.1f}" if suite in entry.reported else "-" for suite in first)
        table.add_row(entry.key, entry.hub, entry.kind, *cells)
    console.print(table)
    console.print("Reported percent: Table 13 (previews: README of April). Again: or1lab evaluate MODEL --suite NAME")
