"""The N_SGD mini-batches of one training step on its rollout buffer (paper section 4.1), one gradient at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from or1lab.magic.policy import Policy
from or1lab.magic.schedule import mini_batches
from or1lab.magic.update import MiniBatch, Row, accumulate, measure
from or1lab.recipe import Recipe

Group = Sequence[Row | None]  # the M responses to one prompt; None: a missing member


def sgd_steps(
    groups: Sequence[Group],
    kept: Sequence[bool],
    policy: Policy,
    stage: Recipe,
    *,
    alpha: float,
    generator: torch.Generator,
    optimizer_step: Callable[[], object],
) -> Iterator[MiniBatch]:
    """Each mini-batch in turn, its gradients in place. `optimizer_step` is called between two of them; the last step
    is the caller's.

    The ratio's pi_k is the policy before the first of these steps. In the first mini-batch it is the policy itself: the
    ratio is 1 by construction. After that its log-probs are the sampler's (`old_logp: sampler`) or the trainer's own,
    which come with the first mini-batch's forward pass or, for the other responses, cost one without gradient.

    Args:
        groups: all groups of the step; with several processes, the same on each.
        kept: which survived rejection; with `reject: off` all are used.
        generator: source of the shuffles of the schedule.

    Yields:
        The mini-batches, at most N_SGD; none where nothing is kept. Those before the first optimizer step carry
        log-probs and entropies of their rows.
    """
    used = [n for n, keep in enumerate(kept) if keep or stage.reject == "off"]
    # A refilled step has more groups than D_R: the schedule is asked about the used ones alone.
    dealt = mini_batches(
        [n < len(used) for n in range(stage.D_R)], D_R=stage.D_R, D_T=stage.D_T, N_reuse=stage.N_reuse,
        partial=stage.partial, generator=generator,
    )  # fmt: skip
    row = {(n, j): member for n in used for j, member in enumerate(groups[n]) if member is not None}
    members = {n: [(n, j) for j in range(len(groups[n])) if (n, j) in row] for n in used}
    batches = [keys for batch in dealt if (keys := [key for n in batch for key in members[used[n]]])]
    old: dict[tuple[int, int], Tensor] = {}
    if stage.old_logp == "sampler":
        old = {key: torch.tensor(value.sampler_logp) for key, value in row.items()}
    elif len(batches) > 1:
        later = sorted({key for keys in batches[1:] for key in keys} - set(batches[0]))
        if later:  # none in a second pass over a single mini-batch
            logp, _ = measure([row[key] for key in later], policy, stage.micro_tokens)
            old = dict(zip(later, logp, strict=True))
    sampled = sum(len(r.token_ids) for group in groups for r in group if r is not None)
    for n, keys in enumerate(batches):
        if n > 0:
            optimizer_step()
        result = accumulate(
            [row[key] if n == 0 else replace(row[key], old_logp=old[key]) for key in keys],
            policy,
            stage,
            alpha=alpha,
            batch_tokens=sampled / (stage.D_R // stage.D_T),
            details=n == 0,
        )
        if n == 0 and stage.old_logp == "trainer":
            old |= zip(keys, result.logp, strict=True)
        yield result
