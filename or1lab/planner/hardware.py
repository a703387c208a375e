"""Machines: GPUs by their peak figures, and how many of them, from `experiments/hardware.yaml`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from or1lab.environment import memory_gib
from or1lab.errors import UsageError, check_names
from or1lab.recipe import ROOT, read_yaml

FILE = ROOT / "experiments" / "hardware.yaml"
PER_NODE = 8  # GPUs of a node, where nobody says


@cache
def known() -> dict[str, Any]:
    """The file: efficiency, network, hop, gpus, cpu, lengths."""
    return read_yaml(FILE)


@dataclass(frozen=True)
class Device:
    """One GPU (or one CPU machine): what it reaches, peak x efficiency for a GPU.

    FLOP/s, and while it decodes; bytes/s of its memory, to its neighbours in the node, to other nodes, to its host;
    GiB. The rest are seconds: of a small sum over the GPUs of an engine, a decoding step, a layer in a forward and
    backward pass."""

    name: str
    flops: float
    bandwidth: float
    gib: float
    link: float = 0.0
    network: float = 0.0
    host: float = 0.0
    decoding: float = 0.0
    hop: float = 0.0
    step: float = 0.0
    layer: float = 0.0

    @property
    def is_gpu(self) -> bool:
        """A CPU has no link to a host."""
        return self.host > 0


@dataclass(frozen=True)
class Cluster:
    """`gpus` equal devices, `per_node` of them in a node."""

    device: Device
    gpus: int
    per_node: int

    @property
    def nodes(self) -> int:
        """The last one may be only partly used."""
        return -(-self.gpus // self.per_node)

    def rate(self, gpus: int) -> float:
        """bytes/s at which each of so many GPUs exchanges with the others: the slowest wire on the way."""
        return self.device.link if gpus <= self.per_node else min(self.device.link, self.device.network)

    def __str__(self) -> str:
        if not self.device.is_gpu:
            return "CPU"
        return f"{self.gpus} x {self.device.name}" + (f" on {self.nodes} nodes" if self.nodes > 1 else "")


def device(name: str, efficiency: float | None = None) -> Device:
    """A GPU by its name in any case, or "cpu". `efficiency` other than the file's is for who fits it.

    Raises UsageError naming the nearest for one that is not known."""
    file = known()
    if name.lower() == "cpu":
        return Device("CPU", gib=memory_gib(), **file["cpu"])
    names = {gpu.lower(): gpu for gpu in file["gpus"]}
    if name.lower() not in names:
        check_names([name.upper()], [*file["gpus"], "CPU"], "GPU")
    peak, share = file["gpus"][names[name.lower()]], efficiency or file["efficiency"]
    rates = {key: peak[key] * share for key in ("flops", "bandwidth", "link", "host")}
    rates["decoding"] = rates["flops"]
    return Device(names[name.lower()], gib=peak["gib"], network=file["network"] * share, hop=file["hop"], **rates)


def cluster(text: str, nodes: int | None = None, efficiency: float | None = None) -> Cluster:
    """`8xH100`: so many in all, eight to a node; with `nodes`, so many in each of them. `cpu` is this machine's.

    Raises:
        UsageError: another form, no GPU at all, a GPU that is not known.
    """
    if text.lower() in ("cpu", "1xcpu"):
        return Cluster(device("cpu"), 1, 1)
    found = re.fullmatch(r"(\d+)x(.+)", text, re.IGNORECASE)
    if not found:
        raise UsageError(f"--gpus {text}: a number, x and a name are wanted, as 8xH100, or cpu")
    count = int(found[1])
    if not count or (nodes is not None and nodes < 1):
        raise UsageError(f"--gpus {text}{'' if nodes is None else f' --nodes {nodes}'}: at least one GPU is needed")
    if nodes is None:
        return Cluster(device(found[2], efficiency), count, min(count, PER_NODE))
    if count > 2 * PER_NODE:
        raise UsageError(
            f"--gpus {text} --nodes {nodes}: with --nodes, --gpus counts those of one node, and {count} are more than "
            f"one has; leave --nodes out, or give {max(1, count // nodes)}x{found[2]}"
        )
    return Cluster(device(found[2], efficiency), count * nodes, count)
