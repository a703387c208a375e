"""Micro-batches under a token budget."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from or1lab.magic.batching import micro_batches


@given(st.lists(st.integers(0, 50)), st.integers(1, 200))
def test_cut(lengths, budget):
    batches = micro_batches(lengths, budget)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    sizes = [len(batch) * max(lengths[i] for i in batch) for batch in batches]
    assert all(size <= budget or len(batch) == 1 for batch, size in zip(batches, sizes, strict=True))
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(flat, reverse=True)
    for batch in batches[:-1]:  # no row is left that would still fit (an empty one counts as one token)
        assert (len(batch) + 1) * max(1, lengths[batch[0]]) > budget


def test_by_hand():
    assert micro_batches([3, 10, 4, 4, 25], budget=12) == [[4], [1], [2, 3, 0]]
    assert micro_batches([], budget=12) == []


def test_bad_input():
    with pytest.raises(ValueError, match="budget"):
        micro_batches([1], budget=0)
