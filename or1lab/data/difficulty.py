"""Difficulty: how often a model solves each problem; what it always or never solves goes (paper section 6.2).

Results are appended to a file as they come, so that what was sampled once, before a kill or for another set, is never
sampled again: each line is bound to its problem's text, the model, and how it was sampled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from or1lab import paper
from or1lab.data.checks import chunks, is_code
from or1lab.data.dedupe import Decisions, digest
from or1lab.data.problem import Difficulty, Problem
from or1lab.data.tiny import BASE
from or1lab.errors import UsageError
from or1lab.recipe import Recipe, load_recipe, parse_recipe
from or1lab.rewards import ROUTES, get_reward
from or1lab.rollout.base import Engine, encode_prompt

NEVER, ALWAYS = "never solved", "always solved"
SHARES = ["model", "domain", "problems", f"{NEVER}, %", f"{ALWAYS}, %", "kept, %"]
CHUNK = 32  # problems sampled together


@dataclass(frozen=True)
class Rollouts:
    """How problems are tried: model, context, temperature and engine of a recipe, and `samples` responses each (16 in
    the paper; half as many for programs)."""

    recipe: Recipe
    samples: int = 16

    @property
    def settings(self) -> dict[str, Any]:
        """All that a result depends on."""
        recipe = self.recipe
        known = {"model": recipe.model, "samples": self.samples, "T": recipe.max_T, "tau": recipe.tau,
                 "prompt_limit": recipe.data.prompt_limit, "dtype": recipe.dtype, "seed": recipe.seed}  # fmt: skip
        return known if self.reward == ROUTES else known | {"reward": self.reward}

    @property
    def reward(self) -> str | dict[str, str]:
        """What judges: the recipe's own reward, or for each problem that of its domain."""
        return ROUTES if self.recipe.reward in ROUTES.values() else self.recipe.reward


def recipe_for(model: str) -> Recipe:
    """The recipe of that name or file; for a model folder or Hub name the paper's limit of 32,000 tokens."""
    if Path(model).is_dir() or ("/" in model and not Path(model).is_file()):
        plain = {"model": model, "T": 32000, "dtype": "bfloat16", "data": {"prompt_limit": 2048}}
        return parse_recipe({**plain, "stages": [{"steps": 1}]}, model)
    return load_recipe(model)


def difficulty(
    problems: Iterable[Problem], rollouts: Rollouts, results: Path, engine: Engine | None = None
) -> Decisions:
    """The problems with their difficulty for the model; `results` is the JSONL file of what was sampled."""
    lines = Lines(results)
    sampler = _Sampler(rollouts, engine)
    for chunk in chunks(problems, CHUNK):
        missing = [problem for problem in chunk if _key(problem, rollouts) not in lines.known]
        for code, group in groupby(sorted(missing, key=is_code), key=is_code):
            sampler(list(group), max(1, rollouts.samples // 2) if code else rollouts.samples, lines)
        for problem in chunk:
            found = lines.known[_key(problem, rollouts)]
            if not found["samples"]:
                yield problem, found["reason"]
                continue
            solved = Difficulty(solved=found["solved"], samples=found["samples"])
            reason = {0: NEVER, solved.samples: ALWAYS}.get(solved.solved, "")
            known = {**problem.difficulty, rollouts.recipe.model: solved}
            yield problem.model_copy(update={"difficulty": known}), reason


def solved_sometimes(problems: Sequence[Problem], model: str) -> list[Problem]:
    """Those that the model of this name solved sometimes, by the difficulty that they carry. The tiny world's problems
    carry none; for them stands the table beside its base policy (experiments/tiny_difficulty.py).

    Raises:
        UsageError: a problem whose difficulty is not known, or none is left.
    """
    table: dict[str, Any] = {"solved": {}}
    if model == "tiny":
        table = json.loads((BASE / "difficulty.json").read_text(encoding="utf-8"))
    kept = []
    for problem in problems:
        known = problem.difficulty.get(model)
        if known is None and problem.id in table["solved"]:
            known = Difficulty(solved=table["solved"][problem.id], samples=table["samples"])
        if known is None:
            raise UsageError(
                f"data.offline_filter: nobody knows how often '{model}' solves the problem '{problem.id}'; "
                "or1lab data curate writes problems with their difficulty"
            )
        if 0 < known.solved < known.samples:
            kept.append(problem)
    if not kept:
        raise UsageError(f"data.offline_filter: '{model}' solves no problem sometimes")
    return kept


class Lines:
    """An append-only JSONL file of results by their `key`; half a last line, left by a kill, is dropped."""

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, dict[str, dict[str, Any]]()
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                path.write_bytes(whole)
            self.known = {row["key"]: row for row in map(json.loads, whole.splitlines())}

    def add(self, row: dict[str, Any]) -> None:
        """Append a row (plain data with a `key`) to the file and to `known`; a later row of the same key counts."""
        with self.path.open("ab") as file:
            file.write(json.dumps(row).encode() + b"\n")
        self.known[row["key"]] = row


class _Sampler:
    """Model and engine, loaded when the first problem is tried."""

    def __init__(self, rollouts: Rollouts, engine: Engine | None) -> None:
        self.rollouts, self.engine, self.tokenizer = rollouts, engine, None

    def __call__(self, problems: list[Problem], samples: int, lines: Lines) -> None:
        from or1lab import sources, train
        from or1lab.rollout.buffer import collect

        if self.tokenizer is None:
            self.tokenizer = sources.load_tokenizer(sources.model_folder(self.rollouts.recipe.model))
        limit = self.rollouts.recipe.data.prompt_limit
        long = {p.id for p in problems if len(encode_prompt(self.tokenizer, p.prompt)) > limit}
        for problem in problems:
            if problem.id in long:
                lines.add(self._row(problem, [], f"prompt too long: above {limit} tokens"))
        problems = [problem for problem in problems if problem.id not in long]
        if not problems:
            return
        self.engine = self.engine or train.open_engine(self.rollouts.recipe)
        recipe = self.rollouts.recipe
        buffer = collect(
            self.engine, self.tokenizer, problems, get_reward(self.rollouts.reward),
            group=samples, tau=recipe.tau, T=recipe.max_T, seed=recipe.seed, step="difficulty",
        )  # fmt: skip
        for problem, rewards, verdicts in zip(problems, buffer.rewards.tolist(), buffer.verdicts, strict=True):
            judged = [reward for reward in rewards if not math.isnan(reward)]
            lines.add(self._row(problem, judged, f"no verdict: {verdicts[0].reason}"))

    def _row(self, problem: Problem, judged: list[float], reason: str) -> dict[str, Any]:
        row = {"key": _key(problem, self.rollouts), "id": problem.id, "model": self.rollouts.recipe.model}
        return {**row, "solved": int(sum(judged)), "samples": len(judged), **({} if judged else {"reason": reason})}


def _key(problem: Problem, rollouts: Rollouts) -> str:
    answer = problem.tests if is_code(problem) else problem.gold
    return digest(json.dumps([problem.prompt, answer, rollouts.settings])).hex()


# ------------------------------------------------------------------------------------- beside the paper's numbers


def shares(folder: Path) -> pd.DataFrame:
    """Percent never solved, always solved and kept, of a folder made by `or1lab data curate`: one row a domain."""
    stages = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))["stages"]
    stage = next(stage for stage in stages if stage["stage"] == "difficulty")
    rows = []
    for domain, total in stage["in"].items():
        gone = {reason: by.get(domain, 0) for reason, by in stage["removed"].items()}
        wrong, right = gone.get(NEVER, 0), gone.get(ALWAYS, 0)
        tried = total - (sum(gone.values()) - wrong - right)
        shares = (100 * n / tried for n in (wrong, right, tried - wrong - right)) if tried else [float("nan")] * 3
        rows.append([stage["settings"]["model"], domain, tried, *shares])
    return pd.DataFrame(rows, columns=SHARES)


def paper_shares() -> pd.DataFrame:
    """The same of the paper's base models (section 6.2)."""
    rows = []
    for row in paper.load("data")["difficulty_filter"]["rows"]:
        for domain in ("math", "code"):
            rows.append([row["model"], domain, None, *(row[share][domain] for share in ("never", "always", "kept"))])
    return pd.DataFrame(rows, columns=SHARES)
