"""Guards speak when they should, once a row, and their counts survive a checkpoint."""

from __future__ import annotations

import json

import pytest

from or1lab.magic.guards import Guards
from or1lab.recipe_parts import Guard


def record(step: int, entropy: float = 0.5, truncated: float = 0.0, kept: float = 0.6) -> dict:
    shares = {"groups/kept_frac": kept, "groups/all_right_frac": 0.1, "groups/all_wrong_frac": 0.9 - kept}
    steps = {"sgd/steps": int(kept > 0)}
    return {"step": step, "entropy/rollout": entropy, "length/truncated_frac": truncated, **shares, **steps}


def spoken(guard: Guard, records: list[dict]) -> dict[int, list[str]]:
    guards = Guards(guard)
    said = {one["step"]: [alarm.message for alarm in guards.see(one)] for one in records}
    return {step: messages for step, messages in said.items() if messages}


@pytest.mark.parametrize(
    ("limit", "values", "words"),
    [
        ({"entropy_below": 0.1}, {"entropy": 0.05}, "entropy/rollout = 0.05, below 0.1 for 3 steps in a row"),
        ({"entropy_above": 1.0}, {"entropy": 1.5}, "entropy/rollout = 1.5, above 1 for 3 steps in a row, at step 3"),
        ({"truncated_above": 0.5}, {"truncated": 0.75}, "length/truncated_frac = 0.75, above 0.5 for 3 steps in a row"),
    ],
)
def test_a_guard_speaks_once_its_row_is_long_enough(limit, values, words):
    (name,) = limit
    said = spoken(Guard(steps=3, **limit), [record(step, **values) for step in range(1, 7)])
    assert list(said) == [3] and said[3][0].startswith(words) and f"guard.{name}" in said[3][0]


def test_a_row_that_is_broken_begins_anew():
    low, high = [record(step, entropy=0.05) for step in (1, 2, 4, 5, 6)], [record(3)]
    said = spoken(Guard(entropy_below=0.1, steps=3), sorted(low + high, key=lambda one: one["step"]))
    assert list(said) == [6]


def test_a_value_at_the_limit_breaks_nothing():
    guard = Guard(entropy_below=0.5, entropy_above=0.5, truncated_above=0.0, steps=1)
    assert not spoken(guard, [record(1)])


def test_without_limits_only_empty_steps_are_watched():
    extreme = [record(step, entropy=1e-6, truncated=1.0) for step in range(1, 50)]
    assert not spoken(Guard(), extreme)
    (message,) = spoken(Guard(empty_steps=2), [record(step, kept=0.0) for step in (1, 2)])[2]
    assert message == (
        "no group kept for 2 steps in a row, at step 2 (guard.empty_steps); 10% of the groups all right, 90% of the "
        "groups all wrong: nothing is learned any more: the problems are too easy or too hard, or their verdicts fail"
    )


def test_what_stops_a_run():
    stop = Guards(Guard(entropy_below=0.1, steps=1, action="stop"))
    warn = Guards(Guard(entropy_below=0.1, steps=1, action="warn", empty_steps=1))
    assert [alarm.stop for alarm in stop.see(record(1, entropy=0.05))] == [True]
    assert [alarm.stop for alarm in warn.see(record(1, entropy=0.05, kept=0.0))] == [False, True]


def test_counts_survive_a_checkpoint():
    guard = Guard(entropy_below=0.1, steps=3)
    before = Guards(guard)
    for step in (1, 2):
        assert not before.see(record(step, entropy=0.05))
    after = Guards(guard)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert len(after.see(record(3, entropy=0.05))) == 1
