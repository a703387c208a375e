r"""The tiny world: chained arithmetic modulo 23, small enough to train a policy on it from scratch in minutes.

A problem is `12-6*19=?`: two to six operands, `+ - *`, applied strictly from left to right modulo 23. A response thinks
in single steps and boxes an integer:

    <think>so 12-6=6
    6*19=22
    </think>\boxed{22}

The exact reward is the integer in the last box after `</think>`; no Math-Verify is needed here. How the base policy
came to think like this is in `tiny_build.py`.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from or1lab.data.problem import Problem
from or1lab.errors import UsageError
from or1lab.rewards import Verdict

MODULUS = 23
FACTORS = (2, 9)  # second factor of a product
BASE = Path(__file__).with_name("tiny_base")  # the committed base policy
TEST_SHARE = 4  # one problem in four belongs to the test split
INTEGER = re.compile(r"\s*(-?[0-9]{1,9})\s*\}")  # what may follow `\boxed{`


def apply(value: int, operator: str, operand: int) -> int:
    """One step of the chain, modulo 23."""
    exact = {"+": value + operand, "-": value - operand, "*": value * operand}[operator]
    return exact % MODULUS


def parse(prompt: str) -> tuple[int, list[tuple[str, int]]]:
    """`"12-6*19=?"` -> `(12, [("-", 6), ("*", 19)])`."""
    first, *rest = re.findall(r"[-+*]|[0-9]+", prompt)
    return int(first), [(operator, int(operand)) for operator, operand in zip(rest[::2], rest[1::2], strict=True)]


def answer(prompt: str) -> int:
    """The right answer of a problem, 0 to 22."""
    value, steps = parse(prompt)
    for operator, operand in steps:
        value = apply(value, operator, operand)
    return value


def sample_prompt(rng: random.Random, operands: int, products: float) -> str:
    """A random problem of so many operands; each operator is a product with probability `products`."""
    text = str(rng.randrange(MODULUS))
    for _ in range(operands - 1):
        if rng.random() < products:
            text += f"*{rng.randint(*FACTORS)}"
        else:
            text += f"{rng.choice('+-')}{rng.randrange(1, MODULUS)}"
    return text + "=?"


def is_test(prompt: str) -> bool:
    """Whether a problem belongs to the test split: a matter of its text alone, so the splits never overlap."""
    return hashlib.blake2b(prompt.encode(), digest_size=1).digest()[0] % TEST_SHARE == 0


def problems(
    split: Literal["train", "test"],
    n: int,
    seed: int = 0,
    *,
    operands: tuple[int, int] = (2, 6),
    products: float = 0.5,
) -> list[Problem]:
    """`n` different problems (domain "tiny"), the same ones for the same arguments.

    Difficulty grows with the number of `operands` (from, to; dealt evenly) and with the share of `products`.
    Train and test never share a problem, whatever the sizes and seeds; `n` problems begin with those of a smaller call.

    Raises:
        UsageError: unknown split, impossible difficulty, or fewer than `n` such problems.
    """
    if split not in ("train", "test"):
        raise UsageError(f"split '{split}' is neither 'train' nor 'test'")
    low, high = operands
    if not 2 <= low <= high:
        raise UsageError(f"operands = {list(operands)}: from and to, at least 2")
    if not 0 <= products <= 1:
        raise UsageError(f"products = {products} is no share between 0 and 1")
    rng = random.Random(f"{split}/{seed}/{low}/{high}/{products}")
    seen: set[str] = set()
    return [_new_problem(rng, split, low + i % (high - low + 1), products, seen) for i in range(n)]


def _new_problem(rng: random.Random, split: str, operands: int, products: float, seen: set[str]) -> Problem:
    for _ in range(10_000):
        prompt = sample_prompt(rng, operands, products)
        if prompt not in seen and is_test(prompt) == (split == "test"):
            seen.add(prompt)
            return Problem(
                id=f"tiny-{prompt.removesuffix('=?')}",
                domain="tiny",
                prompt=prompt,
                gold=str(answer(prompt)),
                meta={"operands": operands},
            )
    raise UsageError(
        f"there are only about {len(seen)} {split} problems of this difficulty; ask for fewer, or for more operands"
    )


def verify_tiny(problem: Problem, response: str, truncated: bool) -> Verdict:
    r"""Exact reward of this world: the integer in the last `\boxed{}` after `</think>`.

    A truncated response is never right. Reasons: "match", "wrong", "no answer", "truncated".
    """
    if truncated:
        return Verdict(False, "truncated")
    answered = find_answer(response)
    if answered is None:
        return Verdict(False, "no answer")
    right = int(answered) == int(str(problem.gold))
    return Verdict(right, "match" if right else "wrong")


def find_answer(response: str) -> str | None:
    r"""The integer in the last `\boxed{}` after `</think>`, without leading zeros; None without one."""
    _, ended, conclusion = response.partition("</think>")
    _, boxed, content = conclusion.rpartition("\\boxed{")
    integer = INTEGER.match(content)
    return str(int(integer[1])) if ended and boxed and integer else None


def training_prompts(seed: int, *, operands: tuple[int, int] = (2, 6), products: float = 0.5) -> Iterator[str]:
    """An endless stream of prompts of the training split, repeats included (for demonstrations)."""
    rng = random.Random(f"prompts/{seed}")
    while True:
        prompt = sample_prompt(rng, rng.randint(*operands), products)
        if not is_test(prompt):
            yield prompt
