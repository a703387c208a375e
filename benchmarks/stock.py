"""Stock TRL: the update phase of its GRPOTrainer on a given rollout batch, one update at a time.

The subclass replaces the generation (`_generate_and_score_completions`), nothing else, and returns the batch in the
form TRL's own method gives it, padded as a whole; shuffling, splitting, loss, metrics and backward are TRL's. On-policy
settings, so TRL needs no pass for old log-probs. TRL's default of gradient checkpointing is off on a CPU: it would slow
TRL down for memory that a CPU benchmark does not need. `ON_GPU` are TRL's own defaults there.

`Stock.update` does what the loop of transformers' Trainer does per optimizer step, without what that loop adds around
it (callbacks, logging, FLOP count), so that several trainers can be timed in alternation.
"""

from __future__ import annotations

import time
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import nanstd, pad

from benchmarks.batch import Batch, M

ON_GPU = {"use_cpu": False, "bf16": True, "gradient_checkpointing": True}


class StoredRollouts(GRPOTrainer):
    """GRPOTrainer that generates nothing: every rollout is `batch`."""

    batch: Batch
    folder: TemporaryDirectory  # lives as long as the trainer
    generation_seconds = 0.0  # spent in the override so far, not part of the update phase

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Tensor]:
        begin = time.perf_counter()
        prompt_ids, prompt_mask = self._padded(self.batch.prompts, "left")
        completion_ids, completion_mask = self._padded(self.batch.responses, "right")
        rewards = self.batch.rewards
        advantages = (rewards - rewards.mean(1, keepdim=True)) / (nanstd(rewards, dim=1)[:, None] + 1e-4)
        output = {
            "prompt_ids": prompt_ids,
            "prompt_mask": prompt_mask,
            "completion_ids": completion_ids,
            "completion_mask": completion_mask,
            "advantages": advantages.flatten().to(self.accelerator.device),
            "num_items_in_batch": self.accelerator.gather(completion_mask.sum()).sum(),
        }
        self.generation_seconds += time.perf_counter() - begin
        return output

    def _padded(self, rows: list[list[int]], side: str) -> tuple[Tensor, Tensor]:
        ids = [torch.tensor(row) for row in rows]
        mask = [torch.ones_like(row) for row in ids]
        device = self.accelerator.device
        return (
            pad(ids, padding_value=self._tokenizer.pad_token_id, padding_side=side).to(device),
            pad(mask, padding_value=0, padding_side=side).to(device),
        )


def grpo_config(folder: str, responses: int, micro_batch: int, **changes: Any) -> GRPOConfig:
    """On-policy GRPO with one optimizer step per `responses` rollouts, in micro-batches of `micro_batch`."""
    accumulation, rest = divmod(responses, micro_batch)
    if rest:
        raise ValueError(f"{responses} responses do not divide into micro-batches of {micro_batch}")
    settings: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": 1_000_000,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": accumulation,
        "num_generations": M,
        "num_iterations": 1,
        "loss_type": "dapo",
        "beta": 0.0,
        "epsilon_high": 0.28,
        "temperature": 1.0,
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
        "disable_dropout": True,
        "optim": "adamw_torch",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    return GRPOConfig(**settings | changes)


def stock_trainer(
    model: Any, tokenizer: Any, batch: Batch, micro_batch: int, *, lr: float = 1e-5, **changes: Any
) -> StoredRollouts:
    """A trainer that takes one optimizer step per rollout batch, in micro-batches of `micro_batch` responses."""
    folder = TemporaryDirectory()  # TRL wants one; nothing is written
    trainer = StoredRollouts(
        model=model,
        reward_funcs=_no_reward,
        args=grpo_config(folder.name, len(batch.responses), micro_batch, learning_rate=lr, **changes),
        train_dataset=Dataset.from_dict({"prompt": [""] * (len(batch.responses) // M)}),
        processing_class=tokenizer,
    )
    trainer.batch, trainer.folder = batch, folder
    return trainer


class Stock:
    """A stock trainer under the caller's control."""

    def __init__(
        self, model: Any, tokenizer: Any, batch: Batch, micro_batch: int, *, lr: float = 1e-5, gpu: bool = False
    ) -> None:
        self.trainer = stock_trainer(model, tokenizer, batch, micro_batch, lr=lr, **(ON_GPU if gpu else {}))
        if gpu:  # what the loop's `train` does before it prepares
            self.trainer.model.gradient_checkpointing_enable(self.trainer.args.gradient_checkpointing_kwargs)
        loader = self.trainer.get_train_dataloader()
        self.model, _ = self.trainer._prepare_for_training(self.trainer.args.max_steps, loader, None)
        self.optimizer: Any = self.trainer.optimizer
        self.scheduler: Any = self.trainer.lr_scheduler
        self.trainer.current_gradient_accumulation_steps = self.trainer.args.gradient_accumulation_steps
        self.model.zero_grad()

    def update(self) -> float:
        """One update: all micro-batches, clipping, optimizer step. Seconds, without those of the generation."""
        trainer, accelerator = self.trainer, self.trainer.accelerator
        generation = trainer.generation_seconds
        begin = time.perf_counter()
        for left in reversed(range(trainer.args.gradient_accumulation_steps)):
            accelerator.gradient_state._set_sync_gradients(left == 0)
            trainer.training_step(self.model, {}, None)  # TRL fetches the micro-batch itself
        trainer._clip_grad_norm(self.model)
        self.optimizer.step()
        self.scheduler.step()
        self.model.zero_grad()
        seconds = time.perf_counter() - begin
        trainer.state.global_step += 1
        trainer._metrics["train"].clear()  # the loop does so when it logs
        return seconds - (trainer.generation_seconds - generation)


def _no_reward(**_: Any) -> list[float | None]:
    raise AssertionError("the rollouts are stored with their rewards")
