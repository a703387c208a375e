"""Code judge: what counts as the program, records of outputs and of functions, bad records."""

from __future__ import annotations

import json
import threading
import time

import pytest

from or1lab.data.problem import Problem
from or1lab.rewards import CodeVerdict, Verdict, code, is_error, sandbox
from or1lab.rewards.code import find_code, judge, score_batch
from or1lab.rewards.sandbox import Limits
from tests.lacking import needs_bubblewrap

QUICK = Limits(seconds=1.0)
PATIENT = Limits(seconds=60.0, assert_seconds=60.0, total=250.0)  # for reference solutions, on a busy machine
ADD = {"inputs": [[1, 2], [3, 4]], "outputs": [3, 7], "fn_name": "add"}
SUM = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
CHECK = {
    "import_prefix": "import math\nclass Node:\n    def __init__(self, value, next=None):\n"
    "        self.value, self.next = value, next\n",
    "test_code": "def check(candidate):\n    assert candidate(4) == 2\n    assert candidate(9) == 3",
    "entry_point": "Solution().root",
}

pytestmark = needs_bubblewrap


def outcome(source: str, tests, **options) -> tuple[bool, str, int, int]:
    verdict = judge(source, tests, **options)
    return verdict.correct, verdict.reason, verdict.passed, verdict.total


# ------------------------------------------------------------------------------------------------ batches


def program(tests) -> Problem:
    return Problem.model_construct(id="p", domain="code", prompt="?", gold=None, tests=tests)


def test_a_batch_is_judged_in_order():
    right, wrong = "```python\ndef add(a, b): return a + b\n```", "```python\ndef add(a, b): return 3\n```"
    slow = "```python\nimport time\ntime.sleep(0.5)\ndef add(a, b): return a + b\n```"
    bare = "def add(a, b): return a + b"  # right as code, but no response that holds code
    found = score_batch([program(ADD)] * 5, [slow, wrong, right, right, bare], [False] * 3 + [True, False])
    assert [(one.correct, one.reason, one.passed, one.total) for one in found] == [
        (True, "passed", 2, 2), (False, "wrong answer", 1, 2), (True, "passed", 2, 2), (False, "truncated", 0, 2),
        (False, "no code", 0, 2),
    ]  # fmt: skip


@pytest.mark.skipif(code.cores() == 1, reason="one core")
def test_a_batch_is_judged_side_by_side(monkeypatch):
    meeting, whole = threading.Barrier(2, timeout=30), code._judge

    def judge_together(*arguments, **options):
        meeting.wait()  # raises where nobody else comes
        return whole(*arguments, **options)

    monkeypatch.setattr(code, "_judge", judge_together)
    found = score_batch([program(ADD)] * 4, ["```python\ndef add(a, b): return a + b\n```"] * 4, [False] * 4)
    assert [one.reason for one in found] == ["passed"] * 4


@pytest.mark.parametrize("tests", [None, [], {}, {"inputs": [], "outputs": []}, {"inputs": [[1]]}, {"what": 1}])
@pytest.mark.parametrize("cut", [False, True])
def test_without_tests_there_is_no_verdict(tests, cut):
    bad, good = score_batch([program(tests), program(SUM)], ["```python\nprint(3)\n```"] * 2, [cut, False])
    assert is_error(bad) and bad.reason.startswith("error: bad tests") and not bad.correct
    assert (good.reason, good.passed, good.total) == ("wrong answer", 1, 2)


def test_a_sandbox_that_fails_costs_verdicts_and_not_the_batch(monkeypatch):
    monkeypatch.setattr(sandbox, "layers", lambda: {"bubblewrap": False, "system calls": False, "limits": True})
    monkeypatch.delenv(sandbox.OPT_IN, raising=False)
    found = score_batch([program(ADD)] * 2, ["```python\ndef add(a, b): return a + b\n```"] * 2, [False, True])
    assert found[0].reason.startswith("error: bubblewrap does not work here") and found[1].reason == "truncated"


# ------------------------------------------------------------------------------------------------ what is the code


@pytest.mark.parametrize(
    "response, found",
    [
        ("print(1)", "print(1)"),
        ("so:\n```python\nprint(1)\n```\nDone.", "print(1)\n"),
        ("```python\nprint(1)\n```\nno:\n```python\nprint(2)\n```", "print(2)\n"),
        ("```python\nprint(1)\n```\n```\nplain\n```", "print(1)\n"),
        ("```python\r\nprint(1)\r\n```", "print(1)\r\n"),
        ("<think>```python\nprint(1)\n```</think>```python\nprint(2)\n```", "print(2)\n"),
        ("```python\nprint(1)\n```</think>none", None),
        ("<think>```python\nprint(1)\n```", None),
        ("a</think>```python\nprint(1)\n```</think>```python\nprint(2)\n```", "print(1)\n"),
        ("```python\nprint(1)", None),
        ("```cpp\nint main;\n```", None),
        ("", ""),
    ],
)
def test_the_last_python_block_after_the_thinking_counts(response, found):
    assert find_code(response) == found


def test_a_verdict_of_two_still_works_and_that_of_a_program_is_one():
    assert Verdict(True, "match") == Verdict(True, "match")
    assert isinstance(CodeVerdict(True, "passed", 2, 2), Verdict)


# --------------------------------------------------------------------------------------------- inputs and outputs


@pytest.mark.parametrize(
    "source, expected",
    [
        ("print(sum(map(int, input().split())))", (True, "passed", 2, 2)),
        ("print(f'  {sum(map(int, input().split()))}.0  \\n\\n')", (True, "passed", 2, 2)),
        ("print(3)", (False, "wrong answer", 1, 2)),
        ("print(sum(map(int, input().split())))\nexit(0)", (True, "passed", 2, 2)),
        ("print(sum(map(int, input().split())))\nraise ValueError", (False, "runtime error", 0, 2)),
        ("", (False, "no code", 0, 2)),
        ("pass", (False, "wrong answer", 0, 2)),
        ("print(", (False, "syntax error", 0, 2)),
        ("print(3)\0", (False, "syntax error", 0, 2)),
        ("print('\ud800')", (False, "syntax error", 0, 2)),
        ("(" * 100_000, (False, "syntax error", 0, 2)),
        ("x = 1\n" * 200_000, (False, "syntax error", 0, 2)),  # longer than any honest program
        ("import sys\nsys.stdout.buffer.write(bytes(range(256)))", (False, "wrong answer", 0, 2)),
        ("import sys\nprint(sum(map(int, open('/dev/stdin').read().split())))", (True, "passed", 2, 2)),
        ("import sys\nprint(sum(map(int, open(0).read().split())), file=sys.stdout)", (True, "passed", 2, 2)),
        ("if __name__ == '__main__':\n    print(sum(map(int, input().split())))", (True, "passed", 2, 2)),
        ("# coding: ascii\nprint(sum(map(int, input().split())) + len('é') - 1)", (True, "passed", 2, 2)),
        ("\ufeffprint(sum(map(int, input().split())))", (True, "passed", 2, 2)),
        ("print(sum(map(int, input().split())) + len(__file__) * 0)", (True, "passed", 2, 2)),
    ],
)
def test_programs(source, expected):
    assert outcome(source, SUM) == expected


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.stdout.write('7')",
        "import sys\nsys.stdout.buffer.write(b'7')",
        "import sys\nprint(end='7')\nsys.stdout = None",
        "out = open(1, 'w', closefd=False)\nout.write('7')",
        "import io, sys\nout = io.TextIOWrapper(sys.stdout.buffer)\nout.write('7')",
        "import atexit\natexit.register(lambda: print(7))",
        "class Late:\n    def __del__(self): print(7)\nlate = Late()",
        "import threading, time\nthreading.Thread(target=lambda: time.sleep(0.2) or print(7)).start()",
        "import sys\nclass Out:\n    def flush(self): sys.__stdout__.write('7')\nsys.stdout = Out()",
        "import sys\nprint(7)\nsys.stdout.close()",
        "def late():\n    try: yield\n    finally: print(7)\nheld = late()\nnext(held)",
        "class Late:\n    def __enter__(self): pass\n    def __exit__(self, *_): print(7)\n"
        "def late():\n    with Late(): yield\nheld = late()\nnext(held)",
    ],
)
def test_what_is_written_last_counts_too(source):
    assert outcome(source, {"inputs": [""], "outputs": ["7"]}) == (True, "passed", 1, 1)


def test_programs_that_run_too_long_or_print_too_much():
    assert outcome("while True: pass", SUM, limits=QUICK) == (False, "timeout", 0, 2)
    assert outcome("while True: print('x' * 999)", SUM, limits=QUICK) == (False, "output limit", 0, 2)
    assert outcome("print(3)", SUM, limits=Limits(total=0.0)) == (False, "timeout", 0, 2)


def test_a_list_of_named_tests_is_a_record_too():
    tests = [{"name": "a", "input": "1 2", "output": "3"}, {"name": "b", "input": "3 4\r\n", "output": "7\r\n"}]
    assert outcome("print(sum(map(int, input().split())))", tests) == (True, "passed", 2, 2)


def test_a_checker_decides_where_several_outputs_are_valid():
    tests = {"inputs": ["10\n"], "outputs": ["3 7\n"]}

    def adds_up(given: str, printed: str, expected: str) -> bool:
        return sum(map(int, printed.split())) == int(given)

    assert outcome("print(4, 6)", tests) == (False, "wrong answer", 0, 1)
    assert outcome("print(4, 6)", tests, checker=adds_up) == (True, "passed", 1, 1)
    assert outcome("print(4, 7)", tests, checker=adds_up) == (False, "wrong answer", 0, 1)
    assert is_error(judge("print('x')", tests, checker=adds_up))  # its own fault, whatever was printed


def test_odd_characters_in_tests_are_ordinary():
    tests = {"inputs": ["\ud800\0é"], "outputs": ["4\n"]}
    assert outcome("print(len(open(0, errors='surrogatepass').read()) + 1)", tests)[:2] == (True, "passed")


# ---------------------------------------------------------------------------------------------------- functions


@pytest.mark.parametrize(
    "source, expected",
    [
        ("def add(a, b): return a + b", (True, "passed", 2, 2)),
        ("class Solution:\n    def add(self, a: int, b: int) -> Optional[int]: return a + b", (True, "passed", 2, 2)),
        ("add = lambda *all: reduce(xor, all) if gcd(*all) > 9 else sum(all)", (True, "passed", 2, 2)),
        ("def add(a, b): return 3", (False, "wrong answer", 1, 2)),
        ("def add(a, b): return float(a + b)", (True, "passed", 2, 2)),
        ("def add(a, b): return str(a + b)", (False, "wrong answer", 0, 2)),
        ("def add(a): return 3", (False, "runtime error", 0, 2)),
        ("def add(a, b): return functools.reduce(lambda x, _: [x], range(700))", (False, "wrong answer", 0, 2)),
        ("def sub(a, b): return 3", (False, "missing function", 0, 2)),
        ("add = 3", (False, "missing function", 0, 2)),
        ("raise ValueError", (False, "runtime error", 0, 2)),
        ("import os\nos._exit(0)", (False, "exited early", 0, 2)),
        ("def add(a, b): import os; os._exit(0)", (False, "exited early", 0, 2)),
        ("print('noise')\ndef add(a, b): print(a); return a + b", (True, "passed", 2, 2)),
    ],
)
def test_functions(source, expected):
    assert outcome(source, ADD) == expected


def test_functions_of_livecodebench_take_json_lines():
    tests = {"inputs": ['["a", "b"]\n2', "[]\n0"], "outputs": ['["a", "b"]', "[]"], "fn_name": "head"}
    assert outcome("def head(items, k): return tuple(items[:k])", tests) == (True, "passed", 2, 2)
    assert outcome("def head(items, k): return set(items[:k])", tests) == (False, "wrong answer", 0, 2)


def test_endless_values_and_fractions_are_numbers_too():
    tests = {"inputs": ["1", "0"], "outputs": ["-Infinity", "1.5"], "fn_name": "f"}
    source = "from decimal import Decimal\ndef f(x): return float('-inf') if x else Decimal('1.5')"
    assert outcome(source, tests) == (True, "passed", 2, 2)


@pytest.mark.parametrize("value", ["{1: [2]}", "{'1': (2,)}", "defaultdict(list, {1: [2]})", "OrderedDict({1: [2]})"])
def test_values_are_compared_as_the_data_of_json(value):
    tests = {"inputs": [[]], "outputs": [{"1": [2]}], "fn_name": "f"}
    assert outcome(f"def f(): return {value}", tests) == (True, "passed", 1, 1)


@pytest.mark.parametrize(
    "outputs, source, passed",
    [
        ([[6], [7]], "def f(x): return x + 1", 2),  # APPS and TACO wrap what is returned
        ([[6], [7]], "def f(x): return [x + 1]", 2),
        ([[6], [7]], "def f(x): return [[x + 1]]", 0),
        ([[6], [7, 8]], "def f(x): return x + 1", 0),  # here a list is a list
        ([[6], 7], "def f(x): return x + 1", 1),
        (["[6]", "[7]"], "def f(x): return x + 1", 0),
    ],
)
def test_outputs_in_a_list_of_one_may_be_meant_without_it(outputs, source, passed):
    inputs = ["5", "6"] if isinstance(outputs[0], str) else [[5], [6]]
    assert judge(source, {"inputs": inputs, "outputs": outputs, "fn_name": "f"}).passed == passed


def test_numbers_of_numpy_are_numbers():
    source = "import numpy as np\ndef add(a, b): return np.int64(a) + b"
    assert outcome(source, ADD) == (True, "passed", 2, 2)
    assert outcome(source, {"assert_case": ["assert add(1, 2) == 3"]}) == (True, "passed", 1, 1)


FORGED = """
import os, time
def f(*args):
    for fd in range(3, 20):
        try: os.write(fd, {first})
        except OSError: continue
        while {trickle}:
            os.write(fd, b' ')
            time.sleep(0.0002)
    time.sleep(99)
"""
TRICKLE = "b'\\0\\x80\\0\\0'"  # 8 MB are announced, and come byte by byte
TUPLES = [["s", [60]], ["t", 1], *(["t", [i], [i]] for i in range(1, 60))]  # hashed in 2 ** 60 steps
EQUALS = [["s", *(i * (2**61 - 1) for i in range(30_000))]]  # all of one hash


MESSAGES = [TRICKLE, *(json.dumps(["value", [[0], table], None]) for table in (TUPLES, EQUALS))]


@pytest.mark.parametrize("message", MESSAGES, ids=["trickle", "tuples", "equals"])
@pytest.mark.parametrize("assertion", ["", "assert f() == 1", "assert f() in (1, 2)"])
def test_nothing_that_comes_back_keeps_the_judge_busy(message, assertion):
    functions = {"inputs": [[]], "outputs": [1], "fn_name": "f"}
    tests = {"assert_case": [assertion]} if assertion else functions
    first = message if message == TRICKLE else repr(len(message).to_bytes(4, "big") + message.encode())
    start = time.monotonic()
    verdict = judge(FORGED.format(first=first, trickle=message == TRICKLE), tests, limits=QUICK)
    assert not verdict.correct and not is_error(verdict)
    assert time.monotonic() - start < 8


def test_each_call_has_its_own_time():
    source = "import time\ndef add(a, b): time.sleep(0.6); return a + b"
    assert outcome(source, ADD, limits=QUICK) == (True, "passed", 2, 2)
    assert outcome(source, ADD, limits=Limits(seconds=0.3)) == (False, "timeout", 0, 2)


# --------------------------------------------------------------------------------------------------- bad records


@pytest.mark.parametrize(
    "tests",
    [
        {},
        [],
        {"inputs": [], "outputs": []},
        {"inputs": ["1"], "outputs": []},
        {"inputs": ["{"], "outputs": ["1"], "fn_name": "f"},
        {"inputs": ["1"], "outputs": ["[NaN]"], "fn_name": "f"},
        {"inputs": [[1]], "outputs": [float("nan")], "fn_name": "f"},
        {"assert_case": []},
        {"assert_case": ["assert ("]},
        {"import_prefix": "", "test_code": "assert True", "entry_point": "f"},
        {"import_prefix": "", "test_code": "def check(c): pass", "entry_point": "f"},
        {"import_prefix": "1 / 0", "test_code": "def check(c): assert c()", "entry_point": "f"},
        {"question_id": "7"},
        {"assert_case": ["assert True"]},  # uses nothing of the program
        {"assert_case": "assert f() == 1"},
        {"inputs": "12", "outputs": "12"},
        {"inputs": [[1]], "outputs": [1, 2], "fn_name": "f"},
        {"inputs": [[1]], "outputs": [1], "fn_name": 7},
        {"inputs": [[object()]], "outputs": [1], "fn_name": "f"},
        {"inputs": [1], "outputs": [1], "fn_name": "f"},
        {"import_prefix": 3, "test_code": "def check(c): assert c()", "entry_point": "f"},
    ],
)
def test_a_record_without_usable_tests_is_an_error_and_no_verdict(tests):
    assert is_error(judge("def f(): return 1", tests))


@pytest.mark.parametrize(
    "tests, words",
    [
        ({"inputs": ["1", "2"], "outputs": ["1"]}, "2 inputs and 1 outputs"),
        ({"inputs": ["1"]}, "outputs is a NoneType, not a list"),
        ({"inputs": ["1"], "outputs": [None]}, "what is read or printed is a NoneType"),
        ({"test_code": "def check(c): assert c()"}, "entry_point is a NoneType, not text"),
        ({"assert_case": [None]}, "an assert is a NoneType, not text"),
        ({"inputs": [[1]], "outputs": [{1}], "fn_name": "f"}, "an output is NaN, or nothing that JSON can say"),
    ],
)
def test_what_is_wrong_with_a_record_is_said_in_words(tests, words):
    assert words in judge("def f(): return 1", tests).reason


def test_verdicts_are_the_same_from_several_threads():
    verdicts: list[CodeVerdict] = []
    sources = ["def add(a, b): return a + b", "def add(a, b): return 3"] * 4
    threads = [threading.Thread(target=lambda s=source: verdicts.append(judge(s, ADD))) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdict.passed for verdict in verdicts) == [1] * 4 + [2] * 4
