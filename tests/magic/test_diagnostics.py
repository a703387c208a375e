"""What is logged of a step, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from or1lab.errors import Or1labError
from or1lab.magic import diagnostics
from or1lab.magic.advantages import group_advantages
from or1lab.magic.diagnostics import (
    ADVANTAGE_EDGES,
    advantage_histogram,
    decomposition_metrics,
    entropy_profile,
    group_metrics,
    response_metrics,
)
from or1lab.magic.loss import LossOutput

RIGHT, WRONG, CUT, MISSING = (1.0, False), (0.0, False), (0.0, True), (math.nan, False)


def tables(groups: list[list[tuple[float, bool]]]) -> tuple[torch.Tensor, torch.Tensor]:
    rewards = torch.tensor([[reward for reward, _ in group] for group in groups], dtype=torch.float64)
    return rewards, torch.tensor([[cut for _, cut in group] for group in groups])


def slow_decomposition(groups):
    shares, means, products = [], [], []
    for group in groups:
        judged = [member for member in group if not math.isnan(member[0])]
        own = [reward for reward, cut in judged if not cut]
        if judged:
            shares.append(len(own) / len(judged))
            products.append(sum(own) / len(judged))
        if own:
            means.append(sum(own) / len(own))
    if not means:
        return (sum(shares) / len(shares) if shares else math.nan), math.nan, math.nan
    p, r = sum(shares) / len(shares), sum(means) / len(means)
    return p, r, sum(products) / len(products) - p * r


def decomposition(groups) -> tuple[float, float, float]:
    values = decomposition_metrics(*tables(groups))
    names = ("reward/p_nontruncated", "reward/nontruncated_by_problem", "reward/decomposition_rest")
    assert set(values) == set(names)
    return tuple(values[name] for name in names)


def groups_of(*members):
    return st.integers(1, 5).flatmap(
        lambda m: st.lists(st.lists(st.sampled_from(members), min_size=m, max_size=m), min_size=1, max_size=6)
    )


@given(groups_of(RIGHT, WRONG, CUT, MISSING, (1.0, True)))
def test_the_decomposition_is_that_of_plain_loops(groups):
    assert decomposition(groups) == pytest.approx(slow_decomposition(groups), nan_ok=True)


@given(groups_of(RIGHT, WRONG, CUT))
def test_the_decomposition_adds_up_to_the_mean_reward(groups):
    rewards, truncated = tables(groups)
    p, r, rest = decomposition(groups)
    logged = response_metrics(rewards, truncated, torch.ones_like(truncated).long())
    assert p == pytest.approx(1 - logged["length/truncated_frac"])
    if p > 0:
        assert p * r + rest == pytest.approx(logged["reward/mean"])
    else:
        assert math.isnan(r) and math.isnan(rest)


def test_a_decomposition_by_hand():
    # p(x) = 1, 1/4; r(x) = 3/4, 0: the problem that truncates is also the harder one.
    groups = [[RIGHT, RIGHT, RIGHT, WRONG], [WRONG, CUT, CUT, CUT]]
    assert decomposition(groups) == pytest.approx((0.625, 0.375, 0.375 - 0.625 * 0.375))
    # By responses it is another mean: 3 of the 5 that ended by themselves are right.
    rewards, truncated = tables(groups)
    assert response_metrics(rewards, truncated, truncated.long())["reward/nontruncated"] == pytest.approx(0.6)


def slow_histogram(values: list[float]) -> list[int]:
    counts = [0] * (len(ADVANTAGE_EDGES) + 1)
    for value in values:
        counts[sum(edge <= value for edge in ADVANTAGE_EDGES)] += 1
    return counts


def test_edges_are_those_of_the_documentation():
    ours = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
    assert list(ADVANTAGE_EDGES) == [*(-edge for edge in reversed(ours)), *ours]


@given(st.lists(st.sampled_from([*ADVANTAGE_EDGES, 0.0, -9.0, 9.0]) | st.floats(-10, 10), min_size=1, max_size=40))
def test_the_histogram_counts_as_plain_loops_do(values):
    advantages = torch.tensor([values, values], dtype=torch.float64)
    kept = torch.tensor([True, False])
    assert advantage_histogram(advantages, kept) == {"advantage/histogram": slow_histogram(values)}


@pytest.mark.parametrize("gs", [8, 16, 32, 64])
def test_binary_rewards_spread_over_the_histogram(gs):
    """One group for each number of right members: no bin holds more than 3 in 10, and none is zero's."""
    rewards = torch.tensor([[1.0] * k + [0.0] * (gs - k) for k in range(1, gs)])
    counts = advantage_histogram(*group_advantages(rewards))["advantage/histogram"]
    assert sum(counts) == gs * (gs - 1) and counts[7] == 0
    assert max(counts) <= 0.3 * sum(counts)
    assert sum(count > 0 for count in counts) >= 8


def test_no_kept_group_leaves_an_empty_histogram():
    empty = advantage_histogram(torch.zeros(2, 4), torch.zeros(2, dtype=torch.bool))
    assert empty == {"advantage/histogram": [0] * 15}


def slow_profile(responses: list[list[float]], T: int):
    bins: list[list[float]] = [[] for _ in range(10)]
    for response in responses:
        for t, value in enumerate(response):
            bins[next(b for b in range(10) if t < (b + 1) * T / 10)].append(value)
    everything = sorted((value for response in responses for value in response), reverse=True)
    top = everything[: math.ceil(len(everything) / 5)]
    return {
        "entropy/by_position": [sum(values) / len(values) if values else math.nan for values in bins],
        "entropy/top20": sum(top) / len(top) if top else math.nan,
        "entropy/top20_share": sum(top) / sum(everything) if sum(everything) else math.nan,
    }


@given(
    st.integers(1, 47).flatmap(
        lambda T: st.tuples(
            st.lists(st.lists(st.just(0.0) | st.floats(1e-3, 5), max_size=T), max_size=5), st.just(T)
        )
    )
)
def test_the_entropy_profile_is_that_of_plain_loops(case):
    responses, T = case
    ours = entropy_profile([torch.tensor(response, dtype=torch.float64) for response in responses], T)
    plain = slow_profile(responses, T)
    assert set(ours) == set(plain)
    for name, value in plain.items():
        assert ours[name] == pytest.approx(value, nan_ok=True), name


def test_an_entropy_profile_by_hand():
    responses = [torch.tensor([1.0, 0, 0, 0]), torch.tensor([3.0, 0, 0, 0, 0, 0])]
    profile = entropy_profile(responses, T=20)  # two tokens a tenth; two of the ten tokens are the top
    assert profile["entropy/by_position"][:3] == [1.0, 0.0, 0.0] and math.isnan(profile["entropy/by_position"][3])
    assert (profile["entropy/top20"], profile["entropy/top20_share"]) == (2.0, 1.0)


def test_shares_of_groups_leave_missing_members_out():
    nan = float("nan")
    rewards = torch.tensor([[1, 1], [1, nan], [0, nan], [0, 0], [nan, nan], [0, 1], [0, 0], [0, 0]]).double()
    shares = group_metrics(rewards, torch.tensor([False] * 5 + [True] + [False] * 2))
    assert shares["groups/kept_frac"] == 1 / 8
    assert (shares["groups/all_right_frac"], shares["groups/all_wrong_frac"]) == (2 / 8, 4 / 8)
    assert shares["groups/sampled"] == 8


def test_means_over_responses_by_hand():
    rewards, truncated = tables([[RIGHT, WRONG, CUT], [RIGHT, MISSING, CUT]])
    lengths = torch.tensor([[1, 2, 9], [3, 4, 9]])
    assert response_metrics(rewards, truncated, lengths) == {
        "reward/mean": pytest.approx(2 / 5),
        "reward/nontruncated": pytest.approx(2 / 3),
        "reward/errors": 1,
        "length/mean": pytest.approx(28 / 6),
        "length/p95": pytest.approx(9.0),
        "length/truncated_frac": pytest.approx(2 / 6),
        "tokens/generated": 28,
    }
    spread = response_metrics(*tables([[WRONG] * 21]), torch.arange(21)[None])
    assert spread["length/p95"] == pytest.approx(19.0)  # of 0 to 20: a twentieth lies above


def test_a_mean_for_each_domain():
    rewards, _ = tables([[RIGHT, WRONG], [RIGHT, MISSING], [WRONG, WRONG]])
    assert diagnostics.by_domain("reward/mean", rewards, ["math", "code", "math"]) == {
        "reward/mean/code": 1.0,
        "reward/mean/math": 0.25,
    }


def test_what_a_mini_batch_has_come_to_is_its_sums_over_its_tokens():
    sums = {"loss": -0.5, "tokens": 10, "clip_low": 1, "clip_high": 2, "ratio_max": 1.5, "entropy_sum": 4, "kl_sum": .5}
    output = LossOutput(**{name: torch.tensor(value) for name, value in sums.items()})
    assert diagnostics.loss_metrics(output) == pytest.approx({
        "tokens/kept": 10, "entropy/bonus": 0.4, "clip/low_frac": 0.1, "clip/high_frac": 0.2, "ratio/max": 1.5,
        "kl/reference": 0.05, "loss": -0.5,
    })  # fmt: skip


def test_sgd_steps_as_one_line():
    def step(tokens: int, value: float, ratio: float, norm: float) -> dict[str, float]:
        means = dict.fromkeys(("entropy/bonus", "clip/low_frac", "clip/high_frac", "kl/reference"), value)
        return {"tokens/kept": tokens, **means, "ratio/max": ratio, "grad/norm": norm, "loss": value}

    line = diagnostics.sgd_metrics([step(30, 0.1, 2.0, 5.0), step(10, 0.5, 1.5, 3.0)])
    weighted = dict.fromkeys(("entropy/bonus", "clip/low_frac", "clip/high_frac", "kl/reference"), 0.2)
    assert line == pytest.approx({"sgd/steps": 2, "tokens/kept": 40, **weighted, "ratio/max": 2.0, "grad/norm": 3.0})
    assert diagnostics.sgd_metrics([]) == {"sgd/steps": 0, "tokens/kept": 0}
    assert diagnostics.sgd_metrics([step(0, 0.0, 0.0, 0.0)])["entropy/bonus"] == 0  # a mini-batch without a token


@pytest.mark.parametrize(
    ("dtype", "distance", "passes"),
    [  # the largest counts in float32, the mean in bfloat16: here of one token in four
        ("float32", 0.0009, True), ("float32", 0.0011, False), ("bfloat16", 0.19, True), ("bfloat16", 0.21, False),
    ],
)  # fmt: skip
def test_trainer_and_sampler_may_differ_by_rounding(dtype, distance, passes):
    trainer, sampler = torch.tensor([-1.0, -2, -3, -4]), torch.tensor([-1.0, -2, -3, -4 + distance])
    if passes:
        found = diagnostics.check_mismatch(trainer, sampler, dtype, "vllm")
        assert found["kl/rollout_trainer"] == pytest.approx(distance / 4, rel=1e-3)
        assert found["kl/rollout_trainer_max"] == pytest.approx(distance, rel=1e-3)
    else:
        with pytest.raises(Or1labError, match=f"max {distance:.2g}.*dtype {dtype}, backend vllm.*nothing was updated"):
            diagnostics.check_mismatch(trainer, sampler, dtype, "vllm")
    assert diagnostics.check_mismatch(torch.zeros(0), torch.zeros(0), dtype, "vllm") == {}


def test_responses_that_a_mask_of_whole_responses_would_take():
    # Sums of differences: log 4, log 1, log 2 and, of the longest, log 3; more than 2 is taken.
    trainer = [torch.tensor([math.log(4)]), torch.tensor([0.0]), torch.tensor([math.log(2) - 0.1, 0]),
               torch.tensor([0.0, 0, math.log(3)])]  # fmt: skip
    sampler = [[0.0], [0.0], [-0.05, -0.04], [0.0, 0, 0]]
    assert diagnostics.above_cap(trainer, sampler, cap=2.0) == {
        "correction/above_cap_frac": 0.5,
        "correction/above_cap_long_frac": 0.5,  # of the two that are as long as the median or longer
    }
    assert diagnostics.above_cap([], [], cap=2.0) == {}


def test_peak_memory_is_in_gib(monkeypatch):
    monkeypatch.setattr(diagnostics.torch.cuda, "is_available", lambda: False)
    used = type("usage", (), {"ru_maxrss": 3 * 2**20})  # Linux counts KiB
    monkeypatch.setattr(diagnostics.resource, "getrusage", lambda who: used)
    monkeypatch.setattr(diagnostics.sys, "platform", "linux")
    assert diagnostics.peak_gib() == 3.0
    monkeypatch.setattr(diagnostics.sys, "platform", "darwin")
    assert diagnostics.peak_gib() == 3.0 / 1024
    monkeypatch.setattr(diagnostics.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(diagnostics.torch.cuda, "max_memory_allocated", lambda: 2**31)
    assert diagnostics.peak_gib() == 2.0
