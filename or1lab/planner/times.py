"""Seconds of a training step by a roofline: t_R rollout, t_T update, t_O everything else (paper section 5).

Decoding reads all weights and the cache of its sequences at every step, so memory bandwidth bounds it; prompts and the
update are bound by FLOP/s, or by the exchange of sharded weights where that takes longer. Every rate is that of
`hardware.Device`, peak x efficiency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from or1lab.magic.batching import deal, micro_batches
from or1lab.planner import memory
from or1lab.planner.architecture import Architecture
from or1lab.planner.hardware import Cluster
from or1lab.planner.lengths import Law, Lengths
from or1lab.planner.memory import Layout
from or1lab.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """What all times depend on."""

    a: Architecture
    recipe: Recipe  # of one stage
    cluster: Cluster
    layout: Layout
    law: Law

    @property
    def checkpointed(self) -> bool:
        """Whether a backward pass runs each layer's forward pass again: on GPUs it does."""
        return self.cluster.device.is_gpu


@dataclass(frozen=True)
class Rollout:
    """seconds of the slowest engine; floor: those of its longest response alone; together: sequences it decodes at a
    time, on average."""

    seconds: float
    floor: float
    together: float


def rollout(job: Job, lengths: Lengths) -> Rollout:
    """Groups are dealt to the engines in order, so that the responses to a problem meet on one; the slowest counts."""
    replicas = min(job.layout.replicas(job.cluster), lengths.size)
    decoded = [decode(job, share) for share in np.array_split(lengths.reshape(-1), replicas)]
    seconds, together = max(decoded)
    return Rollout(seconds, decode(job, lengths.max().reshape(1))[0], together)


def decode(job: Job, lengths: Lengths) -> tuple[float, float]:
    """Seconds in which one engine answers, and the sequences it decodes at a time.

    Its steps are as many as the longest response has tokens, more where max_num_seqs or the cache do not hold all
    sequences at once: then it takes them in turn, without ever idling."""
    a, r, d, tp, prompt = job.a, job.recipe, job.cluster.device, job.layout.tp, job.law.prompt
    size, of_token = memory.width(r), memory.kv_token(job.a, r, job.layout)
    sequences = lengths.astype(float)
    tokens, pairs = sequences.sum(), (prompt * sequences + sequences**2 / 2).sum()
    room = memory.engine(a, r, job.cluster, job.layout)["engine: KV cache"] / of_token
    steps = max(sequences.max(), tokens / r.rollout.max_num_seqs, pairs / room if room > 0 else 0.0)
    moved = steps * size * a.read / tp + pairs * of_token
    computed = a.forward_flops(tokens, pairs, tokens) / tp
    prompts = a.forward_flops(prompt * len(sequences), prompt**2 / 2 * len(sequences), 0) / tp
    exchanged = 4 * a.layers * size * a.hidden * tokens * (tp - 1) / tp  # two sums over the engine's GPUs a layer
    wire = exchanged / d.link + 2 * a.layers * steps * d.hop if tp > 1 else 0.0
    seconds = max(moved / d.bandwidth, computed / d.decoding) + prompts / d.flops + wire + steps * d.step
    return float(seconds), float(tokens / steps)


def update(job: Job, lengths: Lengths) -> float:
    """The N_SGD steps on the groups that are kept, and what they need besides: old log-probs where there are several,
    the reference policy where beta is above 0, exact entropies where they are asked for."""
    r, kept = job.recipe, lengths[: max(1, round(job.law.kept * len(lengths)))]
    batches = r.D_R // r.D_T * r.N_reuse
    first = kept[: max(1, round(len(kept) * r.D_T / r.D_R))]
    seconds = batches * (passes(job, first, backward=True) + optimizer(job))
    if r.old_logp == "trainer" and r.D_R > r.D_T:
        seconds += passes(job, kept[len(first) :], backward=False)
    if r.beta > 0:
        seconds += batches * passes(job, first, backward=False)
    if r.entropy_source == "exact":
        seconds += passes(job, lengths, backward=False)
    return seconds


def passes(job: Job, lengths: Lengths, *, backward: bool) -> float:
    """Forward (and backward) over these responses on the busiest GPU, in the trainer's own shares and micro-batches."""
    a, d, gpus = job.a, job.cluster.device, job.layout.training(job.cluster)
    rows = (lengths.reshape(-1) + round(job.law.prompt)).tolist()
    size, sharded = memory.width(job.recipe), gpus > 1
    # Forward, twice that backward, and forward again where only the layers' inputs were kept.
    factor = (4 if job.checkpointed else 3) if backward else 1
    wire = d.host if job.layout.offload else job.cluster.rate(gpus)
    gathered = (size * (2 if backward else 1) + 4 * backward) * a.parameters if sharded else 0.0
    worst = 0.0
    for share in deal(rows, gpus):
        seconds = 0.0
        for cut in micro_batches([rows[i] for i in share], job.recipe.micro_tokens):
            longest = rows[share[cut[0]]]
            tokens = len(cut) * longest
            scored = sum(rows[share[i]] for i in cut) - job.law.prompt * len(cut)
            flops = factor * a.forward_flops(tokens, tokens * longest / 2, 0)
            flops += (4 if backward else 1) * a.forward_flops(0, 0, scored)  # its tiles are always made twice
            moved = factor * size * a.layers * a.saved_token * tokens
            work = flops / d.flops + moved / d.bandwidth
            seconds += max(work, gathered / wire if gathered else 0.0) + a.layers * d.layer
        worst = max(worst, seconds)
    return worst


def optimizer(job: Job) -> float:
    """AdamW reads weights, gradients and two moments and writes all but the gradients: 28 bytes a parameter."""
    rate = job.cluster.device.host if job.layout.offload else job.cluster.device.bandwidth
    return 28 * job.a.parameters / job.layout.training(job.cluster) / rate


def handing_over(job: Job) -> float:
    """The weights from the trainer to the engine: gathered in float32, written in the engine's precision."""
    gpus, d = job.layout.training(job.cluster), job.cluster.device
    wire = 4 * job.a.parameters / job.cluster.rate(job.cluster.gpus) if job.cluster.gpus > 1 else 0.0
    return wire + (4 + memory.width(job.recipe)) * job.a.parameters / (gpus if gpus > 1 else 1) / d.bandwidth
