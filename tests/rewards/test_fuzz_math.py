"""The mathematics verifier on random, mutated and hostile answers: a verdict, in time, and right where it is certain.

Few examples among the tests; see `fuzzing.py` for hours of them.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from or1lab.rewards import Verdict
from or1lab.rewards import math as reward
from or1lab.rewards.math import verify_math
from tests.rewards.fuzzing import fuzzed, rounds, seen

LIMIT = 2.0  # seconds a comparison
START = 60.0  # seconds that a new worker may need, on a busy machine

numbers = st.one_of(
    st.integers(-999, 999).map(str), st.integers().map(str), st.decimals(-999, 999, places=3).map(str),
    st.builds("{:,}".format, st.integers(1000, 10**12)),
)  # fmt: skip
ATOMS = [*"abeiknxyz", r"\pi", r"\infty", r"\emptyset", r"\text{no}", "025"]
atoms = st.one_of(numbers, st.sampled_from(ATOMS))


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        *(two.map(lambda ab, form=form: form.format(*ab)) for form in (
            "{}+{}", "{}-{}", "{}{}", r"{}\cdot {}", "{}/{}", r"\frac{{{}}}{{{}}}", "{}^{{{}}}", "({},{})", "[{},{})",
            r"\{{{},{}\}}", "{}={}", r"{}\le {}", r"{}\cup {}", r"\binom{{{}}}{{{}}}", r"\log_{{{}}}{{{}}}",
            r"{}\pm {}", r"\begin{{pmatrix}}{}\\{}\end{{pmatrix}}", r"{}\text{{ or }}{}",
        )),
        *(inner.map(lambda a, form=form: form.format(a)) for form in (
            r"\sqrt{{{}}}", "({})", r"\sin {}", "|{}|", "-{}", "{}!", r"{}\%", r"{}^\circ", r"\left({}\right)", "${}$",
            r"\text{{{}}}", r"\mathbf{{{}}}", r"\lfloor {}\rfloor", r"x \in {}",
        )),
    )  # fmt: skip


latex = st.recursive(atoms, larger, max_leaves=12)
tokens = st.lists(
    st.sampled_from([
        *r"{}[]()$^_\%&#,;.=<>|+-*/!~ 0123456789xyzne'", "\0", "\ud800", "\n", "½", "²", "−", "，", "1e999999",
        r"\frac", r"\boxed{", r"\sqrt", r"\left", r"\right", r"\text{", r"\begin{cases}", r"\end{cases}",
        "</think>", "<|im_end|>", "9**9**9**9", r"9^{9^{9^{9}}}", r"10^{10^{10}}", "99999999!", r"\int_0^\infty",
        r"\sum_{n=1}^{10^9}", "The answer is",
    ]), max_size=40,
).map("".join)  # fmt: skip
PARTS = ["{", "}", "(", r"\frac{", r"\boxed{", "9", "^9", "9**", r"\left(", " ", "x+", r"\\", "$", "-", "\0", "1,"]
enormous = st.builds(
    lambda part, count, head, tail: head + part * count + tail,
    st.sampled_from(PARTS),
    st.sampled_from([100, 3_000, 100_000, 1_000_000]),
    st.sampled_from(["", r"\boxed{", "$", "The answer is "]), st.sampled_from(["", "}", "$", "5}"]),
)  # fmt: skip
answers = st.one_of(latex, tokens, enormous, st.text(max_size=60))


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, str]:
    """A gold, and what is left of it after a few edits."""
    gold = draw(latex)
    text = list(gold)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 2))] = draw(tokens)[:3]
    return gold, "".join(text)


def judged(response: str, gold: str) -> Verdict:
    start = time.monotonic()
    verdict = verify_math(response, gold, timeout=LIMIT)
    taken = time.monotonic() - start
    assert isinstance(verdict, Verdict)
    assert verdict.correct == (verdict.reason in ("match", "equivalent")), verdict
    assert not verdict.reason.startswith("error"), verdict
    assert taken < LIMIT + 2 or (taken < LIMIT + START and fresh_worker()), (taken, response[:100], gold[:100])
    seen[verdict.reason] += 1
    return verdict


def fresh_worker() -> bool:
    """Whether the pool answers now: a question that follows a killed worker waits for a new one, and no longer."""
    return verify_math(r"\boxed{2+3x}", "3x+2").correct


@fuzzed(25)
@given(st.one_of(st.tuples(latex, answers), mutated()), st.booleans())
@example(("5", "9^{9^{9^{9}}}"), True)
@example(("5", "x+" * 1_000_000), True)
@example(("5", r"\boxed{" * 100_000), False)
def anything(pair: tuple[str, str], boxed: bool) -> None:
    gold, answer = pair
    judged(f"\\boxed{{{answer}}}" if boxed else answer, gold)


@fuzzed(25)
@given(latex)
def the_gold_is_right(gold: str) -> None:
    assert judged(f"thought</think>so \\boxed{{{gold}}}", gold).correct, gold


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, str]:
    """A plain number, and the same with one digit changed."""
    number = draw(st.one_of(st.integers(), st.integers(10**15, 10**40),
        st.decimals(-(10**6), 10**6, places=4)).map(str))
    at = draw(st.sampled_from([place for place, digit in enumerate(number) if digit.isdigit()]))
    digit = draw(st.sampled_from([digit for digit in "0123456789" if digit != number[at]]))
    return number, number[:at] + digit + number[at + 1 :]


@fuzzed(25)
@given(changed())
def another_number_is_wrong(pair: tuple[str, str]) -> None:
    number, other = pair
    found = judged(f"\\boxed{{{other}}}", number)
    assert not found.correct or float(number) == 0 == float(other), (number, other, found)


@pytest.fixture(scope="module", autouse=True)
def _no_workers_afterwards():
    yield
    reward._pool().close()


@pytest.mark.timeout(0)
def test_fuzzing():
    rounds([anything, the_gold_is_right, another_number_is_wrong])
    assert fresh_worker()
    assert seen["match"] and seen["wrong"] and seen["timeout"] + seen["unparsable"]
