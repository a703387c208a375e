"""Faults planted into sound problems, to see what curation catches: `notebooks/data.ipynb`.

The problems are those that ship: chains of the tiny world with their solutions, word problems of reasoning-gym,
functions to write with reference solutions and tests. The id of a planted problem begins with its fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pandas as pd

from or1lab.data import functions, smol, tiny
from or1lab.data.checks import is_code
from or1lab.data.problem import Problem
from or1lab.errors import UsageError

FAMILIES = ("add", "chain", "gsm", "gcd")


def sound(split: str, n: int, seed: int = 0) -> list[Problem]:
    """`n` problems of each kind that ships, in turn, split "train" or "test", with source, licence and solution."""
    chains = [
        problem.model_copy(update={"solution": worked(problem.prompt), "source": "tiny", "licence": "Apache-2.0"})
        for problem in tiny.problems(split, n, seed)  # type: ignore[arg-type]
    ]
    words = [
        problem.model_copy(update={"source": "reasoning-gym", "licence": "Apache-2.0"})
        for problem in smol.problems(split, n, seed, families=FAMILIES)  # type: ignore[arg-type]
    ]
    return [*chains, *words, *functions.problems(split, n, seed)]  # type: ignore[arg-type]


def worked(prompt: str) -> str:
    """The solution of a chain, step by step."""
    value, steps = tiny.parse(prompt)
    lines = []
    for operator, operand in steps:
        after = tiny.apply(value, operator, operand)
        lines.append(f"{value}{operator}{operand} = {after} modulo {tiny.MODULUS}")
        value = after
    return "\n".join([*lines, f"The answer is \\boxed{{{value}}}."])


def plant(problems: Sequence[Problem], items: Sequence[Problem], each: int, seed: int = 0) -> list[Problem]:
    """The problems with `each` of every fault: duplicates and leaked items are added, the others spoil sound problems.

    Args:
        items: of benchmarks; what leaks.

    Raises:
        UsageError: too few problems for a fault.
    """
    rng = random.Random(seed)
    left = {problem.id: problem for problem in problems}
    faulty = []
    for fault, (_, fits, spoil) in FAULTS.items():
        able = [problem for problem in (items if fault == "leaked item" else left.values()) if fits(problem)]
        if len(able) < each:
            raise UsageError(f"only {len(able)} problems can have the fault '{fault}'; ask for fewer than {each}")
        for problem in rng.sample(able, each):
            if fault not in ADDED:
                del left[problem.id]
            changed = {**problem.model_dump(), "id": f"{fault}: {problem.id}"} | spoil(problem)
            faulty.append(Problem.model_validate(changed))
    rng.shuffle(faulty)
    return [*left.values(), *faulty]


def caught(funnel: dict, removed: Sequence[dict], each: int) -> pd.DataFrame:
    """One row a fault: its stage, how many were planted, and how many of them that stage and others removed; and a last
    one for sound problems that were removed before difficulty was asked."""
    rows = []
    for fault, (stage, _, _) in FAULTS.items():
        by = [row["stage"] for row in removed if row["id"].startswith(f"{fault}: ")]
        rows.append([fault, stage, each, by.count(stage), len(by) - by.count(stage)])
    whole = sum(funnel["stages"][0]["in"].values()) - each * len(FAULTS)
    wrongly = [r for r in removed if r["stage"] != "difficulty" and r["id"].partition(": ")[0] not in FAULTS]
    rows.append(["none (sound)", "", whole, 0, len(wrongly)])
    return pd.DataFrame(rows, columns=["fault", "stage", "planted", "caught", "removed elsewhere"])


# ------------------------------------------------------------------------------------------------------ faults


def _shouted(problem: Problem) -> dict:
    return {"prompt": "  " + problem.prompt.replace(" ", "\n ").upper()}


def _reworded(problem: Problem) -> dict:
    words = problem.prompt.split(" ")
    places = [i for i, word in enumerate(words) if word.isalpha() and len(word) > 3]
    words[places[len(places) // 2]] = "mauve"
    return {"prompt": " ".join(words)}


def _broken_tests(problem: Problem) -> dict:
    tests = dict(problem.tests)  # type: ignore[arg-type]
    spoilt = [
        tests | {"inputs": [], "outputs": []},
        tests | {"outputs": tests["outputs"][:-1]},
        {"assert_case": ["assert f("]},
    ]
    return {"tests": spoilt[len(problem.prompt) % len(spoilt)]}


def _next(problem: Problem) -> str:
    return str((int(str(problem.gold)) + 1) % tiny.MODULUS)


def _wrong_program(problem: Problem) -> dict:
    return {"solution": f"{problem.solution}\n{problem.tests['fn_name']} = lambda *_: 'wrong'\n"}  # type: ignore[call-overload,index]


Fault = tuple[str, Callable[[Problem], bool], Callable[[Problem], dict]]  # stage, which problems can have it, how

ADDED = ("equal text", "near-duplicate", "leaked item")
FAULTS: dict[str, Fault] = {  # those that copy come last: what they copy has to stay
    "wrong gold": ("answers", lambda p: p.source == "tiny", lambda p: {"gold": _next(p)}),
    "missing figure": ("figures", lambda p: not is_code(p), lambda p: {"prompt": f"{p.prompt} See the figure below."}),
    "web address": ("figures", lambda p: not is_code(p), lambda p: {"prompt": f"{p.prompt} (https://example.org/7)"}),
    "broken tests": ("tests", is_code, _broken_tests),
    "wrong program": ("tests", is_code, _wrong_program),
    "equal text": ("dedupe", lambda p: p.source == "reasoning-gym", _shouted),
    "near-duplicate": ("near", lambda p: p.meta.get("family") == "gsm", _reworded),
    "leaked item": ("leaks", lambda p: True, lambda p: {"prompt": f" {p.prompt}\n"}),
}
