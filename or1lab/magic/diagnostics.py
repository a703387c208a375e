"""What is logged of a training step, computed from its rollouts and its SGD steps."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from or1lab.errors import Or1labError
from or1lab.magic.advantages import all_right
from or1lab.magic.loss import LossOutput

# Largest trainer-against-sampler distance that is still numerical noise: fp32 by the largest token, bf16 by the mean.
FP32_MAX, BF16_MEAN = 1e-3, 0.05

# Edges of the advantage histogram: doublings from 0.1 on both sides. Binary rewards have A = sqrt((1 - p) / p) for a
# right and -sqrt(p / (1 - p)) for a wrong response of a group with the share p right, up to the factor
# sqrt((M - 1) / M), so a bin is a range of p: its odds change by a factor of 4. In groups below 100 only masked and
# missing members (A = 0) fall into the middle bin.
ADVANTAGE_EDGES = tuple(sign * 0.1 * 2**n for sign, powers in ((-1, range(6, -1, -1)), (1, range(7))) for n in powers)

POSITIONS = 10  # equal parts of the response limit
TOP = 5  # one token in five: the 20% with the highest entropy


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


def by_domain(name: str, rewards: Tensor, domains: Sequence[str]) -> dict[str, float]:
    """Mean of the (N, M) rewards over the groups of each domain, as `name`/<domain>; missing members left out."""
    means = {}
    for domain in sorted(set(domains)):
        own = rewards[torch.tensor([other == domain for other in domains])]
        means[f"{name}/{domain}"] = _mean(own[~own.isnan()])
    return means


def decomposition_metrics(rewards: Tensor, truncated: Tensor) -> dict[str, float]:
    """The factors of J = E_x[p_nontrunc(x) * rbar_nontrunc(x)] (paper section 3.2.3) over N problems x, shares.

    Of (N, M) responses, p(x) is the share of problem x's that ended by themselves (of those with a verdict), and r(x)
    the mean reward of these. Logged are p = mean p(x), r = mean r(x) over problems that have an r(x), and
    rest = mean p(x) r(x) - p r, which is how far the two go together. Where truncated responses have reward 0 and no
    verdict is missing, mean reward = p r + rest. NaN: no response ended by itself.
    """
    present = ~rewards.isnan()
    ended = present & ~truncated
    members, own = present.sum(dim=1).double(), ended.sum(dim=1).double()
    right = rewards.where(ended, 0).double().sum(dim=1)
    judged, some = members > 0, own > 0
    p, r = _mean((own / members)[judged]), _mean((right / own)[some])
    return {
        "reward/p_nontruncated": p,
        "reward/nontruncated_by_problem": r,
        "reward/decomposition_rest": _mean((right / members)[judged]) - p * r,
    }


def advantage_histogram(advantages: Tensor, kept: Tensor) -> dict[str, list[int]]:
    """Responses of the kept groups by advantage: counts of the 15 bins that ADVANTAGE_EDGES cut, both ends open, lower
    edge included; (N, M) advantages, (N,) kept."""
    edges = torch.tensor(ADVANTAGE_EDGES, dtype=torch.float64)
    bins = torch.bucketize(advantages[kept].flatten().double().cpu(), edges, right=True)
    return {"advantage/histogram": bins.bincount(minlength=len(edges) + 1).tolist()}


def entropy_profile(entropies: Sequence[Tensor], T: int) -> dict[str, Any]:
    """Where the entropy sits, from the per-token entropies (|y|,) of single responses under the limit T, nats.

    Its mean in each tenth of the limit (NaN where no response reaches), the mean of the 20% of tokens with the highest
    entropy, and their share of the entropy of all tokens. NaN everywhere without any token.
    """
    values = torch.cat([torch.zeros(0), *(response.double().cpu() for response in entropies)])
    place = torch.cat([torch.arange(0), *(torch.arange(len(response)) for response in entropies)])
    tenth = place * POSITIONS // T
    sums, counts = tenth.bincount(values, POSITIONS), tenth.bincount(minlength=POSITIONS)
    top = values.topk(-(-len(values) // TOP)).values
    return {
        "entropy/by_position": (sums / counts).tolist(),
        "entropy/top20": _mean(top),
        "entropy/top20_share": (top.sum() / values.sum()).item(),
    }


def group_metrics(rewards: Tensor, kept: Tensor) -> dict[str, float]:
    """Shares of the N groups that are kept, all right, all wrong."""
    return {
        "groups/sampled": len(kept),
        "groups/kept_frac": _mean(kept),
        "groups/all_right_frac": _mean(all_right(rewards)),
        "groups/all_wrong_frac": _mean(all_right(1 - rewards)),  # NaN stays NaN: missing is missing
    }


def loss_metrics(output: LossOutput) -> dict[str, float]:
    """What one mini-batch has come to."""
    return {
        "tokens/kept": int(output.tokens),
        "entropy/bonus": float(output.entropy),
        "clip/low_frac": float(output.clip_low_frac),
        "clip/high_frac": float(output.clip_high_frac),
        "ratio/max": float(output.ratio_max),
        "kl/reference": float(output.kl),
        "loss": float(output.loss),
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
    """Mean and largest |difference| of log-probs, nats, over the same tokens; nothing without any.

    Raises Or1labError where it is more than rounding: the engine then does not sample from the trainer's weights."""
    if not len(trainer):
        return {}
    distance = (trainer - sampler).abs()
    mean, largest = distance.mean().item(), distance.max().item()
    if not (largest <= FP32_MAX if dtype == "float32" else mean <= BF16_MEAN):
        raise Or1labError(
            f"trainer and sampler disagree on the log-probs of the sampled tokens (mean {mean:.2g}, max {largest:.2g} "
            f"nats; dtype {dtype}, backend {engine}): the engine does not hold the trainer's weights or computes at "
            "another precision; nothing was updated in this step"
        )
    return {"kl/rollout_trainer": mean, "kl/rollout_trainer_max": largest}


def above_cap(trainer: Sequence[Tensor], sampler: Sequence[Sequence[float]], cap: float) -> dict[str, float]:
    """Whom a mask of whole responses takes or would take (TRL's default): the share of the responses whose probability
    under the trainer is more than `cap` times that under the sampler, and that share among the longer half of them.
    Each (|y|,) log-probs of one response; nothing without any."""
    if not trainer:
        return {}
    both = zip(trainer, sampler, strict=True)
    masked = torch.stack([(a.cpu().double() - torch.tensor(b, dtype=torch.float64)).sum().exp() for a, b in both]) > cap
    lengths = torch.tensor([len(row) for row in trainer]).double()
    return {
        "correction/above_cap_frac": _mean(masked),
        "correction/above_cap_long_frac": _mean(masked[lengths >= lengths.median()]),
    }


def peak_gib() -> float:
    """Peak memory of this process, GiB: of the GPU where there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if values.numel() else float("nan")
