"""`or1lab verify code`: the code judge on one program, or on a file of labelled cases.

A problem is a JSON object: a record of tests (the kinds in `rewards/code.py`), or an object that holds one where data
sets keep it (`tests`, `io`, `input_output`, `ground_truth`, `problem`, as an object or as its JSON text; `test` with
`entry_point`). A case is such an object that also holds a program or a response (`response`, `code`, or `solution`,
which is expected to be right, as is the first of `solutions`) and as far as known `expected`, `category` and `id`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from or1lab.errors import UsageError
from or1lab.process import cores
from or1lab.rewards import CodeVerdict
from or1lab.rewards.code import judge
from or1lab.verify_report import Case, NoCase, Report, labels, page, run_cases

HOLDERS = ("tests", "io", "input_output", "ground_truth", "problem")
KINDS = ("inputs", "test_code", "assert_case")  # what only a record has
ANSWERS = ("response", "code", "solution", "solutions")


def run_batch(path: Path, *, strict: bool = False) -> Report:
    """Judge every case of a JSONL file. Raises Or1labError at an invalid line if `strict`, or if none is valid."""
    return run_cases(path, _parse, judge, threads=cores(), strict=strict)


def markdown(report: Report, source: str) -> str:
    """The report as a page."""
    return page(report, "The code judge on labelled cases", f"or1lab verify code --batch {source} --markdown FILE")


def judge_files(problem: Path, solution: Path) -> CodeVerdict:
    """The verdict on a file with a program or a response. Raises UsageError for files that cannot be read so."""
    try:
        tests = find_tests(json.loads(problem.read_text(encoding="utf-8")))
        if tests is None:
            raise UsageError(f"{problem} holds no tests: wanted is a record of them, or an object with 'tests'")
        return judge(solution.read_text(encoding="utf-8", errors="surrogateescape"), tests)  # junk is a wrong program
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or not JSON
        raise UsageError(f"{problem} must be a JSON object: {error}") from None


def find_tests(row: Any) -> Any:
    """The record of tests in an object, or None."""
    if isinstance(row, list) and row and all(isinstance(one, dict) and {"input", "output"} <= set(one) for one in row):
        return row
    if not isinstance(row, Mapping):
        return None
    if any(kind in row for kind in KINDS):
        return row
    for name in HOLDERS:
        if found := find_tests(_parsed(row.get(name))):
            return found
    test = row.get("test")
    if isinstance(test, list):
        return {"assert_case": test}
    return {"test_code": test, "entry_point": row.get("entry_point")} if isinstance(test, str) else None


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def _parse(number: int, row: dict[str, Any]) -> Case:
    tests = find_tests(row)
    if tests is None:
        raise NoCase(f"no tests: none of {', '.join(KINDS + HOLDERS)}")
    name = next((name for name in ANSWERS if row.get(name) is not None), "")
    answer = row[name][0] if name == "solutions" and isinstance(row[name], list) and row[name] else row.get(name)
    if not isinstance(answer, str):
        raise NoCase(f"'{name or ANSWERS[0]}' must be a text")
    if name.startswith("solution"):
        row = {"expected": True, **row}
    return Case(**labels(number, row), asked=(answer, tests), shown=answer)
