"""What must hold of a problem by itself: an answer that its solution reaches, a text that stands alone, sound tests.

Each check is a stage: it yields every problem with the reason to drop it, empty where it stays. A reason that begins
with "unchecked" keeps the problem and is counted: there was nothing to check it with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from or1lab.data.dedupe import Decisions
from or1lab.data.figures import pointer
from or1lab.data.problem import Problem
from or1lab.process import cores
from or1lab.rewards.asserts import NoTests, cases, prepare

CHUNK = 64  # problems judged together
WORKERS = max(2, cores() // 2)
LONGEST_INPUT = 200  # characters from which an end in "..." is taken for a cut, as on the sites of contests

FINAL = "####"  # before the answer in the last line of a solution: GSM8K and its heirs

T = TypeVar("T")


def is_code(problem: Problem) -> bool:
    """Whether a problem asks for a program."""
    return problem.tests is not None


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk


def answers(problems: Iterable[Problem]) -> Decisions:
    """Mathematics: the answer found in the solution by our verifier must be the gold one (paper section 6.1)."""
    from or1lab.rewards.math import verify_math

    def check(problem: Problem) -> str:
        if is_code(problem):
            return ""
        if not problem.solution:
            return "unchecked: no solution"
        last = problem.solution.rstrip().rpartition("\n")[2]
        stated = f"\\boxed{{{last[4:]}}}" if last.startswith(FINAL) else problem.solution
        verdict = verify_math(stated, problem.gold or "")
        return "" if verdict.correct else f"answer not that of the solution: {verdict.reason}"

    return _side_by_side(problems, check)


def figures(problems: Iterable[Problem]) -> Decisions:
    """Mathematics: statements with an address, or with a figure that is not there."""
    for problem in problems:
        yield problem, "" if is_code(problem) else pointer(problem.prompt)


def tests(problems: Iterable[Problem]) -> Decisions:
    """Programs: tests that are there and whole, and that the reference solution passes in the sandbox."""
    from or1lab.rewards.code import judge

    def check(problem: Problem) -> str:
        if not is_code(problem):
            return ""
        if fault := faulty(problem.tests):
            return fault
        if not problem.solution:
            return "unchecked: no solution"
        verdict = judge(problem.solution, problem.tests or [])
        if verdict.reason == "timeout":  # once more: the machine may have been busy
            verdict = judge(problem.solution, problem.tests or [])
        if verdict.reason.startswith("error"):
            return f"corrupted tests: {verdict.reason}"
        passed = f"{verdict.passed} of {verdict.total} tests passed"
        return "" if verdict.correct else f"solution fails: {verdict.reason}, {passed}"

    return _side_by_side(problems, check)


def _side_by_side(problems: Iterable[Problem], check: Any) -> Decisions:
    with ThreadPoolExecutor(WORKERS) as threads:
        for chunk in chunks(problems, CHUNK):
            yield from zip(chunk, threads.map(check, chunk), strict=True)


def faulty(record: Any) -> str:
    """What is wrong with a record of tests as it stands, or nothing: "empty tests", "incomplete tests: ..." or
    "corrupted tests: ..."; the kinds of records are those of `rewards/code.py`."""
    if not isinstance(record, Mapping):
        if not all({"input", "output"} <= set(test) for test in record):
            return "incomplete tests: an input or output is missing"
        record = {"inputs": [test["input"] for test in record], "outputs": [test["output"] for test in record]}
    if "inputs" in record:
        inputs, outputs = record["inputs"], record.get("outputs")
        if not isinstance(inputs, list) or not isinstance(outputs, list):
            return "corrupted tests: inputs and outputs are no lists"
        if len(inputs) != len(outputs):
            return f"incomplete tests: {len(inputs)} inputs, {len(outputs)} outputs"
        if not inputs:
            return "empty tests"
        return next(filter(None, (_fault(one) for one in [*inputs, *outputs])), "") or (
            "" if record.get("fn_name") or all(map(_text, outputs)) else "incomplete tests: an output is empty"
        )
    if not {"test_code", "assert_case"} & set(record):
        return "corrupted tests: no record of a known kind"
    try:
        checking = "test_code" in record
        prepare(record["test_code"] if checking else cases(record["assert_case"]), checking)
    except (NoTests, KeyError, TypeError, ValueError, SyntaxError, RecursionError) as error:
        return "empty tests" if str(error) == "no assert" else f"corrupted tests: {str(error) or type(error).__name__}"
    return ""


def _text(part: Any) -> str:
    return (part if isinstance(part, str) else "\n".join(map(str, part or []))).strip()


def _fault(part: Any) -> str:
    """Of an input or output of a program."""
    text = part if isinstance(part, str) else ""
    if "\0" in text or "\ufffd" in text:
        return "corrupted tests: characters that are none"
    cut = text.rstrip()
    if len(cut) > LONGEST_INPUT and cut.endswith("...") and cut[-4] != ".":
        return "incomplete tests: cut off"
    return ""
