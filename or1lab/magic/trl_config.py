"""A recipe in the words of TRL and transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from trl import GRPOConfig

from or1lab.recipe import Recipe
from or1lab.rollout.together import processes


def trl_config(recipe: Recipe, folder: Path, *, steps: int, resuming: bool) -> GRPOConfig:
    """Arguments of the Hugging Face loop, set so that one of its steps is one training step of the paper."""
    cadence = recipe.checkpoint.every
    stages = recipe.by_stage
    gs = max(stage.gs for stage in stages)  # only TRL's checks of its own arguments see it
    return GRPOConfig(
        output_dir=str(folder),
        seed=recipe.seed,
        max_steps=steps,
        # One HF step = one training step; TRL's own generation, accumulation and reuse are off.
        per_device_train_batch_size=gs,
        per_device_eval_batch_size=gs,  # must be a multiple of the next, though nothing is evaluated with it
        num_generations=gs,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        num_iterations=1,
        use_vllm=False,
        max_completion_length=recipe.max_T,
        temperature=recipe.tau,
        beta=max(stage.beta for stage in stages),  # above 0: TRL keeps a reference model
        learning_rate=recipe.lr,
        lr_scheduler_type="constant",
        warmup_steps=0,
        optim="adamw_torch",
        adam_beta1=recipe.adam_betas[0],
        adam_beta2=recipe.adam_betas[1],
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.grad_clip,
        bf16=recipe.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        # Several processes on a CPU: the state that together.join has put right, not a new one.
        accelerator_config={"use_configured_state": processes() > 1 and not torch.cuda.is_available()},
        gradient_checkpointing=torch.cuda.is_available(),
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if recipe.eval.every else "no",
        eval_steps=recipe.eval.every or None,
        eval_on_start=bool(recipe.eval.every) and not resuming,
        save_strategy="steps" if cadence else "no",
        save_steps=cadence or 500,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        disable_dropout=True,
        dataloader_pin_memory=False,
    )
