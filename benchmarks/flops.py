"""How much of plain matrix multiplication's speed an update reaches.

FLOPs of forward and backward: 6 for each weight of a linear layer and token (2 forward, 4 backward), and attention's
two products over the pairs of tokens that a causal mask leaves. Only what the result needs counts: no padding, no
recomputation, and the output layer at scored tokens alone. Plain matrix multiplication: torch.mm on the shapes of the
model's own linear layers, the forward one and the two backward ones.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import nn


def linear_shapes(model: Any) -> Counter[tuple[int, int]]:
    """(in, out) of the model's linear layers and how often each occurs; the output layer is one of them."""
    return Counter((m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear))


def update_flops(model: Any, lengths: Sequence[int], scored: int) -> float:
    """FLOPs of one forward and backward.

    Args:
        lengths: tokens, prompt and response, of each row.
        scored: how many tokens have their log-probability taken, the response tokens.
    """
    config = model.config
    head = model.get_output_embeddings()
    backbone = sum(i * o * count for (i, o), count in linear_shapes(model).items()) - head.weight.numel()
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    pairs = sum(length * (length + 1) // 2 for length in lengths)
    attention = 2 * config.num_hidden_layers * width * pairs  # scores and weighted values: multiply-adds
    return 6.0 * (backbone * sum(lengths) + head.weight.numel() * scored + attention)


def matmul_flops_per_second(model: Any, rows: int, *, rounds: int = 5) -> float:
    """FLOP/s of torch.mm over the linear layers of the model, forward and both backward products, `rows` tokens."""
    flops = seconds = 0.0
    for (inputs, outputs), count in linear_shapes(model).items():
        x, w, dy = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
        y, dx, dw = torch.empty(rows, outputs), torch.empty_like(x), torch.empty_like(w)  # allocation is no matmul
        taken = []
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            torch.mm(x, w.t(), out=y)
            torch.mm(dy, w, out=dx)
            torch.mm(dy.t(), x, out=dw)
            taken.append(time.perf_counter() - begin)
        flops += 6.0 * rows * inputs * outputs * count
        seconds += median(taken[1:]) * count
    return flops / seconds


def reached(flops: float, seconds: float, plain: float) -> str:
    """A sentence for people: what share of `plain` FLOP/s an update of `flops` in `seconds` reaches."""
    return (
        f"the update reaches {flops / seconds / plain:.0%} of plain matmul "
        f"({flops / seconds / 1e9:.1f} of {plain / 1e9:.1f} GFLOP/s)"
    )
