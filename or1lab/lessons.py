"""What the sliders of `notebooks/quickstart.ipynb` compute: the functions of `magic/` on numbers small enough to see.

The policy of `bandit` is a table, not a language model: one token is a whole answer. Its numbers say how the mechanism
works, and nothing about the size of any effect elsewhere.
"""

from __future__ import annotations

import pandas as pd
import torch

from or1lab.magic.advantages import group_advantages
from or1lab.magic.loss import policy_loss

PROMPTS, ANSWERS, TRAITS, GROUP = 96, 16, 8, 8  # of the table; prompts with like traits answer alike
STEPS, LR = 40, 100.0  # so fast that entropy is gone before everything is learned


def group(size: int = 8) -> pd.DataFrame:
    """The advantage of a right and of a wrong response for every number of right ones in a group (eq. 2.5).

    Columns: right (0 to `size`), of_right, of_wrong (NaN where the group has none), kept (not rejected)."""
    rewards = torch.ones(size + 1, size).tril(-1)  # row n: n rewards of 1
    advantages, kept = group_advantages(rewards)
    nobody = torch.tensor(torch.nan)
    of_right = advantages[:, 0].where(rewards[:, 0] == 1, nobody)
    of_wrong = advantages[:, -1].where(rewards[:, -1] == 0, nobody)
    columns = {"right": torch.arange(size + 1), "of_right": of_right, "of_wrong": of_wrong, "kept": kept}
    return pd.DataFrame({name: values.tolist() for name, values in columns.items()})


def clipping(clip_low: float, clip_high: float) -> pd.DataFrame:
    """One token's term of the loss (eq. 3.1, without bonus) at ratios pi_theta / pi_k from 0.4 to 1.8.

    Columns: advantage (1 or -1), ratio, objective, push (its derivative by the token's log-probability: how strongly a
    step of SGD moves the token; 0 where the clip holds it)."""
    ratio, one = torch.linspace(0.4, 1.8, 57), torch.ones(1, 1)
    parts = []
    for advantage in (1.0, -1.0):
        logp = ratio.log()[:, None].requires_grad_()
        old = torch.zeros_like(one)
        losses = [
            policy_loss(row, old, advantage * one, one, clip_low=clip_low, clip_high=clip_high).loss
            for row in logp.split(1)
        ]
        objective = -torch.stack(losses)
        (push,) = torch.autograd.grad(objective.sum(), logp)
        columns = {"ratio": ratio.numpy(), "objective": objective.detach().numpy(), "push": push[:, 0].numpy()}
        parts.append(pd.DataFrame({"advantage": advantage, **columns}))
    return pd.concat(parts, ignore_index=True)


def bandit(alpha: float, seeds: int = 3) -> pd.DataFrame:
    """Policies that pick one of 16 answers to each of 96 prompts, trained on-policy by the paper's loss with a constant
    entropy coefficient `alpha`.

    Columns: seed, step, entropy (nats per answer), accuracy (probability of the right answer), kept (share of groups).
    """
    return pd.concat([_bandit(alpha, seed) for seed in range(seeds)], ignore_index=True)


def _bandit(alpha: float, seed: int) -> pd.DataFrame:
    draw = torch.Generator().manual_seed(seed)
    traits = torch.randn(PROMPTS, TRAITS, generator=draw) / TRAITS**0.5
    weights = (2 * torch.randn(TRAITS, ANSWERS, generator=draw)).requires_grad_()  # sure of itself, and mostly wrong
    gold = (traits @ torch.randn(TRAITS, ANSWERS, generator=draw)).argmax(1, keepdim=True)
    rows = []
    for step in range(STEPS + 1):
        logp = (traits @ weights).log_softmax(1)
        entropy = -(logp.exp() * logp).sum(1, keepdim=True)
        answers = torch.multinomial(logp.exp().detach(), GROUP, replacement=True, generator=draw)
        advantages, kept = group_advantages((answers == gold).float())
        accuracy = logp.gather(1, gold).exp().mean().item()
        rows.append([seed, step, entropy.mean().item(), accuracy, kept.float().mean().item()])
        if kept.any():
            chosen, bonus = logp.gather(1, answers)[kept], entropy.expand(-1, GROUP)[kept]
            loss = policy_loss(
                chosen, None, advantages[kept], torch.ones_like(chosen), clip_low=0.2, clip_high=0.2, entropy=bonus,
                alpha=alpha,
            ).loss  # fmt: skip
            (gradient,) = torch.autograd.grad(loss, weights)
            weights = (weights - LR * gradient).detach().requires_grad_()
    return pd.DataFrame(rows, columns=["seed", "step", "entropy", "accuracy", "kept"])
