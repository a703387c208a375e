"""What only a GPU can show, on any machine with CUDA: python -m benchmarks.gpu_check

Ten minutes at most, twenty with two GPUs. Each check runs in a process of its own with a limit on its time, so that a
crash or a full GPU fails that check alone. Those that want two GPUs are skipped where there is one. Exit code 1 where
one failed, or where there is no GPU.

--device cpu runs what a CPU can, on small shapes and without a target of speed: it exercises the code, no more.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu_checks import CHECKS, ON_CPU
from benchmarks.timing import add_output_options, deliver
from or1lab.backends.local import visible_gpus
from or1lab.environment import environment

STYLES = {"pass": "green", "fail": "red", "skipped": "dim"}
BUDGET = {1: 600.0, 2: 1200.0}  # seconds for all checks, by GPUs: with two there are three checks more


def run(name: str, devices: list[str], left: float = math.inf) -> dict[str, Any]:
    """Outcome, seconds, numbers and reason of a check, which ends after `left` seconds at the latest; `devices` empty:
    on the CPU."""
    _, limit, wanted = CHECKS[name]
    if not devices and name not in ON_CPU:
        return {"outcome": "skipped", "seconds": 0.0, "numbers": {}, "why": "wants a GPU"}
    if devices and len(devices) < wanted:
        return {"outcome": "skipped", "seconds": 0.0, "numbers": {}, "why": "wants two GPUs"}
    if left <= 0:
        return {"outcome": "fail", "seconds": 0.0, "numbers": {}, "why": "the checks before it took all the time"}
    begin, limit = time.monotonic(), min(limit, left)
    with TemporaryDirectory() as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        # TMPDIR: what a check writes goes with the folder, whatever ends it.
        env = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(devices[:wanted]), "TMPDIR": folder}
        command = [sys.executable, "-m", "benchmarks.gpu_check", "--one", name, "--result", str(result)]
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=env, stdout=file, stderr=file, start_new_session=True)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                pass
            finally:  # with all that it has started
                _end(process)
        found = json.loads(result.read_text()) if result.exists() else {"numbers": {}, "wrong": []}
        wrong, told = found["wrong"], log.read_text(errors="replace").strip()
        if not result.exists():
            ended = process.returncode != -signal.SIGKILL
            wrong = [told.splitlines()[-1] if ended and told else f"not finished in {limit:.0f} s, or killed"]
    outcome = {"outcome": "fail" if wrong else "pass", "seconds": time.monotonic() - begin}
    return outcome | {"numbers": found["numbers"], "why": "; ".join(wrong)} | ({"log": told[-4000:]} if wrong else {})


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def one(name: str, result: Path) -> None:
    """The process of a check."""
    numbers, wrong = CHECKS[name][0]()
    written = result.with_suffix(".part")
    written.write_text(json.dumps({"numbers": numbers, "wrong": wrong}), encoding="utf-8")
    written.rename(result)


def show(result: dict[str, Any]) -> None:
    devices = ", ".join(result["devices"])
    table = Table(title=f"GPU check, {devices}", title_justify="left", width=80)
    for column, justify in (("check", "left"), ("", "left"), ("s", "right"), ("measured", "left")):
        table.add_column(column, justify=justify, no_wrap=column in ("", "s"))  # type: ignore[arg-type]
    for name, check in result["checks"].items():
        numbers = ", ".join(f"{key} {short(value)}" for key, value in check["numbers"].items())
        told = "\n".join(filter(None, (numbers, check["why"])))
        outcome = check["outcome"]
        table.add_row(name, f"[{STYLES[outcome]}]{outcome}[/]", f"{check['seconds']:.0f}", told)
    console = Console(width=80)
    console.print(table)
    console.print(f"{result['seconds']:.0f} s in all", highlight=False)


def short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only what a CPU can")
    parser.add_argument("--only", action="append", choices=CHECKS, help="a check; may be repeated (default: all)")
    add_output_options(parser)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the process of a check
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.result)
        return
    devices = visible_gpus()[: torch.cuda.device_count()] if options.device == "cuda" else []
    if options.device == "cuda" and not devices:
        sys.exit(f"no CUDA device: torch {torch.__version__} sees none; --device cpu runs what a CPU can")
    begin, checks = time.monotonic(), {}
    budget = BUDGET[min(len(devices), 2)] if devices else math.inf
    for name in options.only or CHECKS:
        print(name, file=sys.stderr)
        checks[name] = run(name, devices, budget - (time.monotonic() - begin))
    hardware = environment()["hardware"]
    names = hardware["gpus"] if devices else [hardware["cpu"]]
    result = {"devices": names, "seconds": time.monotonic() - begin, "checks": checks}
    deliver("gpu_check", result, options, lambda: show(result))
    sys.exit(any(check["outcome"] == "fail" for check in checks.values()))


if __name__ == "__main__":
    main()
