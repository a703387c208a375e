"""Verdicts of an evaluation: missing, given again, by another verifier, compared with another evaluation's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from or1lab import evaluate as evaluating
from or1lab import scoring
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.evaluation import Evaluation
from or1lab.evaluation_summary import compared, differences
from or1lab.rewards import Verdict
from or1lab.scoring import rescore
from tests import judges
from tests.test_evaluation import Fake, run, suite

SHAKY = {"tiny": "tests.judges.shaky"}


@pytest.fixture
def done(tmp_path) -> Evaluation:
    return run(tmp_path / "done")


@pytest.fixture
def down(monkeypatch):
    """The problems at which the judge fails."""
    found: set[str] = set()
    monkeypatch.setattr(judges, "down", found)
    return found


def test_a_judge_that_fails_gives_no_verdict_and_its_problem_is_named(tmp_path, down):
    down.add("p1")
    found = run(tmp_path / "broken", reward=SHAKY)
    frame = found.samples
    assert frame["correct"].isna().sum() == 4 and frame["reward"].isna().sum() == 4
    assert frame.query("problem_id == 'p1'")["reason"].str.contains("the judge is down").all()
    with pytest.raises(Or1labError, match=r"no verdict on some responses to p1; .*--rescore"):
        found.correct()
    summary = found.summary()
    assert summary["without_verdict"] == {"responses": 4, "problems": ["p1"]}
    assert summary["estimates"][0]["value"] == frame["reward"].mean()  # of the five others
    down.clear()
    told = rescore(found, SHAKY)
    assert set(told["changed"]) <= {"no verdict -> right", "no verdict -> wrong"} and sum(told["changed"].values()) == 4
    assert told["problems"] == ["p1"] and not found.samples["correct"].isna().any()


def test_judging_again_costs_no_verdict_that_was_there(tmp_path, down):
    down.add("p1")
    found = run(tmp_path / "shaky", reward=SHAKY)
    before = found.samples
    down.clear()
    down.update({"p2", "p3"})
    told = rescore(found, SHAKY)
    assert told["problems"] == ["p1"] and not found.samples["correct"].isna().any()
    pd.testing.assert_frame_equal(found.samples.query("problem_id != 'p1'"), before.query("problem_id != 'p1'"))


def test_what_was_stopped_while_judging_is_finished_by_judging_again(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluating, "score", stop)
        run(tmp_path / "stopped")
    found = Evaluation.open(tmp_path / "stopped")
    with pytest.raises(Or1labError, match="not judged yet"):
        found.summary()
    rescore(found)
    assert found.status == "finished" and found.manifest["error"] is None and found.correct().any()


def test_when_every_problem_lacks_verdicts_nothing_is_claimed(tmp_path, down):
    down.add("p1")
    one = Problem(id="p1", domain="tiny", prompt="1+1=?", gold="2")
    found = run(tmp_path / "broken", chosen=suite(problems=[one]), reward=SHAKY)
    with pytest.raises(Or1labError, match="every problem has responses without a verdict .*the judge is down"):
        found.summary()


def test_rescoring_by_another_verifier_keeps_the_old_verdicts_until_the_new_are_complete(done, monkeypatch):
    before, old = done.samples, done.manifest["scores"]
    assert rescore(done)["changed"] == {} and done.manifest["scores"] == old  # the same verifier
    stricter = lambda problem, response, truncated: Verdict(False, "never")  # noqa: E731
    monkeypatch.setattr("or1lab.data.tiny.verify_tiny", stricter)
    monkeypatch.setattr(scoring, "_sources", lambda name: [Path(__file__)])

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rescore(done, watch=stop)
    pd.testing.assert_frame_equal(done.samples, before)
    told = rescore(done)
    assert told["changed"] == {"right -> wrong": int(before["correct"].sum())}
    assert not done.correct().any() and done.manifest["scores"] != old and len(done.manifest["verifiers"]) == 3
    pd.testing.assert_frame_equal(done.frame(scores=old), before)  # they are still there
    assert done.manifest["verifier"]["version"] == done.manifest["scores"]


def test_a_finished_evaluation_keeps_its_verdicts_when_it_is_gone_on_with(done, monkeypatch):
    before = done.samples
    monkeypatch.setattr(scoring, "_sources", lambda name: [Path(__file__)])
    with pytest.warns(UserWarning, match="another version of the verifier; or1lab evaluate --rescore"):
        pd.testing.assert_frame_equal(run(done.folder, resume=True).samples, before)


def test_a_half_done_evaluation_is_judged_by_one_verifier(done, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating, "PART", 5)
    with pytest.raises(Or1labError):
        run(tmp_path / "half", Fake(12))
    monkeypatch.setattr(scoring, "_sources", lambda name: [Path(__file__)])
    again = run(tmp_path / "half", resume=True)
    assert len(again.score_parts(again.manifest["scores"])) == len(again.parts())
    assert [v["version"] for v in again.manifest["verifiers"]] == [again.manifest["scores"]]
    pd.testing.assert_frame_equal(again.samples, done.samples)


def test_two_evaluations_of_the_same_problems_are_compared(done, tmp_path):
    better = run(tmp_path / "better", Fake(text=lambda one: f"</think>\\boxed{{{int(one.problem.id[1:]) + 1}}}"))
    found = compared(better, done)
    assert found.difference == pytest.approx(better.correct().mean() - done.correct().mean())
    assert 0 < found.p <= 1 and found.low <= found.difference <= found.high
    assert differences(better, done) == []
    cooler = run(tmp_path / "cooler", chosen=suite(temperature=0.6))
    assert differences(cooler, done.limited(50)) == ["temperature 0.6 / 1.0", "limit 100 / 50"]
    other = run(tmp_path / "other", chosen=suite(5))
    with pytest.raises(UsageError, match="not of the same problems"):
        compared(done, other)
