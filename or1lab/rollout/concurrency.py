"""Memory that runs out while an engine starts or samples: it goes on with half as many sequences together."""

from __future__ import annotations

import textwrap
import warnings
from typing import NoReturn

import torch

from or1lab.errors import Or1labError

SAID = ("out of memory", "can't allocate memory")  # by torch, of CUDA, MPS and the CPU
# By vLLM, of a cache that does not hold one response beside the weights: fewer sequences would not help.
NO_CACHE = ("available memory for the cache", "available KV cache memory")


class Concurrency:
    """How many sequences an engine decodes together: `now`, at first as many as the recipe asks for.

    `alarms` are the warnings that were given, for a manifest."""

    def __init__(self, wanted: int) -> None:
        self.now = wanted
        self.alarms: list[str] = []

    def refuse(self, error: Exception) -> NoReturn:
        """Raise `error`, with the mend where memory ran out: for an engine that shares its work with other processes,
        which know nothing of the error and would wait for ever for one that begins again."""
        if not ran_out(error) and not no_cache(error):
            raise error
        raise Or1labError(
            f"the engine ran out of memory with {self.now} sequences together ({shortened(error)}), and of several "
            "processes none goes on with fewer by itself: lower rollout.max_num_seqs or "
            "rollout.gpu_memory_utilization, then --resume"
        ) from error

    def halve(self, error: Exception, together: int | None = None, effect: str = "") -> None:
        """Warn and go on with half of `together` (by default `now`), with which memory ran out; `effect` is told, too.

        Raises:
            Exception: `error` itself, where it is about something else.
            Or1labError: one sequence alone is too much.
        """
        if not ran_out(error) and not no_cache(error):
            raise error
        together = together or self.now
        reason = shortened(error)
        if together == 1 or no_cache(error):
            raise Or1labError(
                f"the engine has no memory for one sequence ({reason}): change rollout.gpu_memory_utilization (higher "
                "leaves more to its cache, lower more to all else on the GPU), lower T, or use more GPUs (or1lab plan)"
            ) from error
        self.now = together // 2
        told = f"the engine ran out of memory with {together} sequences together ({reason}): it goes on with {self.now}"
        self.alarms.append(told + effect)
        warnings.warn(self.alarms[-1], stacklevel=3)


def shortened(error: Exception) -> str:
    """What an error says, in 200 characters."""
    return textwrap.shorten(str(error), 200, placeholder="…")


def no_cache(error: Exception) -> bool:
    """Whether vLLM says that not even one sequence finds room in its cache: fewer together are no help then."""
    return any(words in str(error) for words in NO_CACHE)


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, is that there was no memory left."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in SAID):
            return True
        error = error.__cause__ or error.__context__
    return False
