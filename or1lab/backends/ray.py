"""Ray: a task a job, which Ray starts again on another node when its node is lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before ray is imported: nothing is reported to anybody

import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from or1lab.backends import STOPPED, Handle, handed
from or1lab.backends.task import Task
from or1lab.errors import Or1labError, UsageError, check_names

KNOWN = ("address", "num_cpus", "resources", "max_retries")


@ray.remote
def _execute(task: Task) -> str:
    return task()


def check(jobs: int, gpus: int, options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that is not in KNOWN, or that Ray refuses. Starts no Ray."""
    check_names(options, KNOWN, "--cluster key of ray")
    try:
        _execute.options(num_gpus=gpus, **{name: value for name, value in options.items() if name != "address"})
    except (TypeError, ValueError) as error:
        raise UsageError(f"--cluster: {error}") from None


class Ray:
    """Tasks on a cluster, or on this machine where none is running. `options`: `address`, and Ray's task options, such
    as `check` lets through.

    Raises Or1labError where there is no cluster at the address, or no node of it has so many GPUs."""

    queues = True
    stopped = STOPPED

    def __init__(self, jobs: int, gpus: int, options: dict[str, Any]) -> None:
        self.room, address = jobs, options.pop("address", None)
        self.options = {"num_cpus": 1, "num_gpus": gpus} | options
        host, _, port = (address or os.environ.get("RAY_ADDRESS", "")).rpartition("://")[2].rpartition(":")
        try:
            if host and port.isdecimal():  # Ray itself would wait for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (OSError, RuntimeError, ValueError) as error:
            raise Or1labError(
                f"no Ray cluster at {address or os.environ.get('RAY_ADDRESS')}: `ray start --head` on one machine "
                f"starts it, `ray status` shows its nodes ({error})"
            ) from None
        most = max((int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)
        if gpus > most:
            ray.shutdown()
            raise Or1labError(f"--gpus {gpus}, but no node of the Ray cluster has more than {most} (`ray status`)")

    def start(self, tasks: list[Task]) -> list[Handle]:
        """A Ray task each; Ray starts it again on another node where its own is lost."""
        return [handed(lambda task: _Remote(task.handed_to("Ray"), self.options), task) for task in tasks]

    def close(self, left: Sequence[Handle]) -> None:
        """Cancel what has not ended, and leave the cluster (it goes on, unless this sweep started it)."""
        for handle in left:
            if isinstance(handle, _Remote):
                ray.cancel(handle.result, force=True)
        ray.shutdown()


class _Remote:
    def __init__(self, task: Task, options: dict[str, Any]) -> None:
        self.group = None
        if options["num_gpus"] > 1:  # reserved together on one node, before jobs with fewer take them one by one
            bundle = {"CPU": options["num_cpus"], "GPU": options["num_gpus"]} | options.get("resources", {})
            self.group = placement_group([bundle], strategy="STRICT_PACK")
            options = options | {"scheduling_strategy": PlacementGroupSchedulingStrategy(self.group)}
        self.result = _execute.options(**options).remote(task)

    def poll(self) -> str | None:
        if not ray.wait([self.result], timeout=0)[0]:
            return None
        if self.group:
            remove_placement_group(self.group)
        try:
            return ray.get(self.result)
        except ray.exceptions.RayError as error:
            return f"Ray gave up: {' '.join(str(error).split())}"
