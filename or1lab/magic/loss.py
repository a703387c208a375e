"""The MAGIC loss (paper eq. 3.1): clipped surrogate and entropy bonus, averaged over the T_k kept tokens.

    L = - 1/T_k  sum over tokens of { min(rho A, clip(rho) A) + alpha_k H - beta k3 }

T_k is known before the first micro-batch, so the losses (and gradients) of micro-batches add up to those of
the mini-batch, whatever the cut. Other normalisations are other token weights, see `token_weights`.

Shapes: B rows (responses) of a micro-batch, L token positions. All log-probabilities are at tau.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["paper", "released", "grpo", "trl_dapo"]


@dataclass(frozen=True)
class LossOutput:
    """Loss of one micro-batch and what is logged of it, as sums that add up over micro-batches (`total`).

    All are 0-d tensors, detached but for `loss`, so that nothing waits for the device before it is read.
    """

    loss: Tensor
    tokens: Tensor  # response tokens (mask = 1)
    clip_low: Tensor  # of those, tokens held at the ratio floor: rho < 1 - clip_low and A < 0
    clip_high: Tensor  # tokens held at the ratio ceiling: rho > 1 + clip_high and A > 0
    ratio_max: Tensor  # largest rho; 0 where there is no token
    entropy_sum: Tensor  # nats; 0 when no entropy was given
    kl_sum: Tensor  # k3 to the reference, nats; 0 when no reference was given

    @property
    def clip_low_frac(self) -> Tensor:
        """Share of the response tokens held at the ratio floor; 0 where there is no token."""
        return self.clip_low / self.tokens.clamp(min=1)

    @property
    def clip_high_frac(self) -> Tensor:
        """Share of the response tokens held at the ratio ceiling; 0 where there is no token."""
        return self.clip_high / self.tokens.clamp(min=1)

    @property
    def entropy(self) -> Tensor:
        """Mean entropy per token, nats."""
        return self.entropy_sum / self.tokens.clamp(min=1)

    @property
    def kl(self) -> Tensor:
        """Mean k3 divergence from the reference per token, nats."""
        return self.kl_sum / self.tokens.clamp(min=1)


def total(parts: Sequence[LossOutput]) -> LossOutput:
    """The micro-batches of one mini-batch as one output: sums, the largest ratio, a detached loss."""
    names = [field.name for field in fields(LossOutput)]
    values = {name: torch.stack([getattr(part, name).detach() for part in parts]) for name in names}
    return LossOutput(**{name: own.max() if name == "ratio_max" else own.sum() for name, own in values.items()})


def policy_loss(
    logp: Tensor,
    old_logp: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    entropy: Tensor | None = None,
    alpha: float = 0.0,
    ref_logp: Tensor | None = None,
    beta: float = 0.0,
    total_tokens: float | Tensor | None = None,
    weights: Tensor | None = None,
    correction: Tensor | None = None,
) -> LossOutput:
    """Eq. 3.1 over the rows of a micro-batch, with the k3 term of ablation 5 when `beta` > 0.

    Args:
        logp: (B, L) log pi_theta of the sampled tokens, with gradient.
        old_logp: (B, L) log pi_k of the same tokens; None means on-policy: the ratio is 1 and its gradient
            that of `logp`.
        advantages: (B,) or (B, L).
        mask: (B, L), 1 at response tokens. What stands elsewhere, in any argument, is never used: inf and NaN
            do no harm.
        clip_low, clip_high: the ratio is held in [1 - clip_low, 1 + clip_high].
        entropy: (B, L) full-vocabulary entropy of pi_theta, nats, with gradient; needed when `alpha` is not
            0, else only logged.
        alpha: entropy coefficient alpha_k of this training step.
        ref_logp: (B, L) log-probabilities under the reference; needed when `beta` is not 0, else only logged.
        beta: weight of the k3 estimate pi_ref/pi_theta - log(pi_ref/pi_theta) - 1.
        total_tokens: T_k, response tokens of the *whole* mini-batch; default those of this call.
        weights: (B, L) weight of each token, instead of mask / total_tokens.
        correction: (B, L) factor on the surrogate alone, for a sampler that is not quite pi_k.

    Raises:
        ValueError: shapes that differ, `alpha` without `entropy`, `beta` without `ref_logp`.

    Example:
        >>> logp, mask = torch.tensor([[-1.0, -2.0]]), torch.ones(1, 2)
        >>> policy_loss(logp, logp - 1, torch.tensor([1.0]), mask, clip_low=0.2, clip_high=0.2).loss
        tensor(-1.2000)
    """
    if alpha != 0.0 and entropy is None:
        raise ValueError(f"alpha = {alpha} needs `entropy`")
    if beta != 0.0 and ref_logp is None:
        raise ValueError(f"beta = {beta} needs `ref_logp`")
    if advantages.dim() == 1:
        advantages = advantages[:, None].expand(len(advantages), logp.shape[-1])
    given = {"old_logp": old_logp, "advantages": advantages, "mask": mask, "entropy": entropy}
    for name, tensor in {**given, "ref_logp": ref_logp, "weights": weights, "correction": correction}.items():
        if tensor is not None and tensor.shape != logp.shape:
            raise ValueError(f"{name} {tuple(tensor.shape)} and logp {tuple(logp.shape)} differ in shape")

    mask = mask.bool()

    def clean(values: Tensor) -> Tensor:
        # Before any arithmetic: masking what inf or NaN went through would still leave NaN gradients.
        return values.where(mask, 0)

    if weights is None:
        weights = token_weights("paper", mask, total_tokens=total_tokens, dtype=logp.dtype)
    weights, advantages, logp = clean(weights), clean(advantages), clean(logp)
    ratio = (logp - (logp.detach() if old_logp is None else clean(old_logp))).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    objective = torch.minimum(ratio * advantages, clipped * advantages)
    if correction is not None:
        objective = objective * clean(correction)
    nothing = logp.new_zeros(())
    entropy_sum = kl_sum = nothing
    if entropy is not None:
        entropy = clean(entropy)
        entropy_sum = entropy.detach().sum()
        if alpha != 0.0:  # a zero coefficient must not cost a backward pass through the entropy
            objective = objective + alpha * entropy
    if ref_logp is not None:
        log_ref_ratio = clean(ref_logp) - logp
        k3 = log_ref_ratio.exp() - log_ref_ratio - 1
        kl_sum = k3.detach().sum()
        if beta != 0.0:
            objective = objective - beta * k3

    ratio = clean(ratio.detach())  # padding has ratio 1, which must not count as the largest
    return LossOutput(
        loss=-(weights * objective).sum(),
        tokens=mask.sum(),
        clip_low=((ratio < 1 - clip_low) & (advantages < 0)).sum(),
        clip_high=((ratio > 1 + clip_high) & (advantages > 0)).sum(),
        ratio_max=ratio.max() if ratio.numel() else nothing,
        entropy_sum=entropy_sum,
        kl_sum=kl_sum,
    )


def token_weights(
    kind: Kind,
    mask: Tensor,
    *,
    total_tokens: float | Tensor | None = None,
    total_sequences: float | Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Weight of each token in the loss, (B, L), 0 where `mask` is 0: see `row_weights`."""
    mask = mask.bool()
    rows = row_weights(
        kind, mask.sum(dim=1), total_tokens=total_tokens, total_sequences=total_sequences, dtype=dtype
    )
    return mask * rows[:, None]


def row_weights(
    kind: Kind,
    lengths: Tensor,
    *,
    total_tokens: float | Tensor | None = None,
    total_sequences: float | Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Weight in the loss of every token of each response, (B,), from the response lengths (B,). Totals default to
    those of `lengths`.

    - "paper" (eq. 3.1): 1 / total_tokens, the tokens T_k of the kept responses of the mini-batch.
    - "released": a micro-batch takes its own token mean and weighs as its number of responses does in the
      nominal mini-batch, total_sequences = D_T * M. `lengths` must be exactly one micro-batch of the released
      cut: tokens beside a long response weigh less, and rejection shrinks the gradient.
    - "grpo" (eq. 2.4): each response takes its own token mean; total_sequences are those of the mini-batch.
    - "trl_dapo": 1 / total_tokens as "paper", but TRL counts every sampled token, rejected groups included:
      total_tokens = tokens of the rollout batch / mini-batches per pass.

    Rows without tokens (padding of a batch) are no responses: weight 0. Raises ValueError for an unknown kind.

    Example:
        >>> row_weights("grpo", torch.tensor([4, 1]))
        tensor([0.1250, 0.5000])
    """

    def count(given: float | Tensor | None, default: Tensor) -> Tensor:
        value = default if given is None else given
        return torch.as_tensor(value, dtype=dtype, device=lengths.device).clamp(min=1)

    some = lengths > 0
    if kind in ("paper", "trl_dapo"):
        return some / count(total_tokens, lengths.sum())
    if kind == "released":
        return some * some.sum() / (count(None, lengths.sum()) * count(total_sequences, some.sum()))
    if kind == "grpo":
        return some / (count(None, lengths) * count(total_sequences, some.sum()))
    raise ValueError(f"kind = {kind!r}; one of 'paper', 'released', 'grpo', 'trl_dapo'")
