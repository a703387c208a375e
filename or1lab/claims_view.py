"""`or1lab claims`: the ledger as a table in a terminal, or as JSON; its words and its sheet for notebooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from or1lab.errors import check_names
from or1lab.process import without_collection
from or1lab.terminal import Json, OfStudy, Tier, console, print_json, runs_at

if TYPE_CHECKING:
    from or1lab.claims import Claim
    from or1lab.ledger import Entry
    from or1lab.sheet import Sheet

HEADINGS = ("claim", "paper's evidence", "ours", "verdict", "comment")
GROUPS = {
    "primary": "primary claims",
    "secondary": "secondary claims (exploratory)",
    "follow-up": "follow-ups, asked after the first results (exploratory)",
}
RELATION = {"greater": "above", "less": "below", "equivalent": "like"}  # of the first arm to the second, as claimed
STYLES = {"holds": "green", "reversed": "red", "does not hold": "yellow"}
WIDE = 110  # columns of a terminal: in a narrower one evidence and comment stand below the claim
NARROW = 60  # in one of fewer, what was found stands there, too
EFFECTS = (
    "Effects are turned so that they are positive, or factors above 1, where the claim is right; in brackets their "
    "intervals over runs, of 95%, wider for primary claims (Holm; --json has the level). [eye]: read by eye off a "
    "figure of the paper, no number that it gives."
)


@without_collection()
def claims(
    ids: Annotated[list[str] | None, typer.Argument(help="Claims to tell of run by run; default the ledger.")] = None,
    results: OfStudy = None,
    tier: Tier = "tiny",
    json: Json = False,
) -> None:
    """The ledger: every claim of experiments/claims.yaml and follow_ups.yaml, its verdict by a tier's runs, and what is
    still to run."""
    from or1lab.claims import load_claims, load_follow_ups
    from or1lab.ledger import ledger

    results = runs_at(results, tier, of_study=True)
    check_names(ids or [], [claim.id for claim in load_claims() + load_follow_ups()], "claim")
    entries = ledger(results, tier=tier)
    chosen = [entry for entry in entries if entry.claim.id in (ids or [entry.claim.id])]
    if json:
        print_json({"claims": [entry.plain() for entry in chosen]})
        return
    if not ids:
        show(entries, console, tier)
    for entry in chosen if ids else ():
        show_runs(entry, results, console)
    console.print(f"runs read from {results}", highlight=False, markup=False)


def show(entries: Sequence[Entry], console: Console, tier: str = "tiny") -> None:
    """Print the ledger: five columns in a wide terminal, three in a narrow one, two in a very narrow one. What a claim
    says is no markup."""
    wide, slim, where = console.width >= WIDE, console.width < NARROW, "" if tier == "tiny" else f" at the tier {tier}"
    for group, title in GROUPS.items():
        columns = [Column("claim", ratio=5), Column("ours", width=18), Column("verdict", width=13)]
        if wide:
            columns = [columns[0], Column("paper's evidence", ratio=3), *columns[1:], Column("comment", ratio=2)]
        if slim:
            columns = [columns[0], Column("verdict", width=8)]
        table = Table(
            *columns, title=title + where, box=box.HORIZONTALS, show_lines=True, title_justify="left", expand=True
        )
        for entry in (entry for entry in entries if entry.claim.group == group):
            claim, style = entry.claim, STYLES.get(entry.verdict, "")
            told = Text(f"{claim.statement} ({claim.where})")
            told.append(f"\n{claim.id}: {compared(claim)}, {wanted(claim)}", "dim")
            middle = [Text("\n".join(numbers(entry))), Text(entry.verdict, style)]
            if wide:
                table.add_row(told, Text(claim.evidence), *middle, Text(entry.comment))
                continue
            told.append(f"\npaper: {claim.evidence}", "dim")
            told.append(f"\nours: {' '.join(numbers(entry)) or '-'}" if slim else "")
            told.append(f"\n{entry.comment}" if entry.comment else "")
            table.add_row(told, *middle[slim:])
        if table.rows:
            console.print(table)
    console.print(Text(EFFECTS))
    console.print(tally(entries), highlight=False)


def show_runs(entry: Entry, results: Path, console: Console) -> None:
    """Print a claim, what its arms set, and the statistic of every run below `results`."""
    from or1lab.claims import study
    from or1lab.sheet import number

    claim, experiment = entry.claim, study(entry.claim.experiment, entry.tier)
    console.print(Text(f"{claim.id}, {wanted(claim)}", "bold"), Text(sentence(entry)), sep="\n")
    table = Table("arm", "seed", claim.statistic.replace("_", " "), Column("run", overflow="fold"), box=box.SIMPLE_HEAD)
    runs = iter(entry.runs)
    for arm, values in zip(claim.arms, entry.numbers, strict=False):
        sets = ", ".join(f"{key}={value}" for key, value in experiment.arms[arm].set.items())
        console.print(Text(f"{arm} sets {sets or 'nothing'}"))
        for seed, value in zip(experiment.seeds, values, strict=True):
            table.add_row(Text(arm), str(seed), number(value, ".4g"), Text(str(Path(next(runs)).relative_to(results))))
        table.add_section()
    if entry.numbers:
        console.print(table)
    console.print(f"figure: or1lab figures {claim.figure}; statistic: docs/claims.md#statistics\n", highlight=False)


def sheet(entries: Sequence[Entry]) -> Sheet:
    """The ledger as a sheet, in its groups."""
    from or1lab.sheet import Cell, Sheet

    order = list(GROUPS)
    groups: dict[str, list[list[Cell]]] = {}
    for entry in sorted(entries, key=lambda entry: order.index(entry.claim.group)):
        claim = entry.claim
        ours = f"{found(entry)}; {wanted(claim)}"
        texts = (f"{claim.statement} ({claim.where})", claim.evidence, ours, entry.verdict, entry.comment)
        groups.setdefault(GROUPS[claim.group], []).append(list(map(Cell, texts)))
    return Sheet(HEADINGS, groups, notes=[EFFECTS, tally(entries)], left=len(HEADINGS))


def sentence(entry: Entry) -> str:
    """A claim in a line: verdict, statement, what was compared and found, the paper's evidence."""
    claim, told = entry.claim, entry.comment
    if entry.effect is not None:
        told = "; ".join(filter(None, [found(entry), told]))
    place = claim.where.replace("ours", "Ours", 1) if claim.where.startswith("ours") else f"Paper, {claim.where}"
    evidence = f": {claim.evidence}" if claim.evidence != "none" else ""
    line = f"{entry.verdict.capitalize()} ({claim.group}): {claim.statement}"
    return f"{line} {told[:1].upper()}{told[1:]}. {place}{evidence}."


def found(entry: Entry) -> str:
    """`final accuracy, 1-64-64-1 above 4-64-16-1: +0.120 [+0.080, +0.160], 5 seeds an arm`."""
    if entry.effect is None:
        return compared(entry.claim)
    effect, interval, seeds = numbers(entry)
    return f"{compared(entry.claim)}: {effect} {interval}, {seeds}"


def compared(claim: Claim) -> str:
    """`final accuracy, 1-64-64-1 above 4-64-16-1`: what is claimed of which arms."""
    statistic = claim.statistic.replace("_", " ")
    if claim.kind == "ordered":
        return f"{statistic}, rising from {' over '.join(claim.arms)}"
    other = claim.arms[-1] if claim.against is None else f"{claim.against:g}"
    return f"{statistic}, {claim.arms[0]} {RELATION[claim.kind]} {other}"


def wanted(claim: Claim) -> str:
    """What effect counts: `smallest effect +0.020`, `smallest effect ×1.50`, `at most 0.020 worse`, `at most a factor
    of 1.50 worse`, `within ±0.050`, `within a factor of 1.10`."""
    from or1lab.sheet import number

    log, size = claim.scale == "log", claim.smallest_effect
    if claim.kind == "equivalent":
        return f"within {'a factor of ' if log else '±'}{number(size, '.2f' if log else '.3f')}"
    if claim.effect < 0:
        return f"at most {f'a factor of {1 / size:.2f}' if log else number(-size, '.3f')} worse"
    return f"smallest effect {'×' if log else ''}{number(size, '.2f' if log else '+.3f')}"


def numbers(entry: Entry) -> tuple[str, ...]:
    """`+0.120`, `[+0.080, +0.160]` and `5 seeds an arm`; factors on the log scale; nothing without an effect."""
    from or1lab.sheet import number

    if entry.effect is None:
        return ()
    sign, form = ("×", ".2f") if entry.claim.scale == "log" else ("", "+.3f")
    inside = "no interval"
    if entry.low is not None and entry.high is not None:
        inside = f"{number(entry.low, form)}, {number(entry.high, form)}"
    return f"{sign}{number(entry.effect, form)}", f"[{inside}]", f"{entry.seeds} seeds an arm"


def tally(entries: Sequence[Entry]) -> str:
    """How many claims of each group have which verdict, in one line."""
    told = []
    for group, title in GROUPS.items():
        counts = Counter(entry.verdict for entry in entries if entry.claim.group == group)
        verdicts = ", ".join(f"{verdict} {n}" for verdict, n in counts.most_common())
        told += [f"{counts.total()} {title.partition(',')[0]}: {verdicts}"] if counts else []
    return "; ".join(told)
