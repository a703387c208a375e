"""What vLLM and torch read from the environment at import. Imports neither."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator


def prepare() -> None:
    """Set what our engine needs and quiet what means nothing to a user; what the user has set wins."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in our process: weights are handed over
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # else two jobs are bound to the same first core
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # no Triton on a CPU: of course
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm.*")
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


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
