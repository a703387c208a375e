"""Shares by weight, and the order of several sources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from or1lab.data.mix import interleave, shares


@pytest.mark.parametrize(
    "n, weights, dealt",
    [(10, [1], [10]), (9, [2, 1], [6, 3]), (10, [2, 1], [7, 3]), (3, [1, 1], [2, 1]), (5, [0.1, 0.1, 0.3], [1, 1, 3])],
)
def test_shares(n, weights, dealt):
    assert shares(n, weights) == dealt


@given(st.integers(0, 10_000), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_shares_are_all_dealt_and_off_by_less_than_one(n, weights):
    dealt = shares(n, weights)
    assert sum(dealt) == n
    assert all(abs(share - n * w / sum(weights)) < 1 + 1e-6 for share, w in zip(dealt, weights, strict=True))


def test_parts_keep_their_order_and_are_spread():
    parts = [[f"a{i}" for i in range(300)], [f"b{i}" for i in range(100)], []]
    mixed = interleave(parts, "seed")
    assert sorted(mixed) == sorted(parts[0] + parts[1])
    assert [one for one in mixed if one[0] == "a"] == parts[0] and [one for one in mixed if one[0] == "b"] == parts[1]
    assert all(2 <= sum(one[0] == "b" for one in mixed[i : i + 16]) <= 6 for i in range(0, 384))
    assert mixed == interleave(parts, "seed") != interleave(parts, "another seed")
