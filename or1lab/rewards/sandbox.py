"""A sandbox for untrusted Python: bubblewrap, limits, and a filter of system calls.

    with Child({"role": "stdio", "source": source}, limits, stdin=text) as child: ...

Inside: no network; new user, PID, IPC and UTS namespaces; an unprivileged user without capabilities; a read-only root
that holds the interpreter, the system's libraries and the PACKAGES and nothing else; an empty /tmp of limited size;
an empty environment; hard limits on CPU time, address space, file size and open files; no second process
(`seccomp.py`). The child dies with its parent. What runs inside is `child.py`.

Not covered: flaws of the kernel itself, the time that a submission can measure, and CPUs that leak what others compute.
As root the user inside is root outside too, though without capabilities and behind the same walls.

Where bubblewrap does not work, nothing runs, unless OR1LAB_UNSAFE_SANDBOX=1 is set: then limits of one process, an
empty environment and a folder of its own are all there is, and every verdict says so.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import marshal
import math
import os
import py_compile
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from or1lab.errors import Or1labError
from or1lab.rewards import seccomp

SCRIPTS = Path(__file__).with_name("inside")
OPT_IN = "OR1LAB_UNSAFE_SANDBOX"
INSIDE = "/sandbox"  # where the child's scripts lie
START = 60.0  # seconds for the interpreter to start; generous, for a busy machine
PARSE = 10.0  # seconds for reading a submission, beside those of a test
TMP_BYTES = 64 << 20
PACKAGES = ("numpy", "sortedcontainers")  # what coding sites offer beside the standard library; there if installed here
ENVIRONMENT = {"HOME": "/tmp", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "TZ": "UTC"}
ENVIRONMENT["OPENBLAS_NUM_THREADS"] = "1"  # else numpy takes address space for every core
DEVICES = ("null", "zero", "random", "urandom")
MEND = "install bubblewrap (apt-get install bubblewrap), and allow user namespaces where it is forbidden"


@dataclass(frozen=True)
class Limits:
    """What a submission may use. The times are the paper's: 6 s a test, min(7 x tests + 5, 300) s for all."""

    seconds: float = 6.0  # wall clock, a test
    total: float | None = None  # wall clock, all tests; None: the paper's rule
    memory: int = 2 << 30  # bytes of address space
    output: int = 16 << 20  # bytes that come back, a test
    file: int = 32 << 20  # bytes, the largest file
    files: int = 64  # open at a time

    def whole(self, tests: int) -> float:
        return min(7 * tests + 5, 300) if self.total is None else self.total

    def hard(self, seconds: float) -> dict[str, int]:
        """As `resource` names them. The wall clock ends a child earlier; CPU time is for when the judge has died."""
        return {
            "RLIMIT_CPU": math.ceil(seconds) + 1, "RLIMIT_AS": self.memory, "RLIMIT_FSIZE": self.file,
            "RLIMIT_NOFILE": self.files, "RLIMIT_CORE": 0,
        }  # fmt: skip


class Broken(Exception):
    """The child has gone, or what it sends is no message."""


class TooMuch(Exception):
    """The child sent more than it may."""


class Child:
    """One process in a sandbox of its own. Everything it started is gone when the block is left."""

    def __init__(self, task: dict[str, Any], limits: Limits, seconds: float, stdin: bytes | None = None) -> None:
        self.limits = limits
        self._folder = None if layers()["bubblewrap"] else _unsafe_folder()
        self._channel, theirs = socket.socketpair()
        # Held by nothing but processes inside: it closes when the last of them has ended.
        self._alive, alive = os.pipe()
        files: list[IO[bytes] | int] = []
        try:
            command, passed = _command(self._folder, theirs.fileno(), alive, files)
            given = _memory_file(stdin) if stdin is not None else None
            files += [given] if given else []
            self._process = subprocess.Popen(
                command, stdin=given or subprocess.DEVNULL, stderr=subprocess.DEVNULL,
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
                file.close() if not isinstance(file, int) else os.close(file)
        try:
            self.send({**task, "limits": limits.hard(seconds)}, time.monotonic() + START)
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
        text = marshal.dumps(message)
        self._channel.settimeout(max(deadline - time.monotonic(), 1e-3))
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
            self._channel.settimeout(max(deadline - time.monotonic(), 1e-3))
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
        while poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            part = os.read(pipe, 1 << 16)
            if not part:
                try:
                    return b"".join(parts), self._process.wait(max(deadline - time.monotonic(), 1e-3))
                except subprocess.TimeoutExpired:
                    break
            parts.append(part)
            size += len(part)
            if size > self.limits.output:
                raise TooMuch
        raise TimeoutError

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


def _command(folder: str | None, channel: int, alive: int, files: list) -> tuple[list[str], list[int]]:
    """The command line of a child, and the descriptors it needs; `files` gets what to close afterwards."""
    where = INSIDE if folder is None else str(SCRIPTS)
    start = f"import sys; sys.path.insert(0, {where!r}); import child; child.main()"  # imported: compiled once
    python = [os.path.realpath(sys.executable), "-S", "-s", "-P", "-B", "-c", start, str(channel)]
    if folder is not None:
        return python, [channel, alive]
    command, passed = list(_bubblewrap()), [channel, alive]
    command += ["--sync-fd", str(alive)]
    if layers()["system calls"]:
        files.append(_memory_file(seccomp.program() or b""))
        command += ["--seccomp", str(files[-1].fileno())]
        passed.append(files[-1].fileno())
    return [*command, "--", *python], passed


@functools.cache
def _bubblewrap() -> tuple[str, ...]:
    """The options that are the same for every child."""
    options = [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup-try"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--cap-drop", "ALL"),
        *("--die-with-parent", "--new-session"),
    ]
    for path in _readable():
        options += ["--ro-bind", path, path]
    for link in ("/lib", "/lib64", "/lib32", "/bin"):
        if os.path.islink(link):
            options += ["--symlink", os.readlink(link), link]
        elif os.path.isdir(link):
            options += ["--ro-bind", link, link]
    for path in ("/etc/ld.so.cache", "/usr/share/zoneinfo"):
        options += ["--ro-bind-try", path, path]
    # Read-only: root's sandbox is a process of root's, without capabilities, but owner of /proc/sys and so of the host.
    options += ["--proc", "/proc", "--remount-ro", "/proc"]
    for device in DEVICES:
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        options += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    options += ["--ro-bind", str(SCRIPTS), INSIDE]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in spec and spec.submodule_search_locations or ():
            for suffix in ("", ".libs"):  # the second holds the shared libraries of a wheel
                options += ["--ro-bind-try", folder + suffix, f"/packages/{name}{suffix}"]
    return (*options, "--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/")


def _readable() -> list[str]:
    """The interpreter's own folder and the system's libraries."""
    prefix = os.path.realpath(sys.base_prefix)
    if prefix == "/usr":
        return ["/usr"]
    return [path for path in ("/usr/lib", "/usr/lib64", "/usr/lib32", prefix) if os.path.isdir(path)]


def _memory_file(content: bytes) -> IO[bytes]:
    """A file of that content, without a name anywhere."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("input"), "w+b", buffering=0)
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    file.seek(0)
    return file


# ------------------------------------------------------------------------------------------------ which layers work


@functools.cache
def layers() -> dict[str, bool]:
    """Which walls stand on this machine: tried once, by looking at them from inside."""
    with contextlib.suppress(OSError):  # an installation that cannot be written compiles at every start
        for script in SCRIPTS.glob("*.py"):
            py_compile.compile(str(script), quiet=2)
    base = [*_bubblewrap(), "--", os.path.realpath(sys.executable), "-S", "-s", "-P", "-c"]
    open_walls = "import os; os._exit(any(os.access(path, os.W_OK) for path in ('/', '/usr/lib', '/proc/sys/kernel')))"
    works = shutil.which("bwrap") is not None and _runs([*base, open_walls])
    return {
        "bubblewrap": works,  # namespaces, read-only root, private /tmp, no network
        "system calls": works and _filter_works(base),
        "limits": sys.platform == "linux",
    }


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


def _filter_works(base: list[str]) -> bool:
    text = seccomp.program()
    if text is None:
        return False
    with _memory_file(text) as file:
        option = ["--seccomp", str(file.fileno())]
        code = "import os\ntry: os.fork()\nexcept PermissionError: pass\nelse: os._exit(1)"
        return _runs([base[0], *option, *base[1:], code], file.fileno())


def _runs(command: list[str], *passed: int) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=START, pass_fds=passed, env=ENVIRONMENT
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
