"""Which answers vote together."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from or1lab import majority
from or1lab.majority import labels, same_math


def fractions_alike(one: str, other: str) -> bool:
    return Fraction(one) == Fraction(other)


def test_equal_strings_are_a_class_and_no_answer_is_none():
    found = labels([["5", " 5", None, "6", "", "  "], ["a", "b", "b", "b", "a", "c"]])
    assert found.tolist() == [[1, 1, -1, 2, -1, -1], [2, 1, 1, 1, 2, 3]]  # 0 is the gold's; then by frequency
    assert found.dtype == np.int64


def test_the_verifier_joins_what_letters_tell_apart():
    rows = [["1/2", "0.5", "2/4", "1/3", "0.25", "1/4", "0.25"]]
    assert labels(rows, ["0.50"], fractions_alike).tolist() == [[0, 0, 0, 2, 1, 1, 1]]
    assert labels(rows, ["0.50"]).tolist() == [[2, 3, 4, 5, 1, 6, 1]]


def test_golds_may_be_several_or_none():
    rows = [["1", "2", "3"], ["4", "4", "5"], ["4", "4", "5"]]
    assert labels(rows, [["1", "2"], "5", None], fractions_alike).tolist() == [[0, 0, 1], [1, 1, 0], [1, 1, 2]]


def test_known_verdicts_are_not_asked_for_again():
    asked = []

    def same(one: str, other: str) -> bool:
        asked.append((one, other))
        return one.lower() == other.lower()

    rows = [["x", "X", "y", "Y", None]]
    found = labels(rows, ["x"], same, correct=[[True, True, False, False, False]])
    assert found.tolist() == [[0, 0, 1, 1, -1]]
    assert asked == [("y", "Y")]
    assert labels(rows, ["x"], correct=[[True, True, False, False, False]]).tolist() == [[0, 1, 2, 3, -1]]


def test_comparisons_are_few_and_never_repeated():
    asked = []

    def never(one: str, other: str) -> bool:
        asked.append((one, other))
        return False

    rows = [[str(n) for n in range(40)] * 2]
    found = labels(rows, ["gold"], never)
    assert sorted(set(found[0].tolist())) == list(range(1, 41))
    assert len(asked) == len(set(asked)) <= 40 * (1 + majority.CLASSES)
    asked.clear()
    assert labels([["7"] * 64], ["7"], never).tolist() == [[0] * 64] and not asked


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 5), min_size=4, max_size=4), min_size=1, max_size=4), st.integers(0, 5))
def test_classes_of_an_equivalence_are_its_classes(rows, gold):
    """Numbers alike modulo 3, each written in a way of its own."""
    answers = [[None if n < 0 else str(n + 6 * place) for place, n in enumerate(row)] for row in rows]
    found = labels(answers, [str(gold)] * len(rows), lambda one, other: (int(one) - int(other)) % 3 == 0)
    for row, classes in zip(rows, found, strict=True):
        for n, one in zip(row, classes, strict=True):
            assert (one == -1) == (n < 0)
            assert n < 0 or (one == 0) == (n % 3 == gold % 3)
            for m, other in zip(row, classes, strict=True):
                assert n < 0 or m < 0 or (one == other) == (n % 3 == m % 3)


def test_mathematics():
    rows = [[r"\frac{1}{2}", "0.5", r"\dfrac12", "2", "2.0", None], ["x+1", "1+x", "x-1", "y", "\0", "}{"]]
    found = labels(rows, ["1/2", "y"], same_math)
    assert found[0].tolist() == [0, 0, 0, 1, 1, -1]
    assert found[1].tolist()[:4] == [1, 1, 2, 0]
    assert len({*found[1].tolist()}) == 5  # what cannot be parsed is like nothing else


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: labels([]), "same number"),
        (lambda: labels([[]]), "same number"),
        (lambda: labels([["1"], ["1", "2"]]), "same number"),
        (lambda: labels([["1"], ["2"]], ["1"]), "1 golds of 2"),
        (lambda: labels([["1"], ["2"]], correct=[[True]]), "verdicts"),
    ],
)
def test_tables_that_do_not_fit(call, words):
    with pytest.raises(ValueError, match=words):
        call()
