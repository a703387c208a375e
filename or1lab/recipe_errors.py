"""Errors of recipes and other files in words: an unknown key names the nearest right one, or our name for it."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from or1lab.errors import UsageError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

# What other systems call our knobs: only ever a hint in an error message, never an alias.
FOREIGN_NAMES = {
    "temperature": "tau", "num_generations": "gs", "group_size": "gs", "rollout_n": "gs", "n_samples_per_prompt": "gs",
    "max_completion_length": "T", "max_response_length": "T", "max_tokens": "T", "generate_max_len": "T",
    "learning_rate": "lr", "epsilon": "clip_low", "clip_ratio": "clip_low", "clip_ratio_low": "clip_low",
    "epsilon_high": "clip_high", "clip_ratio_high": "clip_high", "kl_coef": "beta", "kl_loss_coef": "beta",
    "train_batch_size": "D_R", "rollout_batch_size": "D_R", "ppo_mini_batch_size": "D_T", "mini_batch_size": "D_T",
    "per_device_train_batch_size": "micro_tokens", "micro_batch_size": "micro_tokens",
    "num_iterations": "N_reuse", "ppo_epochs": "N_reuse", "steps_per_generation": "D_T",
    "entropy_coef": "alpha", "entropy_coeff": "alpha", "use_adaptive_entropy": "entropy",
    "target_entropy": "tgt_ent", "entropy_target": "tgt_ent", "entropy_delta": "delta", "max_ent_coef": "c_max",
    "max_grad_norm": "grad_clip", "num_train_steps": "stages.0.steps", "max_steps": "stages.0.steps",
    "model_name_or_path": "model", "torch_dtype": "dtype", "report_to": "wandb", "loss_type": "loss",
    "vllm_importance_sampling_correction": "correction", "vllm_importance_sampling_cap": "correction_cap",
}  # fmt: skip


def checked(model: type[Model], plain: Any, where: str) -> Model:
    """Plain data as that model. Raises UsageError that names every fault, and where the data stands."""
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise UsageError(f"{where}: " + "; ".join(explain(e, model) for e in error.errors())) from None


def explain(error: Any, model: type[BaseModel]) -> str:
    """One pydantic error of that model in words."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        word = location[-1]
        if word in FOREIGN_NAMES:
            return f"unknown key '{key}': here it is called '{FOREIGN_NAMES[word]}'"
        near = did_you_mean(word, _model_at(model, location[:-1]).model_fields)
        return f"unknown key '{key}'" + near.replace("mean '", f"mean '{key.removesuffix(word)}")
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _model_at(model: type[BaseModel], location: list[str]) -> type[BaseModel]:
    for part in location:  # numbers are places in a list
        if part in model.model_fields:
            model = _inside(model.model_fields[part].annotation) or model
    return model


def _inside(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, be it optional or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inside(part))), None)
