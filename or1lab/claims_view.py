"""`or1lab claims`: the ledger as a table, in a terminal or as markdown, or as JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from or1lab.terminal import Json, Tier, console, print_json

if TYPE_CHECKING:
    from or1lab.ledger import Entry

HEADINGS = ("claim", "paper's evidence", "ours", "verdict", "comment")
STYLES = {"holds": "green", "reversed": "red", "does not hold": "yellow"}


def claims(
    results: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
    tier: Tier = "tiny",
    json: Json = False,
) -> None:
    """The ledger: every claim of experiments/claims.yaml, its verdict by a tier's runs, and what is still to run."""
    from or1lab.ledger import ledger

    entries = ledger(results, tier=tier)
    if json:
        print_json({"claims": [entry.plain() for entry in entries]})
        return
    for family in ("primary", "secondary"):
        own = [entry for entry in entries if entry.claim.family == family]
        where = "" if tier == "tiny" else f" at the tier {tier}"
        table = Table(title=f"{family} claims{where}" + (" (exploratory)" if family == "secondary" else ""))
        for heading in HEADINGS:
            table.add_column(heading, overflow="fold")
        for entry in own:
            table.add_row(*cells(entry), style=STYLES.get(entry.verdict, ""))
        console.print(table)
    console.print(tally(entries), highlight=False)


def cells(entry: Entry) -> tuple[str, ...]:
    """One row: the columns of HEADINGS."""
    claim = entry.claim
    return f"{claim.statement} ({claim.where})", claim.evidence, ours(entry), entry.verdict, entry.comment


def ours(entry: Entry) -> str:
    """`+0.120 [+0.080, +0.160], 5 seeds an arm`, a factor on the log scale; empty without runs."""
    if entry.effect is None:
        return ""
    sign = "x {:.2f}" if entry.claim.scale == "log" else "{:+.3f}"
    inside = "no interval"
    if entry.low is not None and entry.high is not None:
        inside = f"{sign.format(entry.low)}, {sign.format(entry.high)}"
    return f"{sign.format(entry.effect)} [{inside}], {entry.seeds} seeds an arm"


def tally(entries: list[Entry]) -> str:
    """How many claims have which verdict, in one line."""
    counts = Counter(entry.verdict for entry in entries)
    return f"{len(entries)} claims: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
