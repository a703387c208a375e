"""Code reward: whether a program passes all the tests of its problem (paper section 7.2).

The last fenced python block after the thinking counts. It is parsed, then run in a sandbox (`sandbox.py`) against a
record of one of these kinds, told apart by their keys:

    {"inputs", "outputs"}                               a program: what it prints for each standard input
    {"inputs", "outputs", "fn_name"}                    a function, or a method of class Solution: what it returns
    {"import_prefix", "test_code", "entry_point"}       `check(entry_point)` raises nothing
    {"assert_case": [...]}                              each assert holds

What decides is never within reach of the submission. Outputs and values come out as data and are compared here. Tests
that have to run, asserts, run in a second sandbox which the submission's code never enters: their calls are carried
over to the first one, and values come back (arguments that were changed in place, too). Objects of the submission's own
classes stay there: the tests may call them and read their attributes, no more. (Where asserts only compare calls with
literals, the judge does that by itself.) So a program that exits with
0, patches the interpreter or writes to every descriptor has given a wrong answer, no more. A function is loaded once
for all its tests.
"""

from __future__ import annotations

import json
import marshal
import operator
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError
from or1lab.process import cores
from or1lab.rewards import CodeVerdict, Verdict
from or1lab.rewards.asserts import NoTests, Prepared, cases, prepare
from or1lab.rewards.compare import Checker, same_text, same_value
from or1lab.rewards.inside.wire import plain
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
    except Exception as error:  # a record may be anything
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
        self.same: Callable[[Any, Any], bool] = operator.eq
        self.entry: str | None = None
        self.prefix = ""
        self.prepared: Prepared | None = None
        self.tests: list[tuple[Any, Any, Any]] = []  # (what to ask, the input, what should come)
        self.seconds = limits.seconds
        if not isinstance(tests, Mapping):
            tests = {"inputs": [test["input"] for test in tests], "outputs": [test["output"] for test in tests]}
        if "inputs" in tests:
            self._outputs(tests)
        else:
            self._asserts(tests)
        if not self.total:
            raise NoTests("there are none")

    def _outputs(self, tests: Mapping[str, Any]) -> None:
        inputs, outputs = _list(tests, "inputs"), _list(tests, "outputs")
        if len(inputs) != len(outputs):
            raise NoTests(f"{len(inputs)} inputs and {len(outputs)} outputs")
        pairs = list(zip(inputs, outputs, strict=True))
        self.total = len(pairs)
        if not tests.get("fn_name"):
            self.kind, self.same = self.programs, same_text
            self.tests = [(None, _text(given), _text(wanted)) for given, wanted in pairs]
            return
        self.entry, self.kind, self.same = _string(tests, "fn_name"), self.calls, same_value
        # APPS and TACO put what is returned into a list; lines of JSON (LiveCodeBench) mean what they say.
        if all(isinstance(wanted, list) and len(wanted) == 1 and not isinstance(given, str) for given, wanted in pairs):
            self.same = _same_or_wrapped
        arguments = [_arguments(given) for given, _ in pairs]
        self.tests = [
            (("plain", "", given, {}), given, _value(*pair)) for given, pair in zip(arguments, pairs, strict=True)
        ]

    def _asserts(self, tests: Mapping[str, Any]) -> None:
        self.kind, self.seconds = self.asserts, min(self.limits.seconds, self.limits.assert_seconds)
        self.checker = None
        if "test_code" in tests:
            self.entry = _string(tests, "entry_point")
            self.prefix = _string(tests, "import_prefix") if tests.get("import_prefix") else ""
            prepared = prepare(_string(tests, "test_code"), check=True)
        elif "assert_case" in tests:
            prepared = prepare(cases(_list(tests, "assert_case")), check=False)
        else:
            raise NoTests(f"unknown kind of record, with {', '.join(map(str, tests)) or 'nothing'}")
        self.prepared, self.total = prepared, prepared.total
        if prepared.calls is not None:
            self.kind, self.same = self.calls, operator.eq
            self.tests = [(("exact", *call[:3]), None, call.wanted) for call in prepared.calls]

    def __call__(self, source: bytes) -> str:
        self.end = time.monotonic() + self.limits.whole(self.total)
        return self.kind(source)

    def verdict(self, reason: str) -> CodeVerdict:
        return CodeVerdict(reason == "passed" and self.passed == self.total, reason, self.passed, self.total)

    def outcome(self, reasons: Sequence[str]) -> str:
        return reasons[0] if reasons else "passed" if self.passed == self.total else "wrong answer"

    def soon(self, seconds: float | None = None) -> float:
        """When the test that begins now has to end."""
        return min(time.monotonic() + (seconds or self.seconds), self.end)

    # ------------------------------------------------------------------------------------- inputs and outputs

    def programs(self, source: bytes) -> str:
        """A fresh process, in a fresh sandbox, for each standard input."""
        reasons = []
        for _, given, wanted in self.tests:
            if time.monotonic() >= self.end:
                raise TimeoutError
            task = {"role": "stdio", "source": source}
            with Child(task, self.limits, self.seconds, given.encode(errors="surrogatepass")) as child:
                if self.started(child) != "ready":
                    return "syntax error"
                output, status = child.output(self.soon())
            if status:
                reasons.append("runtime error")
            elif self.right(given, output.decode(errors="surrogateescape"), wanted):
                self.passed += 1
            else:
                reasons.append("wrong answer")
        return self.outcome(reasons)

    def started(self, child: Child) -> str:
        try:
            return child.receive(self.soon())[0]
        except Broken:  # the parser itself has died of it
            return "syntax"

    def calls(self, source: bytes) -> str:
        """All calls in one process; the next arguments are sent when the last value is there."""
        reasons = []
        with self.load("function", source) as child:
            if reason := self.loaded(child)[0]:
                return reason
            for question, given, wanted in self.tests:
                reply = self.ask(child, question, self.soon())
                if reply[0] == "raised":
                    reasons.append("runtime error")
                elif self.right(given, reply[1], wanted):
                    self.passed += 1
                else:
                    reasons.append("wrong answer")
        return self.outcome(reasons)

    def right(self, given: Any, found: Any, wanted: Any) -> bool:
        if self.checker is None:
            return self.same(found, wanted)
        try:
            return bool(self.checker(given, found, wanted))
        except Exception as error:
            raise NoTests(f"the checker raised {type(error).__name__}") from error

    # --------------------------------------------------------------------------------------- calls and asserts

    def load(self, role: str, source: bytes) -> Child:
        names = self.prepared.names if self.prepared else ()
        task = {"role": role, "source": source, "prefix": self.prefix, "entry": self.entry, "names": names}
        return Child(task, self.limits, self.limits.whole(self.total))

    def loaded(self, child: Child) -> tuple[str, Any]:
        """("", what the submission says that it defines) or (why it failed, None)."""
        if (first := self.started(child)) != "ready":
            return (PREFIX if first == "prefix" else "syntax error"), None
        message = child.receive(self.soon(self.limits.seconds))  # imports are no part of a test
        if message[0] == "loaded":
            return "", message[-1]
        return {"raised": "runtime error", "missing": "missing function"}.get(message[0], "exited early"), None

    def ask(self, child: Child, question: Any, deadline: float) -> list:
        child.send(question, deadline)
        reply = child.receive(deadline)
        if (reply[0], len(reply)) not in (("value", 2), ("value", 3), ("raised", 2)):
            raise Broken
        return reply

    def asserts(self, source: bytes) -> str:
        """The tests in one sandbox, the submission in another; questions and answers go through here."""
        prepared = self.prepared
        assert prepared is not None
        with self.load("objects", source) as child:
            reason, names = self.loaded(child)
            if reason:
                return reason
            task = {
                "role": "tests", "prefix": self.prefix, "code": prepared.code, "report": prepared.report,
                "entry": self.entry, "wanted": prepared.names, "names": names,
            }  # fmt: skip
            with Child(task, self.limits, self.limits.whole(self.total)) as tester:
                return self.relay(child, tester)

    def relay(self, child: Child, tester: Child) -> str:
        reasons = []
        until = self.soon()
        while True:
            try:
                kind, *rest = tester.receive(until)
            except Broken:  # what came back was too much for the tests
                return "wrong answer"
            if kind in ("call", "get"):
                reply = self.ask(child, (kind, *rest), until)
                if reply[0] == "raised":
                    reasons.append("runtime error")
                tester.send(reply, until)
            elif kind == "test":
                self.passed += rest[0]
                until = self.soon()
            elif kind == "stopped":
                return "runtime error"
            elif kind == "prefix":
                return PREFIX
            elif kind == "foreign":
                raise NoTests(f"the tests hand the program a {rest[0]}, which cannot leave their sandbox")
            else:
                return "passed" if self.passed == self.total else self.outcome(reasons)


def _list(tests: Mapping[str, Any], key: str) -> list:
    if not isinstance(tests.get(key), (list, tuple)):
        raise NoTests(f"{key} is a {type(tests.get(key)).__name__}, not a list")
    return list(tests[key])


def _string(tests: Mapping[str, Any], key: str) -> str:
    if not isinstance(tests.get(key), str):
        raise NoTests(f"{key} is a {type(tests.get(key)).__name__}, not text")
    return tests[key]


def _text(part: Any) -> str:
    if not isinstance(part, (str, list, tuple)):
        raise NoTests(f"what is read or printed is a {type(part).__name__}, not text or a list of lines")
    return part if isinstance(part, str) else "\n".join(map(str, part))


def _arguments(given: Any) -> list:
    """Of a function's test: a list, or (LiveCodeBench) text with one JSON value a line."""
    if isinstance(given, str):
        return [json.loads(line) for line in given.split("\n") if line.strip()]
    marshal.dumps(given)  # raises what the sandbox cannot be sent
    return list(given)


def _value(given: Any, wanted: Any) -> Any:
    text = wanted if isinstance(given, str) and isinstance(wanted, str) else plain(wanted)
    return json.loads(text, parse_constant=_infinity)


def _infinity(text: str) -> float:
    if text == "NaN":  # so what came back would be right for being no data either
        raise NoTests("an output is NaN, or nothing that JSON can say")
    return float(text)


def _same_or_wrapped(found: Any, wanted: list) -> bool:
    return same_value(found, wanted) or same_value(found, wanted[0])
