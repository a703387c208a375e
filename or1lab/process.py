"""What this process is set to: environment variables that torch, vLLM and wandb read at import, threads, and quiet; and
what it asks of others: a command's output, a while."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGUSR1)  # `kill`, and what schedulers send some time before they kill


def cores() -> int:
    """Those that this process may use: a container's share, not the whole machine; its part of them among the processes
    of a run."""
    all_ = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, all_ // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def output(*command: str, cwd: Path | None = None, timeout: float = 60) -> str | None:
    """What a command prints; None if it is absent, fails or hangs."""
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.5) -> bool:
    """Wait for something, so many seconds at most; whether it has come."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return met


def cache_folder() -> Path:
    """Where what was made or fetched once is kept: `$OR1LAB_CACHE`, else `~/.cache/or1lab`."""
    return Path(os.environ.get("OR1LAB_CACHE") or Path.home() / ".cache" / "or1lab")


def prepare() -> None:
    """Set what our engine needs and quiet what means nothing to a user; what the user has set wins.

    Imports nothing, and works only before torch is imported: `import or1lab` calls it."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in our process: weights are handed over
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # else two jobs are bound to the same first core
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")  # it advertises where a package of vLLM's is loaded
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # no Triton on a CPU: of course
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm.*")
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


def set_up(threads: int | None) -> None:
    """Torch's threads, and the silence of transformers; for a process that trains or samples."""
    import torch
    from transformers.utils import logging

    if threads:
        torch.set_num_threads(threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Inside, Python looks for no cycles of objects to free, which takes time where a command draws or reads much and
    ends soon. Processes forked inside do not look either."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextlib.contextmanager
def stdout_with_descriptor() -> Iterator[None]:
    """vLLM silences its libraries through the descriptor of stdout, which a notebook's stdout does not have."""
    try:
        sys.stdout.fileno()
    except io.UnsupportedOperation:
        with contextlib.redirect_stdout(sys.__stdout__):
            yield
    else:
        yield


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, a signal of STOPS ends the main thread's work as Ctrl-C does; the KeyboardInterrupt names it.

    Only the first: one more must not cut off what is written down at the end."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in STOPS:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
