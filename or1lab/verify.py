"""`or1lab verify`: a verifier on one answer, or on a file of labelled cases with a report by category.

A case is one JSON object a line: `gold` (text, number or list of texts), `pred` (a response, or the answer itself
where `form` is "answer"), and as far as known `expected` (whether it is right), `category`, `id` and `policy`
(true: a matter of convention, reported apart). A line that is no such case is named by its number and skipped.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from or1lab.errors import Or1labError, UsageError
from or1lab.rewards import Verdict

SHORT = 80  # characters of a gold or an answer in a report


@dataclass(frozen=True)
class Case:
    line: int
    gold: str | list[str]
    response: str  # in which the answer stands
    shown: str  # the answer as the file has it
    id: str
    category: str
    expected: bool | None
    policy: bool


@dataclass
class Report:
    cases: list[Case] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)  # one message a line that was skipped
    seconds: float = 0.0

    def counted(self, policy: bool = False) -> list[tuple[Case, Verdict]]:
        pairs = zip(self.cases, self.verdicts, strict=True)
        return [(case, found) for case, found in pairs if case.expected is not None and case.policy == policy]

    def unlike(self, policy: bool = False) -> list[tuple[Case, Verdict]]:
        return [(case, found) for case, found in self.counted(policy) if found.correct != case.expected]

    def by_category(self) -> dict[str, dict[str, int]]:
        rows: dict[str, dict[str, int]] = {}
        for case, found in sorted(self.counted(), key=lambda pair: pair[0].category):
            row = rows.setdefault(case.category, {"cases": 0, "agree": 0, "false positives": 0, "false negatives": 0})
            row["cases"] += 1
            row["agree"] += found.correct == case.expected
            row["false positives"] += found.correct and not case.expected
            row["false negatives"] += not found.correct and bool(case.expected)
        return rows

    def total(self) -> dict[str, int]:
        total = {"cases": 0, "agree": 0, "false positives": 0, "false negatives": 0}
        for row in self.by_category().values():
            total = {key: total[key] + row[key] for key in total}
        return total


def as_response(answer: str) -> str:
    r"""A bare answer in a box; what already holds a box or thinking is a response."""
    return answer if r"\boxed" in answer or "think>" in answer else f"\\boxed{{{answer}}}"


def run_batch(path: Path, *, strict: bool = False, timeout: float | None = None) -> Report:
    """Judge every case of a JSONL file. Raises Or1labError at an invalid line if `strict`, or if none is valid."""
    from or1lab.rewards import math

    if not path.is_file():
        raise UsageError(f"no file {path}")
    report = Report()
    for case in _read(path):
        if isinstance(case, Case):
            report.cases.append(case)
        elif strict:
            raise Or1labError(f"{path}: {case} (without --strict such lines are skipped)")
        else:
            report.invalid.append(case)
    if not report.cases:
        first = f": {report.invalid[0]}" if report.invalid else ""
        raise Or1labError(f"{path} holds no case{first}")
    limit = math.TIMEOUT if timeout is None else timeout
    begin = time.monotonic()
    with ThreadPoolExecutor(math.WORKERS) as threads:
        report.verdicts = list(
            threads.map(lambda case: math.verify_math(case.response, case.gold, timeout=limit), report.cases)
        )
    report.seconds = time.monotonic() - begin
    return report


def _read(path: Path) -> Iterator[Case | str]:
    with path.open("rb") as lines:  # bytes: one line of junk must not end the reading of the file
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parse(number, line)


def _parse(number: int, line: bytes) -> Case | str:
    """The case, or what is wrong with the line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
        return f"line {number}: not JSON ({str(error)[:60]})"
    if not isinstance(row, dict):
        return f"line {number}: not an object"
    gold, pred, expected = row.get("gold"), row.get("pred"), row.get("expected")
    golds = [_as_text(one) for one in (gold if isinstance(gold, list) else [gold])]
    if not golds or not all(golds):
        return f"line {number}: 'gold' must be a text or a list of texts"
    if not isinstance(pred, str):
        return f"line {number}: 'pred' must be a text"
    if expected is not None and not isinstance(expected, bool):
        return f"line {number}: 'expected' must be true or false"
    form = row.get("form")
    return Case(
        line=number, gold=golds if len(golds) > 1 else golds[0],
        response=pred if form == "response" else f"\\boxed{{{pred}}}" if form == "answer" else as_response(pred),
        shown=pred, id=str(row.get("id", f"line {number}")), category=str(row.get("category", "all")),
        expected=expected, policy=row.get("policy") is True,
    )  # fmt: skip


def _as_text(gold: Any) -> str:
    """A gold answer as text; empty if it is none."""
    if isinstance(gold, int | float) and not isinstance(gold, bool):
        return str(gold)
    return gold.strip() if isinstance(gold, str) else ""


# -------------------------------------------------------------------------------------------------- the reports


def short(text: str | list[str]) -> str:
    """One line of at most SHORT characters that any terminal can print; of a long answer the end."""
    text = " | ".join(text) if isinstance(text, list) else text
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= SHORT else "…" + text[-SHORT + 1 :]


def as_json(report: Report) -> dict[str, Any]:
    def rows(pairs: list[tuple[Case, Verdict]]) -> list[dict[str, Any]]:
        return [
            {"id": case.id, "line": case.line, "category": case.category, "gold": case.gold, "pred": short(case.shown),
             "expected": case.expected, "correct": found.correct, "reason": found.reason}
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
    table = Table("category", "cases", "agree", "false positives", "false negatives")
    for name, row in report.by_category().items():
        table.add_row(short(name), *map(str, row.values()))
    total = report.total()
    table.add_section()
    table.add_row("all", *map(str, total.values()))
    if total["cases"]:
        console.print(table)
        console.print(_summary(report), highlight=False, markup=False)
    reasons = Counter(found.reason for found in report.verdicts)
    console.print("reasons: " + ", ".join(f"{name} {n}" for name, n in reasons.most_common()), highlight=False)
    for case, found in report.unlike():
        console.print(
            f"{case.id} ({short(case.category)}): gold {short(case.gold)} · answer {short(case.shown)} · expected "
            f"{_word(case.expected)}, found {_word(found.correct)} ({found.reason})",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    for message in report.invalid:
        console.print(f"skipped {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)
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
    if conventions := report.counted(True):
        text += f"; of {len(conventions)} matters of convention {len(report.unlike(True))} otherwise than the file"
    return text


def markdown(report: Report, source: str) -> str:
    """The report as a page: summary, table by category, one row for each case that stays wrong."""
    lines = [
        "# The mathematics verifier on public cases",
        "",
        f"Generated by `or1lab verify math --batch {source} --markdown docs/verifier.md`; do not edit.",
        "",
        _summary(report) + ".",
        "",
        "| category | cases | agree | false positives | false negatives |",
        "|---|---|---|---|---|",
    ]
    for name, row in report.by_category().items():
        lines.append(f"| {_cell(name, code=False)} | " + " | ".join(map(str, row.values())) + " |")
    for title, policy in (("Cases that stay wrong", False), ("Matters of convention judged otherwise", True)):
        head = ["| case | category | gold | answer | expected | found |", "|---|---|---|---|---|---|"]
        rows = [
            f"| {_cell(case.id, code=False)} | {_cell(case.category, code=False)} | {_cell(case.gold)} "
            f"| {_cell(case.shown)} | {_word(case.expected)} | {_word(found.correct)} ({found.reason}) |"
            for case, found in report.unlike(policy)
        ]
        lines += ["", f"## {title}", "", *(head + rows if rows else ["None."])]
    return "\n".join(lines) + "\n"


def _cell(text: str | list[str], code: bool = True) -> str:
    cell = short(text).replace("|", "\\|").replace("`", "'")
    return f"`` {cell} ``" if code and cell else cell
