"""A recipe on a machine: does it fit, how long does each stage take, and what would be better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

from or1lab.errors import UsageError
from or1lab.planner import memory, times
from or1lab.planner.architecture import Architecture
from or1lab.planner.hardware import PER_NODE, Cluster
from or1lab.planner.lengths import Law
from or1lab.planner.memory import GIB, Layout, Parts
from or1lab.recipe import Recipe

SHARES = tuple(n / 10 for n in range(2, 10))  # of rollout.gpu_memory_utilization that are tried
WORTH = 0.03  # of the hours: what a suggestion has to save


@dataclass(frozen=True)
class StagePlan:
    """One stage, seconds a step and in all. together: sequences that the slowest engine decodes at a time; floor: t_R
    if every other response were free; t_O: weights handed over, and the share of the evaluations."""

    stage: int
    steps: int
    T: int
    responses: int
    mean_length: float
    truncated: float
    together: float
    t_R: float
    floor: float
    t_T: float
    t_O: float
    hours: float
    gpu_hours: float


@dataclass(frozen=True)
class Plan:
    recipe: Recipe
    a: Architecture
    cluster: Cluster
    layout: Layout
    law: Law

    @cached_property
    def update(self) -> Parts:
        return memory.update(self.a, self.recipe, self.cluster, self.layout)

    @cached_property
    def rollout(self) -> Parts:
        return memory.rollout(self.a, self.recipe, self.cluster, self.layout)

    @property
    def peak_gib(self) -> float:
        return max(sum(self.update.values()), sum(self.rollout.values())) / GIB

    @property
    def host_gib(self) -> float:
        """GiB of host memory of each node: with offload weights, gradients and moments lie there."""
        return 16 * self.a.parameters / self.cluster.nodes / GIB if self.layout.offload else 0.0

    @cached_property
    def complaints(self) -> list[tuple[float, str]]:
        """(GiB that are missing, why) of everything that does not fit, the worst first."""
        found = []
        if self.cluster.device.is_gpu:
            tokens = memory.longest(self.recipe)
            one = tokens * memory.kv_token(self.a, self.recipe, self.layout)
            own = memory.SERVER_SHARE if self.layout.server else self.recipe.rollout.gpu_memory_utilization
            share, weights = own * self.cluster.device.gib * GIB, self.rollout["engine: weights"]
            why = (
                f"the engine's share of a GPU, {share / GIB:.1f} GiB, does not hold {weights / GIB:.1f} of weights, "
                f"{memory.ENGINE_RESERVE / GIB:.1f} of reserve and {one / GIB:.1f} of cache for one response of "
                f"{tokens:,} tokens with its prompt"
            )
            found.append(((weights + memory.ENGINE_RESERVE + one - share) / GIB, why))
        for phase, parts in (("update", self.update), ("rollout", self.rollout)):
            total, most = sum(parts.values()) / GIB, max(parts, key=lambda name: parts[name])
            why = (
                f"the {phase} needs {total:.1f} GiB of the {self.cluster.device.gib:.0f} there are; most of it: "
                f"{most}, {parts[most] / GIB:.1f} GiB"
            )
            found.append((total - self.cluster.device.gib, why))
        return sorted((one for one in found if one[0] > 0), reverse=True)

    @property
    def fits(self) -> bool:
        return not self.complaints

    @cached_property
    def stages(self) -> list[StagePlan]:
        return [self._stage(i) for i in range(len(self.recipe.stages))]

    @cached_property
    def rollouts(self) -> list[times.Rollout]:
        """One of each stage."""
        stages = [self.recipe.stage(i) for i in range(len(self.recipe.stages))]
        return [times.rollout(self._job(r), self.law.drawn(r.D_R, r.gs, r.T)) for r in stages]

    @property
    def sampling_hours(self) -> float:
        return sum(s.steps * r.seconds for s, r in zip(self.recipe.stages, self.rollouts, strict=True)) / 3600

    def _job(self, stage: Recipe) -> times.Job:
        return times.Job(self.a, stage, self.cluster, self.layout, self.law)

    @property
    def hours(self) -> float:
        return sum(stage.hours for stage in self.stages) + self._evaluation(final=True) / 3600

    @property
    def gpu_hours(self) -> float:
        return self.hours * self.cluster.gpus

    def _stage(self, i: int) -> StagePlan:
        r = self.recipe.stage(i)
        job, lengths = self._job(r), self.law.drawn(r.D_R, r.gs, r.T)
        sampled, t_T = self.rollouts[i], times.update(job, lengths)
        t_O = times.handing_over(job) + (self._evaluation() / r.eval.every if r.eval.every else 0.0)
        hours = r.total_steps * (sampled.seconds + t_T + t_O) / 3600
        return StagePlan(
            i, r.total_steps, r.T, lengths.size, float(lengths.mean()), float((lengths >= r.T).mean()),
            sampled.together, sampled.seconds, sampled.floor, t_T, t_O, hours, hours * self.cluster.gpus,
        )  # fmt: skip

    def _evaluation(self, *, final: bool = False) -> float:
        """Seconds of sampling one evaluation."""
        e = self.recipe.eval
        problems, k = (e.final_problems, e.final_k) if final else (e.problems, e.k)
        return times.rollout(
            self._job(self.recipe), self.law.drawn(problems, k * (1 + len(e.others)), e.T or self.recipe.max_T)
        ).seconds

    def plain(self) -> dict[str, Any]:
        """The plan as JSON has it; memory in GiB a GPU."""
        worst = self.complaints[0] if self.complaints else (0.0, None)
        return {
            "recipe": self.recipe.name,
            "model": {"name": self.a.name, "parameters": self.a.parameters},
            "cluster": {
                "gpus": self.cluster.gpus, "gpu": self.cluster.device.name, "nodes": self.cluster.nodes,
                "gib": self.cluster.device.gib,
            },
            "layout": asdict(self.layout),
            "host_gib": self.host_gib,
            "fits": self.fits,
            "missing_gib": worst[0],
            "why": worst[1],
            "memory_gib": {
                phase: {name: size / GIB for name, size in parts.items()} | {"together": sum(parts.values()) / GIB}
                for phase, parts in (("update", self.update), ("rollout", self.rollout))
            },
            "lengths": self.law.plain(),
            "stages": [asdict(stage) for stage in self.stages] if self.fits else [],
            "hours": self.hours if self.fits else None,
            "gpu_hours": self.gpu_hours if self.fits else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Suggestion:
    """`change`, as it is typed, and what it leads to."""

    change: str
    why: str
    plan: Plan = field(repr=False)

    def plain(self) -> dict[str, Any]:
        p = self.plan
        return {
            "change": self.change, "why": self.why, "peak_gib": p.peak_gib, "t_R": p.stages[0].t_R, "hours": p.hours,
            "gpu_hours": p.gpu_hours,
        }  # fmt: skip


def check(recipe: Recipe, a: Architecture, cluster: Cluster, layout: Layout) -> None:
    """Raise UsageError for what no memory would mend."""
    sampling = layout.server or cluster.gpus
    tokens = memory.longest(recipe)
    if a.context and tokens > a.context:
        raise UsageError(f"data.prompt_limit + T = {tokens:,} tokens, but {a.name} has a context of {a.context:,}")
    if not cluster.device.is_gpu and layout != Layout():
        raise UsageError("--tp, --sleep, --offload and --server are for GPUs")
    if layout.server >= cluster.gpus and layout.server:
        raise UsageError(f"--server {layout.server}: of {cluster.gpus} GPUs that leaves none to train on")
    if layout.server and layout.sleep:
        raise UsageError("--sleep is for an engine that shares its GPUs with the trainer; --server gives it its own")
    if layout.tp < 1 or a.heads % layout.tp:
        fine = [n for n in range(1, a.heads + 1) if a.heads % n == 0 and n <= cluster.per_node]
        raise UsageError(
            f"--tp {layout.tp} does not divide the {a.heads} attention heads of {a.name}; possible: "
            f"{', '.join(map(str, fine))}"
        )
    if sampling % layout.tp or layout.tp > cluster.per_node:
        raise UsageError(
            f"--tp {layout.tp}: an engine's GPUs lie in one node ({cluster.per_node} GPUs) and divide the {sampling} "
            "that sample"
        )


def plan(recipe: Recipe, a: Architecture, cluster: Cluster, law: Law, layout: Layout, **free: bool) -> Plan:
    """The plan with that layout. `free` names what of it (tp, sleep) may be chosen: the first that fits, of few GPUs an
    engine and without sleep mode before others; if none does, the layout as it is."""
    check(recipe, a, cluster, layout)
    given = Plan(recipe, a, cluster, layout, law)
    tps = _splits(given) if free.get("tp") else [layout.tp]
    sleeps = [False, True] if free.get("sleep") and cluster.device.is_gpu and not layout.server else [layout.sleep]
    for tp, sleep in product(tps, sleeps):
        if (tried := replace(given, layout=replace(layout, tp=tp, sleep=sleep))).fits:
            return tried
    return given


def _splits(p: Plan) -> list[int]:
    """GPUs that an engine may have."""
    sampling = p.layout.server or p.cluster.gpus
    powers = (1, 2, 4, 8, 16)
    return [n for n in powers if n <= p.cluster.per_node and p.a.heads % n == 0 and sampling % n == 0]


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
    sleeps = (False,) if p.layout.server else (p.layout.sleep, not p.layout.sleep)
    for tp, sleep, offload, share, budget in product(
        _splits(p), sleeps, (p.layout.offload, not p.layout.offload), (own, *SHARES), budgets
    ):
        layout = replace(p.layout, tp=tp, sleep=sleep, offload=offload)
        settings = p.recipe.rollout.model_copy(update={"gpu_memory_utilization": share})
        recipe = p.recipe.model_copy(update={"rollout": settings, "micro_tokens": budget})
        other = replace(p, layout=layout, recipe=recipe)
        if changes := len(_typed(p, other)):
            yield changes, other


def _typed(old: Plan, new: Plan) -> list[str]:
    """What to type to get from one plan to the other."""
    words = [f"--gpus {new.cluster.gpus}x{new.cluster.device.name}"] * (old.cluster != new.cluster)
    words += [f"--tp {new.layout.tp}"] * (old.layout.tp != new.layout.tp)
    for name in ("sleep", "offload"):
        if (now := getattr(new.layout, name)) != getattr(old.layout, name):
            words.append(f"--{name}" if now else f"--no-{name}")
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
        other = plan(p.recipe, p.a, _times(p.cluster, factor), p.law, p.layout, tp=True, sleep=True)
        if other.fits:
            return [*found, _suggest(p, other, f"fits: {factor} times the GPUs")]
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
            if p.cluster.gpus * factor >= 1:
                other = plan(p.recipe, p.a, _times(p.cluster, factor), p.law, p.layout, tp=True, sleep=True)
                if other.fits:
                    ratio = other.hours / p.hours
                    found.append(_suggest(p, other, f"{word} the GPUs: {ratio:.2f} of the hours"))
    stages = tuple(
        stage.model_copy(update={key: 2 * value for key in ("D_R", "D_T") if (value := getattr(stage, key))})
        for stage in p.recipe.stages
    )
    r = p.recipe
    more = replace(p, recipe=r.model_copy(update={"D_R": 2 * r.D_R, "D_T": 2 * r.D_T, "stages": stages}))
    if more.fits:
        ratio = more.hours / p.hours
        words = [f"D_R={2 * r.D_R} D_T={2 * r.D_T}"]
        words += [f"stages.{i}.D_R={s.D_R} stages.{i}.D_T={s.D_T}" for i, s in enumerate(stages) if s.D_R and s.D_T]
        found.append(
            Suggestion(" ".join(words), f"twice the rollouts on the same GPUs: {ratio:.2f} of the hours", more)
        )
    return found


def _times(cluster: Cluster, factor: float) -> Cluster:
    gpus = int(cluster.gpus * factor)
    return replace(cluster, gpus=gpus, per_node=min(gpus, max(cluster.per_node, PER_NODE if factor > 1 else 1)))
