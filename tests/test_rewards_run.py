"""Rewards in whole runs of the tiny model: programs and the sandbox in the manifest, rewards of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from or1lab import train
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import load_recipe
from or1lab.rewards import sandbox
from tests.lacking import needs_bubblewrap

SMALL = Path(__file__).parent / "small.yaml"
SHORT = ["stages.0.steps=2", "eval.every=0"]
TESTS = {"inputs": [[1]], "outputs": [2], "fn_name": "f"}
WITHOUT = {"bubblewrap": False, "system calls": False, "limits": True}


@pytest.fixture
def programs(tmp_path) -> list[str]:
    """Half of the problems ask for programs, in the tiny world's letters."""
    plain = [
        Problem(id=f"p{i}", prompt=f"{i % 23}+{i // 23}=?", **kind)
        for i, kind in enumerate([{"domain": "code", "tests": TESTS}, {"domain": "tiny", "gold": "1"}] * 40)
    ]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(problem.model_dump_json() + "\n" for problem in plain))
    return [*SHORT, f"data.source={path}", "reward={}"]


@needs_bubblewrap
def test_the_layers_of_the_sandbox_are_in_the_manifest(programs, engine, tmp_run):
    run = train.run(load_recipe(SMALL, programs), tmp_run, engine=engine, progress=False)
    assert run.manifest["sandbox"] == sandbox.active() and run.manifest["sandbox"]["bubblewrap"]
    for k, step in run.metrics.query("kind == 'step'").set_index("step").iterrows():
        rows = run.rollouts(k)
        assert set(rows["domain"]) == {"code", "tiny"}
        for domain, own in rows.groupby("domain"):
            assert step[f"reward/mean/{domain}"] == own["correct"].mean()
        judged = rows[rows["domain"] == "code"]
        assert set(judged["reason"]) <= {"no code", "truncated"} and (judged["total"] == 1).all()
        assert rows.loc[rows["domain"] == "tiny", "total"].isna().all()
    assert {"eval/accuracy/code", "eval/accuracy/tiny"} <= set(run.metrics.query("kind == 'eval'").dropna(axis=1))
    assert {"domain", "passed", "total"} <= set(run.evals)
    shown = train.preview(load_recipe(SMALL, programs), 2, engine=engine)
    assert [(row["gold"], row["total"]) for row in shown] == [(None, 1), ("1", None)]


def test_programs_are_refused_without_a_sandbox_before_anything_is_made(programs, tmp_run, monkeypatch):
    monkeypatch.setattr(sandbox, "layers", lambda: WITHOUT)
    monkeypatch.delenv(sandbox.OPT_IN, raising=False)
    for start in (lambda recipe: train.run(recipe, tmp_run), train.preview):
        with pytest.raises(Or1labError, match="install bubblewrap .*OR1LAB_UNSAFE_SANDBOX=1"):
            start(load_recipe(SMALL, programs))
    assert not tmp_run.exists()


def test_the_unsafe_choice_is_marked_everywhere(programs, engine, tmp_run, monkeypatch):
    monkeypatch.setattr(sandbox, "layers", lambda: WITHOUT)
    monkeypatch.setenv(sandbox.OPT_IN, "1")
    run = train.run(load_recipe(SMALL, programs), tmp_run, engine=engine, progress=False)
    assert run.manifest["sandbox"] == {**WITHOUT, "unsafe": True}
    rows = run.rollouts(1)
    assert (rows["reason"].str.endswith(" (unsafe sandbox)") == (rows["domain"] == "code")).all()


def test_an_own_reward_may_pay_shares(engine, tmp_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards_of_this_run.py").write_text(
        "from or1lab.rewards import Verdict\n"
        "def by_length(problems, texts, truncated):\n"
        "    return [Verdict(1 / (1 + len(text)), 'length') if text else Verdict(False, 'none') for text in texts]\n"
    )
    recipe = load_recipe(SMALL, [*SHORT, "reward=rewards_of_this_run.by_length"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    step, rows = run.metrics.query("kind == 'step'").iloc[0], run.rollouts(1)
    assert rows["correct"].dtype == float and 0 < rows["correct"].min() < rows["correct"].max() < 1
    assert step["reward/mean"] == pytest.approx(rows["correct"].mean()) == step["reward/mean/tiny"]
    assert step["groups/kept_frac"] == 1 and run.manifest["sandbox"] is None


@pytest.mark.parametrize("reward", ["no_such_module.reward", "{tiny: os.path.join.deeper}", "json.dumps_all"])
def test_an_own_reward_that_is_none_is_refused_before_anything_is_made(reward, tmp_run):
    with pytest.raises(UsageError, match="the reward '.*' is no function"):
        train.run(load_recipe(SMALL, [f"reward={reward}"]), tmp_run)
    assert not tmp_run.exists()
