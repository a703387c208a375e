"""The forward and backward passes of one mini-batch: its responses through the policy in micro-batches, eq. 3.1.

Shapes: B rows (responses) of a micro-batch, L tokens of its longest row (prompt and response), position t of the
(B, L-1) tensors speaks of token t+1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor

from or1lab.magic.batching import deal, micro_batches, released_cut
from or1lab.magic.loss import LossOutput, policy_loss, row_weights, total
from or1lab.magic.policy import Policy
from or1lab.recipe import Recipe


@dataclass(frozen=True)
class Row:
    """One response: what the update needs to know of it."""

    prompt_ids: list[int]
    token_ids: list[int]
    advantage: float = 0.0
    sampler_logp: Sequence[float] = ()  # (|y|,) log-probs by the sampler
    old_logp: Tensor | None = None  # (|y|,) log pi_k; None while pi_theta still is pi_k

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.token_ids)


@dataclass(frozen=True)
class MiniBatch:
    """What one mini-batch has come to, over all processes: summed statistics and, where asked for, each row's detached
    log-probs and entropies (|y|,) before the optimizer step, in the order of the rows."""

    rows: Sequence[Row]
    output: LossOutput
    logp: list[Tensor]
    entropy: list[Tensor]


@dataclass(frozen=True)
class Micro:
    """A micro-batch as tensors, right-padded. Padding needs no attention mask: a causal model's real tokens never look
    at what follows them."""

    rows: Sequence[Row]
    ids: Tensor  # (B, L)
    labels: Tensor  # (B, L), -100 off the responses

    @property
    def mask(self) -> Tensor:
        """(B, L-1) bool: response positions."""
        return self.labels[:, 1:] != -100

    def at_response(self, values: Sequence[Tensor]) -> Tensor:
        """(B, L-1) from the values of each row's response (|y|,); 0 elsewhere."""
        flat = torch.cat(list(values)).to(self.ids.device)
        return flat.new_zeros(self.mask.shape).masked_scatter(self.mask, flat)

    def each(self, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The opposite: for each row, its response's part (|y|,) of each of the tensors (B, L-1)."""
        lengths = [len(row.token_ids) for row in self.rows]
        return zip(*(tensor[self.mask].split(lengths) for tensor in values), strict=True)


def pack(rows: Sequence[Row], device: torch.device) -> Micro:
    """Rows as a micro-batch; none at all become one row without a response, so that there is something to pass."""
    padded = rows or [Row([0, 0], [])]
    width = max(map(len, padded))
    ids = torch.zeros(len(padded), width, dtype=torch.long)
    labels = torch.full((len(padded), width), -100)
    for b, row in enumerate(padded):
        start, end = len(row.prompt_ids), len(row)
        ids[b, :end] = torch.tensor([*row.prompt_ids, *row.token_ids])
        labels[b, start:end] = ids[b, start:end]
    return Micro(rows, ids.to(device), labels.to(device))


def weights_of(rows: Sequence[Row], recipe: Recipe, batch_tokens: float | None) -> Tensor:
    """Weight of every token of each row, (B,), float64: `recipe.loss` over the whole mini-batch."""
    lengths = torch.tensor([len(row.token_ids) for row in rows])
    if recipe.loss == "released":
        weights = torch.zeros(len(rows), dtype=torch.float64)
        for cut in released_cut(list(map(len, rows)), recipe.micro_tokens):
            weights[cut] = row_weights(
                "released", lengths[cut], total_sequences=recipe.D_T * recipe.gs, dtype=torch.float64
            )
        return weights
    tokens = batch_tokens if recipe.loss == "trl_dapo" else None
    return row_weights(recipe.loss, lengths, total_tokens=tokens, dtype=torch.float64)


def accumulate(
    rows: Sequence[Row],
    policy: Policy,
    recipe: Recipe,
    *,
    alpha: float,
    batch_tokens: float | None = None,
    details: bool = False,
) -> MiniBatch:
    """Gradients of eq. 3.1 over a mini-batch, summed over processes and over micro-batches under a token budget.

    Every process is given all rows, takes its share, and makes as many forward passes as the one with the most
    micro-batches (sharded parameters are gathered in step), without a row if need be. The weights of the tokens, T_k in
    them, are known before the first: the gradients add up exactly whatever the cut.

    Args:
        rows: the responses of the mini-batch's kept prompts; all on-policy (old_logp None) or none.
        recipe: clip_low, clip_high, beta, loss (token weights), correction, micro_tokens; D_T and gs for "released".
        alpha: entropy coefficient of this training step.
        batch_tokens: for loss "trl_dapo": tokens of the whole rollout batch divided by its mini-batches.
        details: return log-probs and entropies too.
    """
    weights = weights_of(rows, recipe, batch_tokens)
    mine = passes(rows, policy, recipe.micro_tokens)
    outputs: list[LossOutput] = []
    known: dict[int, tuple[Tensor, ...]] = {}
    for n, picked in enumerate(mine):
        micro = pack([rows[i] for i in picked], policy.device)
        with nullcontext() if n == len(mine) - 1 else policy.unsynchronised():
            logp, entropy = policy.forward(micro.ids, micro.labels)
            output = micro_loss(micro, weights[picked], logp, entropy, policy, recipe, alpha)
            policy.backward(output.loss)
        outputs.append(output)
        if details:
            known |= zip(picked, micro.each(logp.detach(), entropy.detach()), strict=True)
    output = _over_processes(total(outputs), policy)
    logp_of, entropy_of = _everyones(known, rows, policy, logp.dtype) if details else ([], [])
    return MiniBatch(rows, output, logp_of, entropy_of)


def passes(rows: Sequence[Row], policy: Policy, budget: int) -> list[list[int]]:
    """The micro-batches of this process, as indices of rows: its share, then empty ones until every process has made
    as many passes as the busiest."""
    lengths = list(map(len, rows))
    cuts = [
        [[share[i] for i in cut] for cut in micro_batches([lengths[i] for i in share], budget)]
        for share in deal(lengths, policy.processes)
    ]
    mine, most = cuts[policy.rank], max(1, *map(len, cuts))
    return mine + [[] for _ in range(most - len(mine))]


def micro_loss(
    micro: Micro, weights: Tensor, logp: Tensor, entropy: Tensor, policy: Policy, recipe: Recipe, alpha: float
) -> LossOutput:
    """Eq. 3.1 (or the recipe's variant) over one micro-batch; `weights` (B,) of each row's tokens."""
    old = correction = None
    if any(row.old_logp is not None for row in micro.rows):
        old = micro.at_response([cast(Tensor, row.old_logp) for row in micro.rows])
    if recipe.correction != "none" and micro.rows:
        sampled = micro.at_response([torch.as_tensor(row.sampler_logp, dtype=logp.dtype) for row in micro.rows])
        correction = importance((logp.detach() if old is None else old) - sampled, micro.mask, recipe)
    advantages = torch.tensor([row.advantage for row in micro.rows], dtype=torch.float64)
    empty = logp.new_zeros(len(logp) - len(micro.rows))
    return policy_loss(
        logp,
        old,
        torch.cat([advantages.to(logp), empty]),
        micro.mask,
        clip_low=recipe.clip_low,
        clip_high=recipe.clip_high,
        entropy=entropy,
        alpha=alpha,
        ref_logp=policy.reference_logp(micro.ids, micro.labels) if recipe.beta > 0 else None,
        beta=recipe.beta,
        weights=torch.cat([weights.to(logp), empty])[:, None].expand(micro.mask.shape),
        correction=correction,
    )


def importance(log_ratio: Tensor, mask: Tensor, recipe: Recipe) -> Tensor:
    """Factor (B, L-1) on the surrogate from log pi_k - log sampler (B, L-1) at the response tokens (`mask`).

    "truncated": each token's own ratio, held below the cap. "sequence_mask" (TRL's default): the ratio of the whole
    response, the product of its tokens' ratios, for all of them; above the cap the response counts for nothing."""
    if recipe.correction == "truncated":
        return log_ratio.exp().clamp(max=recipe.correction_cap)
    ratio = log_ratio.where(mask, 0).sum(dim=1, keepdim=True).exp()
    return ratio.where(ratio <= recipe.correction_cap, 0).expand_as(log_ratio)


def _over_processes(output: LossOutput, policy: Policy) -> LossOutput:
    if policy.processes == 1:
        return output
    names = [field.name for field in fields(output) if field.name != "ratio_max"]
    sums = policy.added(torch.stack([getattr(output, name).double() for name in names]))
    return LossOutput(**dict(zip(names, sums, strict=True)), ratio_max=policy.largest(output.ratio_max))


def _everyones(
    known: dict[int, tuple[Tensor, ...]], rows: Sequence[Row], policy: Policy, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """The log-probs and entropies of all rows, of which this process knows those of its share."""
    lengths = [len(row.token_ids) for row in rows]
    flat = torch.zeros(2, sum(lengths), dtype=dtype, device=policy.device)
    views = [part.split(lengths) for part in flat]
    for i, pair in known.items():
        for view, values in zip(views, pair, strict=True):
            view[i].copy_(values)
    logp, entropy = policy.added(flat)
    return list(logp.split(lengths)), list(entropy.split(lengths))


@torch.no_grad()
def measure(rows: Sequence[Row], policy: Policy, budget: int) -> tuple[list[Tensor], list[Tensor]]:
    """Log-probs and entropies (|y|,) of each row under the current policy, without gradient; the work is shared."""
    known: dict[int, tuple[Tensor, ...]] = {}
    for picked in passes(rows, policy, budget):
        micro = pack([rows[i] for i in picked], policy.device)
        logp, entropy = policy.forward(micro.ids, micro.labels)
        known |= zip(picked, micro.each(logp, entropy), strict=True)
    return _everyones(known, rows, policy, logp.dtype)
