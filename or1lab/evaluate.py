"""Evaluation of a policy on held-out problems, during and after training (avg@k, paper section 8.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from or1lab.data.problem import Problem
from or1lab.magic.diagnostics import by_domain, response_metrics
from or1lab.rewards import RewardFn
from or1lab.rollout.base import Engine
from or1lab.rollout.buffer import collect


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
) -> tuple[dict[str, float], pd.DataFrame]:
    """Sample `k` responses per problem; means over all of them, and one row per problem and sample."""
    buffer = collect(engine, tokenizer, problems, reward, group=k, tau=tau, T=T, seed=seed, step=f"eval/{step}")
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
