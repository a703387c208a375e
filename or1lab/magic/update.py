"""One SGD step's gradient: the rows of a mini-batch through the policy in micro-batches, eq. 3.1, backward.

Shapes: B rows of a micro-batch, L tokens of its longest row (prompt and response), position t of the (B, L-1) tensors
speaks of token t+1 (the fused head's outputs are shifted).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from or1lab.magic.batching import micro_batches
from or1lab.magic.loss import LossOutput, policy_loss, token_weights, total
from or1lab.recipe import Recipe

# (input_ids (B, L), labels (B, L), with gradient?) -> log-probs and entropy, each (B, L-1)
Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Row:
    """One kept response: what the update needs to know of it."""

    prompt_ids: list[int]
    token_ids: list[int]
    advantage: float
    old_logp: Tensor | None  # (|y|,) log pi_k; None while pi_theta still is pi_k


@dataclass(frozen=True)
class MiniBatch:
    """Result of one mini-batch: its summed statistics and each row's detached log-probs, in the order of the rows."""

    output: LossOutput
    logp: list[Tensor]


def pack(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded input_ids (B, L), labels (B, L; -100 off the response), response mask (B, L-1).

    Right padding needs no attention mask: a causal model's real tokens never look at what follows them."""
    width = max(len(row.prompt_ids) + len(row.token_ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for b, row in enumerate(rows):
        start, end = len(row.prompt_ids), len(row.prompt_ids) + len(row.token_ids)
        ids[b, :end] = torch.tensor([*row.prompt_ids, *row.token_ids])
        labels[b, start:end] = ids[b, start:end]
    return ids.to(device), labels.to(device), (labels[:, 1:] != -100).to(device)


def old_logp_tensor(rows: Sequence[Row], mask: Tensor) -> Tensor | None:
    """(B, L-1) log pi_k at the response positions; None if the rows are still on-policy."""
    if rows[0].old_logp is None:
        return None
    values = torch.cat([row.old_logp for row in rows if row.old_logp is not None]).to(mask.device)
    old = torch.zeros(mask.shape, device=mask.device, dtype=values.dtype)
    old[mask] = values
    return old


def accumulate(
    rows: Sequence[Row],
    forward: Forward,
    backward: Callable[[Tensor], None],
    recipe: Recipe,
    *,
    alpha: float,
    device: torch.device,
    reference: Forward | None = None,
    batch_tokens: float | None = None,
) -> MiniBatch:
    """Gradients of eq. 3.1 over a mini-batch, summed over token-budget micro-batches.

    T_k is known before the first micro-batch, so the gradients add up exactly whatever the cut.

    Args:
        rows: the responses of the mini-batch's kept prompts.
        recipe: clip_low, clip_high, beta, loss (token weights), micro_tokens.
        alpha: entropy coefficient of this training step.
        reference: the reference policy; needed when beta > 0.
        batch_tokens: for loss "trl_dapo": tokens of the whole rollout batch divided by its mini-batches.
    """
    tokens = float(sum(len(row.token_ids) for row in rows))
    outputs: list[LossOutput] = []
    logp_of: dict[int, Tensor] = {}
    lengths = [len(row.prompt_ids) + len(row.token_ids) for row in rows]
    for picked in micro_batches(lengths, recipe.micro_tokens):
        micro = [rows[i] for i in picked]
        ids, labels, mask = pack(micro, device)
        logp, entropy = forward(ids, labels)
        ref_logp = None
        if recipe.beta > 0 and reference is not None:
            with torch.no_grad():
                ref_logp, _ = reference(ids, labels)
        weights = token_weights(
            recipe.loss,
            mask,
            total_tokens=batch_tokens if recipe.loss == "trl_dapo" else tokens,
            total_sequences=len(rows),
        )
        output = policy_loss(
            logp,
            old_logp_tensor(micro, mask),
            torch.tensor([row.advantage for row in micro], device=device, dtype=logp.dtype),
            mask,
            clip_low=recipe.clip_low,
            clip_high=recipe.clip_high,
            entropy=entropy,
            alpha=alpha,
            ref_logp=ref_logp,
            beta=recipe.beta,
            weights=weights.to(logp.dtype),
        )
        backward(output.loss)
        outputs.append(output)
        for i, values in zip(picked, logp.detach()[mask].split([len(r.token_ids) for r in micro]), strict=True):
            logp_of[i] = values
    return MiniBatch(total(outputs), [logp_of[i] for i in range(len(rows))])


@torch.no_grad()
def score(
    rows: Sequence[Row], forward: Forward, budget: int, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Log-probs and entropies (|y|,) of each row under the current policy, without gradient."""
    result: dict[int, tuple[Tensor, Tensor]] = {}
    for picked in micro_batches([len(row.prompt_ids) + len(row.token_ids) for row in rows], budget):
        micro = [rows[i] for i in picked]
        ids, labels, mask = pack(micro, device)
        lengths = [len(row.token_ids) for row in micro]
        logp, entropy = (values[mask].split(lengths) for values in forward(ids, labels))
        result |= dict(zip(picked, zip(logp, entropy, strict=True), strict=True))
    return [result[i][0] for i in range(len(rows))], [result[i][1] for i in range(len(rows))]
