"""Several sources in one data set: how many problems each gives, and in which order they come."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def shares(n: int, weights: Sequence[float]) -> list[int]:
    """`n` dealt by weight, by largest remainders (the earlier part first where they are equal)."""
    exact = [n * weight / sum(weights) for weight in weights]
    dealt = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (dealt[i] - exact[i], i))
    for i in by_remainder[: n - sum(dealt)]:
        dealt[i] += 1
    return dealt


def interleave(parts: Sequence[Sequence[Item]], seed: str) -> list[Item]:
    """All items, each part in its own order and spread over the whole: any stretch holds about its share."""
    rng = random.Random(seed)
    placed = [((j + rng.random()) / len(part), item) for part in parts for j, item in enumerate(part)]
    return [item for _, item in sorted(placed, key=lambda pair: pair[0])]
