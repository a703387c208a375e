"""Ours: the update phase on the same rollout batch, from rewards to optimizer step, through the trainer's own parts."""

from __future__ import annotations

import time
from typing import Any

import torch
from accelerate import Accelerator

from benchmarks.batch import Batch, M
from or1lab.magic.advantages import group_advantages
from or1lab.magic.diagnostics import entropy_profile, loss_metrics
from or1lab.magic.head import add_response_head
from or1lab.magic.policy import Policy
from or1lab.magic.sgd import sgd_steps
from or1lab.magic.update import Row
from or1lab.recipe import Recipe, load_recipe


def recipe_for(batch: Batch, *changes: str) -> Recipe:
    """On-policy, eq. 3.1, whatever the tiny recipe says for the rest."""
    prompts = len(batch.responses) // M
    return load_recipe("tiny", [f"D_R={prompts}", f"D_T={prompts}", f"gs={M}", "old_logp=trainer", *changes])


class Ours:
    """The update of `or1lab.magic` under the caller's control; AdamW and clipping as in `benchmarks.stock`."""

    def __init__(self, model: Any, batch: Batch, recipe: Recipe, *, lr: float = 1e-5, gpu: bool = False) -> None:
        """`gpu`: there, as the trainer does: with gradient checkpointing, and autocast where the recipe is bfloat16."""
        add_response_head(model)
        if gpu:
            model.gradient_checkpointing_enable()
        accelerator = Accelerator(cpu=not gpu, mixed_precision="bf16" if recipe.dtype == "bfloat16" else "no")
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
        self.model, self.optimizer = accelerator.prepare(model.train(), optimizer)
        self.policy = Policy(self.model, accelerator)
        self.batch, self.recipe = batch, recipe
        self.lengths: list[int] = []  # of the rows of the last update, prompts included
        self.scored = 0  # and their response tokens

    def update(self) -> float:
        """One update, rejection, metrics and optimizer step included. Seconds."""
        begin = time.perf_counter()
        advantages, kept = group_advantages(self.batch.rewards, eps=self.recipe.adv_eps)
        members = iter(zip(self.batch.prompts, self.batch.responses, advantages.flatten().tolist(), strict=True))
        groups: list[list[Row | None]] = [[Row(*next(members)) for _ in range(M)] for _ in kept]
        shuffles = torch.Generator().manual_seed(0)
        for mini in sgd_steps(
            groups, kept.tolist(), self.policy, self.recipe, alpha=0.0, generator=shuffles, optimizer_step=self._step
        ):
            loss_metrics(mini.output)
            entropy_profile(mini.entropy, self.recipe.T)
            self.lengths = list(map(len, mini.rows))
            self.scored = int(mini.output.tokens)
        self._step()
        return time.perf_counter() - begin

    def _step(self) -> None:
        self.policy.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
