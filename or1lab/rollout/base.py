"""What every engine takes and gives, and how samples are seeded.

A sample's seed is a pure function of (root seed, training step, problem) plus its index in the group, so that batch
composition, restarts and resume do not change what is sampled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Request:
    """One prompt and the seeds of the responses wanted for it (one response a seed)."""

    prompt_ids: list[int]
    seeds: list[int]


@dataclass(frozen=True)
class Sample:
    """One response: its tokens (the end token included), their log-probs under the sampling policy at temperature
    tau, and whether the limit T was reached without the end token."""

    token_ids: list[int]
    logprobs: list[float]
    truncated: bool


class Engine(Protocol):
    """What samples responses: vLLM or transformers here, or a server. One that can also has `stream`."""

    name: str
    alarms: list[str]  # warnings that a run keeps in its manifest

    def generate(self, requests: Sequence[Request], *, tau: float, T: int) -> list[list[Sample]]:
        """Sample every request; result[i][j] answers requests[i].seeds[j]."""
        ...

    def sync(self, named_weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Make the engine sample from these weights from now on."""
        ...

    def sleep(self) -> None:
        """Nothing is sampled until the next sync: give memory back, if the engine is one that does."""
        ...


def sample_seed(seed: int, step: int | str, problem_id: str) -> int:
    """Seed of the first sample of a problem at a training step; sample j of the group uses it plus j."""
    digest = hashlib.blake2b(f"{seed}/{step}/{problem_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2  # leaves room for + j in a signed 64-bit integer


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a prompt: through the chat template with a generation prompt where the tokenizer has one."""
    if tokenizer.chat_template:
        message = [{"role": "user", "content": prompt}]
        return list(tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False))
    return list(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def decode_response(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """Text of a response without special tokens."""
    return tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def end_tokens(folder: str, tokenizer: Any) -> list[int]:
    """Every token id that ends a response: the tokenizer's and those the model's generation config declares."""
    from transformers import GenerationConfig

    try:
        declared = GenerationConfig.from_pretrained(folder).eos_token_id
    except OSError:  # a model folder without a generation config
        declared = None
    ids = declared if isinstance(declared, list) else [declared]
    return sorted({i for i in [*ids, tokenizer.eos_token_id] if i is not None})
