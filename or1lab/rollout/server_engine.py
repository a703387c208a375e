"""Rollouts from a vLLM server on GPUs of its own (`rollout.server`); the weights go there by TRL's client.

One request a prompt, with the group's first seed: the server seeds the members of a group with it and the numbers after
it, as `Request.seeds` does, so its samples are those of an engine in this process. The first process of a run asks; the
others are given what it got (`together.Shared` with all processes as one unit).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from multiprocessing.pool import ThreadPool
from typing import Any

import torch

from or1lab.errors import Or1labError
from or1lab.rollout.base import Request, Sample

REQUESTS = 256  # at a time: the server queues what it cannot decode together
PART = 2**30  # bytes of weights in one message
START = 60.0  # seconds that the server may take to answer at first
HOW = "start it as docs/scale.md says"


class ServerEngine:
    """The server at `address`, as http://host:8000, which serves the model that the run starts from."""

    name = "vllm server"

    def __init__(self, address: str, *, dtype: str, eos_ids: Sequence[int], context: int, first: bool) -> None:
        """`context`: tokens of the longest prompt and response. `first`: this process asks.

        Raises Or1labError where no server answers, or its context is shorter."""
        self.address, self.eos_ids, self.first = address.rstrip("/"), list(eos_ids), first
        self.dtype, self.alarms = getattr(torch, dtype), list[str]()
        if first:
            served = self._get("/v1/models")["data"][0]
            self.model = served["id"]
            if (longest := served.get("max_model_len") or context) < context:
                raise Or1labError(
                    f"the server at {self.address} has a context of {longest} tokens, the run needs {context}: start "
                    f"it with --max-model-len {context}"
                )

    @cached_property
    def client(self) -> Any:
        """TRL's client, which connects as it is made."""
        from trl.generation.vllm_client import VLLMClient

        try:
            return VLLMClient(base_url=self.address, connection_timeout=START)
        except Exception as error:  # requests' errors, and bare Exceptions of TRL's own
            raise Or1labError(f"no vLLM server answers at {self.address} ({error}): {HOW}") from error

    def _get(self, path: str) -> Any:
        return self.client._get(self.address + path)

    def generate(self, requests: Sequence[Request], *, tau: float, T: int) -> list[list[Sample]]:
        """A request a group, REQUESTS at a time. Only the first process asks; the others get empty groups."""
        if not self.first:
            return [[] for _ in requests]
        with ThreadPool(min(REQUESTS, max(1, len(requests)))) as threads:  # an error or Ctrl-C waits for none of them
            return list(threads.imap(lambda request: self._group(request, tau, T), requests))

    def _group(self, request: Request, tau: float, T: int) -> list[Sample]:
        """The samples of one prompt."""
        seeds = request.seeds
        if seeds != list(range(seeds[0], seeds[0] + len(seeds))):
            raise ValueError("a server gives the members of a group consecutive seeds")
        asked = {
            "model": self.model, "prompt": request.prompt_ids, "n": len(seeds), "seed": seeds[0], "temperature": tau,
            "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
            "frequency_penalty": 0.0,  # else those of the model's generation_config
            "max_tokens": T, "logprobs": 0, "stop_token_ids": self.eos_ids,
            "return_token_ids": True, "return_tokens_as_token_ids": True,
        }  # fmt: skip
        try:
            choices = self.client._post(f"{self.address}/v1/completions", json=asked)["choices"]
        except Exception as error:
            raise Or1labError(
                f"the vLLM server at {self.address} failed ({error}): start it again, then --resume"
            ) from error
        choices = sorted(choices, key=lambda choice: choice["index"])
        return [
            Sample(c["token_ids"], c["logprobs"]["token_logprobs"], truncated=c["finish_reason"] == "length")
            for c in choices
        ]

    def sync(self, named_weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Weights over NCCL in messages of PART bytes; then the server forgets its prefix cache. Raises Or1labError."""
        if not self.first:
            for _ in named_weights:  # gathering sharded ones is everybody's work
                pass
            return
        try:
            if self.client.communicator is None:
                self.client.init_communicator(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
            with self.client.weight_update():
                for part in _parts((name, weight.detach().to(self.dtype)) for name, weight in named_weights):
                    facts = [(name, str(self.dtype).removeprefix("torch."), list(w.shape)) for name, w in part]
                    self.client.update_named_params(facts, iter(part))
            self.client.reset_prefix_cache()
        except Exception as error:
            raise Or1labError(
                f"the vLLM server at {self.address} does not take the weights ({error}): {HOW}, then --resume"
            ) from error

    def sleep(self) -> None:
        """It has GPUs of its own."""


def _parts(weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Weights together in messages of up to PART bytes, or one larger one."""
    part: list[tuple[str, torch.Tensor]] = []
    size = 0
    for name, weight in weights:
        if part and size + weight.nbytes > PART:
            yield part
            part, size = [], 0
        part.append((name, weight))
        size += weight.nbytes
    if part:
        yield part
