"""Group advantages and zero-advantage rejection (paper eq. 2.5, section 3.1; masks of section 3.2.3).

Shapes: N prompts of a training step, M responses per prompt (the group).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def group_advantages(
    rewards: Tensor,
    *,
    truncated: Tensor | None = None,
    mask: Literal["none", "before", "after"] = "none",
    std: Literal["unbiased", "population"] = "unbiased",
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Advantages A = (r - mean) / (std + eps) within each group, and which groups survive rejection.

    Args:
        rewards: (N, M) float; NaN marks a missing member: it enters no mean or std and its advantage is 0.
        truncated: (N, M) bool, the response hit the limit T; needed when `mask` is not "none".
        mask: advantage mask of truncated responses. "none": they count like any other (the recipe).
            "before": mean and std over the other members only. "after": mean and std over all members.
            Both masks set the advantage of truncated responses to 0.
        std: divide the squared deviations by n - 1 ("unbiased", the released code) or by n ("population").
        eps: added to the standard deviation.

    Returns:
        advantages (N, M), and kept (N,) bool: the group's rewards are not all equal. `kept` looks at all
        members that are there, whatever the mask: masked responses keep their tokens in T_k and in the
        entropy bonus (eq. 3.1).

    Raises:
        ValueError: infinite reward, unknown `mask` or `std`, `truncated` absent or of another shape.

    Example:
        >>> advantages, kept = group_advantages(torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0]]))
        >>> advantages[0], kept
        (tensor([ 0.8660, -0.8660, -0.8660,  0.8660]), tensor([ True, False]))
    """
    if mask not in ("none", "before", "after"):
        raise ValueError(f"mask = {mask!r}; one of 'none', 'before', 'after'")
    if std not in ("unbiased", "population"):
        raise ValueError(f"std = {std!r}; one of 'unbiased', 'population'")
    if rewards.isinf().any():
        raise ValueError("infinite reward: a rule reward is finite; mark a sample without one as NaN")
    if truncated is None:
        if mask != "none":
            raise ValueError(f"mask = {mask!r} needs `truncated`")
        truncated = torch.zeros_like(rewards, dtype=torch.bool)
    if truncated.shape != rewards.shape:
        raise ValueError(
            f"truncated {tuple(truncated.shape)} and rewards {tuple(rewards.shape)} differ in shape"
        )
    truncated = truncated.bool()

    present = ~rewards.isnan()
    members = present & ~truncated if mask == "before" else present  # those who enter mean and std
    count = members.sum(dim=1, keepdim=True)
    mean = rewards.where(members, 0).sum(dim=1, keepdim=True) / count.clamp(min=1)
    deviation = (rewards - mean).where(members, 0)
    freedom = count - 1 if std == "unbiased" else count
    spread = (deviation.square().sum(dim=1, keepdim=True) / freedom.clamp(min=1)).sqrt()
    advantages = deviation / (spread + eps)
    # Equal members give exactly 0, not the rounding error of their mean; so do groups of one member or none.
    advantages = advantages.where(_differ(rewards, members)[:, None], 0)
    if mask == "after":
        advantages = advantages.masked_fill(truncated, 0)
    return advantages, _differ(rewards, present)


def all_right(rewards: Tensor) -> Tensor:
    """(N,) bool: every member that is there has reward 1, and one is there."""
    present = ~rewards.isnan()
    return ((rewards == 1) | ~present).all(dim=1) & present.any(dim=1)


def _differ(rewards: Tensor, members: Tensor) -> Tensor:
    """(N,) bool: the rewards of a group's members are not all equal (False for one member or none)."""
    highest = rewards.where(members, -torch.inf).amax(dim=1)
    lowest = rewards.where(members, torch.inf).amin(dim=1)
    return highest > lowest
