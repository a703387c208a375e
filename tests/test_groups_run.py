"""What a run makes of the groups that it samples: none kept, filtered online, refilled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from or1lab import train
from or1lab.errors import Or1labError
from or1lab.magic import trainer
from or1lab.recipe import load_recipe
from or1lab.rewards import Verdict
from or1lab.rollout.buffer import collect
from or1lab.sources import model_folder
from tests.test_train import power_cut

SMALL = Path(__file__).parent / "small.yaml"
BASE = model_folder("tiny")


def test_a_step_without_any_kept_group_changes_nothing(engine, tmp_run, monkeypatch):
    """Every response wrong: no group is kept, so weights and optimizer state stay as they are."""
    wrong = Verdict(False, "wrong")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [wrong] * len(problems))
    recipe = load_recipe(SMALL, ["stages.0.steps=2", "lr=1e-2", "eval.every=0"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    steps = run.metrics.query("kind == 'step'")
    assert list(steps["sgd/steps"]) == [0, 0] and list(steps["groups/all_wrong_frac"]) == [1.0, 1.0]
    final = AutoModelForCausalLM.from_pretrained(run.folder / "checkpoints" / "final", dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(final.parameters(), base.parameters(), strict=True))


def test_empty_steps_stop_a_run(engine, tmp_run, monkeypatch):
    wrong = Verdict(False, "wrong")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [wrong] * len(problems))
    recipe = load_recipe(SMALL, ["guard.empty_steps=3", "eval.every=0"])
    with pytest.raises(Or1labError, match="no group kept for 3 steps in a row, at step 3"):
        train.run(recipe, tmp_run, engine=engine, progress=False)


def test_stages_and_the_online_filter_in_one_run(engine, tmp_run, monkeypatch):
    """Two contexts on one engine; what the first stage solved is gone in the second, also after a resume."""
    right = Verdict(True, "match")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [right] * len(problems))
    changes = ["stages=[{steps: 3, T: 48}, {steps: 3, T: 96}]", "online_filter=last", "data.train=26", "eval.every=0"]
    recipe = load_recipe(SMALL, changes)
    with power_cut(monkeypatch, at=6):
        train.run(recipe, tmp_run, engine=engine, progress=False)
    run = train.run(recipe, tmp_run, resume=True, engine=engine, progress=False)
    first, second = ({p for k in steps for p in run.rollouts(k)["problem_id"]} for steps in ((1, 2, 3), (4, 5, 6)))
    assert len(first) == 12 and len(second) == 12 and not first & second
    steps = run.metrics.query("kind == 'step'")
    assert list(steps["stage"]) == [0, 0, 0, 1, 1, 1]
    assert max(run.rollouts(k)["length"].max() for k in (1, 2, 3)) <= 48


def test_refill_samples_other_problems_in_place_of_rejected_groups(engine, tmp_run, monkeypatch):
    """A judge that splits groups of odd problems only: even ones are rejected and replaced, three rounds at most."""

    def odd(name):
        return sum(name.encode()) % 2 == 1

    def judge(problems, *_):
        return [Verdict(odd(p.id) and i % 2 == 0, "made up") for i, p in enumerate(problems)]

    monkeypatch.setattr(train, "get_reward", lambda name: judge)
    changes = ["stages.0.steps=3", "reject=refill", "D_R=8", "D_T=4", "eval.every=0"]
    run = train.run(load_recipe(SMALL, changes), tmp_run, engine=engine, progress=False)
    steps = run.metrics.query("kind == 'step'").set_index("step")
    for step in (1, 2, 3):
        rows = run.rollouts(step)
        kept = rows[rows["kept"]]
        assert rows["problem_id"].nunique() == steps.loc[step, "groups/sampled"] > 8  # no problem twice
        assert kept["problem_id"].nunique() <= 8 and all(map(odd, kept["problem_id"]))
        assert steps.loc[step, "tokens/kept"] == kept["length"].sum()
        assert steps.loc[step, "sgd/steps"] == 2


def test_refill_gives_up_after_its_rounds(engine, tmp_run, monkeypatch):
    """Every group wrong, problems enough: the first round and three more."""
    wrong, rounds = Verdict(False, "wrong"), []
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [wrong] * len(problems))
    monkeypatch.setattr(trainer, "collect", lambda *a, **k: rounds.append(len(a[2])) or collect(*a, **k))
    changes = ["stages.0.steps=1", "reject=refill", "D_R=4", "D_T=4", "data.train=64", "eval.every=0"]
    run = train.run(load_recipe(SMALL, changes), tmp_run, engine=engine, progress=False)
    assert rounds == [4, 4, 4, 4]
    step = run.metrics.query("kind == 'step'").iloc[0]
    assert step["groups/sampled"] == 16 and step["sgd/steps"] == 0


def test_refill_ends_where_no_problem_is_left(engine, tmp_run, monkeypatch):
    wrong = Verdict(False, "wrong")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [wrong] * len(problems))
    changes = ["stages.0.steps=1", "reject=refill", "data.train=6", "eval.every=0"]
    run = train.run(load_recipe(SMALL, changes), tmp_run, engine=engine, progress=False)
    step = run.metrics.query("kind == 'step'").iloc[0]
    assert step["groups/sampled"] == 6 and step["sgd/steps"] == 0
