"""What a run meets that it should not: each costs what it must and no more, and is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from or1lab import train
from or1lab.errors import Or1labError
from or1lab.recipe import load_recipe
from or1lab.rewards import Verdict
from or1lab.rollout.base import Sample
from or1lab.rollout.buffer import judge

SMALL = Path(__file__).parent / "small.yaml"
SHORT = ["stages.0.steps=2", "eval.every=0", "D_T=2"]


def one_in_four(i: int) -> bool:
    return i % 4 == 1


@pytest.mark.filterwarnings("ignore:.*have no verdict")
@pytest.mark.parametrize("how", ["raises", "infinite", "nan"])
def test_a_reward_function_that_fails_on_a_sample_costs_that_sample(how, engine, tmp_run, monkeypatch):
    judged = train.get_reward("tiny")
    poisoned: set[str] = set()

    def reward(problems, texts, truncated):
        if len(texts) > 1:  # the whole batch: choose whom it fails at
            poisoned.update(text for i, text in enumerate(texts) if one_in_four(i))
        verdicts = judged(problems, texts, truncated)
        if how == "raises" and poisoned & set(texts):
            raise ZeroDivisionError("one of these")
        bad = Verdict(math.inf if how == "infinite" else math.nan, "made up")
        return [bad if text in poisoned else v for text, v in zip(texts, verdicts, strict=True)]

    monkeypatch.setattr(train, "get_reward", lambda name: reward)
    run = train.run(load_recipe(SMALL, SHORT), tmp_run, engine=engine, progress=False)
    step, rows = run.metrics.query("kind == 'step'").iloc[0], run.rollouts(1)
    reason = "ZeroDivisionError: one of these" if how == "raises" else f"reward {'inf' if how == 'infinite' else how}"
    failed = rows["reason"] == f"error: {reason}"
    assert 4 <= step["reward/errors"] == failed.sum() < len(rows)
    assert step["reward/mean"] == rows.loc[~failed, "correct"].astype(float).mean()
    assert step["tokens/kept"] == rows.loc[rows["kept"] & ~failed, "length"].sum()


def test_the_failure_is_warned_of_and_counted():
    def reward(problems, texts, truncated):
        return [Verdict(1 / int(text) > 0.1, "a number") for text in texts]

    with pytest.warns(UserWarning, match=r"1 of 3 responses have no verdict \(error: ZeroDivisionError"):
        verdicts = judge(reward, [None] * 3, ["2", "0", "50"], [False] * 3)
    assert [v.correct for v in verdicts] == [True, False, False]
    assert [v.reason.split(":")[0] for v in verdicts] == ["a number", "error", "a number"]
    with pytest.raises(Or1labError, match="2 verdicts on 3 responses"):
        judge(lambda problems, texts, cut: [Verdict(True, "")] * 2, [None] * 3, ["a", "b", "c"], [False] * 3)


@pytest.mark.filterwarnings("ignore:.*have no verdict")
@pytest.mark.parametrize("source", ["sampler", "kept", "exact"])
def test_a_reward_function_that_always_fails_makes_empty_steps(source, engine, tmp_run, monkeypatch):
    def reward(problems, texts, truncated):
        raise RuntimeError("judge is away")

    monkeypatch.setattr(train, "get_reward", lambda name: reward)
    few = [*SHORT, f"entropy_source={source}", "save_rollouts=sampled"]
    run = train.run(load_recipe(SMALL, few), tmp_run, engine=engine, progress=False)
    steps = run.metrics.query("kind == 'step'")
    assert list(steps["sgd/steps"]) == [0, 0] and list(steps["reward/errors"]) == [16, 16]
    assert steps["entropy/e_k"].isna().all() == (source == "kept")
    assert len(run.rollouts(1)) == 16  # all of them failed: all are kept to be looked at
    assert set(run.rollouts(1)["reason"]) == {"error: RuntimeError: judge is away"}


def test_empty_responses_are_trained_on_as_the_nothing_they_are(engine, tmp_run, monkeypatch):
    """Some in a group, and whole groups of them."""
    whole, verdict = engine.generate, [Verdict(True, "made up"), Verdict(False, "made up")]

    def cut(requests, **knobs):
        groups = whole(requests, **knobs)
        empty = Sample([], [], truncated=False)
        return [[empty if i < 2 or j == 0 else s for j, s in enumerate(g)] for i, g in enumerate(groups)]

    monkeypatch.setattr(engine, "generate", cut)
    monkeypatch.setattr(
        train, "get_reward", lambda name: lambda problems, *_: [verdict[i % 2] for i in range(len(problems))]
    )
    run = train.run(
        load_recipe(SMALL, ["stages.0.steps=2", "eval.every=0", "D_T=1"]), tmp_run, engine=engine, progress=False
    )
    steps = run.metrics.query("kind == 'step'")
    assert run.status == "finished" and list(steps["sgd/steps"]) == [4, 4]
    assert [run.rollouts(k)["length"].sum() for k in (1, 2)] == list(steps["tokens/kept"])
    sgd = run.metrics.query("kind == 'sgd'")
    assert (sgd["tokens/kept"] == 0).sum() == 4 and (sgd.loc[sgd["tokens/kept"] == 0, "grad/norm"] == 0).all()


def test_token_counts_that_differ_stop_the_run(engine, tmp_run, monkeypatch):
    whole = engine.generate

    def short(requests, **knobs):
        groups = whole(requests, **knobs)
        first = groups[0][0]
        groups[0][0] = Sample(first.token_ids, first.logprobs[:-1], first.truncated)
        return groups

    monkeypatch.setattr(engine, "generate", short)
    with pytest.raises(Or1labError, match=r"log-probs for the \d+ tokens of a response to problem"):
        train.run(load_recipe(SMALL, SHORT), tmp_run, engine=engine, progress=False)
