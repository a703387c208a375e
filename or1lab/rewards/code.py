"""Code reward: whether a program passes all the tests of its problem (paper section 7.2).

The last fenced python block after the thinking counts. It is parsed, then run in a sandbox (`sandbox.py`) against a
record of one of these kinds, told apart by their keys:

    {"inputs", "outputs"}                               a program: what it prints for each standard input
    {"inputs", "outputs", "fn_name"}                    a function, or a method of class Solution: what it returns
    {"import_prefix", "test_code", "entry_point"}       `check(entry_point)` raises nothing
    {"assert_case": [...]}                              each assert holds

What decides is never within reach of the submission. Outputs and values come out as data and are compared here. Tests
that have to run, asserts, run in a second sandbox which the submission's code never enters: their calls are carried
over to the first one, and values come back (arguments that were changed in place, too). So a program that exits with
0, patches the interpreter or writes to every descriptor has given a wrong answer, no more. A function is loaded once
for all its tests.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError
from or1lab.rewards import CodeVerdict, Verdict
from or1lab.rewards.asserts import NoTests, Prepared, cases, prepare
from or1lab.rewards.compare import Checker, same_text, same_value
from or1lab.rewards.inside import wire
from or1lab.rewards.sandbox import Broken, Child, Limits, TooMuch, unsafe

PREFIX = "error: import_prefix does not run here"
LONGEST = 1_000_000  # characters of a program; no honest one comes near
FENCE = re.compile(r"```python[0-9]?[^\S\n]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


def judge(
    response_or_code: str,
    tests: Mapping[str, Any] | Sequence[Mapping[str, str]],
    *,
    limits: Limits | None = None,
    checker: Checker | None = None,
) -> CodeVerdict:
    """Whether a response, or bare code, passes all tests of a record.

    Reasons: "passed", "no code", "syntax error", "missing function", "wrong answer", "runtime error", "exited early",
    "timeout", "output limit"; "error: ..." when the record is at fault. After a timeout or a crash the tests that are
    left count as failed. Nothing that a response holds raises; Or1labError only where no sandbox works.

    Args:
        tests: a record, or a list of `{"input", "output"}` (standard input and output).
        checker: decides instead of equality, for tests with outputs; it runs here, outside the sandbox.
    """
    return _marked(_judge(response_or_code, tests, limits or Limits(), checker, bare=True))


def find_code(response: str, *, bare: bool = True) -> str | None:
    """The program in a response, or None.

    As with mathematics, only text after the first `</think>` (up to a second one) counts, and thinking that never ended
    has no answer. Of that text: its last python block. Text without any sign of a response is code itself (if `bare`).
    """
    thought = "</think>" in response
    if thought:
        response = response.split("</think>", 2)[1]
    elif "<think>" in response:
        return None
    blocks = FENCE.findall(response)
    return blocks[-1] if blocks else response if bare and not thought and "```" not in response else None


def score_batch(problems: Sequence[Problem], responses: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
    """The verdicts of a batch, in order, as many at a time as there are cores. A truncated response is never right
    (reason "truncated"), nor one without a python block; "error: ..." where the tests are at fault, or the sandbox."""
    with ThreadPoolExecutor(cores()) as threads:
        return list(threads.map(_score, problems, responses, truncated))


def cores() -> int:
    """How many programs run side by side."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _score(problem: Problem, response: str, cut: bool) -> CodeVerdict:
    try:
        return _marked(_judge(None if cut else response, problem.tests or [], Limits(), None, bare=False))
    except Or1labError as error:
        return CodeVerdict(False, f"error: {error}")


def _marked(verdict: CodeVerdict) -> CodeVerdict:
    return replace(verdict, reason=f"{verdict.reason} (unsafe sandbox)") if unsafe() else verdict


def _judge(
    response: str | None, tests: Any, limits: Limits, checker: Checker | None, *, bare: bool
) -> CodeVerdict:
    """`response` is None where it was truncated."""
    try:
        run = _Run(tests, limits, checker)
    except (NoTests, KeyError, TypeError, ValueError, SyntaxError, RecursionError) as error:
        return CodeVerdict(False, f"error: bad tests: {str(error) or type(error).__name__}"[:200])
    if response is None:
        return run.verdict("truncated")
    code = find_code(response, bare=bare)
    if not code or code.isspace():
        return run.verdict("no code")
    try:
        source = code.encode()
    except UnicodeEncodeError:  # lone surrogates
        return run.verdict("syntax error")
    if len(code) > LONGEST:
        return run.verdict("syntax error")
    try:
        return run.verdict(run(source))
    except TimeoutError:
        return run.verdict("timeout")
    except TooMuch:
        return run.verdict("output limit")
    except Broken:
        return run.verdict("exited early")
    except NoTests as error:
        return run.verdict(f"error: {error}")


class _Run:
    """One submission against one record. Calling it gives the reason; `passed` counts."""

    def __init__(self, tests: Any, limits: Limits, checker: Checker | None) -> None:
        self.limits, self.checker, self.passed = limits, checker, 0
        self.entry: str | None = None
        self.prefix = ""
        if not isinstance(tests, Mapping):
            tests = {"inputs": [test["input"] for test in tests], "outputs": [test["output"] for test in tests]}
        if "inputs" in tests:
            self.pairs = list(zip(tests["inputs"], tests["outputs"], strict=True))
            self.entry = tests.get("fn_name")
            if self.entry:
                self.pairs = [(_arguments(given), _value(given, wanted)) for given, wanted in self.pairs]
            else:
                self.pairs = [(_text(given), _text(wanted)) for given, wanted in self.pairs]
            self.total, self.kind = len(self.pairs), self.functions if self.entry else self.programs
        else:
            self.kind = self.asserts
            if "test_code" in tests:
                self.entry, self.prefix = tests["entry_point"], tests.get("import_prefix") or ""
                self.prepared: Prepared = prepare(tests["test_code"], check=True)
            elif "assert_case" in tests:
                self.prepared = prepare(cases(tests["assert_case"]), check=False)
            else:
                raise NoTests(f"unknown kind of record, with {', '.join(map(str, tests)) or 'nothing'}")
            self.total = self.prepared.total
        if not self.total:
            raise NoTests("there are none")

    def __call__(self, source: bytes) -> str:
        self.end = time.monotonic() + self.limits.whole(self.total)
        return self.kind(source)

    def verdict(self, reason: str) -> CodeVerdict:
        return CodeVerdict(reason == "passed" and self.passed == self.total, reason, self.passed, self.total)

    def outcome(self, reasons: Sequence[str]) -> str:
        return reasons[0] if reasons else "passed" if self.passed == self.total else "wrong answer"

    def soon(self) -> float:
        """When the test that begins now has to end."""
        return min(time.monotonic() + self.limits.seconds, self.end)

    # ------------------------------------------------------------------------------------- inputs and outputs

    def programs(self, source: bytes) -> str:
        """A fresh process, in a fresh sandbox, for each standard input."""
        reasons = []
        for given, wanted in self.pairs:
            if time.monotonic() >= self.end:
                raise TimeoutError
            task = {"role": "stdio", "source": source}
            with Child(task, self.limits, self.limits.seconds, given.encode(errors="surrogatepass")) as child:
                if self.started(child) != "ready":
                    return "syntax error"
                output, status = child.output(self.soon())
            if status:
                reasons.append("runtime error")
            elif self.right(given, output.decode(errors="surrogateescape"), wanted, same_text):
                self.passed += 1
            else:
                reasons.append("wrong answer")
        return self.outcome(reasons)

    def started(self, child: Child) -> str:
        try:
            return child.receive(self.soon())[0]
        except Broken:  # the parser itself has died of it
            return "syntax"

    def functions(self, source: bytes) -> str:
        """All calls in one process; the next arguments are sent when the last value is there."""
        reasons = []
        with self.load(source) as child:
            if reason := self.loaded(child)[0]:
                return reason
            for given, wanted in self.pairs:
                reply = self.call(child, "", wire.encode([given, {}]))
                if reply[0] == "raised":
                    reasons.append("runtime error")
                elif self.right(given, _decoded(reply[1]), wanted, same_value):
                    self.passed += 1
                else:
                    reasons.append("wrong answer")
        return self.outcome(reasons)

    def right(self, given: Any, found: Any, wanted: Any, same: Any) -> bool:
        try:
            return bool(self.checker(given, found, wanted) if self.checker else same(found, wanted))
        except Exception as error:
            if self.checker:
                raise NoTests(f"the checker raised {type(error).__name__}") from error
            return False  # a cycle in what came back

    # --------------------------------------------------------------------------------------- calls and asserts

    def load(self, source: bytes, names: Sequence[str] = (), mutation: bool = False) -> Child:
        task = {
            "role": "calls", "source": source, "prefix": self.prefix, "entry": self.entry,
            "names": list(names), "mutation": mutation,
        }  # fmt: skip
        return Child(task, self.limits, self.limits.whole(self.total))

    def loaded(self, child: Child) -> tuple[str, list]:
        """("", the names found in the submission) or (why it failed, [])."""
        if (first := self.started(child)) != "ready":
            return (PREFIX if first == "prefix" else "syntax error"), []
        message = child.receive(self.soon())
        if message[0] == "loaded" and len(message) == 2 and isinstance(message[1], list):
            return "", message[1]
        return {"raised": "runtime error", "missing": "missing function"}.get(message[0], "exited early"), []

    def call(self, child: Child, name: str, arguments: list) -> list:
        deadline = self.soon()
        child.send((name, arguments), deadline)
        reply = child.receive(deadline)
        if (reply[0], len(reply)) not in (("value", 3), ("raised", 2)):
            raise Broken
        return reply

    def asserts(self, source: bytes) -> str:
        """The tests in one sandbox, the submission in another; calls and values go through here."""
        prepared = self.prepared
        with self.load(source, prepared.names, mutation=True) as child:
            reason, names = self.loaded(child)
            if reason:
                return reason
            names = [part for name, value in _pairs(names, prepared.names) for part in (name, value)]
            task = {
                "role": "tests", "prefix": self.prefix, "code": prepared.code, "report": prepared.report,
                "entry": self.entry, "names": names,
            }  # fmt: skip
            with Child(task, self.limits, self.limits.whole(self.total)) as tester:
                return self.relay(child, tester)

    def relay(self, child: Child, tester: Child) -> str:
        reasons = []
        while True:
            try:
                message = tester.receive(self.end)
            except Broken:  # what came back was too much for the tests
                return "wrong answer"
            if message[0] == "call":
                reply = self.call(child, message[1], message[2])
                if reply[0] == "raised":
                    reasons.append("runtime error")
                tester.send((*reply, None)[:3], self.end)
            elif message[0] == "test":
                self.passed += message[1]
            elif message[0] == "stopped":
                return "runtime error"
            elif message[0] == "prefix":
                return PREFIX
            else:
                return "passed" if self.passed == self.total else self.outcome(reasons)


def _pairs(flat: list, wanted: Sequence[str]) -> list[tuple[str, Any]]:
    """The names and values that a submission claims to have, if they were asked for."""
    if len(flat) % 2:
        raise Broken
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    return [(name, value) for name, value in pairs if isinstance(name, str) and name in wanted]


def _decoded(encoded: Any) -> Any:
    try:
        return wire.decode(encoded)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError, MemoryError):
        return wire.Opaque(False)


def _text(part: Any) -> str:
    return part if isinstance(part, str) else "\n".join(map(str, part))


def _arguments(given: Any) -> list:
    """Of a function's test: a list, or (LiveCodeBench) text with one JSON value a line."""
    return [json.loads(line) for line in given.split("\n") if line.strip()] if isinstance(given, str) else list(given)


def _value(given: Any, wanted: Any) -> Any:
    return json.loads(wanted) if isinstance(given, str) and isinstance(wanted, str) else wanted
