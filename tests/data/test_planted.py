"""What the data notebook plants: each fault is one, and only what was planted is removed, whatever the seed."""

from __future__ import annotations

import json

import pytest

from or1lab.data import load, planted, tiny
from or1lab.data.curate import Wanted, curate
from or1lab.errors import UsageError
from or1lab.rewards.math import verify_math


def test_the_worked_solution_reaches_the_answer():
    for problem in tiny.problems("train", 50):
        assert verify_math(planted.worked(problem.prompt), problem.gold).correct
    assert planted.worked("12-6*19=?").startswith("12-6 = 6 modulo 23\n6*19 = 22 modulo 23\n")


def test_too_few_problems_for_a_fault_are_named():
    with pytest.raises(UsageError, match="only .* can have the fault"):
        planted.plant(planted.sound("train", 8), planted.sound("test", 8), 9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_planted_fault_is_caught_by_its_stage_and_nothing_else_goes(seed, tmp_path):
    each, items = 6, planted.sound("test", 40, seed)
    load.write(items, tmp_path / "items.jsonl")
    load.write(planted.plant(planted.sound("train", 100, seed), items, each, seed), tmp_path / "raw.jsonl")
    funnel = curate(Wanted((str(tmp_path / "raw.jsonl"),), (str(tmp_path / "items.jsonl"),)), tmp_path / "out")
    removed = [json.loads(line) for line in (tmp_path / "out" / "removed.jsonl").open()]
    table = planted.caught(funnel, removed, each)
    assert table["caught"].tolist() == [each] * len(planted.FAULTS) + [0]
    assert table["removed elsewhere"].sum() == 0
