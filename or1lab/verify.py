"""`or1lab verify math`: the mathematics verifier on one answer, or on a file of labelled cases.

A case holds `gold` (text, number or list of texts), `pred` (a response, or the answer itself where `form` is "answer"),
and as far as known `expected` (whether it is right), `category`, `id` and `policy` (true: a matter of convention,
reported apart).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from or1lab.rewards import math
from or1lab.verify_report import Case, NoCase, Report, labels, page, run_cases


def as_response(answer: str) -> str:
    r"""A bare answer in a box; what already holds a box or thinking is a response."""
    return answer if r"\boxed" in answer or "think>" in answer else f"\\boxed{{{answer}}}"


def run_batch(path: Path, *, strict: bool = False, timeout: float = math.TIMEOUT) -> Report:
    """Judge every case of a JSONL file. Raises Or1labError at an invalid line if `strict`, or if none is valid."""
    return run_cases(path, _parse, partial(math.verify_math, timeout=timeout), threads=math.WORKERS, strict=strict)


def markdown(report: Report, source: str) -> str:
    """The report as a page."""
    command = f"or1lab verify math --batch {source} --markdown docs/verifier.md"
    return page(report, "The mathematics verifier on public cases", command)


def _parse(number: int, row: dict[str, Any]) -> Case:
    gold, pred, form = row.get("gold"), row.get("pred"), row.get("form")
    golds = [_as_text(one) for one in (gold if isinstance(gold, list) else [gold])]
    if not golds or not all(golds):
        raise NoCase("'gold' must be a text or a list of texts")
    if not isinstance(pred, str):
        raise NoCase("'pred' must be a text")
    response = pred if form == "response" else f"\\boxed{{{pred}}}" if form == "answer" else as_response(pred)
    gold = golds if len(golds) > 1 else golds[0]
    return Case(**labels(number, row), asked=(response, gold), shown=pred, gold=gold)


def _as_text(gold: Any) -> str:
    """A gold answer as text; empty if it is none."""
    if isinstance(gold, int | float) and not isinstance(gold, bool):
        return str(gold)
    return gold.strip() if isinstance(gold, str) else ""
