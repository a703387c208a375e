"""What MagicTrainer takes from TRL and transformers must still be what it was written against."""

from __future__ import annotations

import hashlib
import inspect

import pytest
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.kernels import ChunkedLogProbFunction

from or1lab.magic.schedule import hash_seed
from or1lab.magic.trainer import MagicTrainer
from or1lab.magic.trl_config import trl_config
from or1lab.recipe import load_recipe

# SHA-256 (first 12 digits) of the source of what is overridden or used from within. When one changes: read the new
# source, check the override against it, then renew the number here.
SOURCES = {
    "ChunkedLogProbFunction": "3661e8975a9f",
    "_clip_grad_norm": "ebfa9dc91d30",
    "_get_output_dir": "97172085342a",
    "_iter_named_params": "baab615d5c7b",
    "_load_optimizer_and_scheduler": "5c1772becdfd",
    "_save_checkpoint": "ec91bde12364",
    "create_accelerator_and_postprocess": "2dfccd378503",
    "create_optimizer": "daff86cde6cc",
    "evaluate": "47001f3acc99",
    "get_train_dataloader": "2bffe5a57c53",
    "log": "1e7772819cc8",
    "save_model": "ca8d2be9f60f",
    "training_step": "9e18632f7dd8",
}


def digest(thing) -> str:
    return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:12]


def overridden() -> dict[str, str]:
    """Methods that MagicTrainer replaces, with the digest of what it replaces."""
    own = [name for name, value in vars(MagicTrainer).items() if inspect.isfunction(value)]
    replaced = [name for name in own if name != "__init__" and hasattr(GRPOTrainer, name)]
    return {name: digest(getattr(GRPOTrainer, name)) for name in replaced}


def test_methods_overridden_in_trl_have_not_changed():
    used = {thing.__name__: digest(thing) for thing in (VLLMGeneration._iter_named_params, ChunkedLogProbFunction)}
    assert overridden() | used == SOURCES


@pytest.mark.parametrize("steps", [3, 7])
def test_one_hugging_face_step_is_one_training_step(steps, tmp_path):
    recipe = load_recipe("tiny", [f"stages.0.steps={steps}", "D_T=2", "lr=3e-4", "clip_high=0.28"])
    config = trl_config(recipe, tmp_path, steps=steps, resuming=False)
    assert config.max_steps == steps
    growing = load_recipe("tiny", ["stages=[{steps: 2}, {steps: 1, gs: 32}]"])
    large = trl_config(growing, tmp_path, steps=3, resuming=False)
    assert large.per_device_eval_batch_size % large.num_generations == 0  # else TRL refuses the trainer
    assert config.gradient_accumulation_steps == config.steps_per_generation == config.num_iterations == 1
    assert not config.use_vllm and config.learning_rate == 3e-4 and config.beta == 0
    assert config.lr_scheduler_type == "constant" and config.max_grad_norm == recipe.grad_clip


def test_shuffles_differ_between_steps_and_seeds():
    assert len({hash_seed(seed, step) for seed in range(20) for step in range(200)}) == 4000
