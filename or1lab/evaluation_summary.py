"""What an evaluation says: every estimator with its interval, and all that a reader needs not to misread it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from or1lab import estimators
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.estimators import Estimate, Over, Paired
from or1lab.evaluation import Evaluation
from or1lab.scoring import LABELS, classes

QUANTILES = (0.5, 0.95)
BANDS = ("band", "level", "difficulty", "operands", "year")  # of a problem's meta: the first that tells problems apart
MOST_BANDS = 12
SETTINGS = (
    "suite", "version", "suffix", "model", "step", "k", "temperature", "top_p", "limit", "seed", "template_hash",
    "chat_template", "engine", "engine_version", "dtype",
)  # fmt: skip
COMPARED = ("suite", "version", "suffix", "temperature", "top_p", "limit", "verifier")


@dataclass(frozen=True)
class Tables:
    """The samples as (P, K) tables, of the problems whose responses all have a verdict; `left_out` are the others.
    `labels`: classes of equal answers, -1 = none; None where no response has an answer to vote with."""

    problems: list[Problem]
    correct: np.ndarray
    truncated: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray | None
    left_out: list[str]
    unjudged: int
    reasons: dict[str, int]


def tables(evaluation: Evaluation) -> Tables:
    """The tables of a complete evaluation, under its limit.

    Raises:
        Or1labError: samples are missing, or no problem has all its verdicts.
    """
    frame, problems = evaluation.complete(), evaluation.problems
    P = len(problems)
    missing = frame["correct"].isna().to_numpy().reshape(P, -1)
    whole = ~missing.any(axis=1)
    if not whole.any():
        first = frame["reason"][missing.ravel()].iloc[0] or "not judged yet"
        raise Or1labError(
            f"{evaluation.folder}: every problem has responses without a verdict ({first}); mend what judges, then "
            f"or1lab evaluate --rescore {evaluation.folder}"
        )
    answered = frame["answer"].notna().any()
    labels = _labels(evaluation, frame) if answered else None

    def table(name: str, kind: Any) -> np.ndarray:
        return frame[name].fillna(False).to_numpy(dtype=kind).reshape(P, -1)[whole]

    return Tables(
        [problem for problem, fine in zip(problems, whole, strict=True) if fine],
        table("correct", bool),
        table("truncated", bool),
        table("length", int),
        None if labels is None else labels[whole],
        [problem.id for problem, fine in zip(problems, whole, strict=True) if not fine],
        int(missing.sum()),
        frame["reason"].value_counts().to_dict(),
    )


def _labels(evaluation: Evaluation, frame: pd.DataFrame) -> np.ndarray:
    """(P, K) classes: as kept, or compared now; under a shorter limit a truncated response has no answer."""
    path = evaluation.folder / "scores" / evaluation.manifest["scores"] / LABELS
    if path.exists():
        found = pd.read_parquet(path)["label"].to_numpy().reshape(len(evaluation.problems), -1)
    else:
        found = classes(evaluation.problems, frame)
    return np.where(frame["truncated"].to_numpy(bool).reshape(found.shape), -1, found)


def summary(evaluation: Evaluation, k: int | None = None) -> dict[str, Any]:
    """All estimators, as plain data (JSON-able; None where there is no number). `k` is that of avg@k, pass@k, pass^k
    and maj@k, by default all samples.

    Raises:
        UsageError: k is larger than the number of stored samples.
        Or1labError: as `tables`.
    """
    found = tables(evaluation)
    K = found.correct.shape[1]
    k = K if k is None else k
    if not 1 <= k <= K:
        raise UsageError(f"k = {k}: {evaluation.folder} holds {K} samples a problem; evaluate with -k {k} elsewhere")
    manifest = evaluation.manifest
    return {
        "folder": str(evaluation.folder),
        "status": evaluation.status,
        **{name: manifest.get(name) for name in SETTINGS},
        "limit": evaluation.limit,
        "sampled_limit": manifest["limit"],
        "verifier": manifest["verifier"],
        "endpoint": manifest.get("endpoint"),
        "problems": len(evaluation.problems),
        "samples": K,
        "without_verdict": {"responses": found.unjudged, "problems": found.left_out},
        "reasons": found.reasons,
        "estimates": [_row(*one) for one in _estimates(found, k)],
        "bands": _bands(found, k),
        "reported": _reported(manifest, estimators.avg_at_k(found.correct, k), evaluation.limit),
    }


def _estimates(t: Tables, k: int) -> list[tuple[str, Estimate, str]]:
    """(name, estimate, unit) of each."""
    e, shares = estimators, "share"

    def both(name: str, estimate: Callable[[Over], Estimate]) -> list[tuple[str, Estimate, str]]:
        return [(name, estimate("problems"), shares), (name, estimate("samples"), shares)]

    rows = both(f"avg@{k}", lambda over: e.avg_at_k(t.correct, k, over=over))
    if k > 1:
        rows += both(f"pass@{k}", lambda over: e.pass_at_k(t.correct, k, over=over))
        rows += both(f"pass^{k}", lambda over: e.pass_hat_k(t.correct, k, over=over))
    if k > 1 and (labels := t.labels) is not None:
        rows += both(f"maj@{k}", lambda over: e.maj_at_k(labels, t.correct, k, over=over))
    rows += [
        ("accuracy of finished responses", e.nontruncated_accuracy(t.correct, t.truncated), shares),
        ("truncated", e.truncation_share(t.truncated), shares),
        ("length, mean", e.mean_length(t.lengths), "tokens"),
    ]
    for q, quantile in e.length_quantiles(t.lengths, QUANTILES).items():
        rows.append((f"length, {q:.0%} quantile", quantile, "tokens"))
    return [*rows, ("tokens per right response", e.tokens_per_solved(t.correct, t.lengths), "tokens")]


def _row(name: str, found: Estimate, unit: str) -> dict[str, Any]:
    numbers = {key: _finite(getattr(found, key)) for key in ("value", "low", "high")}
    return {"name": name, **numbers, "over": found.over, "unit": unit}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def bands(problems: Sequence[Problem]) -> tuple[str, list[str]] | None:
    """What tells problems of different difficulty apart, and its value for each; None where they are all alike."""
    for key in (*BANDS, "domain"):
        values = [str(p.domain if key == "domain" else p.meta.get(key, "")) for p in problems]
        if 1 < len(set(values)) <= MOST_BANDS:
            return key, values
    return None


def _bands(t: Tables, k: int) -> dict[str, Any] | None:
    """avg@k and lengths by what the problems say of their difficulty, or by domain; None where they are all alike."""
    found = bands(t.problems)
    if found is None:
        return None
    key, values = found
    names = list(dict.fromkeys(values))
    return {"by": key, "rows": [_band(name, [value == name for value in values], t, k) for name in names]}


def _band(name: str, own: Sequence[bool], t: Tables, k: int) -> dict[str, Any]:
    rows = np.array(own)
    shown = _row(f"avg@{k}", estimators.avg_at_k(t.correct[rows], k), "share")
    means = {"truncated": float(t.truncated[rows].mean()), "length": float(t.lengths[rows].mean())}
    return {**shown, "name": name, "name_of": shown["name"], "problems": int(rows.sum()), **means}


def _reported(manifest: dict[str, Any], ours: Estimate, limit: int) -> dict[str, Any] | None:
    """What the registry knows to be reported of this model on this suite, beside ours."""
    if not manifest.get("hub"):
        return None
    from or1lab.registry import compare, resolve_model

    entry = resolve_model(manifest["hub"])
    cell = entry and compare(entry, {**manifest, "limit": limit}, ours.value, ours.low, ours.high)
    if not cell:
        return None
    return {
        "value": cell.reported.value / 100,
        "place": cell.reported.place,
        "inside": cell.inside,
        "text": str(cell),
        "differences": list(cell.differences),
    }


def curve(evaluation: Evaluation, limits: Sequence[int]) -> list[dict[str, Any]]:
    """Accuracy against the context length, from the same responses (paper Figures 5b and 8): one row a limit, with
    avg@K, the share truncated and the mean length."""
    rows = []
    for T in limits:
        t = tables(evaluation.limited(T))
        K = t.correct.shape[1]
        means = {"truncated": float(t.truncated.mean()), "length": float(t.lengths.mean())}
        rows.append({"limit": T, **_row(f"avg@{K}", estimators.avg_at_k(t.correct, K), "share"), **means})
    return rows


def differences(one: Evaluation, two: Evaluation) -> list[str]:
    """What two evaluations differ in besides the model, which their comparison then shows as well."""
    a, b = ({**e.manifest, "limit": e.limit, "verifier": e.manifest["scores"]} for e in (one, two))
    return [f"{name} {a[name]} / {b[name]}" for name in COMPARED if a[name] != b[name]]


def compared(one: Evaluation, two: Evaluation) -> Paired:
    """`one` minus `two` in avg@k on the same problems (those with all verdicts in both).

    Raises:
        UsageError: other problems, or another number of samples of each.
        Or1labError: as `tables`.
    """
    a, b = tables(one), tables(two)
    if [p.id for p in one.problems] != [p.id for p in two.problems] or one.manifest["k"] != two.manifest["k"]:
        raise UsageError(
            f"{one.folder} ({one.manifest['suite']}, {len(one.problems)} problems, k = {one.k}) and {two.folder} "
            f"({two.manifest['suite']}, {len(two.problems)}, k = {two.k}) are not of the same problems and k"
        )
    both = [p.id for p in a.problems if p.id in {q.id for q in b.problems}]
    rows = [[[p.id for p in t.problems].index(name) for name in both] for t in (a, b)]
    return estimators.paired(a.correct[rows[0]], b.correct[rows[1]])
