"""Rewards: rule verifiers that say whether a response solves its problem, and why.

A recipe's `reward` is a name (all problems are judged by it), or a mapping domain -> name: each problem goes to the
reward of its domain. A name is one of DOMAINS, or the import path of an own function, `package.module.function`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError, did_you_mean


@dataclass(frozen=True)
class Verdict:
    """Whether a response counts as right, and the reason in a word or two ("match", "truncated", "no answer" ...).

    A reason that begins with "error" means that judging itself failed: the sample has no reward. An own reward may give
    a share from 0 to 1 in place of True and False."""

    correct: bool
    reason: str


@dataclass(frozen=True)
class CodeVerdict(Verdict):
    """The verdict on a program: right when it passed all its tests, of which it passed `passed`."""

    passed: int = 0
    total: int = 0


class Miscounted(Or1labError):
    """More or fewer verdicts than responses: nobody knows which belongs to which."""


# (problems, response texts, truncated) -> verdicts, all of the same length
RewardFn = Callable[[Sequence[Problem], Sequence[str], Sequence[bool]], list[Verdict]]

DOMAINS = {"tiny": "tiny", "math": "math", "math-released": "math", "code": "code"}  # reward -> what it judges
ROUTES = {"tiny": "tiny", "math": "math", "code": "code"}  # domain -> its reward, unless the recipe says otherwise


def is_error(verdict: Verdict) -> bool:
    """Judging failed: neither right nor wrong."""
    return verdict.reason.startswith("error")


def complaint(name: str) -> str:
    """What is wrong with a reward's name; empty if it is one of ours, or can be an import path."""
    own = "." in name and all(part.isidentifier() for part in name.split("."))
    if name in DOMAINS or own:
        return ""
    return (
        f"no reward '{name}'{did_you_mean(name, DOMAINS)}; one of: {', '.join(DOMAINS)}, or an own function by its "
        "import path, package.module.function"
    )


def check_domains(reward: str | Mapping[str, str], problems: Iterable[Problem]) -> set[str]:
    """The names of the rewards that these problems need. Raises UsageError for the first that none judges."""
    names = set()
    for problem in problems:
        name = reward if isinstance(reward, str) else reward.get(problem.domain)
        if name is None:
            raise UsageError(
                f"the problem {problem.id} is of the domain '{problem.domain}', for which there is no reward"
                f"{did_you_mean(problem.domain, reward)}; name one in the recipe, e.g. reward: "
                f"{{{problem.domain}: package.module.function}}"
            )
        if isinstance(reward, str) and DOMAINS.get(reward, problem.domain) != problem.domain:
            raise UsageError(
                f"the problem {problem.id} is of the domain '{problem.domain}', but the recipe's reward is '{reward}'; "
                "without the key reward each domain has its own"
            )
        names.add(name)
    return names


def get_reward(reward: str | Mapping[str, str]) -> RewardFn:
    """The batch reward function of that name, or the one that sends each problem to its domain's.

    Raises UsageError for an unknown name, and for an own function that cannot be imported or called."""
    if not isinstance(reward, str):
        return _routed({domain: get_reward(name) for domain, name in reward.items()})
    if wrong := complaint(reward):
        raise UsageError(wrong)
    if reward == "tiny":
        from or1lab.data.tiny import verify_tiny

        return lambda problems, texts, cut: list(map(verify_tiny, problems, texts, cut))
    if reward == "math":
        from or1lab.rewards.math import score_batch

        return score_batch
    if reward == "math-released":  # as in the paper's released code
        from or1lab.rewards.math import score_released

        return score_released
    if reward == "code":
        from or1lab.rewards.code import score_batch as score_code

        return score_code
    return _own(reward)


def _own(path: str) -> RewardFn:
    module, _, name = path.rpartition(".")
    if os.getcwd() not in sys.path:  # last: it must not hide an installed package
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name)
        inspect.signature(function).bind([], [], [])
    except Exception as error:  # a module may raise anything
        raise UsageError(
            f"the reward '{path}' is no function (problems, responses, truncated) -> verdicts that can be imported "
            f"here: {type(error).__name__}: {error}"
        ) from error
    return function


def _routed(rewards: Mapping[str, RewardFn]) -> RewardFn:
    def judge(problems: Sequence[Problem], texts: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        places: dict[str, list[int]] = {}
        for i, problem in enumerate(problems):
            places.setdefault(problem.domain, []).append(i)
        found: dict[int, Verdict] = {}
        for domain, own in places.items():
            if domain not in rewards:
                raise UsageError(f"no reward for the domain '{domain}'")
            parts = ([column[i] for i in own] for column in (problems, texts, truncated))
            found |= zip(own, verdicts(rewards[domain], *parts), strict=True)  # type: ignore[arg-type]
        return [found[i] for i in range(len(problems))]

    return judge


def verdicts(
    reward: RewardFn, problems: Sequence[Problem], texts: Sequence[str], truncated: Sequence[bool]
) -> list[Verdict]:
    """One verdict a response; one that the function raises at, or gives no finite reward, costs only itself.

    Raises:
        Miscounted: more or fewer verdicts than responses.
    """
    try:
        found = list(reward(problems, texts, truncated))
    except Miscounted:
        raise
    except Exception:  # whatever it is, most responses are not to blame for it: each alone
        found = [_alone(reward, *one) for one in zip(problems, texts, truncated, strict=True)]
    if len(found) != len(texts):
        raise Miscounted(f"the reward function returned {len(found)} verdicts on {len(texts)} responses")
    return [_checked(verdict) for verdict in found]


def _alone(reward: RewardFn, problem: Problem, text: str, truncated: bool) -> Verdict:
    try:
        return reward([problem], [text], [truncated])[0]
    except Exception as error:
        return Verdict(False, f"error: {type(error).__name__}: {error}")


def _checked(verdict: Any) -> Verdict:
    if not isinstance(verdict, Verdict):
        return Verdict(False, f"error: {type(verdict).__name__} in place of a Verdict")
    return verdict if isfinite(verdict.correct) else Verdict(False, f"error: reward {verdict.correct}")
