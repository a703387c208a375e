"""A sandbox for untrusted Python: bubblewrap, limits, and a filter of system calls.

    with Child({"role": "stdio", "source": source}, limits, stdin=text) as child: ...

Inside: no network; new PID, IPC and UTS namespaces; an unprivileged user without capabilities (in a user namespace, or,
as root, a user of its own for each); a read-only root that holds /usr, the interpreter and the PACKAGES and nothing
else; an empty /tmp of limited size; an empty environment; hard limits on CPU time, address space, file size, open files
and threads; no second process (`seccomp.py`). The child dies with its parent. How the walls are built is in `walls.py`;
what runs inside is `inside/child.py`.

Not covered: flaws of the kernel itself, the time that a submission can measure, and CPUs that leak what others compute.
Where root cannot change to another user (a container without the right to), the user inside is root outside too, though
without capabilities and behind the same walls, and the number of threads has no limit.

Where bubblewrap does not work, nothing runs, unless OR1LAB_UNSAFE_SANDBOX=1 is set: then limits of one process, an
empty environment and a folder of its own are all there is, and every verdict says so.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO, Any

from or1lab.errors import Or1labError
from or1lab.rewards.walls import ENVIRONMENT, INSIDE, SCRIPTS, START, layers, memory_file, python, walled

OPT_IN = "OR1LAB_UNSAFE_SANDBOX"
PARSE = 10.0  # seconds for reading a submission, beside those of a test
THREADS = 1024
MEND = "install bubblewrap (apt-get install bubblewrap), and allow user namespaces where it is forbidden"


@dataclass(frozen=True)
class Limits:
    """What a submission may use. The paper's times: 6 s a test, 2 s an assert, min(7 x tests + 5, 300) s for all."""

    seconds: float = 6.0  # wall clock, a test
    assert_seconds: float = 2.0  # wall clock, a test that is an assert; `seconds` where that is less
    total: float | None = None  # wall clock, all tests; None: the paper's rule
    memory: int = 2 << 30  # bytes of address space; an honest gigabyte fits (the paper: 50 GB for all that runs)
    output: int = 16 << 20  # bytes that come back, a test
    file: int = 32 << 20  # bytes, the largest file
    files: int = 64  # open at a time

    def whole(self, tests: int) -> float:
        return min(7 * tests + 5, 300) if self.total is None else self.total

    def hard(self, seconds: float) -> dict[str, int]:
        """As `resource` names them. The wall clock ends a child earlier; CPU time is for when the judge has died."""
        return {
            "RLIMIT_CPU": math.ceil(seconds) + 1, "RLIMIT_AS": self.memory, "RLIMIT_FSIZE": self.file,
            "RLIMIT_NOFILE": self.files, "RLIMIT_NPROC": THREADS, "RLIMIT_CORE": 0,
        }  # fmt: skip


class Broken(Exception):
    """The child has gone, or what it sends is no message."""


class TooMuch(Exception):
    """The child sent more than it may."""


class Child:
    """One process in a sandbox of its own. Everything it started is gone when the block is left."""

    def __init__(self, task: dict[str, Any], limits: Limits, seconds: float, stdin: bytes | None = None) -> None:
        self.limits = limits
        try:
            message = marshal.dumps({**task, "limits": limits.hard(seconds)})
        except ValueError:  # what a submission says of itself, too deeply nested to hand on
            raise Broken from None
        self._folder = None if layers()["bubblewrap"] else _unsafe_folder()
        self._channel, theirs = socket.socketpair()
        # Held by nothing but processes inside: it closes when the last of them has ended.
        self._alive, alive = os.pipe()
        files: list[IO[bytes]] = []
        try:
            command = python(self._folder and str(SCRIPTS) or INSIDE, str(theirs.fileno()))
            if not self._folder:
                command = walled(command, alive, files, message)
            passed = [theirs.fileno(), alive, *(file.fileno() for file in files)]
            if stdin is not None:
                files.append(given := memory_file(stdin))
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL if stdin is None else given, stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                pass_fds=passed, env=ENVIRONMENT, cwd=self._folder, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._channel.close()
            os.close(self._alive)
            raise Or1labError(f"the sandbox does not start ({error}); {MEND}") from None
        finally:
            theirs.close()
            os.close(alive)
            for file in files:
                file.close()
        try:
            if self._process.stdout:
                os.fchmod(self._process.stdout.fileno(), 0o666)  # else another user cannot open /dev/stdout
            self._write(message, time.monotonic() + START)
        except (TimeoutError, Broken):
            self.close()
            raise Or1labError(f"the sandbox does not start; {MEND}") from None
        except BaseException:
            self.close()
            raise
        self._started = False

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: Any, deadline: float) -> None:
        """Raises TimeoutError, or Broken."""
        try:
            text = marshal.dumps(message)
        except ValueError:  # an answer too deeply nested to hand on
            raise Broken from None
        self._write(text, deadline)

    def _write(self, text: bytes, deadline: float) -> None:
        self._channel.settimeout(_left(deadline))
        try:
            self._channel.sendall(len(text).to_bytes(4, "big") + text)
        except TimeoutError:
            raise
        except OSError:
            raise Broken from None

    def receive(self, deadline: float) -> list:
        """The next message: a list that begins with a word. Raises TimeoutError, Broken or TooMuch."""
        if not self._started:
            self._started = True
            try:
                self.receive(time.monotonic() + START)
            except (TimeoutError, Broken):
                raise Or1labError(f"the sandbox does not start; {MEND}") from None
            deadline = max(deadline, time.monotonic() + PARSE)
        size = int.from_bytes(self._read(4, deadline), "big")
        if size > self.limits.output:
            raise TooMuch
        try:
            message = json.loads(self._read(size, deadline))
        except (ValueError, RecursionError, MemoryError):
            raise Broken from None
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            raise Broken
        return message

    def _read(self, size: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        while size:
            self._channel.settimeout(_left(deadline))
            try:
                part = self._channel.recv(min(size, 1 << 20))
            except TimeoutError:
                raise
            except OSError:
                raise Broken from None
            if not part:
                raise Broken
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def output(self, deadline: float) -> tuple[bytes, int]:
        """All that the child prints until it ends, and its exit status. Raises TimeoutError or TooMuch."""
        assert self._process.stdout is not None
        pipe, size = self._process.stdout.fileno(), 0
        parts: list[bytes] = []
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        while True:
            if not poller.poll(_left(deadline) * 1000):
                raise TimeoutError
            part = os.read(pipe, 1 << 16)
            if not part:
                break
            parts.append(part)
            size += len(part)
            if size > self.limits.output:
                raise TooMuch
        try:
            return b"".join(parts), self._process.wait(_left(deadline))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None

    def close(self) -> None:
        """End every process inside, and wait until they have ended."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._channel.close()
        if self._process.stdout:
            self._process.stdout.close()
        poller = select.poll()
        poller.register(self._alive, 0)  # only the hang-up counts
        poller.poll(5000)
        os.close(self._alive)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _left(deadline: float) -> float:
    """Seconds until then. Raises TimeoutError when there are none: what trickles in for ever is late all the same."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def unsafe() -> bool:
    """Whether submissions run without bubblewrap here, because somebody chose so."""
    return not layers()["bubblewrap"] and os.environ.get(OPT_IN) == "1"


def active() -> dict[str, bool]:
    """What protects this machine, as manifests and reports say it."""
    return {**layers(), "unsafe": unsafe()}


def require() -> None:
    """Raises Or1labError where nothing may run: no bubblewrap, and nobody chose to do without."""
    if not layers()["bubblewrap"] and not unsafe():
        raise Or1labError(
            f"bubblewrap does not work here, and code of a model is not run without it; {MEND}; "
            f"or set {OPT_IN}=1 to run it nearly unprotected, with every verdict marked"
        )


def _unsafe_folder() -> str:
    require()
    return tempfile.mkdtemp(prefix="or1lab-unsafe-")
