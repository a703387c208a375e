"""Group advantages and rejection against `statistics` in plain loops, and by hand."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from or1lab.magic.advantages import group_advantages

NAN = float("nan")
MASKS, STDS = ("none", "before", "after"), ("unbiased", "population")


def reference(rewards: list[list[float]], truncated: list[list[bool]], mask: str, std: str, eps: float):
    """The definition, one group and one member at a time."""
    advantages, kept = [], []
    for group, cut in zip(rewards, truncated, strict=True):
        present = [r for r in group if not math.isnan(r)]
        kept.append(len(set(present)) > 1)
        members = [
            r for r, t in zip(group, cut, strict=True) if not math.isnan(r) and not (mask == "before" and t)
        ]
        row = []
        for r, t in zip(group, cut, strict=True):
            if math.isnan(r) or len(set(members)) < 2 or (mask != "none" and t):
                row.append(0.0)
            else:
                spread = statistics.stdev(members) if std == "unbiased" else statistics.pstdev(members)
                row.append((r - statistics.fmean(members)) / (spread + eps))
        advantages.append(row)
    return advantages, kept


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[list[float]], list[list[bool]]]:
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    reward = st.sampled_from([0.0, 1.0, 0.1, -2.5, NAN])
    table = st.lists(st.lists(reward, min_size=m, max_size=m), min_size=n, max_size=n)
    cuts = st.lists(st.lists(st.booleans(), min_size=m, max_size=m), min_size=n, max_size=n)
    return draw(table), draw(cuts)


@settings(deadline=None, max_examples=100)
@given(groups(), st.sampled_from(MASKS), st.sampled_from(STDS), st.sampled_from([1e-6, 0.0, 0.1]))
def test_equals_the_plain_reference(drawn, mask, std, eps):
    rewards, truncated = drawn
    expected, expected_kept = reference(rewards, truncated, mask, std, eps)
    advantages, kept = group_advantages(
        torch.tensor(rewards, dtype=torch.float64),
        truncated=torch.tensor(truncated),
        mask=mask,
        std=std,
        eps=eps,
    )
    torch.testing.assert_close(
        advantages, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
    assert kept.tolist() == expected_kept


@settings(deadline=None, max_examples=50)
@given(groups(), st.sampled_from(MASKS), st.randoms(use_true_random=False))
def test_order_of_prompts_and_responses_does_not_matter(drawn, mask, random):
    rewards, truncated = torch.tensor(drawn[0], dtype=torch.float64), torch.tensor(drawn[1])
    rows, columns = list(range(rewards.shape[0])), list(range(rewards.shape[1]))
    random.shuffle(rows), random.shuffle(columns)
    advantages, kept = group_advantages(rewards, truncated=truncated, mask=mask)
    shuffled = group_advantages(rewards[rows][:, columns], truncated=truncated[rows][:, columns], mask=mask)
    torch.testing.assert_close(shuffled[0], advantages[rows][:, columns], rtol=1e-12, atol=1e-12)
    assert shuffled[1].tolist() == kept[rows].tolist()


def test_paper_example():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    unbiased, kept = group_advantages(rewards)
    population, _ = group_advantages(rewards, std="population")
    assert unbiased[0].tolist() == pytest.approx([0.8660, -0.8660, -0.8660, 0.8660], abs=1e-4)
    assert population[0].tolist() == pytest.approx([1, -1, -1, 1], abs=1e-4)
    assert kept.tolist() == [True]


@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_equal_rewards_are_rejected_exactly_even_if_their_mean_rounds(eps):
    rewards = torch.full((1, 7), 0.1)
    assert rewards.sum() / 7 != rewards[0, 0]  # float32: the mean of equal numbers is another number
    advantages, kept = group_advantages(rewards, eps=eps)
    assert advantages.tolist() == [[0] * 7]
    assert kept.tolist() == [False]


def test_kept_is_not_a_float_test_on_the_advantage():
    nearly = torch.tensor([[1.0, 1.0, 1.0 + 1e-6]])
    assert group_advantages(nearly, eps=1e9)[1].tolist() == [True]
    # Masked down to equal members: no advantage is left, but the group still counts in T_k.
    rewards, truncated = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[False, False, True]])
    advantages, kept = group_advantages(rewards, truncated=truncated, mask="before")
    assert advantages.tolist() == [[0, 0, 0]]
    assert kept.tolist() == [True]


def test_masks_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    truncated = torch.tensor([[False, False, True, True]])
    after, _ = group_advantages(rewards, truncated=truncated, mask="after", std="population", eps=0)
    before, _ = group_advantages(rewards, truncated=truncated, mask="before", std="population", eps=0)
    assert after[0].tolist() == pytest.approx([3**0.5, -1 / 3**0.5, 0, 0])
    assert before[0].tolist() == pytest.approx([1, -1, 0, 0])


@pytest.mark.parametrize("complete", [0, 1])
def test_mask_before_with_none_or_one_complete_response(complete):
    truncated = torch.tensor([[i >= complete for i in range(4)]])
    advantages, kept = group_advantages(
        torch.tensor([[1.0, 0.0, 0.0, 1.0]]), truncated=truncated, mask="before"
    )
    assert advantages.tolist() == [[0, 0, 0, 0]]
    assert kept.tolist() == [True]


def test_missing_members():
    advantages, kept = group_advantages(torch.tensor([[1.0, NAN, 0.0, NAN], [1.0, NAN, 1.0, 1.0], [NAN] * 4]))
    assert advantages[0].tolist() == pytest.approx([2**-0.5, 0, -(2**-0.5), 0], abs=1e-5)
    assert advantages[1:].tolist() == [[0] * 4] * 2
    assert kept.tolist() == [True, False, False]


def test_bad_input():
    rewards = torch.tensor([[1.0, 0.0]])
    for infinite in (torch.inf, -torch.inf):
        with pytest.raises(ValueError, match="infinite"):
            group_advantages(torch.tensor([[1.0, infinite]]))
    with pytest.raises(ValueError, match="truncated"):
        group_advantages(rewards, mask="after")
    with pytest.raises(ValueError, match="shape"):
        group_advantages(rewards, truncated=torch.tensor([True, False]))
    with pytest.raises(ValueError, match="mask"):
        group_advantages(rewards, mask="both")
    with pytest.raises(ValueError, match="std"):
        group_advantages(rewards, std="sample")
