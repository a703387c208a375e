"""Verifiers of mathematics side by side on the same responses (paper section 7.1, Figure 27)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from or1lab.rewards import math


def math_verify(response: str, gold: str) -> bool:
    """Math-Verify alone, used as the paper does: the text after the thinking against the boxed gold."""
    text = response.split("</think>", 2)[1] if "</think>" in response else response
    return math.ask_math_verify([[math.boxed(gold), text[-math.TAIL :]]], math.TIMEOUT, plain=True) == "equivalent"


def string_match(response: str, gold: str) -> bool:
    """Character by character: the content of the last box or, without one, the last word."""
    answer = math.find_answer(response)
    if answer is None:
        return False
    said = answer.text if answer.boxed else answer.text.split()[-1].strip(".,:;!$*")
    return said == gold


VERIFIERS: dict[str, Callable[[str, str], bool]] = {  # of a response, by a gold answer
    "or1lab": lambda response, gold: math.verify_math(response, gold).correct,
    "Math-Verify": math_verify,
    "string match": string_match,
}
NAMES = tuple(VERIFIERS)


def judge(name: str, rollouts: pd.DataFrame) -> pd.Series:
    """Whether each response is right for one of NAMES. A truncated one never is; of several golds, any will do.

    Args:
        rollouts: columns gold, response and truncated, as in a run folder.
    """

    def right(response: str, gold: str | list[str]) -> bool:
        return any(VERIFIERS[name](response, one) for one in ([gold] if isinstance(gold, str) else gold))

    with ThreadPoolExecutor(math.WORKERS) as threads:
        found = list(threads.map(right, rollouts["response"], rollouts["gold"]))
    return ~rollouts["truncated"].astype(bool) & pd.Series(found, rollouts.index, dtype=bool)


def compare(rollouts: pd.DataFrame) -> pd.DataFrame:
    """The rollouts with a column of booleans for each of NAMES, as by `judge`."""
    return rollouts.assign(**{name: judge(name, rollouts) for name in NAMES})


def solved(judged: pd.DataFrame) -> pd.DataFrame:
    """How many of its M responses each problem has right: one row a problem, one column a verifier."""
    return judged.groupby("problem_id", sort=False)[list(NAMES)].sum()


def disputed(judged: pd.DataFrame) -> pd.DataFrame:
    """The responses on which the verifiers disagree."""
    votes = judged[list(NAMES)].sum(axis=1)
    return judged[(votes > 0) & (votes < len(NAMES))]
