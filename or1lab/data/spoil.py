"""Wrong gold answers on purpose, to measure what errors in the data do to training (paper section 3.2.1)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from or1lab.data.problem import Problem


def wrong_golds(problems: Sequence[Problem], share: float) -> list[Problem]:
    """The problems, a `share` of them with the gold answer of another problem of their domain: wrong, but plausible.

    Which ones, and what they get, depends on their ids and on the golds there are: the same for the same problems, and
    a larger share contains a smaller one. Problems that are judged by tests, or whose domain has one answer only, stay
    as they are. `meta` tells the spoilt ones by "right_gold".
    """
    golds: dict[str, set[str]] = {}
    for problem in problems:
        if isinstance(problem.gold, str):
            golds.setdefault(problem.domain, set()).add(problem.gold)
    return [_spoilt(problem, golds) if _draw(problem.id) < share else problem for problem in problems]


def _spoilt(problem: Problem, golds: dict[str, set[str]]) -> Problem:
    others = sorted(golds.get(problem.domain, set()) - {str(problem.gold)})
    if not isinstance(problem.gold, str) or not others:
        return problem
    wrong = random.Random(f"wrong gold/{problem.id}").choice(others)
    return problem.model_copy(update={"gold": wrong, "meta": {**problem.meta, "right_gold": problem.gold}})


def _draw(name: str) -> float:
    """From 0 to below 1, the same for the same id."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, person=b"wrong gold").digest()) / 2**64
