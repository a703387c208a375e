"""Evaluation: a model on a suite into an evaluation folder, and a policy on held-out problems during training (avg@k,
paper section 8.1).

`import or1lab.evaluate` brings the estimators along and nothing heavy.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from or1lab.data import load
from or1lab.data.problem import Problem
from or1lab.environment import environment
from or1lab.errors import Or1labError, UsageError
from or1lab.estimators import Estimate, avg_at_k, maj_at_k, pass_at_k
from or1lab.evaluation import KEY, PROBLEMS, Evaluation, is_evaluation
from or1lab.intervals import UNKNOWN, share_of_means
from or1lab.kill_points import kill_point
from or1lab.manifest import begun, now
from or1lab.models import Model, find_model
from or1lab.rewards import ROUTES, RewardFn, get_reward, sandbox
from or1lab.rollout.base import Engine, sample_seed
from or1lab.rollout.sampler import Asked, Response
from or1lab.scoring import Reward, finish, score, verifier
from or1lab.sources import problems_hash
from or1lab.suites import Suite, load_suite

if TYPE_CHECKING:
    from or1lab.rollout.source import Source

__all__ = ["Estimate", "Running", "avg_at_k", "evaluate", "evaluate_policy", "maj_at_k", "named", "pass_at_k"]

# What a result depends on. A folder that was begun with another value of one of these is not gone on with.
SETTINGS = (
    "suite", "version", "problems_hash", "model_hash", "k", "temperature", "top_p", "limit", "seed", "suffix",
    "template_hash", "engine", "engine_version", "dtype", "tensor_parallel",
)  # fmt: skip
PART = 64  # responses kept together
PATIENCE = 30.0  # seconds until what has come is kept all the same


@dataclass(frozen=True)
class Running:
    """Where an evaluation stands: responses judged, of how many, and how many were sampled before this sitting; the
    mean of problem means so far with its 95% interval over problems (NaN of one problem alone); how many were
    truncated, and how many have no verdict."""

    done: int
    total: int
    before: int
    accuracy: float
    low: float
    high: float
    truncated: int
    errors: int


def evaluate(
    model: str | Model,
    suite: str | Suite,
    *,
    out: str | Path,
    problems: int | None = None,
    seed: int = 0,
    resume: bool = False,
    endpoint: str | None = None,
    backend: str = "auto",
    dtype: str | None = None,
    tensor_parallel: int = 1,
    reward: Reward = ROUTES,
    source: Source | None = None,
    watch: Callable[[Running], None] = lambda running: None,
) -> Evaluation:
    """Sample k responses to each problem of a suite and judge them, into the folder `out`.

    Each response is kept as it comes. Its seed is a function of `seed`, problem and index alone, so that a killed
    evaluation that is gone on with ends with the samples of an unbroken one.

    Args:
        model: see `models.find_model`; with an endpoint, the name under which it serves the model (or a registry key).
        suite: a suite, or what `suites.load_suite` reads; it says k, temperature, top-p and limit.
        problems: only so many of its problems, spread evenly over it.
        resume: go on with the evaluation in `out`.
        endpoint: base address of an OpenAI-compatible server to ask instead of an engine of ours.
        backend, dtype, tensor_parallel: of our engine; dtype is by default that of the recipe or the stored weights.
        reward: what judges, as in a recipe.
        source: where responses come from, instead of all these.
        watch: called whenever something has been judged.

    Raises:
        UsageError: `out` holds an evaluation and not `resume`, or one with other settings, naming the first; a suite
            without problems; a limit beyond the model's context; problems that nothing judges.
        Or1labError: a model that is not there, a server that fails for good, a full disk.
    """
    begin, folder = time.time(), Path(out)
    suite = load_suite(suite) if isinstance(suite, str) else suite
    chosen = choose(suite.problems(), problems, suite.name)
    judge = verifier(reward, chosen)  # before anything is made: what cannot be judged is not sampled
    found = model if isinstance(model, Model) else named(model, endpoint)
    source = source or _source(found, suite, chosen, endpoint, backend, dtype, tensor_parallel)
    settings = {
        **suite.record(), "problems_hash": problems_hash(chosen), "problems": len(chosen), "model": found.name,
        "hub": found.entry.hub if found.entry else None, "step": found.step, "seed": seed, **source.facts,
    }  # fmt: skip
    if not settings["chat_template"] and {problem.domain for problem in chosen} != {"tiny"}:
        warnings.warn(f"{found.name} has no chat template: it is given the questions as plain text", stacklevel=2)
    evaluation = _existing(folder, settings, resume) or _create(folder, settings, chosen, judge)
    if evaluation.manifest["status"] == "finished":
        if evaluation.manifest["scores"] != judge["version"]:
            told = f"{folder} was judged by another version of the verifier; or1lab evaluate --rescore {folder}"
            warnings.warn(told, stacklevel=2)
        return evaluation
    with evaluation.lock():
        evaluation.sweep()
        spent = float(evaluation.manifest["seconds"] or 0.0)
        if evaluation.manifest["scores"] != judge["version"]:  # killed, and the verifier has changed: its words alone
            evaluation.update_manifest(verifier=judge, scores=judge["version"], verifiers=[{**judge, "judged": now()}])
        evaluation.update_manifest(status="running", error=None)
        try:
            _run(evaluation, _asked(chosen, suite.k, seed), source, get_reward(reward), watch)
            finish(evaluation, judge["version"])
        except BaseException as error:
            problem = f"{type(error).__name__}: {error}"
            evaluation.update_manifest(status="failed", error=problem, seconds=spent + time.time() - begin)
            raise
        kill_point("evaluated/before")
        evaluation.update_manifest(status="finished", finished=now(), seconds=spent + time.time() - begin)
        kill_point("evaluated/after")
    return evaluation


def choose(problems: Sequence[Problem], wanted: int | None, name: str) -> list[Problem]:
    """`wanted` of the problems, spread evenly over their order (so over the bands of a suite); all if None.

    Raises UsageError for none at all, for more than there are, and for two with the same id."""
    if not problems:
        raise UsageError(f"the suite {name} has no problem")
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise UsageError(f"the suite {name} has two problems with the id '{problem.id}'")
        seen.add(problem.id)
    if wanted is None:
        return list(problems)
    if not 1 <= wanted <= len(problems):
        raise UsageError(f"--problems {wanted}: the suite {name} has {len(problems)}")
    return [problems[i * len(problems) // wanted] for i in range(wanted)]


def named(name: str, endpoint: str | None) -> Model:
    """The model of that name; with an endpoint nothing of it has to be here. Raises as `models.find_model`."""
    if endpoint is None:
        return find_model(name)
    from or1lab.registry import resolve_model

    entry = resolve_model(name)
    return Model(name, entry.hub if entry else name, entry=entry)


def _source(
    model: Model, suite: Suite, problems: list[Problem], endpoint: str | None, backend: str, dtype: str | None, tp: int
) -> Source:
    from or1lab.rollout import source

    if endpoint is not None:
        return source.served(model.folder, suite, endpoint)
    return source.offline(model, suite, problems, backend=backend, dtype=dtype, tensor_parallel=tp)


def _existing(folder: Path, settings: dict[str, Any], resume: bool) -> Evaluation | None:
    """The evaluation to go on with, if the folder holds one; it must have the same settings."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --out names the folder of the evaluation")
    if not is_evaluation(folder):
        if (folder / "manifest.json").exists():
            raise UsageError(f"{folder} holds something else than an evaluation; write elsewhere with --out")
        if (folder / PROBLEMS).exists() and not _begun(folder / PROBLEMS, settings["problems_hash"]):
            raise UsageError(f"{folder} has a {PROBLEMS} of other problems, kept as it is; write elsewhere with --out")
        return None
    evaluation = Evaluation.open(folder)
    if not resume:
        raise UsageError(f"{folder} already holds an evaluation: go on with --resume, or write elsewhere with --out")
    held = evaluation.manifest
    for key in SETTINGS:
        if held.get(key) != settings.get(key):
            raise UsageError(
                f"{folder} was begun with {key} = {held.get(key)}, now it would be {settings.get(key)}; go on with the "
                "settings it was begun with, or write elsewhere with --out"
            )
    return evaluation


def _begun(path: Path, wanted: str) -> bool:
    """Whether a file holds just these problems: then it may be what a process left that died before the manifest."""
    try:
        return problems_hash(list(load.read(str(path), strict=True))) == wanted
    except Or1labError:
        return False


def _create(folder: Path, settings: dict[str, Any], chosen: list[Problem], judge: dict[str, Any]) -> Evaluation:
    manifest = {
        **settings,
        "verifier": judge,
        "scores": judge["version"],
        "verifiers": [{**judge, "judged": now()}],
        "sandbox": sandbox.active() if any(problem.tests for problem in chosen) else None,
        **environment(),
        **begun(),
        "error": None,
    }
    return Evaluation.create(folder, manifest, chosen)


def _asked(problems: Sequence[Problem], k: int, seed: int) -> list[Asked]:
    """Every response wanted. Problems come in an order drawn by their seeds, not the suite's from easy to hard: so the
    running score speaks of all of them."""
    firsts = sorted((sample_seed(seed, "eval", problem.id), i) for i, problem in enumerate(problems))
    return [Asked(problems[i], j, first + j) for first, i in firsts for j in range(k)]


def _run(
    evaluation: Evaluation,
    asked: list[Asked],
    source: Source,
    reward: RewardFn,
    watch: Callable[[Running], None],
) -> None:
    """Judge what is stored and not judged, and sample what is missing, part by part: the one beside the other, so that
    no GPU waits for programs to be tested."""
    version, stored, waiting = evaluation.manifest["scores"], evaluation.stored(), list[Future[None]]()
    score_ = _Score(len(asked), len(stored), watch)
    judged = {path.name: path for path in evaluation.score_parts(version)}
    kept: list[Response] = []

    def judge(part: Path, samples: pd.DataFrame) -> None:
        score_.add(samples, score(evaluation, part, reward, version))

    def keep() -> None:
        frame = _frame(kept)
        kept.clear()
        waiting.append(judging.submit(judge, evaluation.write_samples(frame), frame[["truncated"]]))
        while waiting and waiting[0].done():
            waiting.pop(0).result()  # raises what judging has raised

    judging = ThreadPoolExecutor(1)
    try:
        for part in evaluation.parts():
            truncated = pd.read_parquet(part, columns=["truncated"])
            if part.name in judged:
                waiting.append(judging.submit(score_.add, truncated, pd.read_parquet(judged[part.name])))
            else:
                waiting.append(judging.submit(judge, part, truncated))
        if any(one.place not in stored for one in asked):
            since = time.monotonic()
            for batch in source.start().sample(asked, stored):
                kept += batch
                if len(kept) >= PART or time.monotonic() - since > PATIENCE:
                    keep()
                    since = time.monotonic()
            if kept:
                keep()
        for future in waiting:
            future.result()
    except BaseException:
        if kept:  # a server may have answered many others; they are judged when the evaluation is gone on with
            evaluation.write_samples(_frame(kept))
        raise
    finally:
        judging.shutdown(cancel_futures=True)


def _frame(responses: Sequence[Response]) -> pd.DataFrame:
    rows = [(*one.place, _storable(one.text), one.length, one.truncated) for one in responses]
    return pd.DataFrame(rows, columns=[*KEY, "response", "length", "truncated"])


def _storable(text: str) -> str:
    """The text, with U+FFFD for halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class _Score:
    """The running score."""

    def __init__(self, total: int, before: int, watch: Callable[[Running], None]) -> None:
        self.total, self.before, self.watch = total, before, watch
        self.sums: dict[str, list[float]] = {}  # problem -> rewards
        self.done = self.truncated = self.errors = 0

    def add(self, samples: pd.DataFrame, scores: pd.DataFrame) -> None:
        self.done += len(samples)
        self.truncated += int(samples["truncated"].sum())
        self.errors += int(scores["reward"].isna().sum())
        for name, value in zip(scores["problem_id"], scores["reward"], strict=True):
            if value == value:
                self.sums.setdefault(name, []).append(value)
        means = np.array([sum(values) / len(values) for values in self.sums.values()])
        mean, (low, high) = float("nan"), UNKNOWN
        if len(means):
            mean, (low, high) = float(means.mean()), share_of_means(means, self.done - self.errors)
        self.watch(Running(self.done, self.total, self.before, mean, low, high, self.truncated, self.errors))


# ------------------------------------------------------------------------------------------------ during training


def evaluate_policy(
    engine: Engine,
    tokenizer: Any,
    problems: Sequence[Problem],
    reward: RewardFn,
    *,
    k: int,
    tau: float,
    T: int,
    seed: int,
    step: int | str,
    others: Sequence[float] = (),
) -> tuple[dict[str, float], pd.DataFrame]:
    """Sample `k` responses per problem at the temperature `tau`, and as many at each of `others`.

    Means over all responses of a temperature (those of the others as `eval/accuracy/tau-0.6`), and one row per problem,
    temperature and sample. The same seeds serve every temperature."""
    values: dict[str, float] = {}
    frames = []
    for own in (tau, *others):
        means, frame = _at_temperature(engine, tokenizer, problems, reward, k=k, tau=own, T=T, seed=seed, step=step)
        values |= means if own == tau else {f"{name}/tau-{own:g}": mean for name, mean in means.items()}
        frames.append(frame.assign(tau=own))
    return values, pd.concat(frames, ignore_index=True)


def _at_temperature(
    engine: Engine, tokenizer: Any, problems: Sequence[Problem], reward: RewardFn, **how: Any
) -> tuple[dict[str, float], pd.DataFrame]:
    from or1lab.magic.diagnostics import by_domain, response_metrics
    from or1lab.rollout.buffer import collect

    how |= {"group": how.pop("k"), "step": f"eval/{how['step']}"}
    buffer = collect(engine, tokenizer, problems, reward, **how)
    means = response_metrics(buffer.rewards, buffer.truncated, buffer.lengths)
    values = {
        "eval/accuracy": means["reward/mean"],
        **by_domain("eval/accuracy", buffer.rewards, buffer.domains),
        "eval/nontruncated": means["reward/nontruncated"],
        "eval/length": means["length/mean"],
        "eval/truncated_frac": means["length/truncated_frac"],
        "eval/entropy": buffer.entropy(),
    }
    return values, buffer.frame().drop(columns=["prompt", "response"])
