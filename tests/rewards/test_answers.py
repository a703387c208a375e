r"""Rules for answers: each makes something right that is right, and leaves wrong what only looks like it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from or1lab.rewards import math as reward
from or1lab.rewards.answers import pair
from or1lab.rewards.math import verify_math
from or1lab.rewards.notation import clean
from or1lab.rewards.settled import decide, integer
from or1lab.rewards.units import quantity, unlike

# rule: [(gold, answer, right)]; both sides of every rule
RULES = {
    "leading zeros": [
        ("025", "25", True), ("25", "025", True), ("025", "25.0", True), ("025", "+25", True),
        ("025", "0.25", False), ("070", "7", False), ("007", "70", False),
    ],
    "huge numbers": [
        (r"2^{100}", "1267650600228229401496703205376", True), (r"9^{500}", r"3^{1000}", True),
        (r"2^{100}", "1267650600228229401496703205377", False), (r"2^{2024}-1", r"2^{2024}-2", False),
        (r"\frac{10^{50}}{10^{50}+1}", r"\frac{10^{50}}{10^{50}+2}", False),
        (r"\sqrt{10^{60}+1}", r"10^{30}", False),
        (r"\binom{100}{50}", r"\binom{100}{50}+1", False),
    ],
    "small numbers": [
        ("0.0000001", "1e-7", True), ("0.0000001", "0.0000002", False), (r"10^{-10}", r"10^{-11}", False),
        (r"\frac13", "0.333333", True), (r"\frac13", "0.33", False),
    ],
    "thousands": [
        ("1,234,567", "1234567", True), (r"1\,234", "1234", True), ("1{,}234", "1234", True),
        (r"32,\! 349", "32349", True),
        ("12 345 678", "12345678", True), (r"\$1,000", "1000", True), ("10,000", "10,001", False),
        ("1,2", "12", False),
        ("1, 200", "1200", False), ("(1,234)", "1234", False), ("1,200", "1.2", False),
    ],
    "lists of numbers": [
        ("100, 200, 300", "300,200,100", True), ("100,200,300", "100200300", True),
        ("100, 200", "100200", False),
        ("2,3,5", r"2, 3, \text{ and } 5", True), (r"\text{3 or 5}", "5, 3", True), ("1,2", "1", False),
        ("1", "1,2", False),
    ],
    "percent": [
        (r"50\%", "50", True), (r"50\%", "0.5", True), (r"12.5\%", "12.5", True), (r"12.5\%", "0.125", True),
        ("28%", "28 percent", True), (r"50\%", "5", False), (r"5\%", "500", False), (r"12.5\%", "1.25", False),
    ],
    "degrees": [
        (r"336^\circ", "336", True), (r"45^\circ", "45°", True), (r"45^\circ", r"45\text{ degrees}", True),
        (r"\sin 30^\circ", r"\frac12", True), (r"45^\circ", r"54°", False),
        (r"\sin 30^\circ", r"\sin 30", False),
    ],
    "units": [
        (r"864 \mbox{ inches}^2", "864", True), ("5", "5 cm^2", True), ("5", "5 km/h", True),
        ("5", r"5\text{ square units}", True),
        (r"\frac{5}{6} \text{ hours}", r"\frac56", True), (r"5\text{ h}", "5 hours", True), ("3rd", "3", True),
        (r"10\text{ cm}", r"10 \text{ m}", False), ("3 am", "3 pm", False), ("5 cm", "6 cm", False),
        ("3rd", "4", False),
    ],
    "a last variable is no unit": [
        ("5t", "5t", True), ("2ab", r"2 \cdot b \cdot a", True), ("5t", "5", False), ("5m", "5", False),
        ("2ab", "2", False),
        ("3", "3d", False), (r"\frac{1}{2} ab", r"\frac12", False), ("10x+5t", "10x+5", False),
    ],
    "mixed numbers": [
        ("1 1/2", r"\frac32", True), (r"2 \frac{3}{4}", "11/4", True), ("-1 1/2", "-1.5", True),
        ("2 1/2", "1", False),
        ("21/2", "2 1/2", False), ("1 1/2", r"\frac12", False),
    ],
    "powers of ten": [
        (r"6.02\times10^{23}", "6.02e23", True), ("3e8", "300000000", True), ("3e8", "3e7", False),
        ("3e", "8.1548", False),
    ],
    "intervals": [
        (r"(3,\infty)", "x > 3", True), (r"x \le 2", r"(-\infty, 2]", True), ("(1,2]", r"1<x\le 2", True),
        (r"1 \le x \le 2", r"2 \ge x \ge 1", True),
        (r"(-\infty,1)\cup(2,\infty)", r"x<1 \text{ or } x>2", True),
        (r"x \in [1,2]", r"1 \leq x \leq 2", True), (r"(3,\infty)", "x > 2", False),
        (r"(3,\infty)", r"x \ge 3", False),
        ("[1,2]", "1<x<2", False), ("[1,2]", "[1,2)", False),
        (r"(-\infty,1)\cup(2,\infty)", r"x<1 \text{ or } x\ge 2", False),
        ("x > 1", "y > 1", False), ("x>1", "x<1", False),
    ],
    "sets": [
        (r"\emptyset", r"\varnothing", True), (r"\emptyset", r"\{\}", True),
        (r"\{1,2\}", r"x \in \{2,1\}", True),
        (r"\emptyset", r"\{0\}", False), (r"\{1,2\}", r"\{1,2,3\}", False),
    ],
    "assignments": [
        (r"(m,n)=(0,0) \text{ or } (m,n)=(-2,2)", "(0,0), (-2,2)", True),
        (r"0, \frac12, 1", r"p=0, \frac12, \text{ and } p=1", True),
        ("1, 2", "x_1=1, x_2=2", True), ("(5,3)", "x=5, y=3", True), ("x=5", "y=5", False),
        ("(1,2)", "(x,y)=(2,1)", False),
        ("x=1, x=2", "y=1, y=2", False), ("(5,3)", "x=3, y=5", False), ("1, 2", "x=1, x=3", False),
    ],
    "both signs": [
        (r"x=\frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}", True),
        (r"(\pm 1, 0)", "(1,0), (-1,0)", True),
        (r"x=\pm 2", r"\{-2,2\}", True), (r"1 \pm 2i", "1+2i, 1-2i", True),
        (r"\pm 2", "2", False), (r"\pm 2", "-2, 3", False),
        (r"1\pm\sqrt2", r"1+\sqrt2", False),
    ],
    "angle brackets": [(r"(3,4)", r"\langle 3, 4\rangle", True), (r"(3,4)", r"\langle 4, 3\rangle", False)],
    "chains of equal numbers": [
        (r"2^{10} = 1024", "1024", True), (r"2^{10} = 1024", r"2^{10}", True),
        (r"2 \cdot\binom{6}{3} = 40", r"2\dbinom{6}{3}", True),
        (r"2^{10} = 1024", "1023", False), ("1024", r"2^{10} = 1023", False), ("x = 5", "6", False),
    ],
    "equations without real solutions": [
        ("x^2+1=0", "2x^2+2=0", True), ("x^2+18x+86=0", "x^2+18x+86=1", False),
    ],
    "complex numbers": [
        ("1+2i", "i(2-i)", True), ("1+2i", "2i+1", True), ("1+2i", "i(2+i)", False), ("1+2i", "1-2i", False),
    ],
    "bases": [
        ("1011_2", "1011_{2}", True), ("52_8", r"52_{\text{eight}}", True), ("1011_2", "1011", True),
        ("11_2", "3_{10}", False),
        ("1011_2", "1011_3", False), ("1011_2", "1010", False), ("x_1", "x_2", False),
    ],
    "choices": [
        ("A", r"\textbf{(A) } 12", True), (r"\text{(C)}", "C", True), ("C", "C. 12", True),
        ("A", "(B) A", False), ("A", "B", False),
        ("A", "AB", False), ("A", "A+B", False),
    ],
    "words": [
        (r"\text{June 20}", "june 20", True), (r"\text{Yes}", "yes", True),
        ("no solution", r"\text{No solutions}", True),
        ("Yes", "No", False), (r"\text{June 20}", "20", False), ("no solution", "two solutions", False),
    ],
    "number words": [("10", "ten", True), (r"\text{Five}", "5", True), ("5", "six", False),
    ("0", "none", False)],
    "signs": [("-5", "−5", True), (r"2\pi", "2π", True), (r"x^2", "x²", True), ("5", "5.", True),
    ("-5", "5", False), ("5", "5!", False)],
    "names": [("18+2\\pi", "18+2pi", True), (r"\theta", "theta", True), ("pie", r"\pi e", False)],
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _no_workers_afterwards():
    yield
    reward._pool().close()


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_helps_what_is_right_and_nothing_else(rule):
    found = [(gold, answer, verify_math(f"\\boxed{{{answer}}}", gold)) for gold, answer, _ in RULES[rule]]
    unlike = [one for one, (_, _, right) in zip(found, RULES[rule], strict=True) if one[2].correct != right]
    assert not unlike
    assert {right for _, _, right in RULES[rule]} == {True, False}, "both sides"


@pytest.mark.parametrize(
    "text",
    ["5", r"\frac{1}{2}", "x+1", "(1, 2)", r"\{1, 2\}", "a_1", r"\sqrt{2}", "1.5", r"\text{odd}", "", "{", r"\\"],
)
def test_plain_answers_stay_as_they_are(text):
    assert clean(text) == text and clean(clean(text)) == clean(text)


def test_rules_that_need_no_algebra_decide_at_once():
    assert decide("025", "25") is True and decide("25", "26") is False and decide("x", "y") is None
    assert decide("1.5", "1.50") is True and decide("1.5", "1.5000001") is None
    assert integer("-007") == "-7" and integer("+0") == "0" and integer("1.0") is None
    assert pair("1, 200", "1,200") == ("1, 200", "1, 200") and pair("1,200", "1,200") == ("1200", "1200")


def test_units_are_known_words_after_a_number():
    assert quantity(r"5\text{ km/h}") == quantity("5 kph") == ("5", ("km", "h"), 1)
    assert quantity("5 m") == ("5", ("m",), 1) and quantity(r"5 \text{ square feet}") == ("5", ("ft",), 2)
    assert quantity(r"\$4.50") == ("4.50", ("$",), 1)
    for text in ("5m", "x m", "5 bars"):
        assert quantity(text) == (text, (), 1)
    assert unlike("5 cm", "5 m") and not unlike("5 cm", "5") and not unlike("5 feet", "5 ft")


@pytest.mark.parametrize(
    "text",
    [" " * 4000, "1" * 4000, "(" * 4000, "," * 4000, "1," * 2000, "1 " * 2000, "a=" * 2000, r"\text{" * 600,
    "_{" * 2000,
     "x<" * 2000, "1 cm " * 800, ("1" + " " * 50) * 78, r"\sin (" * 600, "^" * 4000, "and " * 1000,
     "{}" * 2000, r"\ " * 2000],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_rules_take_no_time_on_hostile_text(text):
    begin = time.monotonic()
    for gold, answer in ((text, "5"), ("5", text), (text, text)):
        decide(gold, answer)
        pair(gold, answer)
    assert time.monotonic() - begin < 1.0


CASES = [json.loads(line) for line in (Path(__file__).parent / "answers.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("about", sorted({case["about"] for case in CASES}))
def test_answers_of_every_kind_are_judged_as_a_mathematician_would(about):
    cases = [case for case in CASES if case["about"] == about]
    found = [verify_math(case.get("response") or f"\\boxed{{{case['answer']}}}", case["gold"]) for case in cases]
    assert not [(case, one) for case, one in zip(cases, found, strict=True) if one.correct != case["right"]]
