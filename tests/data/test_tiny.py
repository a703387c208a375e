"""The tiny world: its arithmetic, its splits, its exact reward."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from or1lab.data import tiny
from or1lab.data.problem import Problem
from or1lab.errors import UsageError
from or1lab.rewards import get_reward

PROBLEM = Problem(id="tiny-12-6*19", domain="tiny", prompt="12-6*19=?", gold="22")


def by_hand(prompt: str) -> int:
    """Left to right without `tiny.parse`: a bracket around everything before each operator, then Python."""
    text = prompt.removesuffix("=?")
    operators = sum(text.count(c) for c in "+-*")
    for c in "+-*":
        text = text.replace(c, f"){c}")
    return eval("(" * operators + text) % 23


@pytest.mark.parametrize(
    ("prompt", "right"), [("12-6*19=?", 22), ("1-22+0=?", 2), ("22*9*9=?", 11), ("0-1=?", 22), ("7*3-21=?", 0)]
)
def test_answers_worked_out_by_hand(prompt, right):
    assert tiny.answer(prompt) == right == by_hand(prompt)


def test_answers_and_golds_agree_with_python():
    for problem in tiny.problems("train", 300, seed=5, products=0.6):
        assert tiny.answer(problem.prompt) == by_hand(problem.prompt) == int(problem.gold)


def test_splits_share_nothing_whatever_seeds_and_sizes():
    train = {p.id for seed in (0, 1) for p in tiny.problems("train", 1500, seed=seed)}
    train |= {f"tiny-{prompt.removesuffix('=?')}" for prompt in islice(tiny.training_prompts(3), 5000)}
    test = {p.id for seed in (0, 7) for p in tiny.problems("test", 300, seed=seed, operands=(2, 4))}
    assert not train & test
    assert len(tiny.problems("test", 300)) == len({p.id for p in tiny.problems("test", 300)})


def test_the_same_arguments_give_the_same_problems():
    assert tiny.problems("train", 50, seed=3) == tiny.problems("train", 80, seed=3)[:50]
    assert tiny.problems("train", 50, seed=3) != tiny.problems("train", 50, seed=4)


def test_difficulty_is_what_was_asked_for():
    problems = tiny.problems("train", 200, operands=(3, 5), products=1.0)
    counts = [sum(p.prompt.count(c) for c in "+-*") + 1 for p in problems]
    assert sorted(set(counts)) == [3, 4, 5] and counts == [p.meta["operands"] for p in problems]
    assert not any(c in p.prompt for p in problems for c in "+-")
    assert not any("*" in p.prompt for p in tiny.problems("train", 100, products=0.0))
    factors = {int(f) for p in problems for f in p.prompt.removesuffix("=?").split("*")[1:]}
    assert factors == set(range(2, 10))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "dev"}, "neither 'train' nor 'test'"),
        ({"operands": (5, 3)}, "operands"),
        ({"operands": (1, 3)}, "at least 2"),
        ({"products": 1.5}, "between 0 and 1"),
        ({"n": 600, "operands": (2, 2), "products": 1.0}, "ask for fewer"),
    ],
)
def test_impossible_requests_are_refused_in_words(arguments, words):
    with pytest.raises(UsageError, match=words):
        tiny.problems(**{"split": "train", "n": 5, **arguments})


@pytest.mark.parametrize(
    ("response", "correct", "reason"),
    [
        ("<think>12-6=6\n6*19=22\n</think>\\boxed{22}", True, "match"),
        ("<think></think>\\boxed{022}", True, "match"),
        ("<think></think>\\boxed{3}\\boxed{22}", True, "match"),
        ("<think></think>\\boxed{22}\\boxed{3}", False, "wrong"),
        ("<think></think>\\boxed{22}\\boxed{20+2}", False, "no answer"),  # the last box holds no integer
        ("<think></think>\\boxed{45}", False, "wrong"),  # congruent, but not the integer asked for
        ("<think></think>\\boxed{-1}", False, "wrong"),
        ("<think>\\boxed{22}", False, "no answer"),  # still thinking
        ("<think>\\boxed{22}</think>", False, "no answer"),  # boxed before the thinking ended
        ("<think></think>\\boxed{}", False, "no answer"),
        ("<think></think>\\boxed{2 2}", False, "no answer"),
        ("<think></think>\\boxed{" + "9" * 100_000 + "}", False, "no answer"),
        ("", False, "no answer"),
    ],
)
def test_the_last_box_after_the_thinking_counts(response, correct, reason):
    verdict = tiny.verify_tiny(PROBLEM, response, False)
    assert (verdict.correct, verdict.reason) == (correct, reason)


def test_a_truncated_response_is_never_right():
    cut = tiny.verify_tiny(PROBLEM, "<think></think>\\boxed{22}", True)
    assert (cut.correct, cut.reason) == (False, "truncated")


def test_the_reward_of_a_batch_is_that_of_its_members():
    right, wrong = "<think></think>\\boxed{22}", "<think></think>\\boxed{1}"
    verdicts = get_reward("tiny")([PROBLEM] * 3, [right, wrong, right], [False, False, True])
    assert [v.correct for v in verdicts] == [True, False, False]


def test_prompts_of_demonstrations_stay_in_the_training_split():
    rng = random.Random(0)
    both = [tiny.sample_prompt(rng, 3, 0.5) for _ in range(2000)]
    share = sum(map(tiny.is_test, both)) / len(both)
    assert 0.2 < share < 0.3
    assert not any(map(tiny.is_test, islice(tiny.training_prompts(0), 2000)))
