"""Micro-batches under a token budget: rows of similar length together, so that little is padding."""

from __future__ import annotations

from collections.abc import Sequence


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut rows into micro-batches whose padded size, rows x longest row, stays within `budget` tokens.

    Longest first, so that the largest allocation comes first; equal lengths keep their order. A row longer
    than the budget makes a micro-batch of its own.

    Returns:
        Lists of indices into `lengths`; each index once.

    Raises:
        ValueError: `budget` below 1.
    """
    if budget < 1:
        raise ValueError(f"budget = {budget} tokens; at least 1")
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    while order:
        longest = lengths[order[0]]
        rows = max(1, budget // max(1, longest))
        batches.append(order[:rows])
        order = order[rows:]
    return batches
