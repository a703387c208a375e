"""Verdicts by asserts: what may be judged by them, what they can see, and whose fault a failure is."""

from __future__ import annotations

import pytest

from or1lab.rewards import CodeVerdict
from or1lab.rewards.code import judge
from or1lab.rewards.sandbox import Limits
from tests.lacking import needs_bubblewrap
from tests.rewards.test_code import ADD, CHECK, PATIENT, outcome

pytestmark = needs_bubblewrap

ROOTS = "class Solution:\n    def root(self, n): return {}"


@pytest.mark.parametrize(
    "source, expected",
    [
        (ROOTS.format("math.isqrt(n)"), (True, "passed", 2, 2)),
        (ROOTS.format("2"), (False, "wrong answer", 1, 2)),
        (ROOTS.format("1 // 0"), (False, "runtime error", 0, 2)),
        (ROOTS.format("exit(0)"), (False, "runtime error", 0, 2)),
        ("import os\nos._exit(0)", (False, "exited early", 0, 2)),
        ("raise SystemExit(0)", (False, "runtime error", 0, 2)),
        ("def root(n): return 2", (False, "missing function", 0, 2)),
        ("class Solution: pass", (False, "missing function", 0, 2)),
        ("def check(candidate): pass\n" + ROOTS.format("2"), (False, "wrong answer", 1, 2)),
        (ROOTS.format("type('E', (), {'__eq__': lambda *a: True})()"), (False, "wrong answer", 0, 2)),
        (ROOTS.format("n and Node.__eq__ and Node(1)"), (False, "wrong answer", 0, 2)),
        ("Node.__eq__ = lambda *a: True\n" + ROOTS.format("Node(1)"), (False, "wrong answer", 0, 2)),
        ("import builtins\nbuiltins.AssertionError = Warning\n" + ROOTS.format("0"), (False, "wrong answer", 0, 2)),
        ("import gc\n" + ROOTS.format("gc.get_objects()[0:1]"), (False, "wrong answer", 0, 2)),
    ],
)
def test_test_code_runs_out_of_reach_of_the_submission(source, expected):
    assert outcome(source, CHECK) == expected
    computed = CHECK | {"test_code": CHECK["test_code"].replace("(4)", "(2 + 2)")}  # no literals: it has to be run
    assert outcome(source, computed) == expected


@pytest.mark.parametrize(
    "value, asserted, right",
    [
        ("(1, 2.0)", "(1, 2)", True),
        ("[1, 2]", "(1, 2)", False),
        ("True", "1", True),
        ("'1'", "1", False),
        ("{2, 1}", "{1, 2}", True),
        ("frozenset([1])", "{1}", True),
        ("{1: 2}.keys()", "{1}", True),
        ("Counter('aab')", "{'b': 1, 'a': 2}", True),
        ("OrderedDict(a=1)", "{'a': 1}", True),
        ("{'a': [None]}", "{'a': []}", False),
        ("namedtuple('P', 'x y')(1, 2)", "(1, 2)", True),
        ("bytearray(b'a')", "b'a'", True),
        ("2 + 0j", "2", True),
        ("1e300", "10 ** 300", False),
        ("0.1 + 0.2", "0.3", False),
        ("0.3", "0.3", True),
        ("-0.0", "0", True),
        ("float('nan')", "0", False),
        ("'NaN'", "'NaN'", True),
        ("object()", "'NaN'", False),
        ("None", "None", True),
        ("None", "'null'", False),
        ("['a,b']", "['a', 'b']", False),
        ("{1: {2: 3}}", "{1: {2: 3}}", True),
        ("deque([1])", "[1]", False),
        ("__import__('fractions').Fraction(6, 2)", "3", True),
        ("[__import__('decimal').Decimal('1.5')]", "[1.5]", True),
        ("__import__('decimal').Decimal('0.1')", "0.1", False),
        ("{1: 2}", "...", False),
    ],
)
def test_equality_is_that_of_python_whether_asserts_are_run_or_compared(value, asserted, right):
    for form in ("assert f() == {}", "assert f(*[]) == {}"):  # the second has to be run
        verdict = judge(f"def f(): return {value}", {"assert_case": [form.format(asserted)]})
        assert verdict.correct == right, (form, verdict)


def test_objects_of_the_prefix_and_changes_in_place_are_carried_over():
    tests = CHECK | {
        "test_code": "def check(candidate):\n"
        "    node = candidate(Node(1, Node(2)))\n"
        "    assert (node.value, node.next.value) == (2, 1)\n"
        "    items = [3, 1]\n"
        "    assert candidate(items) is None\n"
        "    assert items == [1, 3]\n",
        "entry_point": "turn",
    }
    source = """
def turn(item):
    if isinstance(item, list):
        item.sort()
    else:
        return Node(item.next.value, Node(item.value))
"""
    assert outcome(source, tests) == (True, "passed", 3, 3)


def test_a_builtin_is_the_submission_s_only_where_it_alone_can_be_under_test():
    lie = "def abs(x): return 0\ndef f(): return 5"
    assert outcome(lie, {"assert_case": ["assert abs(f() - 9) < 1e-6"]}) == (False, "wrong answer", 0, 1)
    assert outcome("def sum(a, b): return a + b", {"assert_case": ["assert sum(1, 2) == 3"]}) == (True, "passed", 1, 1)


def test_what_python_has_is_not_the_submission_s_either():
    lie = "isclose = floor = lambda *a: 1\ndef f(): return 5"
    assert not judge(lie, {"assert_case": ["assert floor(f()) == 1"]}).correct
    assert outcome("pass", {"assert_case": ["assert abs(-1) == 1"]}) == (False, "missing function", 0, 1)
    assert outcome("def gcd(a, b): return 4", {"assert_case": ["assert gcd(8, 12) == 4"]}) == (True, "passed", 1, 1)
    merged = {"assert_case": ["x = 1\nassert set(merge([x], [2])) == set([1, 2])"]}
    assert outcome("def merge(a, b): return a + b", merged) == (True, "passed", 1, 1)


METHODS = {
    "assert_case": [
        "assert Solution().add(1, 2) == 3",
        "box = Box(5)\nbox.put(6)\nassert box.items == [5, 6] and box.size() == 2",
        "assert Box(1) != Box(1) and Box.make().size() == 1",
    ]
}
BOX = """
class Solution:
    def add(self, a: int, b: int) -> int: return {}
class Box:
    def __init__(self, first): self.items = [first]
    def put(self, item): self.items.append(item)
    def size(self): return {}
    @staticmethod
    def make(): return Box(0)
    __eq__ = lambda *all: True
"""


@pytest.mark.parametrize(
    "source, expected",
    [
        (BOX.format("a + b", "len(self.items)"), (True, "passed", 3, 3)),
        (BOX.format("a - b", "len(self.items)"), (False, "wrong answer", 2, 3)),
        (BOX.format("a + b", "type('E', (), {'__eq__': lambda *a: True})()"), (False, "wrong answer", 1, 3)),
        (BOX.format("__import__('os')._exit(0)", "2"), (False, "exited early", 0, 3)),
        ("def add(a, b): return 3", (False, "missing function", 0, 3)),
    ],
)
def test_asserts_may_use_classes_of_the_submission(source, expected):
    assert outcome(source, METHODS) == expected


def test_what_the_tests_cannot_hand_over_is_not_the_program_s_fault():
    tests = {"assert_case": ["assert f(lambda x: x + 1) == 3"]}
    verdict = judge("def f(g): return g(2)", tests)
    assert verdict == CodeVerdict(
        False, "error: the tests hand the program a function, which cannot leave their sandbox", 0, 1
    )


def test_values_of_the_standard_library_go_both_ways():
    tests = [
        "from datetime import date, timedelta\nassert f(date(2020, 2, 28), timedelta(2)) == date(2020, 3, 1)",
        "from decimal import Decimal\nassert f(Decimal('0.1'), Decimal('0.2')) == Decimal('0.3')",
        "from fractions import Fraction\nassert abs(f(Fraction(1, 3), 1) - 1.3333333) < 1e-6",
        "from datetime import datetime, timedelta, timezone\n"
        "assert f(datetime(2020, 1, 1, tzinfo=timezone.utc), timedelta(1)).day == 2",
    ]
    assert outcome("def f(a, b): return a + b", {"assert_case": tests}) == (True, "passed", 4, 4)
    assert outcome("def f(a, b): return a", {"assert_case": tests})[2] == 0


def test_a_condition_is_part_of_the_test():
    body = "    if candidate(1) == 1:\n        assert candidate(2) == 2\n    assert candidate(3) == 3"
    tests = {"import_prefix": "", "test_code": f"def check(candidate):\n{body}", "entry_point": "f"}
    assert outcome("def f(x): return 3", tests) == (True, "passed", 2, 2)
    assert outcome("def f(x): return 1 if x == 1 else 3", tests) == (False, "wrong answer", 1, 2)


def test_an_assert_has_less_time_than_a_test_of_outputs():
    source = "import time\ntime.sleep(0.6)\ndef add(a, b): time.sleep(0.6); return a + b"
    limits = Limits(seconds=2.0, assert_seconds=0.4)
    assert outcome(source, ADD, limits=limits) == (True, "passed", 2, 2)
    assert outcome(source, {"assert_case": ["assert add(1, 2) == 3"]}, limits=limits) == (False, "timeout", 0, 1)
    twice = {"assert_case": ["assert add(1, 2) == 3"] * 2}
    assert outcome(source, twice, limits=Limits(assert_seconds=0.9)) == (True, "passed", 2, 2)


def test_a_program_may_use_a_gigabyte():
    source = "block = bytearray(1 << 30)\nblock[::4096] = b'x' * (1 << 18)\nprint(len(block))"
    assert outcome(source, {"inputs": [""], "outputs": [str(1 << 30)]}, limits=PATIENT) == (True, "passed", 1, 1)


def test_asserts_may_use_helpers_of_the_submission_and_modules():
    tests = {
        "assert_case": [
            "assert decode(encode('ab')) == 'ab'",
            "import math\nassert math.isclose(half(1), 0.5)",
            "assert math.floor(half(3)) == 1",
            "assert list(count_up(3)) == [0, 1, 2]",
            "assert encode('''a\n  b''') == 'b  \\na'",
            "try:\n    half('x')\nexcept TypeError:\n    raised = True\nassert raised",
        ]
    }
    source = "encode = decode = lambda s: s[::-1]\ndef half(x): return x / 2\ndef count_up(n): yield from range(n)"
    assert outcome(source, tests) == (True, "passed", 6, 6)


def test_packages_of_coding_sites_are_there():
    source = "import numpy\ndef add(a, b): return int(numpy.array([[a, b]]).dot([1, 1])[0])"
    assert outcome(source, ADD) == (True, "passed", 2, 2)
    assert outcome("import pandas\ndef add(a, b): return a + b", ADD) == (False, "runtime error", 0, 2)
