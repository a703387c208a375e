"""Duplicates: found whatever the layout and with a word exchanged; other numbers make another problem."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from or1lab.data import dedupe
from or1lab.data.problem import Problem
from or1lab.data.text import formal, tokens
from or1lab.recipe import ROOT

SHARED = ROOT.parent / "shared" / "data"
TRAIN = (
    "A train leaves the station at 9 and travels $\\frac{3}{4}$ of the way at 60 miles per hour. "
    "How many minutes does the remaining journey take?"
)


def problem(prompt: str, gold: str | None = "5", source: str = "a", **fields) -> Problem:
    problem.made += 1
    tests = None if gold else {"inputs": ["1"], "outputs": ["1"]}
    return Problem(
        id=f"p{problem.made}", domain="math" if gold else "code", prompt=prompt, gold=gold, tests=tests, source=source,
        **fields,
    )  # fmt: skip


problem.made = 0


def removed(stage, *problems: Problem) -> list[str]:
    return [reason for _, reason in stage(problems)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TRAIN, TRAIN.replace(" ", "  ").upper().replace("\\FRAC", "\\frac")),
        ("Find $\\frac{1}{2}+x$.", "find \\(\\dfrac12 + x\\)".replace("12", "{1}{2}")),
        ("$a\\leq b$, and $\\left(1,2\\right)$", "a \\le b and (1, 2)"),
        ("What is 3 − 2?", "what is $3-2$"),
        ("It is a well-known 9-kilometer walk", "It is a well known 9 kilometer walk."),
        ("$\\frac12$ of $\\frac mn$", "$\\frac{1}{2}$ of $\\dfrac{m}{n}$"),
        ("4π ≤ √5 at 30° and x²", "$4\\pi\\leq\\sqrt{5}$ at $30^{\\circ}$ and $x^2$"),
        ("$f^{\\prime}(x)+f''(x)$", "f'(x) + f''(x)"),
        ("1,234,567 and $1{,}000$ and 1½", "1234567 and 1000 and 1 1/2"),
        ("$1+2+\\ldots+.5$", "1 + 2 + ... + 0.5"),
        ("caf\u00e9 \u201cquoted\u201d", "cafe\u0301 \"quoted\""),
    ],
)  # fmt: skip
def test_layout_is_no_difference(one, other):
    assert tokens(one) == tokens(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12-6*19=?", "12-6+19=?"), ("x^2", "x^3"), ("3.14", "314"), ("x^{2y}", "x^2y"), ("1,234", "1 234"),
        ("n!", "n"),
        ("Find $f'(2)$", "Find $f(2)$"), ("f''(x)", "f'(x)"), (".5 + 3", "5 + 3"), ("10²", "102"), ("1½", "11/2"),
        ("(1,2)", "(12)"), ("5% of 20", "5 of 20"), ("A'B", "AB"),
    ],
)  # fmt: skip
def test_other_formulas_are_other_texts(one, other):
    assert tokens(one) != tokens(other)


def test_an_apostrophe_is_no_prime():
    assert "'" not in tokens("Rosa's friends' clock isn't at l'Hôpital's; it's 5 o'clock at A's")


def test_formal_tokens_are_numbers_signs_commands_and_letters():
    words = tokens("A car, 3.5 m long, needs $x_1 + \\sqrt{2} \\ge 7$ or a $b$")
    assert formal(words) == ["3.5", "m", "x", "_", "1", "+", "\\sqrt", "2", "\\ge", "7", "b"]


def test_equal_texts_go_within_a_source_only():
    first, again, elsewhere = problem(TRAIN), problem(TRAIN.lower(), "7"), problem(TRAIN, source="b")
    assert removed(dedupe.equal, first, again, elsewhere) == ["", f"equal text: {first.id}", ""]
    assert removed(dedupe.near, first, elsewhere) == ["", f"near-duplicate: {first.id}"]


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (("journey", "trip"), True),
        (("remaining journey", "rest"), True),
        (("9", "8"), False),  # another number
        (("\\frac{3}{4}", "\\frac{4}{3}"), False),  # the same ones in another order
    ],
)
def test_a_word_is_no_other_problem_but_a_number_is(change, gone):
    first, second = problem(TRAIN), problem(TRAIN.replace(*change))
    assert removed(dedupe.near, first, second) == ["", f"near-duplicate: {first.id}" if gone else ""]


def test_answers_that_certainly_differ_keep_both():
    most = "Find the largest of the values that the polynomial $x^2-4x+9$ takes between 1 and 6 inclusive."
    least = most.replace("largest", "smallest")
    assert removed(dedupe.near, problem(most, "21"), problem(least, "5")) == ["", ""]
    assert removed(dedupe.near, problem(most, "21"), problem(least, "21.0"))[1]
    long = " ".join(["The polynomial was found in an old book about the growth of plants and animals."] * 3)
    assert removed(dedupe.near, problem(f"{long} {most}", "21"), problem(f"{long} {least}", "5")) == ["", ""]
    assert removed(dedupe.near, problem(most, "21"), problem(most, "5"))[1]  # an equal text, all the same
    assert removed(dedupe.near, problem(most, ["3", "21"]), problem(least, "21"))[1]


def test_where_answers_tell_nothing_the_words_must_agree_more():
    short = "Write a function to find the perimeter of a square."
    assert removed(dedupe.near, problem(short, None), problem(short.replace("square", "pentagon"), None)) == ["", ""]
    long = (short + " The function gets the length of one side and returns the length of the whole outline, rounded "
            "down to the next whole number; lengths are never negative, and may be given as text.")  # fmt: skip
    assert removed(dedupe.near, problem(long, None), problem(long.replace("outline", "border"), None))[1]


def test_more_problems_than_the_table_began_with():
    """The table of signatures grows; a duplicate of an early one and of a late one are both found."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(4000)]
    problems = [problem(" ".join(rng.sample(words, 20))) for _ in range(2100)]
    found = removed(dedupe.near, *problems, problem(problems[3].prompt + " please"), problem(problems[-2].prompt))
    assert found[:2100] == [""] * 2100
    assert found[2100:] == [f"near-duplicate: {problems[3].id}", f"near-duplicate: {problems[-2].id}"]


def test_odd_texts_are_told_apart():
    odd = [problem("\u00bf 7"), problem("\x00"), problem("x"), problem("?!"), problem("x y")]
    assert removed(dedupe.near, *odd) == [""] * 5


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data here")
def test_on_public_problems_a_reworded_word_is_found_and_different_problems_stay():
    rng = random.Random(0)
    problems = []
    for name in ("math500", "omni_math_rule", "aime24"):
        lines = (SHARED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        problems += [problem(row["problem"], row["answer"], name) for row in map(json.loads, lines)]
    assert sum(map(bool, removed(dedupe.near, *problems))) == 0
    words = [w for p in problems for w in p.prompt.split() if w.isalpha() and len(w) > 3]

    def reworded(prompt: str) -> str:
        parts = prompt.split(" ")
        places = [i for i, word in enumerate(parts) if word.isalpha() and len(word) > 2]
        if places:
            parts[rng.choice(places)] = rng.choice(words)
        return " ".join(parts)

    again = [p.model_copy(update={"id": f"{p.id}-again", "prompt": reworded(p.prompt)}) for p in problems]
    found = removed(dedupe.near, *problems, *again)[len(problems) :]
    assert sum(map(bool, found)) / len(found) >= 0.97


def test_many_texts_without_numbers_are_not_all_compared(monkeypatch):
    rng = random.Random(0)
    words = ["".join(rng.choices("bdfklmnprstaeiou", k=6)) for _ in range(2000)]
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(3 * dedupe.MANY)]
    reworded = [text.replace(text.split()[15], "mauve", 1) for text in texts[::2]]
    compared = []
    find = np.flatnonzero
    monkeypatch.setattr(dedupe.np, "flatnonzero", lambda shares: compared.append(shares.size) or find(shares))
    found = removed(dedupe.near, *map(problem, texts), *map(problem, reworded))
    assert not any(found[: len(texts)]) and all(found[len(texts) :])
    assert max(compared) < dedupe.MANY + 20


@pytest.mark.timeout(20)
@pytest.mark.parametrize("junk", ["^" + " " * 10**6, "\\frac" + " " * 10**6, "^ { " * 10**5, "{" * 10**6, ".1" * 10**5])
def test_junk_takes_no_more_time_than_its_length(junk):
    assert len(tokens(junk)) <= len(junk)
