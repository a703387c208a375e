"""A recipe on a machine: does it fit, and how long does each stage take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from or1lab.errors import UsageError
from or1lab.planner import memory, times
from or1lab.planner.architecture import Architecture
from or1lab.planner.hardware import Cluster
from or1lab.planner.lengths import Law
from or1lab.planner.memory import GIB, Layout, Parts
from or1lab.recipe import Recipe


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
    """A recipe, a model's sizes, machines, their layout and a law of lengths; what follows from them, worked out
    when asked."""

    recipe: Recipe
    a: Architecture
    cluster: Cluster
    layout: Layout
    law: Law

    @cached_property
    def update(self) -> Parts:
        """Bytes of a GPU by part at the peak of the update."""
        return memory.update(self.a, self.recipe, self.cluster, self.layout)

    @cached_property
    def rollout(self) -> Parts:
        """Bytes of a GPU by part at the peak of the rollout."""
        return memory.rollout(self.a, self.recipe, self.cluster, self.layout)

    @property
    def peak_gib(self) -> float:
        """GiB of a GPU in the worse of the two phases."""
        return max(sum(self.update.values()), sum(self.rollout.values())) / GIB

    @property
    def spare_gib(self) -> float:
        """GiB that are left of the fullest GPU (of the CPU machine) at its peak; below 0, what is missing there."""
        return self.cluster.device.gib - self.peak_gib

    @property
    def host_gib(self) -> float:
        """GiB of host memory of each node: while it starts, every training process holds the weights in float32, and
        those of a reference policy; with offload weights, gradients and moments lie there."""
        if not self.cluster.device.is_gpu:
            return 0.0
        here = min(self.layout.training(self.cluster), self.cluster.per_node)
        starting = 4 * self.a.parameters * here * (2 if "reference policy" in self.update else 1)
        offloaded = 16 * self.a.parameters / self.cluster.nodes if self.layout.offload else 0.0
        return max(starting, offloaded) / GIB

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
        """Whether update, rollout and the engine's own share all find room."""
        return not self.complaints

    @cached_property
    def stages(self) -> list[StagePlan]:
        """Times of every stage. They are worked out whether it fits or not."""
        return [self._stage(i) for i in range(len(self.recipe.stages))]

    @cached_property
    def rollouts(self) -> list[times.Rollout]:
        """One of each stage."""
        return [times.rollout(self._job(r), self.law.drawn(r.D_R, r.gs, r.T)) for r in self.recipe.by_stage]

    @property
    def sampling_hours(self) -> float:
        """Hours of the rollouts t_R alone, over all stages; no evaluations."""
        return sum(s.steps * r.seconds for s, r in zip(self.recipe.stages, self.rollouts, strict=True)) / 3600

    def _job(self, stage: Recipe) -> times.Job:
        return times.Job(self.a, stage, self.cluster, self.layout, self.law)

    @property
    def hours(self) -> float:
        """Of the whole run, final evaluation included; without rewards, checkpoints, start-up."""
        return sum(stage.hours for stage in self.stages) + self._evaluation(final=True) / 3600

    @property
    def gpu_hours(self) -> float:
        """`hours` times all GPUs, those of a rollout server included."""
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
            "spare_gib": self.spare_gib,
            "spare_share": self.spare_gib / self.cluster.device.gib,
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


def check(recipe: Recipe, a: Architecture, cluster: Cluster, layout: Layout) -> None:
    """Raise UsageError for what no memory would mend."""
    sampling = layout.server or cluster.gpus
    tokens = memory.longest(recipe)
    if a.context and tokens > a.context:
        raise UsageError(f"data.prompt_limit + T = {tokens:,} tokens, but {a.name} has a context of {a.context:,}")
    if not cluster.device.is_gpu and layout != Layout():
        raise UsageError("--tp, --sleep, --offload, --server, or this recipe, are for GPUs: name them, --gpus 8xH100")
    if layout.server >= cluster.gpus and layout.server:
        raise UsageError(f"--server {layout.server}: of {cluster.gpus} GPUs that leaves none to train on")
    if layout.offload and layout.training(cluster) < 2:
        raise UsageError("--offload is for weights that several GPUs share")
    if layout.server and layout.sleep:
        raise UsageError("--sleep is for an engine that shares its GPUs with the trainer; --server gives it its own")
    if layout.tp < 1 or a.heads % layout.tp:
        fine = [n for n in range(1, a.heads + 1) if a.heads % n == 0 and n <= cluster.per_node]
        raise UsageError(
            f"tensor parallel {layout.tp} does not divide the {a.heads} attention heads of {a.name}; possible: "
            f"{', '.join(map(str, fine))}"
        )
    if sampling % layout.tp or layout.tp > cluster.per_node:
        raise UsageError(
            f"tensor parallel {layout.tp}: an engine's GPUs lie in one node ({cluster.per_node} GPUs) and divide the "
            f"{sampling} that sample"
        )


def plan(
    recipe: Recipe, a: Architecture, cluster: Cluster, law: Law, layout: Layout, *, any_tp: bool = False,
    any_sleep: bool = False,
) -> Plan:  # fmt: skip
    """The plan with that layout. Where the GPUs of an engine (any_tp) or sleep mode (any_sleep) are free, the first
    that fits, with few GPUs an engine and without sleep mode before others; if none does, the layout as it is.

    Raises:
        UsageError: what no memory would mend, see `check`.
    """
    check(recipe, a, cluster, layout)
    given = Plan(recipe, a, cluster, layout, law)
    return next(layouts_that_fit(given, any_tp=any_tp, any_sleep=any_sleep), given)


def layouts_that_fit(p: Plan, *, any_tp: bool = True, any_sleep: bool = True) -> Iterator[Plan]:
    """The plan with other GPUs of an engine and with and without sleep mode, as far as these are free, where that fits:
    few GPUs an engine and no sleep mode first."""
    tps = splits(p) if any_tp else [p.layout.tp]
    sleeps = [False, True] if any_sleep and p.cluster.device.is_gpu and not p.layout.server else [p.layout.sleep]
    for tp, sleep in product(tps, sleeps):
        if (tried := replace(p, layout=replace(p.layout, tp=tp, sleep=sleep))).fits:
            yield tried


def splits(p: Plan) -> list[int]:
    """GPUs that an engine may have."""
    sampling = p.layout.server or p.cluster.gpus
    return [n for n in (1, 2, 4, 8, 16) if n <= p.cluster.per_node and p.a.heads % n == 0 and sampling % n == 0]
