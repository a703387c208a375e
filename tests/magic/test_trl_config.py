"""What a recipe becomes in the words of TRL and transformers, key by key."""

from __future__ import annotations

import pytest

from or1lab.magic import trl_config as module
from or1lab.magic.trl_config import trl_config
from or1lab.recipe import load_recipe

# No value is a default of TRL's or of the recipe's: what does not arrive is seen.
UNUSUAL = [
    "seed=7", "tau=0.7", "lr=3e-4", "adam_betas=[0.8,0.95]", "weight_decay=0.03", "grad_clip=0.6", "dtype=bfloat16",
    "checkpoint.every=4", "eval.every=3", "stages=[{steps: 2, gs: 8, T: 40}, {steps: 3, gs: 32, T: 72, beta: 0.25}]",
]  # fmt: skip
ARRIVED = {
    "seed": 7, "max_steps": 5, "max_completion_length": 72, "temperature": 0.7, "beta": 0.25, "learning_rate": 3e-4,
    "adam_beta1": 0.8, "adam_beta2": 0.95, "weight_decay": 0.03, "max_grad_norm": 0.6, "bf16": True,
    "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 4,
}  # fmt: skip
OURS = {  # whatever the recipe: one step of the Hugging Face loop is one training step, and nothing else happens in it
    "num_generations": 32, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 32,
    "gradient_accumulation_steps": 1, "steps_per_generation": 1, "num_iterations": 1, "use_vllm": False,
    "lr_scheduler_type": "constant", "warmup_steps": 0, "optim": "adamw_torch", "disable_dropout": True,
    "logging_steps": 1, "logging_nan_inf_filter": False, "report_to": [], "disable_tqdm": True,
    "remove_unused_columns": False, "dataloader_pin_memory": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)


def test_every_key_arrives(tmp_path):
    config = trl_config(load_recipe("tiny", UNUSUAL), tmp_path, steps=5, resuming=False)
    assert {name: getattr(config, name) for name in ARRIVED | OURS} == ARRIVED | OURS
    assert config.output_dir == str(tmp_path)


def test_full_precision_stays_full(tmp_path):
    assert not trl_config(load_recipe("tiny"), tmp_path, steps=5, resuming=False).bf16


@pytest.mark.parametrize(("every", "resuming", "at_once"), [(3, False, True), (3, True, False), (0, False, False)])
def test_the_start_is_evaluated_once(every, resuming, at_once, tmp_path):
    config = trl_config(load_recipe("tiny", [f"eval.every={every}"]), tmp_path, steps=5, resuming=resuming)
    assert config.eval_on_start is at_once
    assert config.eval_strategy == ("steps" if every else "no")


def test_no_checkpoint_where_none_is_wanted(tmp_path):
    config = trl_config(load_recipe("tiny", ["checkpoint.every=0"]), tmp_path, steps=5, resuming=False)
    assert config.save_strategy == "no"


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("processes", [1, 2])
def test_on_cpus_several_processes_keep_the_state_they_joined_with(processes, gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(module, "processes", lambda: processes)
    monkeypatch.setattr(module, "GRPOConfig", dict)  # the real one uses the state up, and looks for the GPU
    told = trl_config(load_recipe("tiny"), tmp_path, steps=5, resuming=False)
    assert told["accelerator_config"] == {"use_configured_state": processes == 2 and not gpu}
    assert (told["use_cpu"], told["gradient_checkpointing"]) == (not gpu, gpu)
