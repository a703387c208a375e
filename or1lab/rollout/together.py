"""The processes of a run at work together: each samples and judges its share, and all are given everything.

A sample depends on its own seed alone, so with vLLM what is sampled does not depend on how many processes there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError
from or1lab.rewards import RewardFn, Verdict, verdicts
from or1lab.rollout.base import Engine, Request, Sample

PATIENCE = timedelta(hours=3)  # for the longest response of all processes, and a checkpoint; NCCL's own is 10 minutes

Item = TypeVar("Item")
Result = TypeVar("Result")


def processes() -> int:
    """How many this run has."""
    return dist.get_world_size() if dist.is_initialized() else 1


@dataclass(frozen=True)
class Processes:
    """This process among those of its run."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes the run folder."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            dist.barrier()

    def agreed(self, make: Callable[[], Result]) -> Result:
        """What the first process makes, for all."""
        made = [make() if self.first else None]
        if self.count > 1:
            dist.broadcast_object_list(made)
        return made[0]  # type: ignore[return-value]


def join() -> Processes:
    """Join the processes that accelerate has started for a run; alone where it has not.

    Raises Or1labError where they do not find each other."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "LOCAL_RANK" not in os.environ:
        return Processes()
    from accelerate import PartialState

    try:
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
        main = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise Or1labError(
            f"process {os.environ.get('RANK')} does not find the others of its run at {main} ({error}): is that port "
            "open between all nodes, and NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME the network that joins them?"
        ) from error
    if state.device.type == "cpu":
        state.device = torch.device("cpu")  # accelerate says cpu:0, where torch.load cannot put a checkpoint
    return Processes(state.process_index, state.num_processes)


def divided(work: Callable[[list[Item]], Sequence[Result]], items: Sequence[Item], *, unit: int = 1) -> list[Result]:
    """`work` on all items, a result each, in order. Every `unit` processes together take an equal share: all of them do
    the work, and the first one's results count.

    Raises:
        Or1labError: what `work` raised in any process, in every one of them; else they would wait for it for ever.
    """
    if processes() == 1:
        return list(work(list(items)))
    units, mine = dist.get_world_size() // unit, dist.get_rank() // unit
    results, error = None, None
    try:
        results = list(work(list(items[mine::units])))
    except Exception as caught:
        error = caught
    told = None if error is None else f"process {dist.get_rank()}: {type(error).__name__}: {error}"
    everyones: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyones, (results if dist.get_rank() % unit == 0 else None, told))
    if failures := [failure for _, failure in everyones if failure]:
        raise Or1labError(failures[0]) from error
    found: list[Any] = [None] * len(items)
    for n in range(units):
        found[n::units] = everyones[n * unit][0]
    return found


class Shared:
    """The engines of all processes as one; `unit` processes have one engine between them."""

    def __init__(self, engine: Engine, unit: int) -> None:
        self.engine, self.unit, self.name, self.alarms = engine, unit, engine.name, engine.alarms

    def generate(self, requests: Sequence[Request], *, tau: float, T: int) -> list[list[Sample]]:
        """The samples of all requests, in every process; each engine does its share. `alarms` are those of all."""
        samples = divided(lambda own: self.engine.generate(own, tau=tau, T=T), requests, unit=self.unit)
        if processes() > 1:
            everyones: list[Any] = [None] * processes()
            dist.all_gather_object(everyones, self.engine.alarms)
            self.alarms = [
                f"process {n}: {told}" for n in range(0, processes(), self.unit) for told in everyones[n]
            ]
        return samples

    def sync(self, named_weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Every process hands the weights to its own engine."""
        self.engine.sync(named_weights)

    def sleep(self) -> None:
        """Every engine gives its memory back."""
        self.engine.sleep()


def shared_reward(reward: RewardFn) -> RewardFn:
    """The same verdicts, each process judging its share of the responses."""

    def judge(problems: Sequence[Problem], texts: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
        def own(asked: list[tuple[Problem, str, bool]]) -> list[Verdict]:
            return verdicts(reward, *map(list, zip(*asked, strict=True))) if asked else []

        return divided(own, list(zip(problems, texts, truncated, strict=True)))

    return judge
