"""The common factor of the alpha grid: how the entropy bonus weighs against the policy gradient at the first step.

    python experiments/calibrate_alpha.py [SEED ...]      the pilot seeds 900-909 unless told; ten seconds each

For each seed: the first rollouts of the baseline, the gradient of eq. 3.1 without a bonus, that with the paper's middle
coefficient, and the factor on it at which the norm of their difference is 5% of the former's.
"""

from __future__ import annotations

import sys
from statistics import geometric_mean

import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from or1lab import sources, train
from or1lab.curriculum import Curriculum
from or1lab.magic.advantages import group_advantages
from or1lab.magic.head import add_response_head
from or1lab.magic.policy import Policy
from or1lab.magic.update import Row, accumulate
from or1lab.recipe import Recipe, load_recipe
from or1lab.rewards import get_reward
from or1lab.rollout.base import Engine
from or1lab.rollout.buffer import collect

SHARE = 0.05  # of the policy gradient's norm
MIDDLE = 1e-3  # of the paper's grid


def factor(recipe: Recipe, engine: Engine) -> float:
    """What MIDDLE must be multiplied by."""
    folder = sources.model_folder(recipe.model)
    tokenizer = sources.load_tokenizer(folder)
    problems = Curriculum(recipe, sources.load_problems(recipe.data, "train", tokenizer)).prompts(1)
    buffer = collect(
        engine, tokenizer, problems, get_reward(recipe.reward),
        group=recipe.gs, tau=recipe.tau, T=recipe.T, seed=recipe.seed, step=1,
    )  # fmt: skip
    advantages, kept = group_advantages(buffer.rewards)
    groups = buffer.rows(advantages)
    rows = [row for group, keep in zip(groups, kept.tolist(), strict=True) if keep for row in group if row is not None]
    policy, bonus = (gradient(rows, folder, recipe, alpha) for alpha in (0.0, MIDDLE))
    return SHARE * float(policy.norm() / (bonus - policy).norm())


def gradient(rows: list[Row], folder: str, recipe: Recipe, alpha: float) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    add_response_head(model)
    accumulate(rows, Policy(model, Accelerator(cpu=True)), recipe, alpha=alpha)
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def main() -> None:
    factors, engine = [], train.open_engine(load_recipe("tiny"))
    for seed in map(int, sys.argv[1:] or range(900, 910)):
        factors.append(factor(load_recipe("tiny", [f"seed={seed}"]), engine))
        print(f"seed {seed}: {factors[-1]:.1f}")
    print(f"geometric mean {geometric_mean(factors):.1f}")


if __name__ == "__main__":
    main()
