"""The fixed rollout batch and the models that every benchmark of the update uses.

Response lengths are log-normal and long-tailed as those of a reasoning policy are: mean 41 tokens, median 33, one in a
hundred at the limit of 160. They are the distribution's quantiles in random order rather than draws from it, so that a
batch of 64 has the same shape as one of 256. Token ids are random: their values cost nothing to get right or wrong.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from or1lab.sources import load_tokenizer, model_folder

M = 8  # responses per prompt
PROMPTS = {"tiny": 32, "smol": 8}  # prompts per batch; the 135M model is slow on a CPU
LIMIT = 160  # tokens of the longest response
MEDIAN, SIGMA = 32.5, 0.7  # of the log-normal lengths, before the limit; mean 41 after it


@dataclass(frozen=True)
class Batch:
    """N x M responses; group n holds responses n * M to n * M + M - 1."""

    prompts: list[list[int]]  # token ids of each response's prompt (the same list M times in a row)
    responses: list[list[int]]
    rewards: Tensor  # (N, M), 1 right, 0 wrong

    @property
    def tokens(self) -> int:
        """Prompt and response tokens, without padding."""
        return sum(map(len, self.prompts)) + sum(map(len, self.responses))


def lengths(count: int, median: float = MEDIAN, limit: int = LIMIT) -> list[int]:
    """`count` quantiles of the response lengths, ascending."""
    normal = NormalDist(math.log(median), SIGMA)
    return [min(limit, max(1, round(math.exp(normal.inv_cdf((i + 0.5) / count))))) for i in range(count)]


def make_batch(
    token_ids: Sequence[int],
    prompts: int,
    *,
    rejected: float = 0.4,
    seed: int = 0,
    median: float = MEDIAN,
    limit: int = LIMIT,
) -> Batch:
    """A batch of `prompts` groups over the given vocabulary; deterministic in its arguments.

    Args:
        rejected: share of groups with all-equal rewards (every other one all right, the rest all wrong), which have
            zero advantage. Prompts, responses and lengths do not depend on it.
        median, limit: of the response lengths, tokens.
    """
    rng = random.Random(seed)
    sizes = lengths(prompts * M, median, limit)
    rng.shuffle(sizes)
    responses = [rng.choices(token_ids, k=size) for size in sizes]
    questions = [rng.choices(token_ids, k=rng.randint(6, 14)) for _ in range(prompts)]
    mixed = [rng.sample([1.0] * right + [0.0] * (M - right), M) for right in rng.choices(range(1, M), k=prompts)]
    equal = rng.sample(range(prompts), round(rejected * prompts))
    rewards = torch.tensor(mixed)
    for place, n in enumerate(equal):
        rewards[n] = float(place % 2 == 0)
    return Batch([question for question in questions for _ in range(M)], responses, rewards)


def batch_for(name: str, tokenizer: Any, *, rejected: float = 0.4, seed: int = 0) -> Batch:
    """The batch of a model size, "tiny" or "smol", over its vocabulary without special tokens."""
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    return make_batch(
        [i for i in range(len(tokenizer)) if i not in special], PROMPTS[name], rejected=rejected, seed=seed
    )


def load(name: str) -> tuple[Any, Any]:
    """A new float32 model and its tokenizer, "tiny" or "smol". Raises Or1labError where the extra `smol` is missing."""
    from transformers import AutoModelForCausalLM

    folder = model_folder(name)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), load_tokenizer(folder)
