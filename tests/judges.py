"""A judge for tests that fails when told to: named in a recipe, tests.judges.shaky."""

from __future__ import annotations

from or1lab.rewards import Verdict

down: set[str] = set()  # ids of the problems it fails at


def shaky(problems, texts, truncated):
    if any(problem.id in down for problem in problems):
        raise RuntimeError("the judge is down")
    return [
        Verdict(not cut and problem.gold in text, "said")
        for problem, text, cut in zip(problems, texts, truncated, strict=True)
    ]
