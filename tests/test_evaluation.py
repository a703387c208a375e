"""Evaluations: what is kept, what is judged, what goes on after a death, and that no number can be misread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from or1lab import evaluate as evaluating
from or1lab import kill_points
from or1lab.data import load
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.evaluate import evaluate
from or1lab.evaluation import Evaluation, find_evaluations
from or1lab.evaluation_summary import curve
from or1lab.models import Model
from or1lab.recipe import ROOT
from or1lab.rollout.sampler import Asked, Response
from or1lab.rollout.source import Source
from or1lab.suites import Suite
from or1lab.tracker import find_runs

MODEL = Model("some/model", "some/model")
K = 4


class Suited(Suite):
    """A suite of given problems."""

    given: tuple[Problem, ...] = ()

    def problems(self):
        return list(self.given)


def suite(n: int = 6, k: int = K, problems=None, **changes) -> Suited:
    given = problems if problems is not None else [
        Problem(id=f"p{i}", domain="tiny", prompt=f"{i}+1=?", gold=str(i + 1), meta={"band": "ab"[i % 2]})
        for i in range(n)
    ]  # fmt: skip
    settings = {"k": k, "temperature": 1.0, "top_p": 1.0, "limit": 100, **changes}
    return Suited(
        name="toy", version=3, title="Toy", domain="tiny", file="toy.jsonl", given=tuple(given), **settings
    )


def text_of(asked: Asked) -> str:
    """Right in the samples below the problem's number; the seed shows in the text."""
    number = int(asked.problem.id[1:])
    return f"<think>{asked.seed}</think>\\boxed{{{number + 1 + (asked.sample >= number)}}}"


class Fake:
    """A sampler that answers in reverse order and dies before the `dies`-th response."""

    name = "fake"

    def __init__(self, dies: int | None = None, text=text_of) -> None:
        self.dies, self.text, self.asked = dies, text, []

    def sample(self, asked, stored):
        for one in reversed(asked):
            if one.place in stored:
                continue
            if len(self.asked) == self.dies:
                raise Or1labError("the engine died")
            self.asked.append(one.place)
            yield [Response(one.place, self.text(one), 10 + 30 * one.sample, one.sample == K - 1)]


def source(sampler, **facts) -> Source:
    own = {"model_hash": "m", "chat_template": True, "template_hash": "t", "engine": "fake", "engine_version": "1"}
    return Source(own | facts, lambda: sampler)


def run(out: Path, sampler=None, chosen=None, resume=False, facts=None, **how) -> Evaluation:
    return evaluate(
        MODEL, chosen or suite(), out=out, source=source(sampler or Fake(), **(facts or {})), resume=resume, **how
    )


@pytest.fixture
def done(tmp_path) -> Evaluation:
    return run(tmp_path / "done")


def test_the_folder_holds_responses_verdicts_and_settings(done):
    frame = done.samples
    assert list(frame["problem_id"].unique()) == [f"p{i}" for i in range(6)]
    assert list(frame["sample"]) == [0, 1, 2, 3] * 6
    assert {"response", "length", "truncated", "reward", "correct", "reason", "answer", "domain"} <= set(frame)
    expected = np.array([[j < i and j < 3 for j in range(K)] for i in range(6)])  # the last sample is truncated
    assert (done.correct() == expected).all() and done.correct().dtype == bool
    assert (done.table("reward") == expected).all()
    assert (done.table("length") == [10, 40, 70, 100]).all() and done.table("truncated")[:, 3].all()
    assert done.table("answer")[2].tolist() == ["3", "3", "4", None]
    manifest = done.manifest
    assert (manifest["suite"], manifest["version"], manifest["k"], manifest["limit"]) == ("toy", 3, K, 100)
    assert manifest["status"] == done.status == "finished" and manifest["problems"] == 6
    assert done.problems == suite().problems()


def test_the_summary_has_every_estimator_with_its_interval_and_its_settings(done):
    found = done.summary()
    rows = {(row["name"], row["over"]): row for row in found["estimates"]}
    value = np.mean([[j < min(i, 3) for j in range(K)] for i in range(6)])
    assert rows["avg@4", "problems"]["value"] == rows["avg@4", "samples"]["value"] == pytest.approx(value)
    for name in ("pass@4", "pass^4", "maj@4", "truncated", "tokens per right response"):
        assert rows[name, "problems"]["low"] <= rows[name, "problems"]["value"] <= rows[name, "problems"]["high"]
    # p1: one right against two wrong; p2: two right against one wrong
    assert rows["maj@4", "problems"]["value"] == pytest.approx(4 / 6)
    assert rows["accuracy of finished responses", "problems"]["value"] == pytest.approx(value * 4 / 3)
    settings = {"k": 4, "temperature": 1.0, "top_p": 1.0, "limit": 100, "template_hash": "t", "engine": "fake"}
    assert settings.items() <= found.items() and len(found["verifier"]["version"]) == 12
    assert [(row["name"], row["problems"]) for row in found["bands"]["rows"]] == [("a", 3), ("b", 3)]
    assert done.summary(2)["estimates"][0]["name"] == "avg@2"
    with pytest.raises(UsageError, match="holds 4 samples a problem"):
        done.summary(5)


def test_a_shorter_limit_makes_longer_responses_wrong(done):
    short = done.limited(40)
    assert short.correct().sum() == np.array([[j < min(i, 2) for j in range(K)] for i in range(6)]).sum()
    assert short.table("truncated")[:, 2:].all() and not short.table("truncated")[:, :2].any()
    assert short.table("length").max() == 40 and set(short.samples.query("truncated")["answer"]) == {None}
    assert short.summary()["limit"] == 40 and short.summary()["sampled_limit"] == 100
    shares = [row["value"] for row in curve(done, [5, 10, 40, 70, 100])]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == done.correct().mean()
    for wrong in (0, 101):
        with pytest.raises(UsageError, match="sampled under 100"):
            done.limited(wrong)


def same(one: Evaluation, two: Evaluation) -> bool:
    pd.testing.assert_frame_equal(one.samples, two.samples)
    texts = [{**e.summary(), "folder": "", "endpoint": ""} for e in (one, two)]
    assert texts[0] == texts[1]
    return True


def test_the_running_score_ends_as_the_table_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating, "PART", 5)
    seen = []
    found = run(tmp_path / "watched", watch=seen.append)
    assert [running.done for running in seen] == [5, 10, 15, 20, 24] and seen[-1].truncated == 6
    first, last = found.summary()["estimates"][0], seen[-1]
    assert [last.accuracy, last.low, last.high] == pytest.approx([first[name] for name in ("value", "low", "high")])


@pytest.mark.parametrize("dies", [0, 1, 7, 23])
def test_what_came_before_a_death_is_kept_and_the_rest_is_the_same(dies, done, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating, "PART", 5)
    out = tmp_path / "other"
    with pytest.raises(Or1labError, match="died"):
        run(out, Fake(dies))
    broken = Evaluation.open(out)
    assert broken.manifest["status"] == "failed" and "died" in broken.manifest["error"]
    assert len(broken.stored()) == dies
    with pytest.raises(Or1labError, match=f"{dies} of 24 samples"):
        broken.summary()
    rest, seen = Fake(), []
    again = run(out, rest, resume=True, watch=seen.append)
    assert len(rest.asked) == 24 - dies and same(again, done)
    assert {running.before for running in seen} == {dies}
    untouched = Fake(0)
    assert same(run(out, untouched, resume=True), done) and untouched.asked == []  # finished


DEATHS = [f"{point}:{1 if 'evaluated' in point else 2}" for point in kill_points.EVALUATION_POINTS]


@pytest.mark.parametrize("point", [*DEATHS, "manifest/aside:1", "manifest/renamed:2", "manifest/aside:3"])
def test_killed_at_any_point_it_ends_with_the_same_table(point, done, tmp_path, monkeypatch):
    """In forked children: importing pandas again would take seconds each."""
    out = tmp_path / "killed"
    monkeypatch.setattr(evaluating, "PART", 5)

    def child(kill_at: str, resume: bool) -> int:
        pid = os.fork()
        if pid == 0:
            kill_points.arm(kill_at)
            try:
                run(out, resume=resume)
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert child(point, resume=False) == kill_points.EXIT_CODE
    assert child("", resume=True) == 0
    assert same(Evaluation.open(out), done)
    assert not list(out.rglob(".*.parquet.*")) and not list(out.glob(".*.json*.*"))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("k", {"chosen": suite(k=8)}), ("temperature", {"chosen": suite(temperature=0.6)}),
        ("limit", {"chosen": suite(limit=50)}), ("problems_hash", {"chosen": suite(5)}), ("seed", {"seed": 1}),
        ("template_hash", {"facts": {"template_hash": "u"}}), ("engine", {"facts": {"engine": "other"}}),
        ("model_hash", {"facts": {"model_hash": "n"}}),
    ],
)  # fmt: skip
def test_other_settings_are_not_gone_on_with(key, change, done):
    with pytest.raises(UsageError, match=f"was begun with {key} = "):
        run(done.folder, resume=True, **change)


def test_an_evaluation_is_not_overwritten(done, tmp_path):
    with pytest.raises(UsageError, match="go on with --resume"):
        run(done.folder)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        run(tmp_path / "file")
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="something else"):
        run(other)
    with pytest.raises(UsageError, match="holds no evaluation"):
        Evaluation.open(other)
    assert [one.folder for one in find_evaluations(tmp_path)] == [done.folder] and find_runs(tmp_path) == []


def test_a_file_of_problems_in_the_folder_is_not_overwritten(done, tmp_path):
    mine = tmp_path / "problems.jsonl"
    load.write(suite().given, mine)
    before = mine.read_bytes()
    with pytest.raises(UsageError, match="of other problems"):
        run(tmp_path, problems=3)
    assert mine.read_bytes() == before
    assert same(run(tmp_path), done)  # the very same: as a death before the manifest leaves it


def test_problems_are_spread_over_the_suite_and_bad_suites_are_refused(tmp_path):
    few = run(tmp_path / "few", problems=3)
    assert [problem.id for problem in few.problems] == ["p0", "p2", "p4"]
    for chosen, message in (
        (suite(0), "has no problem"), (suite(problems=[*suite(2).given, suite(1).given[0]]), "two problems .* 'p0'"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            run(tmp_path / "bad", chosen=chosen)
    with pytest.raises(UsageError, match="has 6"):
        run(tmp_path / "bad", problems=7)
    essay = Problem(id="e", domain="essay", prompt="Why?", gold="so")
    with pytest.raises(UsageError, match="for which there is no reward"):
        run(tmp_path / "bad", chosen=suite(problems=[essay]))
    assert not (tmp_path / "bad").exists()


def strange(asked: Asked) -> str:
    return ["\x00\\boxed{1}\x00", "</think>\\boxed{1\x00}", "\ud800</think>\\boxed{1}", "\x00" * 50][asked.sample]


@pytest.mark.parametrize("domain", ["tiny", "math"])
def test_null_bytes_and_half_surrogates_are_kept_and_judged(domain, tmp_path):
    problem = Problem(id="p0", domain=domain, prompt="?", gold="1")
    found = run(tmp_path / "strange", Fake(text=strange), chosen=suite(problems=[problem]))
    responses = found.samples["response"].tolist()
    assert responses[0] == "\x00\\boxed{1}\x00" and responses[2] == "\ufffd</think>\\boxed{1}"
    assert found.correct()[0].tolist()[2] is True and not found.correct()[0][1]
    assert found.summary()["without_verdict"]["responses"] == 0


def test_a_model_without_a_chat_template_is_told(tmp_path):
    chosen = suite(problems=[Problem(id="p0", domain="math", prompt="1?", gold="1")])
    with pytest.warns(UserWarning, match="no chat template: it is given the questions as plain text"):
        found = run(tmp_path / "plain", chosen=chosen, facts={"chat_template": False})
    assert found.summary()["chat_template"] is False


def test_importing_evaluate_brings_the_estimators_and_nothing_heavy():
    code = (
        "import sys; from or1lab.evaluate import avg_at_k, pass_at_k, maj_at_k, Estimate, evaluate\n"
        "print([m for m in ('torch', 'transformers', 'trl', 'vllm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
