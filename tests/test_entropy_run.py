"""The entropy that a run measures, and what its controller makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from or1lab import train
from or1lab.recipe import load_recipe
from or1lab.rewards import Verdict
from or1lab.sources import load_tokenizer, model_folder

SMALL = Path(__file__).parent / "small.yaml"
BASE = model_folder("tiny")


@pytest.mark.parametrize("source", ["sampler", "kept", "exact"])
def test_sources_of_the_measured_entropy(source, engine, tmp_run):
    """Each against a plain computation from the stored rollouts and the base policy's own logits."""
    few = ["stages.0.steps=1", "D_R=8", "D_T=8", "gs=2", "tau=0.8", "eval.every=0"]  # pairs: some groups are rejected
    recipe = load_recipe(SMALL, [*few, f"entropy_source={source}"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    step, rows = run.metrics.query("kind == 'step'").iloc[0], run.rollouts(1)
    if source == "exact":
        tokenizer, entropies = load_tokenizer(BASE), []
        model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
        for row in rows.itertuples():
            prompt, response = (tokenizer(text)["input_ids"] for text in (row.prompt, row.response))
            response += [tokenizer.eos_token_id] * (not row.truncated)
            with torch.no_grad():
                logp = (model(torch.tensor([prompt + response])).logits[0] / 0.8).log_softmax(-1)
            entropies += (-(logp.exp() * logp).sum(-1))[len(prompt) - 1 : -1].tolist()
        assert len(entropies) == rows["length"].sum()
        expected = sum(entropies) / len(entropies)
    else:
        counted = rows[rows["kept"]] if source == "kept" else rows
        assert len(counted) > 0 and (source == "sampler" or len(counted) < len(rows))
        expected = -counted["logprob"].sum() / counted["length"].sum()
    assert step["entropy/e_k"] == pytest.approx(expected, rel=1e-5)
    assert step["entropy/rollout"] == pytest.approx(-rows["logprob"].sum() / rows["length"].sum())


def test_a_step_that_measures_no_entropy_leaves_the_controller_alone(engine, tmp_run, monkeypatch):
    wrong = Verdict(False, "wrong")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [wrong] * len(problems))
    changes = ["stages.0.steps=3", "entropy_source=kept", "entropy=paper", "tgt_ent=2.0", "delta=0.01", "eval.every=0"]
    run = train.run(load_recipe(SMALL, changes), tmp_run, engine=engine, progress=False)
    steps = run.metrics.query("kind == 'step'")
    assert steps["entropy/e_k"].isna().all() and list(steps["entropy/c"]) == [0.0, 0.0, 0.0]
    assert list(steps["entropy/alpha"]) == [0.0, 0.0, 0.0]


def test_a_constant_coefficient_waits_for_no_measurement(engine, tmp_run, monkeypatch):
    """Without rejection all groups are trained on, also where none is kept and entropy is measured on kept ones."""
    wrong = Verdict(False, "wrong")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [wrong] * len(problems))
    changes = ["entropy_source=kept", "entropy=constant", "alpha=0.01", "reject=off", "stages.0.steps=1"]
    run = train.run(load_recipe(SMALL, [*changes, "eval.every=0"]), tmp_run, engine=engine, progress=False)
    step = run.metrics.query("kind == 'step'").iloc[0]
    assert step["entropy/alpha"] == 0.01 and step["sgd/steps"] > 0 and step["grad/norm"] > 0
