"""What sets the loss normalisations apart; their values are checked against plain loops in test_loss.py."""

from __future__ import annotations

import pytest
import torch

from or1lab.magic.loss import token_weights


def test_every_token_weighs_the_same_in_eq_3_1_but_not_in_the_released_code():
    """One long response cut into a micro-batch of its own, three short ones in another."""
    long, short = torch.ones(1, 12), torch.ones(3, 2)
    paper = [token_weights("paper", mask, total_tokens=18).unique().tolist() for mask in (long, short)]
    released = [
        token_weights("released", mask, total_sequences=4).unique().tolist() for mask in (long, short)
    ]
    assert paper[0] == paper[1] == pytest.approx([1 / 18])
    assert released[0] == pytest.approx([1 / 4 / 12])
    assert released[1] == pytest.approx([3 / 4 / 6])


def test_rows_without_tokens_are_no_responses():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    for kind in ("paper", "released", "grpo", "trl_dapo"):
        torch.testing.assert_close(token_weights(kind, mask)[:2], token_weights(kind, mask[:2]))
        assert (token_weights(kind, mask)[2] == 0).all() and (token_weights(kind, mask[2:]) == 0).all()
