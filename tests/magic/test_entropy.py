"""Entropy controllers along trajectories worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from or1lab.magic.entropy import EntropyController

KINDS = ("none", "constant", "paper", "released", "trl")


def drive(controller: EntropyController, entropies: list[float]) -> tuple[list[float], list[float]]:
    """(alpha of each step, c after each step)."""
    alphas, states = [], []
    for e_k in entropies:
        alphas.append(controller.alpha(e_k))
        controller.update(e_k)
        states.append(controller.c)
    return alphas, states


# Target 0.2, delta 1; one number a step.
ENTROPIES = [0.5, 0.3, 0.1, 0.1, 0.2, 0.1, 0.3, 0.3, 0.3, 0.3, 0.1]
BY_HAND = {
    # c is floored at 0 until the first step below; when entropy recovers alpha is 0 at once, c walks down.
    "paper": ([0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 0], [0, 0, 1, 2, 2, 3, 2, 1, 0, 0, 1]),
    # alpha looks at the step before; equality closes the gate and lowers c.
    "released": ([0, 0, 0, 1, 2, 0, 2, 0, 0, 0, 0], [0, 0, 1, 2, 1, 2, 1, 0, 0, 0, 1]),
    # alpha looks at the step before; equality opens the gate and raises c.
    "trl": ([0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0], [0, 0, 1, 2, 3, 4, 3, 2, 1, 0, 1]),
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_trajectory_by_hand(kind):
    assert drive(EntropyController(kind, target=0.2, delta=1.0), ENTROPIES) == BY_HAND[kind]


def test_ceiling():
    _, states = drive(EntropyController("paper", target=0.2, delta=1.0, c_max=2.5), [0.1] * 4 + [0.3])
    assert states == [1, 2, 2.5, 2.5, 1.5]


def test_floor_is_also_the_start_and_tells_first_gates_apart():
    first = {kind: EntropyController(kind, 0.2, 1.0, 0.5).alpha(0.1) for kind in ("paper", "released", "trl")}
    assert first == {"paper": 0.5, "released": 0.5, "trl": 0.0}
    assert EntropyController("paper", 0.2, 1.0, 0.5).alpha(0.3) == 0.0


def test_constant_and_none_never_move():
    assert drive(EntropyController("constant", 0.2, 1.0, alpha=1e-3), ENTROPIES)[0] == [1e-3] * len(ENTROPIES)
    assert drive(EntropyController("none", 0.2, 1.0, alpha=1e-3), ENTROPIES)[0] == [0] * len(ENTROPIES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("done", range(len(ENTROPIES)))
def test_resumed_controller_goes_on_exactly(kind, done):
    unbroken, stopped, resumed = (EntropyController(kind, 0.2, 1.0, alpha=0.1) for _ in range(3))
    whole = drive(unbroken, ENTROPIES)
    drive(stopped, ENTROPIES[:done])
    resumed.load_state_dict(stopped.state_dict())
    assert drive(resumed, ENTROPIES[done:]) == (whole[0][done:], whole[1][done:])


@given(st.sampled_from(KINDS), st.lists(st.floats(0, 1)), st.sampled_from([None, 0.0, 0.01, 1.0]))
def test_c_and_alpha_stay_in_range(kind, entropies, c_max):
    alphas, states = drive(EntropyController(kind, 0.2, 0.005, 0.0, c_max), entropies)
    assert all(0 <= value <= (math.inf if c_max is None else c_max) for value in alphas + states)


def test_unless_told_otherwise_target_and_step_are_the_papers():
    told, default = EntropyController("paper", target=0.2, delta=0.005), EntropyController("paper")
    assert vars(default) == vars(told)
    assert drive(default, [0.19, 0.21, 0.19])[1] == [0.005, 0.0, 0.005]


def test_bad_input():
    with pytest.raises(ValueError, match="kind"):
        EntropyController("verl")
    with pytest.raises(ValueError, match="above"):
        EntropyController("paper", c_min=0.1, c_max=0.05)
    with pytest.raises(ValueError, match="e_k"):
        EntropyController("paper").update(math.nan)
    with pytest.raises(ValueError, match="kind"):
        EntropyController("paper").load_state_dict(EntropyController("trl").state_dict())
