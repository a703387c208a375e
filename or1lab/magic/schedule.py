"""Which prompts each SGD step uses: (N_SGD, D_R, D_T, N_reuse) of paper section 4.1. Index lists only.

D_R prompts rolled out per training step, D_T prompts per mini-batch, N_reuse passes over the rollout buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch


def n_sgd(D_R: int, D_T: int, N_reuse: int) -> int:
    """SGD steps per training step, (D_R / D_T) * N_reuse (eq. 4.1).

    Raises:
        ValueError: a value below 1, or D_T does not divide D_R.

    Example:
        >>> n_sgd(D_R=64, D_T=16, N_reuse=2)
        8
    """
    if min(D_R, D_T, N_reuse) < 1 or D_R % D_T:
        raise ValueError(
            f"D_R = {D_R}, D_T = {D_T}, N_reuse = {N_reuse}: all at least 1, and D_T divides D_R"
        )
    return D_R // D_T * N_reuse


def mini_batches(
    kept: Sequence[bool] | torch.Tensor,
    *,
    D_R: int,
    D_T: int,
    N_reuse: int,
    partial: Literal["split", "chunk"] = "split",
    generator: torch.Generator,
) -> list[list[int]]:
    """The mini-batches of one training step in order, as lists of prompt indices into `kept`.

    Each pass shuffles the kept prompts anew and uses each of them once.

    Args:
        kept: (D_R,) the prompt's group survived rejection.
        partial: what rejection does to the mini-batches. "split": always D_R / D_T of them per pass, sizes
            differing by one prompt at most, so that eq. 4.1 holds whatever is rejected (fewer only when fewer
            prompts than that are left). "chunk" (released code): pieces of D_T, the last smaller, so
            rejection can lower N_SGD.
        generator: source of the shuffles.

    Returns:
        At most N_SGD non-empty lists; none when no prompt is kept.

    Raises:
        ValueError: as `n_sgd`, or `kept` does not hold D_R values, unknown `partial`.

    Example:
        >>> kept = [True, False, True, True]
        >>> mini_batches(kept, D_R=4, D_T=2, N_reuse=1, generator=torch.Generator().manual_seed(0))
        [[3, 2], [0]]
    """
    per_pass = n_sgd(D_R, D_T, N_reuse) // N_reuse
    if len(kept) != D_R:
        raise ValueError(f"kept holds {len(kept)} values for D_R = {D_R} prompts")
    if partial not in ("split", "chunk"):
        raise ValueError(f"partial = {partial!r}; one of 'split', 'chunk'")
    prompts = [i for i, keep in enumerate(kept) if keep]
    batches: list[list[int]] = []
    for _ in range(N_reuse):
        order = [prompts[i] for i in torch.randperm(len(prompts), generator=generator).tolist()]
        if partial == "split":
            count = min(per_pass, len(order))
            batches += [order[first::count] for first in range(count)]
        else:
            batches += [order[first : first + D_T] for first in range(0, len(order), D_T)]
    return batches


def hash_seed(seed: int, step: int) -> int:
    """Seed of a step's shuffles."""
    return (seed * 1_000_003 + step) % (1 << 62)
