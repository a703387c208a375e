"""Verdicts of an evaluation: who judged, what they said, and which answers are the same.

The version of a verifier is a hash of its source, so that verdicts of two versions are never taken for each other.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from or1lab import rewards
from or1lab.data import tiny
from or1lab.data.problem import Problem
from or1lab.evaluation import Evaluation
from or1lab.majority import labels, same_math
from or1lab.manifest import now, write_atomic
from or1lab.rewards import ROUTES, RewardFn, check_domains, get_reward, is_error, sandbox, verdicts

Reward = str | Mapping[str, str]
LABELS = "labels.parquet"
MATH = {"math"}
CHANGED = 5  # problems named whose verdicts have changed


def verifier(reward: Reward, problems: Sequence[Problem]) -> dict[str, Any]:
    """What judges these problems: names of rewards, the version of their code, packages they rest on.

    Raises UsageError for a problem that nothing judges, Or1labError for programs where there is no sandbox."""
    names = sorted(check_domains(reward, problems))
    if "code" in names:
        sandbox.require()
    digest = hashlib.sha256()
    for name in names:
        for file in _sources(name):
            digest.update(file.read_bytes())
    math = {"math-verify": importlib.metadata.version("math-verify")} if {"math", "math-released"} & {*names} else {}
    digest.update(repr([names, math]).encode())
    return {"rewards": names, "version": digest.hexdigest()[:12], "packages": math}


def _sources(name: str) -> list[Path]:
    if name == "tiny":
        return [Path(tiny.__file__)]
    if name in rewards.DOMAINS:
        return sorted(Path(rewards.__file__).parent.rglob("*.py"))
    return [Path(inspect.getfile(importlib.import_module(name.rpartition(".")[0])))]


# ---------------------------------------------------------------------------------------------------------- one part


def score(
    evaluation: Evaluation, part: Path, reward: RewardFn, version: str, known: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Judge the responses of a part and keep the verdicts; they are given back, too. Of verdicts that are `known` only
    the missing ones are judged."""
    stored = pd.read_parquet(part)
    if known is None:
        frame = _judged(evaluation, stored, reward)
    else:
        missing = known["reward"].isna()  # the rows stand as in the part
        frame = pd.concat([known[~missing], _judged(evaluation, stored[missing], reward)]).sort_index()
    evaluation.write_scores(version, part, frame)
    return frame


def _judged(evaluation: Evaluation, stored: pd.DataFrame, reward: RewardFn) -> pd.DataFrame:
    known = {problem.id: problem for problem in evaluation.problems}
    problems = [known[name] for name in stored["problem_id"]]
    texts, cut = stored["response"].tolist(), stored["truncated"].tolist()
    found = verdicts(reward, problems, texts, cut)
    errors = [is_error(verdict) for verdict in found]
    value = np.where(errors, np.nan, [float(verdict.correct) for verdict in found])
    frame = stored[["problem_id", "sample"]].assign(
        reward=value,
        correct=pd.array(value >= 1, dtype="boolean"),
        reason=[verdict.reason for verdict in found],
        answer=list(map(extracted, problems, texts, cut)),
    )
    frame.loc[errors, "correct"] = pd.NA
    return frame


def extracted(problem: Problem, response: str, truncated: bool) -> str | None:
    """The answer that a response gives, as its verifier finds it; None for a truncated one, and for programs."""
    from or1lab.rewards.math import find_answer

    if truncated or problem.tests is not None:
        return None
    if problem.domain == "tiny":
        return tiny.find_answer(response)
    answer = find_answer(response)
    return answer.text if answer else None


def finish(evaluation: Evaluation, version: str) -> None:
    """Keep which answers of each problem are the same, once all are judged."""
    frame = evaluation.frame(responses=False, scores=version)
    table = frame[["problem_id", "sample"]].assign(label=classes(evaluation.problems, frame).ravel())
    write_atomic(evaluation.folder / "scores" / version / LABELS, table.to_parquet(index=False), "scores")


def classes(problems: Sequence[Problem], frame: pd.DataFrame) -> np.ndarray:
    """(P, K) int, the class of each answer as `majority.labels` gives it: by the verifier's equivalence in mathematics,
    by equal texts elsewhere; programs have no answer to vote with. `frame` holds all P x K samples in order."""
    P = len(problems)
    answers = frame["answer"].to_numpy(object).reshape(P, -1)
    correct = frame["correct"].fillna(False).to_numpy(bool).reshape(P, -1)
    found = np.full(answers.shape, -1)
    for same, domains in ((same_math, MATH), (None, {p.domain for p in problems} - MATH)):
        rows = [i for i, problem in enumerate(problems) if problem.domain in domains and problem.tests is None]
        if rows:
            golds = [problems[i].gold for i in rows]
            found[rows] = labels(answers[rows].tolist(), golds, same, correct=correct[rows])
    return found


# ----------------------------------------------------------------------------------------------------------- again


def rescore(
    evaluation: Evaluation, reward: Reward = ROUTES, watch: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Judge the stored responses by the verifier as it is now; none is generated again.

    The old verdicts count until the new ones are complete, and stay beside them. By an unchanged verifier only
    responses without a verdict are judged again. A call that was killed is gone on with by the next.

    Args:
        watch: called with (parts done, parts in all).

    Returns:
        before, after: the verifiers; changed: number of verdicts that differ, by kind; problems: some of theirs.

    Raises:
        Or1labError: not all samples are there yet; as `verifier`.
    """
    evaluation.complete()
    now_, reward_ = verifier(reward, evaluation.problems), get_reward(reward)
    with evaluation.lock():
        evaluation.sweep()
        manifest, old = evaluation.manifest, evaluation.frame(responses=False)
        version, parts = now_["version"], evaluation.parts()
        done = {path.name: path for path in evaluation.score_parts(version)}
        for n, part in enumerate(parts):
            there = pd.read_parquet(done[part.name]) if part.name in done else None
            if there is None or there["reward"].isna().any():
                score(evaluation, part, reward_, version, there)
            watch(n + 1, len(parts))
        finish(evaluation, version)
        history = [*manifest["verifiers"], {**now_, "judged": now()}]
        evaluation.update_manifest(verifier=now_, scores=version, verifiers=history)
        if manifest["status"] != "finished":  # it was stopped when all was sampled and not all was judged
            evaluation.update_manifest(status="finished", finished=now(), error=None)
    new = evaluation.frame(responses=False)
    return {"before": manifest["verifier"], "after": now_, **_difference(old, new)}


def _difference(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    words = {True: "right", False: "wrong"}
    pairs = [[words.get(v, "no verdict") for v in frame["correct"].astype(object)] for frame in (old, new)]
    moved = [one != two for one, two in zip(*pairs, strict=True)]
    kinds = Counter(f"{one} -> {two}" for one, two in zip(*pairs, strict=True) if one != two)
    return {"changed": dict(kinds), "problems": new.loc[moved, "problem_id"].drop_duplicates().head(CHANGED).tolist()}
