"""Short Python functions to write, with tests: code problems that are generated here, for small models.

The families stand in `functions.yaml`. A task is a family with values for its knobs; its reference solution makes the
outputs of its tests, whose inputs depend on the task alone and grow in size from an empty or zero one.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, product, zip_longest
from pathlib import Path
from typing import Any, Literal

import yaml

from or1lab.data.problem import Problem
from or1lab.errors import UsageError, check_names

TESTS = 20  # a task
TEST_SHARE = 4  # one task in four belongs to the test split
LETTERS = "abcdefghijklmnopqrstuvwxyz"

# An argument of some kind and size (0, 1, 2 ...).
KINDS: dict[str, Callable[[random.Random, int], Any]] = {
    "integer": lambda rng, size: rng.randint(-2 * size, 2 * size),
    "natural": lambda rng, size: rng.randrange(10 ** (size // 2 + 1)) if size else 0,
    "integers": lambda rng, size: [rng.randint(-12, 12) for _ in range(size)],
    "word": lambda rng, size: "".join(rng.choices(LETTERS, k=2 * size)),
    "words": lambda rng, size: ["".join(rng.choices(LETTERS, k=rng.randint(1, 8))) for _ in range(size)],
}


def problems(
    split: Literal["train", "test"], n: int, seed: int = 0, *, families: Sequence[str] = ()
) -> list[Problem]:
    """`n` different tasks (domain "code") of the chosen families (default: all) in turn, the same ones for the same
    arguments.

    Which split a task belongs to is decided by the hash of its text, so train and test never share one; `n` tasks begin
    with those of a smaller call.

    Raises:
        UsageError: unknown split or family, or fewer than `n` such tasks.
    """
    if split not in ("train", "test"):
        raise UsageError(f"split '{split}' is neither 'train' nor 'test'")
    check_names(families, _families(), "family")
    streams = [_tasks(family, split, seed) for family in dict.fromkeys(families or _families())]
    turns = chain.from_iterable(zip_longest(*streams))
    found = list(islice((task for task in turns if task is not None), n))
    if len(found) < n:
        raise UsageError(f"there are only {len(found)} {split} tasks of these families; ask for fewer than {n}")
    return found


@functools.cache
def _families() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def _tasks(name: str, split: str, seed: int) -> Iterator[Problem]:
    family = _families()[name]
    values = [_values(knob) for knob in family["knobs"].values()]
    settings = [dict(zip(family["knobs"], chosen, strict=True)) for chosen in product(*values)]
    random.Random(f"{name}/{seed}").shuffle(settings)
    for knobs in settings:
        what = family["returns"].format(**knobs)
        digest = hashlib.blake2b(f"{name}: {what}".encode(), digest_size=8).digest()
        if (digest[0] % TEST_SHARE == 0) == (split == "test"):
            yield _task(name, what, knobs, digest.hex())


def _values(knob: Any) -> Sequence[Any]:
    return range(knob[0], knob[1] + 1) if isinstance(knob, list) else knob


def _task(name: str, what: str, knobs: dict[str, Any], digest: str) -> Problem:
    family = _families()[name]
    body = "".join(f"    {line}\n" for line in family["body"].format(**knobs).splitlines())
    solution = f"def {name}({family['argument']}):\n{body}"
    namespace: dict[str, Any] = {}
    exec(solution, namespace)  # a text of ours, from functions.yaml
    make, rng, function = KINDS[family["kind"]], random.Random(digest), namespace[name]
    example, *inputs = [make(rng, size) for size in (3, *range(TESTS))]
    prompt = (
        f"Write a Python function `{name}({family['argument']})` that returns {what}.\n"
        f"For example, `{name}({example!r})` is `{function(example)!r}`.\n"
        "Give the whole function in one ```python block."
    )
    return Problem(
        id=f"functions-{name}-{digest}", domain="code", prompt=prompt, solution=solution,
        tests={"fn_name": name, "inputs": [[one] for one in inputs], "outputs": [function(one) for one in inputs]},
        source="or1lab functions", licence="Apache-2.0", meta={"family": name, **knobs},
    )  # fmt: skip
