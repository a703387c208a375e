"""The code judge on random records and hostile programs: a verdict, in time, never a forged one, nothing left behind.

Few examples among the tests; see `fuzzing.py` for hours of them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from or1lab.rewards import CodeVerdict, is_error
from or1lab.rewards.code import judge
from or1lab.rewards.sandbox import Limits
from tests.lacking import needs_bubblewrap
from tests.rewards.fuzzing import fuzzed, rounds, seen

pytestmark = needs_bubblewrap
LIMITS = Limits(seconds=1.0, total=3.0, output=1 << 20, memory=1 << 30)
SLACK = 60.0  # starting and parsing, with the machine busy
SECRET = 918273645  # no program here knows it
ME = psutil.Process()


def judged(program: Any, tests: Any, limits: Limits = LIMITS) -> CodeVerdict:
    start, open_files, children = time.monotonic(), ME.num_fds(), set(ME.children(recursive=True))
    verdict = judge(program, tests, limits=limits)
    assert time.monotonic() - start < limits.whole(1) + SLACK, (program, tests)
    assert isinstance(verdict, CodeVerdict)
    assert verdict.correct == (verdict.reason == "passed" and verdict.passed == verdict.total > 0), verdict
    assert set(ME.children(recursive=True)) <= children and ME.num_fds() == open_files
    seen[re.sub(r"(error: \w+ \w+).*", r"\1", verdict.reason, flags=re.DOTALL)] += 1
    return verdict


# ---------------------------------------------------------------------------------------------- random everything

characters = st.text(st.characters(exclude_categories=()) | st.sampled_from("\0\r\n\t '\"{[(\ud800"), max_size=20)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), characters, st.binary(max_size=5))
keys = st.one_of(characters, st.integers(), st.none())
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)
deep = st.sampled_from([50, 1_000, 100_000]).map(lambda depth: "[" * depth + "]" * depth)
long = st.sampled_from(["7", "[", "x\r", "\0", "é\n"]).map(lambda text: text * 50_000)
text = characters | deep | long
ASSERTS = ["assert f(1) == 2", "assert f('\\n')", "assert", "f(1)", "import os\nassert f(os.sep)", ""]
asserts = st.sampled_from(ASSERTS) | text
parts = {
    "inputs": st.lists(text | st.lists(junk, max_size=3), max_size=3), "outputs": st.lists(text | junk, max_size=3),
    "fn_name": st.sampled_from(["f", "", "f.g", "Solution().f"]) | text, "test_code": text | asserts.map(
        lambda body: "def check(candidate):\n" + "\n".join(f"    {line}" for line in body.splitlines())
    ),
    "entry_point": st.sampled_from(["f", "Solution().f", "1/0", "f("]) | text,
    "import_prefix": text | st.just("import math"),
    "assert_case": st.lists(asserts, max_size=3),
}  # fmt: skip
shapes = st.sampled_from([
    ("inputs", "outputs"), ("inputs", "outputs", "fn_name"), ("test_code", "entry_point", "import_prefix"),
    ("assert_case",), tuple(parts),
])  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> Any:
    """A record of some kind, with parts missing or of the wrong type now and then."""
    if draw(st.integers(0, 9)) == 0:
        return draw(junk)
    record = {key: draw(junk if draw(st.integers(0, 9)) == 0 else parts[key]) for key in draw(shapes)}
    if {"inputs", "outputs"} <= record.keys() and draw(st.booleans()):  # as many outputs as inputs
        for one, other in (("inputs", "outputs"), ("outputs", "inputs")):
            if isinstance(record[one], list) and isinstance(record[other], list):
                record[one] = record[one][: len(record[other])]
    if draw(st.integers(0, 9)) == 0:
        record.pop(draw(st.sampled_from(sorted(record))))
    return record


tokens = st.lists(st.sampled_from([
    *"()[]{}:=.,+-*/%<>@'\"\\#\n0 1 f x", "def ", "class ", "return ", "lambda ", "while 1", "if ", "print(",
    "import ", "async ", "yield ", "raise ", "del ", "global ", "exec(", "input()", "__import__('os')", "type(", "f'",
    '"""', "9**9**9", "'x'*10**9", "[0]*10**8", "lambda:0", "match x:\n case ", "\n    ", "\t", "\0", "\ud800",
    "```", "```python\n", "</think>", "<think>",
]), max_size=30).map("".join)  # fmt: skip
HONEST = [
    "def f(*a): return a",
    "class Solution:\n    def f(self, *a): return a",
    "print(open(0).read())",
    "f = lambda x: x + 1",
]
programs = st.sampled_from(HONEST) | tokens | text


@fuzzed(30)
@given(programs, records(), st.booleans())
@example("f = len", {"inputs": [[{1, 2}]], "outputs": [2], "fn_name": "f"}, False)
@example("f = len", {"inputs": [[1]], "outputs": [object()], "fn_name": "f"}, False)
def anything(program: str, record: Any, fenced: bool) -> None:
    judged(f"thought</think>\n```python\n{program}\n```" if fenced else program, record)


# ---------------------------------------------------------------------------------------------------------- forgers

WORDS = ["value", "raised", "loaded", "ready", "started", "test", "end", "stopped", "call", "get", "h", "o"]
message = st.recursive(
    st.sampled_from(WORDS) | st.integers(-1, 5) | st.booleans() | st.none() | st.floats(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("abf"), inner, max_size=2),
    max_leaves=12,
).map(lambda item: json.dumps(item).encode())  # fmt: skip
framed = message.map(lambda text: len(text).to_bytes(4, "big") + text)
pieces = framed | message | st.binary(max_size=9) | st.just(b"\xff\xff\xff\xff")
posts = st.lists(pieces, min_size=1, max_size=5).map(b"".join)
# What an honest process says in the course of each kind of record, with the values made up.
COURSE = [
    b'["ready"]', b'["loaded",[[0],[["d","f",[1],"",[1]],["h",0,true]]]]', b'["value",[0,[]],null]', b'["test",true]',
    b'["end"]',
]  # fmt: skip
course = b"".join(len(text).to_bytes(4, "big") + text for text in COURSE)
tables = st.sampled_from([
    "[[60], [['t', 1]] + [['t', [i], [i]] for i in range(60)]]", "[[0], [['l', [0]]]]", "[[0], [['h', 99, True]]]",
    "[[0], [['o', 'A']]]", "[[1], [['t', 1], ['s'] + [i * (2**61 - 1) for i in range(20000)]]]",
    "[[0], [['r', 0, 10**18, 1]]]", "[[0], [['h', 0, [1]]]]",
])  # fmt: skip
values = st.sampled_from([
    "type('E', (), {'__eq__': lambda *a: True, '__hash__': lambda s: 0})()", "iter(int, 1)", "float('nan')", "f",
    "type('I', (int,), {'__eq__': lambda *a: True})(7)", "type('S', (str,), {'__eq__': lambda *a: True})()", "(yield)",
    "globals()", "__import__('gc').get_objects()[:9]", "10**10**5", "[[]] * 10**6", "'x' * 10**7", "NotImplemented",
    "__import__('os')._exit(0)", "object()", "exit()",
])  # fmt: skip


LAST = ["", "os._exit(0)", "raise SystemExit", "f(1)", "print(f(1))", "while True: pass", "class Solution: f = f"]


@st.composite
def forgers(draw: st.DrawFn) -> str:
    """A program that speaks for the judge's helpers, or returns what is no honest value."""
    data, lines = draw(posts | st.just(course)), ["import os, json"]
    table = draw(tables)
    lines += [f"T = json.dumps(['value', {table}, None]).encode()", "T = len(T).to_bytes(4, 'big') + T"]
    what = draw(st.sampled_from([repr(data), "T"]))
    spray = ["for fd in range(1, 12):", f"    try: os.write(fd, {what})", "    except OSError: pass"]
    at_start, when_called = draw(st.booleans()), draw(st.booleans())
    lines += spray * at_start
    lines += ["def f(*args):", *(f"    {line}" for line in spray * when_called), f"    return {draw(values)}"]
    lines += [draw(st.sampled_from(LAST))]
    return "\n".join(lines)


IMPOSSIBLE = [
    {"inputs": ["1", "2"], "outputs": [str(SECRET), str(SECRET + 1)]},
    {"inputs": [[1], [2]], "outputs": [SECRET, SECRET + 1], "fn_name": "f"},
    {"inputs": [[1], [2]], "outputs": [[SECRET], [SECRET + 1]], "fn_name": "f"},
    {"assert_case": [f"assert f(1) == {SECRET}", f"assert f(2) == {SECRET + 1}"]},
    {"import_prefix": "class A: pass", "test_code": f"def check(c):\n    assert c(1) == {SECRET}", "entry_point": "f"},
    {"assert_case": [f"assert Solution().f(1) == {SECRET}"]},
    {"assert_case": [f"assert f(0 + 1) == {SECRET}"]},
    {"assert_case": [f"assert Solution().f(0 + 1) == {SECRET}"]},
]


@fuzzed(30)
@given(forgers(), st.sampled_from(IMPOSSIBLE))
def no_forger_passes(program: str, record: dict) -> None:
    found = judged(program, record)
    assert not found.correct and found.passed == 0 and not is_error(found), (program, record, found)


# ---------------------------------------------------------------------------------------------------------- mutants

SOLUTION = """
def f(items, k):
    best = 0
    for i in range(len(items)):
        total = sum(items[i : i + k])
        if total > best or i == 0:
            best = total
    if k % 2 == 1 and len(items) > 2:
        best = best - 1
    return best
"""
CASES = [([1, 2, 3], 2), ([-1, -5], 1), ([], 3), ([4, 0, 7, 7], 3), ([2], 1), ([9, -9, 9], 2), ([5, 5, 5, 5, 5], 5)]
SWAPS = {
    ">": "<", "+": "-", "-": "+", "or": "and", "and": "or", "0": "1", "1": "2", "2": "3", "sum": "max",
    "range": "list", "==": "!=", "best": "total", "total": "best", "items": "k", "%": "//", "len": "sum", "if": "while",
    "return": "print", "i": "k",
}  # fmt: skip
WORD = re.compile(r"\w+|[^\w\s]+")


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """The solution with some of its tokens swapped, or lines dropped."""
    lines = SOLUTION.strip().splitlines()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(1, len(lines) - 1))
        places = [found for found in WORD.finditer(lines[at]) if found[0] in SWAPS]
        if places and draw(st.integers(0, 4)):
            found = draw(st.sampled_from(places))
            lines[at] = lines[at][: found.start()] + SWAPS[found[0]] + lines[at][found.end() :]
        else:
            lines[at] = re.match(r"\s*", lines[at])[0] + "pass"  # type: ignore[index]
    return "\n".join(lines) + "\n"


def expected() -> list:
    namespace: dict[str, Any] = {}
    exec(SOLUTION, namespace)
    return [namespace["f"](*case) for case in CASES]


MAIN = "\nimport ast, sys\nfor line in sys.stdin: print(f(*ast.literal_eval(line)))"
PLAIN = "import json, sys\nprint(json.dumps([f(*case) for case in json.loads(sys.argv[1])]))"


def outputs(source: str) -> list | None:
    """What a bare interpreter gets from a program that is no worse than wrong; None where it does not end well."""
    try:
        command = [sys.executable, "-I", "-S", "-c", source + PLAIN, json.dumps(CASES)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return None


@fuzzed(20)
@given(mutants(), st.sampled_from(["stdio", "function", "assert", "method"]))
def mutants_are_right_where_they_give_the_same(source: str, kind: str) -> None:
    wanted = expected()
    pairs = list(zip(CASES, wanted, strict=True))
    record: dict[str, Any] = {
        "stdio": {"inputs": ["\n".join(map(repr, CASES))], "outputs": ["\n".join(map(repr, wanted))]},
        "function": {"inputs": [list(case) for case in CASES], "outputs": wanted, "fn_name": "f"},
        "assert": {"assert_case": [f"assert f{case!r} == {value!r}" for case, value in pairs]},
        "method": {"assert_case": [f"assert Solution().f(*{case!r}) == {value!r}" for case, value in pairs]},
    }[kind]
    method = source + "\nclass Solution:\n    f = staticmethod(f)"
    program = {"stdio": source + MAIN, "method": method}.get(kind, source)
    found = judged(program, record, Limits(total=8.0))
    if "print" in source and kind == "stdio":
        assert not found.correct
    elif found.reason != "timeout":  # a busy machine, or a loop
        assert found.correct == (outputs(source) == wanted), (source, found)
    seen["of these, right mutants"] += found.correct


@pytest.mark.timeout(0)
def test_fuzzing():
    rounds([anything, no_forger_passes, mutants_are_right_where_they_give_the_same])
    assert seen["wrong answer"] and seen["passed"] and seen["error: bad tests"]
