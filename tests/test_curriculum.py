"""Stages, prompts and the online filter."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from or1lab.curriculum import Curriculum, trend
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


# -------------------------------------------------------------------------------------------- stages until convergence

# Evaluations every 2 steps; stage 0 looks at its last 3, stage 1 at its last 4 and not before its 10th step.
UNTIL = [
    "stages=[{steps: 20, T: 32, until_converged: {window: 3}}, "
    "{steps: 30, T: 64, D_R: 6, until_converged: {window: 4, min_steps: 10}}]",
    "eval.every=2",
]
FLAT, RISING = [0.4, 0.5, 0.4], [0.1, 0.2, 0.301]


def course(stages: Curriculum, accuracies: dict[int, float], first: int = 1, last: int = 50, resumed_at: int = 0):
    """Runs the loop as the trainer does: prompts, see, evaluation (where `accuracies` has the step), checkpoint.
    Returns the prompts of each step and the records of the evaluations; at `resumed_at` a fresh curriculum goes on from
    the checkpoint."""
    prompts, records = {}, {}
    for step in range(first, last + 1):
        if step > stages.last_step:
            break
        prompts[step] = [stages.at(step)[0], *names(stages, step)]
        stages.see(step, [(name, hash_of(name, step)) for name in names(stages, step)])
        if step in accuracies:
            records[step] = stages.evaluated(step, accuracies[step])
        if step == resumed_at:
            state = json.loads(json.dumps(stages.state_dict()))
            stages = curriculum(*UNTIL, "online_filter=all")
            stages.load_state_dict(state)
    return prompts, records, stages


def hash_of(name: str, step: int) -> bool:
    return random.Random(f"{name}{step}").random() < 0.4


def at_twos(*values: float, first: int = 2) -> dict[int, float]:
    return {first + 2 * n: value for n, value in enumerate(values)}


def slow_trend(points):
    """Textbook least squares in plain sums, Student's t from a table."""
    n = len(points)
    x, y = sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
    sxx = sum((p[0] - x) ** 2 for p in points)
    slope = sum((p[0] - x) * (p[1] - y) for p in points) / sxx
    left_over = sum((p[1] - y - slope * (p[0] - x)) ** 2 for p in points)
    half = {1: 12.70620474, 2: 4.30265273, 3: 3.18244631, 4: 2.77644511}[n - 2] * math.sqrt(left_over / (n - 2) / sxx)
    return slope, slope - half, slope + half


@given(st.lists(st.floats(0, 1), min_size=3, max_size=6), st.integers(1, 40), st.integers(0, 1000))
def test_the_trend_is_the_textbook_formula(values, every, first):
    points = [(first + every * n, value) for n, value in enumerate(values)]
    assert trend(points) == pytest.approx(slow_trend(points), abs=1e-8)


@given(st.floats(0, 1), st.integers(3, 12))
def test_an_accuracy_that_never_changes_is_exactly_flat(value, n):
    assert trend([(k, value) for k in range(1, n + 1)]) == (0, 0, 0)


def test_a_flat_accuracy_ends_the_stage_and_everything_moves_up():
    stages = curriculum(*UNTIL)
    _, records, _ = course(stages, at_twos(*FLAT), last=6)
    assert records[2] == records[4] == {}
    assert records[6]["stage/converged"] is True and records[6]["stage/slope"] == pytest.approx(0)
    assert stages.last_step == 6 + 30
    assert [stages.at(step) for step in (6, 7, 36)] == [(0, 5), (1, 0), (1, 29)]
    assert len(names(stages, 7)) == 6 and len(stages.others(7, 1, 3, stages.prompts(7))) == 3
    with pytest.raises(ValueError, match="beyond the run's 36 steps"):
        stages.at(37)
    plain = curriculum("stages=[{steps: 6, T: 32}, {steps: 30, T: 64, D_R: 6}]")
    assert all(names(stages, step) == names(plain, step) for step in range(1, 37))


def test_a_rising_accuracy_does_not_end_it():
    stages = curriculum(*UNTIL)
    _, records, _ = course(stages, at_twos(*RISING, 0.4, 0.5), last=10)
    assert [records[step]["stage/converged"] for step in (6, 8, 10)] == [False] * 3
    assert records[6]["stage/slope"] == pytest.approx(0.05025) and records[6]["stage/slope_low"] > 0.04
    assert stages.last_step == 50
    course(stages, at_twos(0.5, first=12), first=11, last=12)  # 0.4, 0.5, 0.5: only the last three count
    assert stages.last_step == 12 + 30


def test_a_falling_accuracy_ends_it():
    stages = curriculum(*UNTIL)
    _, records, _ = course(stages, at_twos(*reversed(RISING)), last=6)
    assert records[6]["stage/slope_high"] < 0 and stages.last_step == 36


def test_a_stage_takes_its_least_steps():
    stages = curriculum("stages=[{steps: 20, T: 32, until_converged: {window: 3, min_steps: 9}}]", "eval.every=2")
    _, records, _ = course(stages, at_twos(*[0.5] * 10))
    assert {step: record.get("stage/converged") for step, record in records.items()} == {
        2: None, 4: None, 6: False, 8: False, 10: True,
    }  # fmt: skip
    assert stages.last_step == 10  # the last stage: the run is over


def test_a_stage_that_never_converges_takes_all_its_steps_and_ends_once():
    stages = curriculum(*UNTIL, "online_filter=all")
    rising = at_twos(*[n / 10 for n in range(10)])
    _, records, _ = course(stages, rising | {20: 0.0}, last=19)
    stages.see(20, [(PROBLEMS[0].id, True)])
    dropped = [list(ids) for ids in stages.dropped]
    assert dropped[1]
    # The evaluation after its last step may find it converged: nothing moves, and the filter does not act again.
    assert stages.evaluated(20, 0.0)["stage/converged"] is True
    assert stages.dropped == dropped and stages.ends == [20, 50]


def test_only_evaluations_of_the_stage_itself_count():
    stages = curriculum(*UNTIL)
    accuracies = {**at_twos(*FLAT), **at_twos(0.4, 0.5, 0.4, first=8), 14: 0.5}
    assert stages.evaluated(0, 0.4) == {}  # the base policy
    _, records, _ = course(stages, accuracies, last=13)
    assert records[2] == records[4] == {} and stages.ends == [6, 36]
    # At step 6 stage 0 ended; stage 1 began at 7 and has its fourth evaluation at 14, its tenth step at 16.
    assert records[8] == records[10] == records[12] == {}
    _, records, _ = course(stages, accuracies | {16: 0.4}, first=14, last=16)
    assert records[14]["stage/converged"] is False and records[16]["stage/converged"] is True
    assert stages.last_step == 16


def test_a_boundary_between_evaluations_leaves_out_the_one_at_the_stages_start():
    stages = curriculum(
        "stages=[{steps: 4, T: 32}, {steps: 30, T: 64, until_converged: {window: 3}}]", "eval.every=2"
    )
    _, records, _ = course(stages, at_twos(*[0.5] * 6), last=12)
    assert records[2] == records[4] == records[6] == records[8] == {}
    assert records[10]["stage/converged"] is True and stages.last_step == 10


def test_an_evaluation_without_verdicts_decides_nothing():
    stages = curriculum(*UNTIL)
    _, records, _ = course(stages, at_twos(0.5, math.nan, 0.5, 0.5), last=8)
    assert [records[step]["stage/converged"] for step in (6, 8)] == [False, False]
    assert math.isnan(records[8]["stage/slope"]) and stages.last_step == 50


def test_the_filter_acts_where_the_stage_really_ends():
    stages = curriculum(*UNTIL, "online_filter=all")
    course(stages, at_twos(*FLAT), last=5)
    visits = {name: list(seen) for name, seen in stages.visits.items()}
    stages.see(6, [(PROBLEMS[3].id, True)])
    visits.setdefault(PROBLEMS[3].id, []).append(True)
    assert stages.filtered() == {}  # until the evaluation has ended the stage
    stages.evaluated(6, FLAT[-1])
    solved = sorted(name for name, seen in visits.items() if all(seen))
    assert stages.filtered() == {1: solved} and 0 < len(solved) < len(visits)
    assert stages.visits == {}
    assert not set(solved) & {name for step in range(7, 37) for name in names(stages, step)}


def test_a_filter_that_leaves_too_little_at_a_moved_boundary_says_so():
    stages = curriculum(*UNTIL, "online_filter=all")
    for step in range(1, 7):
        stages.see(step, [(problem.id, True) for problem in PROBLEMS[:18]])
        if step in (2, 4):
            stages.evaluated(step, 0.5)
    with pytest.raises(Or1labError, match="leaves 2 problems for stage 1, which samples 6"):
        stages.evaluated(6, 0.5)


def test_a_resumed_course_is_the_unbroken_one_wherever_it_is_cut():
    # Stage 0 rises until step 8 and converges at 10; stage 1 rises until 24 and converges at 26.
    accuracies = at_twos(0.1, 0.2, 0.301, 0.4, 0.3, 0.31, 0.36, 0.41, 0.46, 0.51, 0.56, 0.61, 0.5)
    prompts, records, whole = course(curriculum(*UNTIL, "online_filter=all"), accuracies)
    assert whole.ends == [10, 26] and whole.dropped[1] and max(prompts) == 26
    for cut in range(1, 27):
        resumed = course(curriculum(*UNTIL, "online_filter=all"), accuracies, resumed_at=cut)
        assert resumed[:2] == (prompts, records)
        assert resumed[2].state_dict() == whole.state_dict()


def test_a_state_holds_few_evaluations():
    stages = curriculum(*UNTIL)
    course(stages, at_twos(*[n / 25 for n in range(9)]), last=18)
    assert stages.state_dict()["evaluations"] == [(14, 6 / 25), (16, 7 / 25), (18, 8 / 25)]


@pytest.mark.parametrize(("window", "missed"), [(5, 0.43), (7, 0.0145)])
def test_how_often_noise_hides_a_rise(window, missed):
    draw = random.Random(0)
    looks = [[(n, 0.03 * n + draw.gauss(0, 0.03)) for n in range(window)] for _ in range(1000)]
    share = sum(trend(look)[1] <= 0 for look in looks) / len(looks)
    assert abs(share - missed) < 4 * math.sqrt(missed * (1 - missed) / len(looks))
