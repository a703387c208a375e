"""A weaker verifier made from a good one, to measure what its errors do to training (paper section 7.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from or1lab.data.problem import Problem
from or1lab.rewards import RewardFn, Verdict, is_error, verdicts


def weaken(reward: RewardFn, *, misses: float, pays: float) -> RewardFn:
    """The reward with errors: it misses a share of the right responses and pays for a share of the wrong ones.

    The error is a property of problem and response, as with a real verifier: asked again, it errs again. Truncated
    responses are never paid. Reasons of turned verdicts are "missed" and "paid".
    """

    def weak(problems: Sequence[Problem], texts: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        found = verdicts(reward, problems, texts, truncated)
        asked = zip(found, problems, texts, truncated, strict=True)
        return [verdict if cut else _turned(verdict, problem, text) for verdict, problem, text, cut in asked]

    def _turned(verdict: Verdict, problem: Problem, text: str) -> Verdict:
        share = misses if verdict.correct else pays
        if is_error(verdict) or _draw(problem.id, text) >= share:
            return verdict
        return replace(verdict, correct=not verdict.correct, reason="missed" if verdict.correct else "paid")

    return weak


def _draw(*parts: str) -> float:
    """From 0 to below 1, the same for the same texts."""
    digest = hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
