"""A few helper processes that answer one question at a time, each within a wall-clock limit.

For judges that may hang, swallow memory or crash on hostile input. A worker is a script run by this Python that
prints one line once it is ready and then answers each line of JSON with one line of JSON. It is started when first
needed, killed when it overruns, and replaced at the next question. A worker may limit its own processor time
(`ITIMER_PROF`): the end by that signal counts as overrun, too. Plain subprocesses instead of `multiprocessing`:
its children import the caller's `__main__` again, which in a notebook or an unguarded script may be anything.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from or1lab.errors import Or1labError

START_LIMIT = 120.0  # seconds for a worker's imports; generous, since it is spent once and the machine may be busy


class _Worker:
    def __init__(self, script: Path) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            # -P: the script's own folder stays off the path, where its neighbours could shadow standard modules.
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # the same verdicts in every run
            start_new_session=True,  # Ctrl-C in a terminal or notebook is for the caller alone
        )  # fmt: skip
        try:
            self._read_line(time.monotonic() + START_LIMIT)
        except (EOFError, TimeoutError):
            self.kill()
            raise Or1labError(f"{script.name} does not start; try: {sys.executable} -P {script} < /dev/null") from None

    def ask(self, question: Any, limit: float) -> Any:
        deadline = time.monotonic() + limit
        self._write_line(json.dumps(question).encode() + b"\n", deadline)
        return json.loads(self._read_line(deadline))

    # Reading and writing wait on the pipes themselves, so that a worker that stops in the middle of a line, or
    # never reads a question larger than a pipe, costs no more than its limit.

    def _write_line(self, line: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        rest = memoryview(line)
        while rest:
            _wait(descriptor, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BrokenPipeError:
                raise EOFError from None

    def _read_line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        line = b""
        while not line.endswith(b"\n"):
            _wait(descriptor, select.POLLIN, deadline)
            part = os.read(descriptor, 1 << 16)
            if not part:
                raise TimeoutError if self._process.wait() == -signal.SIGPROF else EOFError
            line += part
        return line

    def kill(self) -> None:
        """End the worker and what it started (it leads a session of its own)."""
        if self._owner != os.getpid():  # a forked child got a copy of the pool, not the workers
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may be gone already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def _wait(descriptor: int, event: int, deadline: float) -> None:
    """Until the pipe can be read or written. Raises TimeoutError at the deadline."""
    poller = select.poll()
    poller.register(descriptor, event)
    if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


class WorkerPool:
    """At most `size` workers running `script`; safe to call from several threads."""

    def __init__(self, script: Path, size: int) -> None:
        self.script, self.size = script, size
        # A stack, so that callers one at a time keep using the same worker; None is a place without a process.
        self._places: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(size):
            self._places.put(None)
        atexit.register(self.close)

    def ask(self, question: Any, limit: float) -> Any:
        """The worker's answer to a JSON-able question.

        Raises:
            TimeoutError: no answer within `limit` seconds (starting a worker not counted), or the worker ran out of
                the processor time that it gave itself.
            EOFError: the worker died of the question.
            Or1labError: workers do not start at all.
        """
        worker, healthy = self._places.get(), None
        try:
            worker = worker or _Worker(self.script)
            answer = worker.ask(question, limit)
            healthy = worker
            return answer
        finally:
            if worker is not None and healthy is None:
                worker.kill()
            self._places.put(healthy)

    def close(self) -> None:
        """End the idle workers; a later question starts new ones."""
        closed = 0
        while not self._places.empty():
            worker = self._places.get()
            closed += 1
            if worker is not None:
                worker.kill()
        for _ in range(closed):
            self._places.put(None)
