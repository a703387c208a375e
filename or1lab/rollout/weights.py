"""The trainer's weights, one by one, for an engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration


def named_weights(model: Any, accelerator: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, weight) of the policy, gathered one by one where it is sharded: TRL's own iteration."""
    walker = VLLMGeneration.__new__(VLLMGeneration)  # its iteration only; no second engine is built
    walker.model, walker.accelerator, walker._dist = model, accelerator, DistributedBackend(accelerator)
    return walker._iter_named_params()
