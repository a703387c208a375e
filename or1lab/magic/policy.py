"""The policy as the update sees it: its log-probs at a temperature, its gradients, and sums over processes.

One process or several (DDP, or parameters sharded by FSDP2): the rest of this package does not ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy


def keep_float32(accelerator: Accelerator) -> None:
    """Before anything is sharded: compute in bfloat16, but give outputs and sum gradients in float32, as one GPU does.

    accelerate's own policy rounds both, and with them log-probs, ratios and the loss."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and accelerator.mixed_precision == "bf16":
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
        )


class Policy:
    """A model that `add_response_head` has been called on, wrapped for several processes or not.

    Args:
        model, accelerator: as `accelerator.prepare` left them; parameters sharded by hand serve as well.
        reference: the reference policy of the KL term, with the same head.
        tau: temperature of the log-probs.
    """

    def __init__(self, model: Any, accelerator: Accelerator, *, reference: Any = None, tau: float = 1.0) -> None:
        self.model, self.accelerator, self.reference, self.tau = model, accelerator, reference, tau

    @property
    def device(self) -> torch.device:
        """Where this process's parameters and micro-batches lie."""
        return self.accelerator.device

    @property
    def processes(self) -> int:
        """How many share the weights and deal the micro-batches among them; 1 without accelerate."""
        return self.accelerator.num_processes

    @property
    def rank(self) -> int:
        """Of this process, from 0."""
        return self.accelerator.process_index

    def forward(self, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies (nats) of the tokens with a label, each (B, L-1), from ids and labels (B, L)."""
        return self._forward(self.model, ids, labels)

    @torch.no_grad()
    def reference_logp(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Log-probs under the reference policy, (B, L-1)."""
        return self._forward(self.reference, ids, labels)[0]

    def _forward(self, model: Any, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with self.accelerator.autocast():
            return model(input_ids=ids, labels=labels, response_tau=self.tau)

    def backward(self, loss: Tensor) -> None:
        """Gradients of this process's share of a loss that is a sum over processes: DDP and FSDP average them."""
        self.accelerator.backward(loss * self.processes)

    @contextmanager
    def unsynchronised(self) -> Iterator[None]:
        """Forward and backward inside leave the gradients of this process to themselves where parameters are
        replicated. Sharded ones are reduced every time: whole gradients would cost the memory that sharding saves."""
        with nullcontext() if isinstance(self.model, FSDPModule) else self.accelerator.no_sync(self.model):
            yield

    def added(self, values: Tensor) -> Tensor:
        """Sum over processes."""
        return self.accelerator.reduce(values, reduction="sum") if self.processes > 1 else values

    def largest(self, value: Tensor) -> Tensor:
        """Maximum over processes of a 0-d tensor."""
        return self.accelerator.gather(value).max() if self.processes > 1 else value
