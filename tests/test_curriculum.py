"""Stages, prompts and the online filter."""

from __future__ import annotations

import json

import pytest

from or1lab.curriculum import Curriculum
from or1lab.data import tiny
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import load_recipe

PROBLEMS = tiny.problems("train", 20)
TWO_STAGES = ["stages=[{steps: 7, T: 32}, {steps: 5, T: 64, D_R: 6}]", "D_R=4", "D_T=2"]


def curriculum(*changes: str) -> Curriculum:
    return Curriculum(load_recipe("tiny", [*TWO_STAGES, *changes]), PROBLEMS)


def names(stages: Curriculum, step: int) -> list[str]:
    return [problem.id for problem in stages.prompts(step)]


def test_steps_run_through_the_stages():
    stages = curriculum()
    assert [stages.at(step) for step in (1, 7, 8, 12)] == [(0, 0), (0, 6), (1, 0), (1, 4)]
    assert [stages.stages[i].T for i in (0, 1)] == [32, 64]
    with pytest.raises(ValueError, match="beyond"):
        stages.at(13)


def test_an_epoch_samples_every_problem_once():
    stages = curriculum()
    first = [name for step in range(1, 6) for name in names(stages, step)]
    assert sorted(first) == sorted(problem.id for problem in PROBLEMS)
    assert [name for step in (6, 7) for name in names(stages, step)] != first[:8]  # a new shuffle
    assert len(names(stages, 8)) == 6


def test_prompts_depend_on_seed_and_step_alone():
    forward, backward = curriculum(), curriculum()
    later = {step: names(backward, step) for step in range(12, 0, -1)}
    assert all(names(forward, step) == later[step] for step in range(1, 13))
    assert names(forward, 1) != names(curriculum("seed=1"), 1)


def test_more_prompts_than_problems_is_an_error():
    with pytest.raises(UsageError, match="D_R = 24 prompts a step, but there are only 20"):
        curriculum("D_R=24")


# The problem of each letter was visited with these outcomes in the first stage (True: its whole group was right).
VISITS = {"a": [False, True], "b": [True, False], "c": [True, True], "d": [False, False], "e": [True]}


@pytest.mark.parametrize(
    ("rule", "dropped"), [("off", ""), ("last", "ace"), ("any", "abce"), ("all", "ce")]
)
def test_rules_of_the_online_filter(rule, dropped):
    stages = curriculum(f"online_filter={rule}")
    ids = {letter: problem.id for letter, problem in zip(VISITS, PROBLEMS, strict=False)}
    for step in range(1, 8):
        stages.see(step, [(ids[letter], v[step - 1]) for letter, v in VISITS.items() if step <= len(v)])
    gone = {ids[letter] for letter in dropped}
    assert set(stages.dropped[1]) == gone
    seen = {name for step in range(8, 13) for name in names(stages, step)}
    assert not seen & gone
    assert set(names(stages, 1)) == set(names(curriculum(), 1))  # the first stage is not changed afterwards


def test_the_filter_acts_at_the_end_of_a_stage_only():
    stages = curriculum("online_filter=last")
    for step in range(1, 7):
        stages.see(step, [(PROBLEMS[0].id, True)])
        assert stages.dropped == [[], []]
    stages.see(7, [])
    assert stages.dropped == [[], [PROBLEMS[0].id]] and stages.visits == {}
    stages.see(12, [(PROBLEMS[1].id, True)])  # the last step of all: there is no next stage
    assert stages.dropped == [[], [PROBLEMS[0].id]]


def test_its_state_survives_a_checkpoint():
    whole, before = curriculum("online_filter=last"), curriculum("online_filter=last")
    for step in range(1, 8):
        whole.see(step, [(name, step % 2 == 0) for name in names(whole, step)])
    for step in range(1, 4):
        before.see(step, [(name, step % 2 == 0) for name in names(before, step)])
    resumed = curriculum("online_filter=last")
    resumed.load_state_dict(json.loads(json.dumps(before.state_dict())))
    for step in range(4, 8):
        resumed.see(step, [(name, step % 2 == 0) for name in names(resumed, step)])
    assert resumed.dropped == whole.dropped != [[], []]
    assert names(resumed, 9) == names(whole, 9)


def test_a_filter_that_leaves_too_little_says_so():
    stages = curriculum("online_filter=last")
    with pytest.raises(Or1labError, match="leaves 2 problems for stage 1, which samples 6"):
        stages.see(7, [(problem.id, True) for problem in PROBLEMS[:18]])


def test_refills_are_other_problems_and_depend_on_seed_step_and_round():
    stages = curriculum()
    sampled = stages.prompts(3)
    more = stages.others(3, 1, 5, sampled)
    assert len(more) == 5 and not {p.id for p in more} & {p.id for p in sampled}
    assert more == curriculum().others(3, 1, 5, sampled) != stages.others(3, 2, 5, sampled)
    assert len(stages.others(3, 1, 100, sampled)) == len(PROBLEMS) - len(sampled)
    assert stages.others(3, 1, 0, sampled) == []
