"""Rewards: rule verifiers that say whether a response solves its problem, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from or1lab.data.problem import Problem
from or1lab.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Verdict:
    """Whether a response counts as right, and the reason in a word or two ("match", "truncated", "no answer" ...).

    A reason that begins with "error" means that judging itself failed: the sample has no reward."""

    correct: bool
    reason: str


@dataclass(frozen=True)
class CodeVerdict(Verdict):
    """The verdict on a program: right when it passed all its tests, of which it passed `passed`."""

    passed: int = 0
    total: int = 0


# (problems, response texts, truncated) -> verdicts, all of the same length
RewardFn = Callable[[Sequence[Problem], Sequence[str], Sequence[bool]], list[Verdict]]

NAMES = ("tiny", "math", "math-released")


def is_error(verdict: Verdict) -> bool:
    """Judging failed: neither right nor wrong."""
    return verdict.reason.startswith("error")


def domain_of(name: str) -> str:
    """The domain of the problems that a reward judges: "math" for "math" and "math-released"."""
    return name.partition("-")[0]


def get_reward(name: str) -> RewardFn:
    """The batch reward function of that name. Raises UsageError for an unknown one."""
    if name == "tiny":
        from or1lab.data.tiny import verify_tiny

        return lambda problems, texts, cut: list(map(verify_tiny, problems, texts, cut))
    if name == "math":
        from or1lab.rewards.math import score_batch

        return score_batch
    if name == "math-released":  # as in the paper's released code
        from or1lab.rewards.math import score_released

        return score_released
    raise UsageError(f"no reward '{name}'{did_you_mean(name, NAMES)}; one of: {', '.join(NAMES)}")
