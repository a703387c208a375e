"""Changes to a plan: what would fit, what would be faster, what GPUs and rollouts are worth. Each is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from or1lab.planner.hardware import PER_NODE
from or1lab.planner.plan import Plan, layouts_that_fit, splits

SHARES = tuple(n / 10 for n in range(2, 10))  # of rollout.gpu_memory_utilization that are tried
WORTH = 0.03  # of the hours: what a suggestion has to save


@dataclass(frozen=True)
class Suggestion:
    """`change`, as it is typed, and what it leads to."""

    change: str
    why: str
    plan: Plan = field(repr=False)

    def plain(self) -> dict[str, Any]:
        """As `or1lab plan --json` has it; t_R of the first stage, seconds."""
        p = self.plan
        return {
            "change": self.change, "why": self.why, "peak_gib": p.peak_gib, "t_R": p.stages[0].t_R, "hours": p.hours,
            "gpu_hours": p.gpu_hours,
        }  # fmt: skip


def suggestions(p: Plan) -> list[Suggestion]:
    """Changes that make it fit, or, where it does, that make it faster or show what GPUs are worth."""
    if not p.cluster.device.is_gpu:
        return []
    return _mends(p) if not p.fits else [*_faster(p), *_resources(p)]


def _neighbours(p: Plan) -> Iterator[tuple[int, Plan]]:
    """(how many things differ, plan) over the ways to arrange the same work on the same GPUs."""
    row = p.recipe.data.prompt_limit + p.recipe.max_T
    budgets = sorted({p.recipe.micro_tokens, min(p.recipe.micro_tokens, row)}, reverse=True)
    own = p.recipe.rollout.gpu_memory_utilization
    offloads = (p.layout.offload, not p.layout.offload) if p.layout.training(p.cluster) > 1 else (False,)
    sleeps = (False,) if p.layout.server else (p.layout.sleep, not p.layout.sleep)
    for tp, sleep, offload, share, budget in product(
        splits(p), sleeps, offloads, (own, *SHARES), budgets
    ):
        layout = replace(p.layout, tp=tp, sleep=sleep, offload=offload)
        settings = p.recipe.rollout.model_copy(update={"gpu_memory_utilization": share})
        recipe = p.recipe.model_copy(update={"rollout": settings, "micro_tokens": budget})
        other = replace(p, layout=layout, recipe=recipe)
        if changes := len(_typed(p, other)):
            yield changes, other


def _typed(old: Plan, new: Plan) -> list[str]:
    """What to type to get from one plan to the other; recipe keys serve `or1lab train` as well."""
    words = [f"--gpus {new.cluster.gpus}x{new.cluster.device.name}"] * (old.cluster != new.cluster)
    # On other GPUs what the planner chooses by itself may be another layout than here: it is named there.
    tp, sleep = (new.layout.tp > 1, new.layout.sleep) if words else (False, False)
    words += [f"rollout.tensor_parallel={new.layout.tp}"] * (tp or old.layout.tp != new.layout.tp)
    words += [f"rollout.sleep={str(new.layout.sleep).lower()}"] * (sleep or old.layout.sleep != new.layout.sleep)
    if old.layout.offload != new.layout.offload:
        words.append("--offload" if new.layout.offload else "--no-offload")
    words += [f"--server {new.layout.server}"] * (old.layout.server != new.layout.server)
    before, now = old.recipe.rollout.gpu_memory_utilization, new.recipe.rollout.gpu_memory_utilization
    words += [f"rollout.gpu_memory_utilization={now:g}"] * (before != now)
    words += [f"micro_tokens={new.recipe.micro_tokens}"] * (old.recipe.micro_tokens != new.recipe.micro_tokens)
    return words


def _suggest(old: Plan, new: Plan, why: str) -> Suggestion:
    return Suggestion(" ".join(_typed(old, new)), why, new)


def _mends(p: Plan) -> list[Suggestion]:
    """What fits with the fewest changes: one of each kind, the fastest of it; then a server, then more GPUs."""
    fitting = [(changes, other) for changes, other in _neighbours(p) if other.fits]
    fewest = min((changes for changes, _ in fitting), default=0)
    kinds: dict[tuple[str, ...], list[Plan]] = {}
    for changes, other in fitting:
        if changes == fewest:
            kinds.setdefault(tuple(word.partition("=")[0] for word in _typed(p, other)), []).append(other)
    best = [min(plans, key=lambda other: other.sampling_hours) for plans in kinds.values()]
    found = [_suggest(p, other, "fits") for other in sorted(best, key=lambda other: other.hours)[:4]]
    servers = [n for n in (p.cluster.gpus // 4, p.cluster.gpus // 2) if n and n % p.layout.tp == 0]
    apart = [replace(p, layout=replace(p.layout, server=n, sleep=False)) for n in servers if not p.layout.server]
    found += [_suggest(p, other, "fits: the engine on GPUs of its own") for other in apart if other.fits][:1]
    for factor in (2, 4, 8, 16, 32):
        if more := _elsewhere(p, factor):
            return [*found, _suggest(p, more, f"fits: {factor} times the GPUs")]
    return found


def _faster(p: Plan) -> list[Suggestion]:
    """The best rearrangement, if it saves anything to speak of."""
    plans = [other for changes, other in _neighbours(p) if changes <= 2 and other.fits and not other.layout.offload]
    best = min(
        plans, key=lambda other: (round(other.sampling_hours / p.sampling_hours, 2), len(_typed(p, other))), default=p
    )
    saved = 1 - best.hours / p.hours
    return [_suggest(p, best, f"saves {saved:.0%} of the hours")] if saved >= WORTH else []


def _resources(p: Plan) -> list[Suggestion]:
    """Twice the GPUs, half of them, and the paper's advice (section 5.2): twice the rollouts instead."""
    found = []
    if not p.layout.server:
        for factor, word in ((2, "twice"), (0.5, "half")):
            if other := _elsewhere(p, factor):
                layout = " and another layout" * (other.layout != p.layout)
                slower = ", slower" * (factor > 1 and other.hours > p.hours)
                why = f"{word} the GPUs{layout}: {other.hours / p.hours:.2f} of the hours{slower}"
                found.append(_suggest(p, other, why))
    stages = tuple(
        stage.model_copy(update={key: 2 * value for key in ("D_R", "D_T") if (value := getattr(stage, key))})
        for stage in p.recipe.stages
    )
    r = p.recipe
    more = replace(p, recipe=r.model_copy(update={"D_R": 2 * r.D_R, "D_T": 2 * r.D_T, "stages": stages}))
    if more.fits:
        ratio = more.hours / p.hours
        words = [f"D_R={2 * r.D_R} D_T={2 * r.D_T}"]
        set_there = ((i, key, getattr(s, key)) for i, s in enumerate(stages) for key in ("D_R", "D_T"))
        words += [f"stages.{i}.{key}={value}" for i, key, value in set_there if value]
        found.append(
            Suggestion(" ".join(words), f"twice the rollouts on the same GPUs: {ratio:.2f} of the hours", more)
        )
    return found


def _elsewhere(p: Plan, factor: float) -> Plan | None:
    """The fastest way that fits to do the same work on so many times the GPUs, by tensor parallel and sleep mode."""
    gpus = int(p.cluster.gpus * factor)
    per_node = min(gpus, max(p.cluster.per_node, PER_NODE if factor > 1 else 1))
    layout = replace(p.layout, offload=p.layout.offload and gpus - p.layout.server > 1)
    there = replace(p, cluster=replace(p.cluster, gpus=gpus, per_node=per_node), layout=layout)
    # By the rollouts of training: the update takes as long in all of them, and the longest to work out.
    return min(layouts_that_fit(there), key=lambda other: other.sampling_hours, default=None) if gpus else None
