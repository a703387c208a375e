"""Steps whose loss, gradient or log-probs are no numbers: kept to be looked at, and not stepped on."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from or1lab import train
from or1lab.errors import Or1labError
from or1lab.magic import update
from or1lab.magic.policy import Policy
from or1lab.magic.trainer import MagicTrainer
from or1lab.recipe import load_recipe
from or1lab.store import Run
from tests.broken_runs import SMALL

SHORT = ["stages.0.steps=2", "eval.every=0", "D_T=2"]


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("n", [0, 1])
def test_a_mini_batch_that_is_not_finite_is_kept_and_not_stepped_on(what, n, engine, tmp_run, monkeypatch):
    """In the first mini-batch of a step, whose optimizer step is ours, and in the last, whose step is the loop's."""
    trainers, weights = [], []
    whole_update, whole_loss, whole_backward = MagicTrainer._update, update.micro_loss, Policy.backward

    def watched_update(self, *arguments):
        trainers[:] = [self]
        return whole_update(self, *arguments)

    def poisoned() -> bool:
        """Within mini-batch n, whose record is not there yet; remembers the weights it finds."""
        trainer = trainers[0]
        if here := len(trainer.sgd_records) == n:
            weights[:] = [p.detach().clone() for p in trainer.model.parameters()]
        return here

    def loss(micro, *rest):
        output = whole_loss(micro, *rest)
        return replace(output, loss=output.loss * math.nan) if what == "loss" and poisoned() else output

    def backward(self, value):
        whole_backward(self, value)
        if what == "gradient" and poisoned():
            next(self.model.parameters()).grad[0, 0] = math.inf

    monkeypatch.setattr(MagicTrainer, "_update", watched_update)
    monkeypatch.setattr(update, "micro_loss", loss)
    monkeypatch.setattr(Policy, "backward", backward)
    value = "nan" if what == "loss" else "inf"
    with pytest.raises(Or1labError, match=rf"step 1, SGD step {n}: the .*{what}.* is {value}; .*responses are in"):
        recipe = load_recipe(SMALL, ["stages.0.steps=1", "eval.every=0", "D_R=8", "D_T=4"])
        train.run(recipe, tmp_run, engine=engine, progress=False)
    run = Run.open(tmp_run)
    assert run.status == "failed" and what in run.manifest["error"]
    kept = pd.read_parquet(tmp_run / "failures" / "step-000001.parquet")
    assert {"prompt_ids", "token_ids", "advantage", "sampler_logp", "old_logp"} <= set(kept)
    assert 0 < len(kept) <= 16 and kept["old_logp"].isna().all() == (n == 0)
    assert all(torch.equal(a, b) for a, b in zip(trainers[0].model.parameters(), weights, strict=True))


def test_log_probs_that_are_not_numbers_are_kept_too(engine, tmp_run, monkeypatch):
    """Not mistaken for an engine with other weights."""
    whole = Policy.forward
    monkeypatch.setattr(Policy, "forward", lambda self, *inputs: tuple(v * math.nan for v in whole(self, *inputs)))
    with pytest.raises(
        Or1labError, match=r"step 1, SGD step 0: the loss is nan; .*responses are in .*step-000001.parquet"
    ):
        train.run(load_recipe(SMALL, SHORT), tmp_run, engine=engine, progress=False)
    assert (tmp_run / "failures" / "step-000001.parquet").is_file()
    monkeypatch.setattr(Policy, "forward", whole)
    run = train.run(load_recipe(SMALL, SHORT), tmp_run, resume=True, engine=engine, progress=False)
    assert run.status == "finished" and not list((tmp_run / "failures").glob("step-*"))
