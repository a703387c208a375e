"""Which responses go together: micro-batches, shares of processes, the released code's cut. Lengths only."""

from __future__ import annotations

from collections.abc import Sequence


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut rows into micro-batches whose padded size, rows x longest row, stays within `budget` tokens.

    Rows of similar length come together, so that little is padding, and the longest first, so that the largest
    allocation does; equal lengths keep their order. A row longer than the budget makes a micro-batch of its own.

    Returns:
        Lists of indices into `lengths`; each index once.

    Raises:
        ValueError: `budget` below 1.

    Example:
        >>> micro_batches([10, 90, 12, 85], budget=200)
        [[1, 3], [2, 0]]
    """
    _check(budget)
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    while order:
        longest = lengths[order[0]]
        rows = max(1, budget // max(1, longest))
        batches.append(order[:rows])
        order = order[rows:]
    return batches


def deal(lengths: Sequence[int], hands: int) -> list[list[int]]:
    """Deal rows to `hands` processes so that each gets about as many tokens: longest first, to whom has least.

    Returns:
        One list of indices into `lengths` per process, each index once; equal for equal arguments, so that every
        process knows all shares without asking.
    """
    shares: list[list[int]] = [[] for _ in range(hands)]
    tokens = [0] * hands
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        least = tokens.index(min(tokens))
        shares[least].append(row)
        tokens[least] += lengths[row]
    return shares


def released_cut(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """The micro-batches of the released code: as few as `budget` tokens each allow, balanced by tokens.

    Nothing is padded there, so tokens count as they are. (It balances by largest differencing, we by dealing; both
    come within a response of equal.) Raises ValueError for a `budget` below 1.
    """
    _check(budget)
    return [share for share in deal(lengths, max(1, -(-sum(lengths) // budget))) if share]


def _check(budget: int) -> None:
    if budget < 1:
        raise ValueError(f"budget = {budget} tokens; at least 1")
