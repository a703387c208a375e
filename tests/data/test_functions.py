"""Generated functions to write: distinct, split by their text, and tests that tell a task from its neighbours."""

from __future__ import annotations

import pytest

from or1lab.data import functions
from or1lab.errors import UsageError
from or1lab.rewards.code import score_batch
from tests.lacking import needs_bubblewrap


def count(split: str) -> int:
    return sum(1 for name in functions._families() for _ in functions._tasks(name, split, 0))


TRAIN, TEST = count("train"), count("test")


@pytest.fixture(scope="module")
def tasks():
    return [*functions.problems("train", TRAIN), *functions.problems("test", TEST)]


def solve(problem, *arguments):
    namespace: dict = {}
    exec(problem.solution, namespace)
    return namespace[problem.tests["fn_name"]](*arguments)


def test_there_are_hundreds_and_no_two_are_alike(tasks):
    assert TRAIN >= 300 and TEST >= 100
    assert len({task.prompt for task in tasks}) == len({task.id for task in tasks}) == TRAIN + TEST
    assert {task.domain for task in tasks} == {"code"}


def test_more_tasks_begin_with_fewer_and_a_seed_changes_only_their_order():
    few = functions.problems("train", 20)
    assert functions.problems("train", 50)[:20] == few
    other = functions.problems("train", TRAIN, seed=1)
    assert other != functions.problems("train", TRAIN) and {t.id for t in other} == {
        t.id for t in functions.problems("train", TRAIN)
    }
    assert len({task.meta["family"] for task in functions.problems("train", 18)}) == 18


@pytest.mark.parametrize(
    "family, knobs, argument, value",
    [
        ("scale_and_add", {"factor": 3, "summand": 4}, 5, 19), ("leaves_rest", {"divisor": 4, "rest": 1}, -7, True),
        ("between", {"low": -2, "high": 5}, 9, 5), ("digit_sum", {"factor": 2}, 105, 12),
        ("count_digit", {"digit": 0}, 1001, 2), ("count_above", {"limit": 2}, [2, 3, 4], 2),
        ("sum_of_multiples", {"divisor": 3, "summand": 1}, [3, -6, 4, 9], 7),
        ("every_nth", {"step": 2, "start": 1}, [1, 2, 3, 4, 5], [2, 4]),
        ("rotate", {"places": 2}, [1, 2, 3], [3, 1, 2]),
        ("largest", {"count": 2}, [1, 5, 5, 3], [5, 5]), ("gaps", {"distance": 2}, [1, 2, 4, 8], [3, 6]),
        ("add_index", {"factor": 2}, [5, 5, 5], [5, 7, 9]), ("count_letter", {"letter": "a"}, "banana", 3),
        ("remove_letter", {"letter": "a"}, "banana", "bnn"), ("repeat_letters", {"times": 2}, "ab", "aabb"),
        ("shift_letters", {"places": 2}, "xyz", "zab"),
        ("join_long", {"length": 2, "mark": "-"}, ["ab", "abc", "d"], "abc"),
        ("join_beginnings", {"count": 2, "mark": "+"}, ["abc", "d"], "ab+d"),
    ],
)  # fmt: skip
def test_what_each_family_means(family, knobs, argument, value):
    assert solve(functions._task(family, "?", knobs, "00"), argument) == value


def test_every_family_is_checked_above():
    marks = test_what_each_family_means.pytestmark
    assert [row[0] for row in marks[0].args[1]] == list(functions._families())


@pytest.mark.slow
def test_tests_tell_a_task_from_all_others_of_its_family(tasks):
    for task in tasks:
        wanted = task.tests["outputs"]
        assert len(set(map(repr, wanted))) > 1  # no constant is right
        for other in tasks:
            if other.meta["family"] == task.meta["family"] and other is not task:
                assert [solve(other, *given) for given in task.tests["inputs"]] != wanted, (task.id, other.id)


@needs_bubblewrap
def test_every_reference_solution_passes_in_the_sandbox(tasks):
    responses = [f"So:\n```python\n{task.solution}```" for task in tasks]
    found = score_batch(tasks, responses, [False] * len(tasks))
    assert {(one.correct, one.reason, one.passed, one.total) for one in found} == {(True, "passed", 20, 20)}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("dev", 3), "neither 'train' nor 'test'"), (("train", 10_000), f"only {TRAIN} train tasks"),
        (("train", 3, 0, ["gapz"]), "no family 'gapz' .did you mean 'gaps'"),
    ],
)  # fmt: skip
def test_wrong_use(arguments, message):
    *positional, last = arguments
    with pytest.raises(UsageError, match=message):
        if isinstance(last, list):
            functions.problems(*positional, families=last)
        else:
            functions.problems(*arguments)
