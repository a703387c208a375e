"""Each statistic on records made by hand, where its value can be told by looking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from or1lab import run_statistics as s
from or1lab.recipe import load_recipe
from or1lab.run_statistics import STATISTICS, Records, makespan
from or1lab.store import Run


def made(
    *, recipe: Sequence[str] = (), accuracy: Sequence[float] = (0.3, 0.5), n: int = 100, horizon=None, samples=None,
    length: Sequence[float] = (30.0,), eval_entropy: Sequence[float] = (0.5,), **columns,
) -> Records:  # fmt: skip
    """A run of `n` steps: columns of the steps (a number stands for all; `__` for `/`), evaluations evenly spread."""
    at = np.linspace(0, n, len(accuracy)).astype(int)
    evals = pd.DataFrame({"step": at, "eval/accuracy": accuracy})
    evals["eval/length"] = np.resize(length, len(at)) if len(length) < len(at) else length
    evals["eval/entropy"] = np.resize(eval_entropy, len(at)) if len(eval_entropy) < len(at) else eval_entropy
    given_columns = {name.replace("__", "/"): values for name, values in columns.items()}
    steps = pd.DataFrame({"step": range(1, n + 1), "stage": 0} | given_columns)
    frame = pd.DataFrame(samples or [], columns=["correct", "length"])
    return Records(load_recipe("tiny", list(recipe)), steps, evals, lambda: frame, horizon)


def line(start: float, end: float, n: int = 100) -> list[float]:
    return np.linspace(start, end, n).tolist()


# ------------------------------------------------------------------------------------------------------ accuracy


def test_final_and_peak():
    run = made(accuracy=[0.3, 0.6, 0.9, 0.9, 0.9, 0.6, 0.6, 0.6])
    assert s.final_accuracy(run) == 0.6
    assert s.peak_minus_final(run) == pytest.approx(0.3)
    assert s.peak_minus_final(made(accuracy=[0.3, 0.6, 0.7, 0.8])) == 0


def test_areas_read_the_curve_between_evaluations():
    run = made(accuracy=[0.0, 1.0])  # a straight line over steps 0 to 100
    assert s.mean_accuracy(run) == pytest.approx(0.5)
    assert STATISTICS["early_accuracy"](run) == pytest.approx(np.arange(20).mean() / 100)
    assert STATISTICS["first_third_accuracy"](run) == pytest.approx(np.arange(34).mean() / 100)
    assert STATISTICS["late_gain"](run) == pytest.approx(0.5)
    assert STATISTICS["late_gain"](made(accuracy=[0.0, 0.5, 0.5])) == pytest.approx(0)


def test_accuracy_of_the_second_stage():
    """Where it began, not where it was planned to begin."""
    run = made(recipe=["stages=[{steps: 80}, {steps: 50}]"], accuracy=[0.0, 1.0, 0.0], stage=[0] * 50 + [1] * 50)
    assert s.stage_2_accuracy(run) == pytest.approx(np.linspace(1, 0, 51).mean())


def test_a_shorter_limit_cuts_what_is_longer():
    samples = [(True, 10), (True, 34), (True, 35), (False, 5), (True, 128), (False, 128)]
    run = made(recipe=["stages.0.T=34", "eval.T=128"], samples=samples)
    assert s.accuracy_at_limit(run, 34) == s.training_limit_accuracy(run) == pytest.approx(2 / 6)
    assert STATISTICS["accuracy_at_128"](run) == pytest.approx(4 / 6)
    assert s.final_nontruncated(run) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="own limit is below 128"):
        s.accuracy_at_limit(made(recipe=["T=80"], samples=samples), 128)


# ------------------------------------------------------------------------------------------------------- entropy


def test_entropy_at_start_end_and_over_the_run():
    run = made(entropy__rollout=[0.6] * 3 + [0.4] * 87 + [0.2] * 10)
    assert s.start_entropy(run) == pytest.approx(0.6) and s.final_entropy(run) == pytest.approx(0.2)
    assert s.mean_entropy(run) == pytest.approx((3 * 0.6 + 87 * 0.4 + 10 * 0.2) / 100)
    assert s.entropy_change(run) == pytest.approx(1 / 3)


def test_change_is_that_of_the_last_stage():
    run = made(entropy__rollout=[0.9] * 50 + [0.2] * 3 + [0.3] * 42 + [0.4] * 5, stage=[0] * 50 + [1] * 50)
    assert s.entropy_change(run) == pytest.approx(2)


def test_steps_to_collapse_look_at_five_steps_and_are_censored():
    below = [0.5] * 40 + [0.1] * 60
    run = made(recipe=["tgt_ent=0.2"], entropy__rollout=below)
    assert s.steps_to_collapse(run) == 44  # 0.5 + 4 x 0.1 over 5 is 0.18: steps 40 to 44
    spike = [0.5] * 40 + [0.0] + [0.5] * 59
    assert s.steps_to_collapse(made(recipe=["tgt_ent=0.2"], entropy__rollout=spike)) == 100
    assert s.steps_to_collapse(made(entropy__rollout=0.1)) == 5


def test_steps_to_blowup():
    run = made(recipe=["tgt_ent=0.2"], entropy__rollout=[0.5] * 20 + [2.0] * 80)  # 1.5 times the base: 0.9
    assert s.steps_to_blowup(run) == 22  # (3 x 0.5 + 2 x 2) / 5 = 1.1
    assert s.steps_to_blowup(made(entropy__rollout=0.5)) == 100


def test_distance_from_the_target_over_the_second_half():
    run = made(recipe=["tgt_ent=0.2"], entropy__rollout=[9.0] * 50 + [0.2] * 25 + [0.29, 0.14] + [0.5] * 23)
    assert s.near_target(run) == pytest.approx(27 / 50)
    swinging = made(recipe=["tgt_ent=0.2"], entropy__rollout=[9.0] * 50 + [0.3, 0.1] * 25)
    assert s.target_deviation(swinging) == pytest.approx(0.1)


def test_the_law_fitted_on_the_first_half_foretells_the_end():
    entropy = np.linspace(0.6, 0.2, 11)
    lawful = -0.5 * np.exp(entropy) + 1.4
    assert s.law_error(made(accuracy=lawful.tolist(), eval_entropy=entropy.tolist())) == pytest.approx(0)
    broken = lawful - 0.1 * (np.arange(11) > 5)
    assert s.law_error(made(accuracy=broken.tolist(), eval_entropy=entropy.tolist())) == pytest.approx(0.1)
    flat = made(accuracy=[0.4] * 10 + [0.6], eval_entropy=[0.5] * 11)
    assert s.law_error(flat) == pytest.approx(0.2)


def test_kl_change_is_that_of_the_last_stage():
    kl = [9.0] * 50 + [0.04] * 10 + [0.03] * 30 + [0.01] * 10
    run = made(kl__reference=kl, stage=[0] * 50 + [1] * 50)
    assert s.kl_change(run) == pytest.approx(0.25)


# -------------------------------------------------------------------------------------- truncation, length, cost


def test_truncation_is_that_of_the_end():
    assert s.truncation(made(length__truncated_frac=[0.4] * 90 + [0.1] * 10)) == pytest.approx(0.1)


def test_the_early_gain_is_split_into_its_two_factors():
    p, r = line(0.5, 0.9, 20) + [0.0] * 80, line(0.7, 0.6, 20) + [0.0] * 80
    run = made(reward__p_nontruncated=p, reward__nontruncated_by_problem=r, reward__nontruncated=r)
    assert s.early_gain_by_truncation(run) == pytest.approx(0.65 * 0.4 + 0.7 * 0.1)
    assert s.early_nontruncated_gain(run) == pytest.approx(-0.1)


def test_cost_and_length_where_accuracy_is_reached():
    run = made(accuracy=[0.3, 0.7, 0.9], tokens__generated=10, length=[20.0, 40.0, 90.0])
    assert s.tokens_to_reach(run) == 500 and s.length_when_reached(run) == 40 and s.final_length(run) == 90
    never = made(accuracy=[0.3, 0.5, 0.6], tokens__generated=10, length=[20.0, 40.0, 90.0])
    assert s.tokens_to_reach(never) == 1000 and s.length_when_reached(never) == 90
    assert s.tokens_to_reach(made(accuracy=[0.8, 0.9], tokens__generated=10)) == 10


def test_shares_of_groups_and_of_masked_responses():
    run = made(
        groups__kept_frac=[0.4, 0.6] * 50,
        correction__above_cap_frac=[0.1, math.nan] * 50,
        correction__above_cap_long_frac=[0.2, math.nan] * 50,
    )
    assert s.kept_groups(run) == pytest.approx(0.5) and s.masked_long_excess(run) == pytest.approx(0.1)


# ---------------------------------------------------------------------------------------------------------- time

TIMES = {"time__rollout": 3.0, "time__update": 1.0, "time__sync": 0.5, "time__other": 0.5}


def test_time_of_a_step_and_its_rollout():
    assert s.rollout_share(made(**TIMES)) == pytest.approx(0.6) and s.seconds_a_step(made(**TIMES)) == 5


def test_makespan_by_hand():
    assert makespan([4, 3, 3, 2], 2) == 6  # 4 + 2 and 3 + 3
    assert makespan([9, 1, 1, 1], 2) == 9  # the longest is the floor
    assert makespan([5, 5], 9) == 5 and makespan([1, 2, 3], 1) == 6
    with pytest.raises(ValueError, match="slots = 0"):
        makespan([1], 0)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(1, 12))
def test_makespan_is_within_its_bounds(lengths, slots):
    """No schedule is shorter than the longest response or a fair share; longest-first is within 4/3 of the best."""
    floor = max(max(lengths), sum(lengths) / slots)
    assert floor <= makespan(lengths, slots) <= sum(lengths) / slots + max(lengths)


def test_scaling_is_ideal_for_equal_lengths_and_poor_with_one_long():
    assert s.scaling_efficiency(made(length__all=[[10] * 128] * 100)) == pytest.approx(1)
    assert s.scaling_efficiency(made(length__all=[[310, *[10] * 127]] * 100)) < 0.2


def test_accuracy_at_equal_simulated_time():
    """8 responses of 10 on 2 slots: 40 tokens a step, 60 with the update's half; the horizon is that of 50 steps."""
    times = {"time__rollout": 2.0, "time__update": 1.0}
    run = made(accuracy=line(0.0, 1.0, 11), length__all=[[10] * 8] * 100, horizon=3000, **times)
    assert s.simulated_time(run)[[0, -1]].tolist() == pytest.approx([60, 6000])
    assert s.accuracy_at_equal_time(run) == pytest.approx(np.mean([0.3, 0.4, 0.5]))
    with pytest.raises(ValueError, match="no horizon"):
        s.accuracy_at_equal_time(made(accuracy=[0, 1], length__all=[[10] * 8] * 100, **times))


# ------------------------------------------------------------------------------------------------- from a folder


def test_every_statistic_is_computed_from_a_run_folder(tmp_path):
    """All of them, from a folder as training writes it: finite numbers."""
    recipe = load_recipe("tiny", ["stages=[{steps: 10}, {steps: 10}]"])
    run = Run.create(tmp_path / "run", recipe=recipe.resolved())
    rng = np.random.default_rng(0)
    for step in range(21):
        if step % 5 == 0:
            values = {"eval/accuracy": 0.3 + step / 40, "eval/length": 30.0, "eval/entropy": 0.6 - step / 50}
            run.log("eval", step=step, final=step == 20, **values)
        if step:
            names = (
                "entropy/rollout", "reward/p_nontruncated", "reward/nontruncated", "reward/nontruncated_by_problem",
                "kl/reference", "groups/kept_frac", "length/truncated_frac", "time/rollout", "time/update", "time/sync",
                "time/other", "correction/above_cap_frac", "correction/above_cap_long_frac",
            )  # fmt: skip
            values = {name: float(rng.uniform(0.1, 0.5)) for name in names}
            lengths = rng.integers(5, 60, 128).tolist()
            run.log("step", step=step, stage=int(step > 10), **values, **{"length/all": lengths, "tokens/generated": 9})
    samples = pd.DataFrame({"correct": [True, False], "length": [9, 128], "final": True})
    run.write_evals(10, samples.assign(final=False, correct=False))
    run.write_evals(20, pd.concat([samples.assign(tau=1.0), samples.assign(tau=0.6, correct=True)]))
    measured = Records.of(run)
    assert len(measured.samples) == 2  # those of the main temperature
    assert measured.last_step == 20 and measured.evals["step"].iloc[-1] == 20
    ready = replace(measured, horizon=1000.0)
    for name, statistic in STATISTICS.items():
        assert math.isfinite(statistic(ready)), name


@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        (["entropy=paper"], 0.25),
        (["entropy=none"], None),
        (["entropy=paper", "stages.0.entropy=constant", "alpha=0.02"], None),  # its alpha is no doing of control
    ],
)
def test_the_share_of_steps_with_a_bonus_is_that_of_control(recipe, share):
    run = made(recipe=recipe, n=4, entropy__alpha=[0.0, 0.0, 0.01, 0.0])
    assert s.bonus_share(run) == share
