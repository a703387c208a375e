"""Log-probs and entropies of responses without full logits: TRL's chunked kernel, asked for less.

TRL's own fused head scores every position on a CPU, prompts and padding included, in a tile 32,768 columns wide
whatever the vocabulary. Here only the positions of response tokens are projected, the tile suits a CPU's caches
(benchmarks.memory shows what both are worth), and the temperature is an argument.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

from torch import Tensor
from trl.kernels import ChunkedLogProbFunction

from or1lab.errors import Or1labError

SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")  # their names in configs
TILE, TILE_CPU = 32_768, 4_096  # columns of the vocabulary projected at a time, for 4,096 tokens at a time


def add_response_head(model: Any) -> None:
    """Let `model(input_ids=..., labels=..., response_tau=tau)` return (log-probs, entropies), each (B, L-1).

    Position t speaks of token t+1; both are 0 where its label is -100. Without `response_tau` the model does as before.

    Raises:
        Or1labError: a model that scales its logits (Cohere, Granite, Falcon-H1 and others); a soft cap is known.
    """
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    if scales := [name for name in SCALES if getattr(config, name, None) not in (None, 1.0)]:
        raise Or1labError(f"a model of type '{config.model_type}' scales its logits ({scales[0]}): not known here")

    def response_logp(head: Any, hidden: Tensor, targets: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        tile = min(TILE if hidden.is_cuda else TILE_CPU, len(head.weight))
        logp, entropy, *_ = ChunkedLogProbFunction.apply(
            hidden, head.weight, head.bias, targets, tau, tile, softcap, 1.0, ("entropy",)
        )
        return logp, entropy

    def forward(self: Any, *args: Any, response_tau: float | None = None, **kwargs: Any) -> Any:
        if response_tau is None:
            return plain(*args, **kwargs)
        labels: Tensor = kwargs.pop("labels")[:, 1:]
        hidden: Tensor = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state[:, :-1]
        response = labels != -100
        # Through the head's own forward, where sharding gathers its weight and reduces its gradient.
        values = self.get_output_embeddings()(hidden[response], response_targets=labels[response], tau=response_tau)
        # masked_scatter keeps a batch without a response token connected to the weights: its gradient is 0, not None.
        return tuple(v.new_zeros(response.shape).masked_scatter(response, v) for v in values)

    def head_forward(self: Any, hidden: Tensor, response_targets: Tensor | None = None, tau: float = 1.0) -> Any:
        return plain_head(hidden) if response_targets is None else response_logp(self, hidden, response_targets, tau)

    head = model.get_output_embeddings()
    plain, plain_head = model.forward, head.forward
    model.forward = MethodType(functools.wraps(plain)(forward), model)
    head.forward = MethodType(head_forward, head)
