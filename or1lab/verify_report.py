"""Files of labelled cases for a verifier, and the report by category.

A file holds one JSON object a line. A line that is no case is named by its number and skipped.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from or1lab.errors import Or1labError, UsageError
from or1lab.rewards import CodeVerdict, Verdict, is_error

COUNTS = ("cases", "agree", "false positives", "false negatives")  # of a category
SHORT = 80  # characters of a gold or an answer in a report


@dataclass(frozen=True)
class Case:
    """One line of the file."""

    line: int
    id: str
    category: str
    expected: bool | None  # None: nobody says
    policy: bool
    asked: tuple[Any, ...]  # what the judge takes
    shown: str  # the answer as the file has it
    gold: str | list[str] | None = None


@dataclass
class Report:
    """Cases of a file with their verdicts. A case under `policy` is one where judges may differ: counted apart."""

    cases: list[Case] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)  # one message a line that was skipped
    seconds: float = 0.0

    def counted(self, policy: bool = False) -> list[tuple[Case, Verdict]]:
        """The cases that have an expected verdict."""
        pairs = zip(self.cases, self.verdicts, strict=True)
        return [(case, found) for case, found in pairs if case.expected is not None and case.policy == policy]

    def unlike(self, policy: bool = False) -> list[tuple[Case, Verdict]]:
        """Those whose verdict is not the expected one, or is none."""
        return [(case, found) for case, found in self.counted(policy) if not _agree(case, found)]

    def by_category(self) -> dict[str, dict[str, int]]:
        """Category -> counts. A verdict that is an error agrees with nothing and is no false negative."""
        rows: dict[str, dict[str, int]] = {}
        for case, found in sorted(self.counted(), key=lambda pair: pair[0].category):
            row = rows.setdefault(case.category, dict.fromkeys(COUNTS, 0))
            row["cases"] += 1
            row["agree"] += _agree(case, found)
            row["false positives"] += found.correct and not case.expected
            row["false negatives"] += not found.correct and not is_error(found) and bool(case.expected)
        return rows

    def total(self) -> dict[str, int]:
        """The sums over the categories."""
        rows = self.by_category().values()
        return {name: sum(row[name] for row in rows) for name in COUNTS}


def _agree(case: Case, found: Verdict) -> bool:
    return found.correct == case.expected and not is_error(found)


class NoCase(ValueError):
    """What a line lacks to be a case."""


def run_cases(
    path: Path,
    parse: Callable[[int, dict[str, Any]], Case],
    judge: Callable[..., Verdict],
    *,
    threads: int,
    strict: bool = False,
) -> Report:
    """Judge every case of a JSONL file. Raises Or1labError at an invalid line if `strict`, or if none is valid."""
    if not path.is_file():
        raise UsageError(f"no file {path}")
    report = Report()
    with path.open("rb") as lines:  # bytes: one line of junk must not end the reading of the file
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                report.cases.append(parse(number, _object(line)))
            except NoCase as error:
                report.invalid.append(f"line {number}: {error}")
                if strict:
                    raise Or1labError(
                        f"{path}: {report.invalid[0]} (without --strict such lines are skipped)"
                    ) from None
    if not report.cases:
        first = f": {report.invalid[0]}" if report.invalid else ""
        raise Or1labError(f"{path} holds no case{first}")
    begin = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        report.verdicts = list(pool.map(lambda case: judge(*case.asked), report.cases))
    report.seconds = time.monotonic() - begin
    return report


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
        raise NoCase(f"not JSON ({str(error)[:60]})") from None
    if not isinstance(row, dict):
        raise NoCase("not an object")
    return row


def labels(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Case that every kind of file has. Raises NoCase."""
    expected = row.get("expected")
    if expected is not None and not isinstance(expected, bool):
        raise NoCase("'expected' must be true or false")
    return {
        "line": number, "id": str(row.get("id", f"line {number}")), "category": str(row.get("category", "all")),
        "expected": expected, "policy": row.get("policy") is True,
    }  # fmt: skip


# -------------------------------------------------------------------------------------------------- the reports


def short(text: str | list[str]) -> str:
    """One line of at most SHORT characters that any terminal can print; of a long answer the end."""
    text = " | ".join(text) if isinstance(text, list) else text
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= SHORT else "…" + text[-SHORT + 1 :]


def judged(verdict: Verdict) -> str:
    """A verdict in words."""
    return f"{'no verdict' if is_error(verdict) else _word(verdict.correct)} ({described(verdict)})"


def described(verdict: Verdict) -> str:
    """Its reason; of a program also how many tests it passed."""
    counted = f", {verdict.passed} of {verdict.total} tests passed" if isinstance(verdict, CodeVerdict) else ""
    return verdict.reason + counted


def as_json(report: Report) -> dict[str, Any]:
    """The report as `--json` prints it: counts, reasons, each disagreement, lines that were skipped."""
    def rows(pairs: list[tuple[Case, Verdict]]) -> list[dict[str, Any]]:
        return [
            {"id": case.id, "line": case.line, "category": case.category, "gold": case.gold, "pred": short(case.shown),
             "expected": case.expected, "correct": found.correct, "reason": described(found)}
            for case, found in pairs
        ]  # fmt: skip

    return {
        "total": report.total(),
        "by_category": report.by_category(),
        "reasons": dict(Counter(found.reason for found in report.verdicts)),
        "disagreements": rows(report.unlike()),
        "policy": {"cases": len(report.counted(True)), "disagreements": rows(report.unlike(True))},
        "unlabelled": sum(case.expected is None for case in report.cases),
        "invalid_lines": report.invalid,
        "seconds": round(report.seconds, 3),
    }


def show(report: Report, console: Console) -> None:
    """Print the table by category, the reasons, each disagreement and each line that was skipped."""
    table = Table("category", *COUNTS)
    for name, row in report.by_category().items():
        table.add_row(escape(short(name)), *map(str, row.values()))
    total = report.total()
    table.add_section()
    table.add_row("all", *map(str, total.values()))
    if total["cases"]:
        console.print(table)
        console.out(_summary(report), highlight=False)
    reasons = Counter(found.reason for found in report.verdicts)
    counts = ", ".join(f"{name} {n}" for name, n in reasons.most_common())
    console.out(f"reasons: {counts}", highlight=False)
    for case, found in report.unlike():
        console.out(
            f"{case.id} ({short(case.category)}): {f'gold {short(case.gold)} · ' if case.gold else ''}answer "
            f"{short(case.shown)} · expected {_word(case.expected)}, found {judged(found)}", highlight=False,
        )  # fmt: skip
    for message in report.invalid:
        console.out(f"skipped {message}", style="yellow", highlight=False)
    if report.invalid:
        console.print(f"{len(report.invalid)} invalid lines skipped", style="yellow", highlight=False)


def _word(right: bool | None) -> str:
    return "right" if right else "wrong"


def _summary(report: Report) -> str:
    total = report.total()
    share = total["agree"] / total["cases"] if total["cases"] else 0.0
    text = (
        f"{total['agree']} of {total['cases']} cases as expected ({share:.2%}), {total['false positives']} false "
        f"positives, {total['false negatives']} false negatives"
    )
    if failed := sum(is_error(found) for _, found in report.counted()):
        text += f", {failed} without a verdict"
    if conventions := report.counted(True):
        text += f"; of {len(conventions)} matters of convention {len(report.unlike(True))} otherwise than the file"
    return text


def page(report: Report, title: str, command: str) -> str:
    """The report as markdown: summary, table by category, one row for each case that stays wrong."""
    lines = [
        f"# {title}",
        "",
        f"Generated by `{command}`; do not edit.",
        "",
        _summary(report) + ".",
        "",
        f"| category | {' | '.join(COUNTS)} |",
        "|---|---|---|---|---|",
    ]
    for name, row in report.by_category().items():
        lines.append(f"| {_cell(name, code=False)} | " + " | ".join(map(str, row.values())) + " |")
    for title, policy in (("Cases that stay wrong", False), ("Matters of convention judged otherwise", True)):
        head = ["| case | category | gold | answer | expected | found |", "|---|---|---|---|---|---|"]
        rows = [
            f"| {_cell(case.id, code=False)} | {_cell(case.category, code=False)} | {_cell(case.gold or '')} "
            f"| {_cell(case.shown)} | {_word(case.expected)} | {judged(found)} |"
            for case, found in report.unlike(policy)
        ]
        lines += ["", f"## {title}", "", *(head + rows if rows else ["None."])]
    return "\n".join(lines) + "\n"


def _cell(text: str | list[str], code: bool = True) -> str:
    cell = short(text).replace("|", "\\|").replace("`", "'")
    return f"`` {cell} ``" if code and cell else cell
