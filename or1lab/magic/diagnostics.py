"""What is logged of a training step, computed from its rollouts and its SGD steps."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch
from torch import Tensor

from or1lab.errors import Or1labError

# Largest trainer-against-sampler distance that is still numerical noise: fp32 by the largest token, bf16 by the mean.
FP32_MAX, BF16_MEAN = 1e-3, 0.05


def response_metrics(rewards: Tensor, truncated: Tensor, lengths: Tensor) -> dict[str, float]:
    """Means over (N, M) responses; a missing member (NaN reward) enters no reward."""
    present = ~rewards.isnan()
    return {
        "reward/mean": _mean(rewards[present]),
        "reward/nontruncated": _mean(rewards[present & ~truncated]),
        "reward/errors": int((~present).sum()),
        "length/mean": _mean(lengths),
        "length/p95": float(lengths.double().quantile(0.95)),
        "length/truncated_frac": _mean(truncated),
        "tokens/generated": int(lengths.sum()),
    }


def group_metrics(rewards: Tensor, kept: Tensor) -> dict[str, float]:
    """Shares of the N groups that are kept, all right, all wrong."""
    present = ~rewards.isnan()
    some = present.any(dim=1)
    return {
        "groups/sampled": len(kept),
        "groups/kept_frac": _mean(kept),
        "groups/all_right_frac": _mean(((rewards == 1) | ~present).all(dim=1) & some),
        "groups/all_wrong_frac": _mean(((rewards == 0) | ~present).all(dim=1) & some),
    }


def sgd_metrics(sgd: list[dict[str, Any]]) -> dict[str, float]:
    """The SGD steps of one training step as one line: token-weighted means, largest ratio, last gradient norm."""
    if not sgd:  # every group was rejected: nothing was updated
        return {"sgd/steps": 0, "tokens/kept": 0}
    tokens = [entry["tokens/kept"] for entry in sgd]
    weighted = ("entropy/bonus", "clip/low_frac", "clip/high_frac", "kl/reference")
    means = {
        name: sum(n * entry[name] for n, entry in zip(tokens, sgd, strict=True)) / max(1, sum(tokens))
        for name in weighted
    }
    return {
        "sgd/steps": len(sgd),
        "tokens/kept": sum(tokens),
        **means,
        "ratio/max": max(entry["ratio/max"] for entry in sgd),
        "grad/norm": sgd[-1]["grad/norm"],
    }


def check_mismatch(trainer: Tensor, sampler: Tensor, dtype: str, engine: str) -> dict[str, float]:
    """Mean and largest |difference| of log-probs, nats, over the same tokens.

    Raises Or1labError where it is more than rounding: the engine then does not sample from the trainer's weights."""
    distance = (trainer - sampler).abs()
    mean, largest = distance.mean().item(), distance.max().item()
    if not (largest <= FP32_MAX if dtype == "float32" else mean <= BF16_MEAN):
        raise Or1labError(
            f"trainer and sampler disagree on the log-probs of the sampled tokens (mean {mean:.2g}, max {largest:.2g} "
            f"nats; dtype {dtype}, backend {engine}): the engine does not hold the trainer's weights or computes at "
            "another precision; nothing was updated in this step"
        )
    return {"kl/rollout_trainer": mean, "kl/rollout_trainer_max": largest}


def peak_gib() -> float:
    """Peak memory of this process, GiB: of the GPU where there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if values.numel() else float("nan")
