"""The walls of the sandbox: how bubblewrap is called, and which of them stand on this machine."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from or1lab.rewards import seccomp

SCRIPTS = Path(__file__).with_name("inside")
INSIDE = "/sandbox"  # where the child's scripts lie
START = 60.0  # seconds for the interpreter to start; generous, for a busy machine
TMP_BYTES = 64 << 20
PACKAGES = ("numpy", "sortedcontainers")  # what coding sites offer beside the standard library; there if installed here
ENVIRONMENT = {"HOME": "/tmp", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "TZ": "UTC"}
ENVIRONMENT["OPENBLAS_NUM_THREADS"] = "1"  # else numpy takes address space for every core
FIRST_USER = 1 << 30  # root's sandboxes run as users that no system has, so that their threads are counted one by one
PYTHON = [os.path.realpath(sys.executable), "-S", "-s", "-P", "-B", "-c"]
SHUT = ("--remount-ro", "/", "--")  # the last option, after all mounts
DEVICES = ("null", "urandom")


@functools.cache
def layers() -> dict[str, bool]:
    """Which walls stand on this machine: tried once, by looking at them from inside."""
    with contextlib.suppress(OSError):  # an installation that cannot be written compiles at every start
        for script in SCRIPTS.glob("*.py"):
            py_compile.compile(str(script), quiet=2)
    own_user = os.getuid() == 0 and _works(True)
    works = own_user or _works(False)
    return {
        "bubblewrap": works,  # namespaces, read-only root, private /tmp, no network
        "own user": own_user,  # as root: a user for each sandbox, who is not root outside either
        "system calls": works and _works(own_user, filtered=True),
        "limits": sys.platform == "linux",
    }


PROBE = """
import os, sys
sys.path.insert(0, "/sandbox")
import child
open_walls = [path for path in ("/", "/usr/lib", "/proc/sys/kernel") if os.access(path, os.W_OK)]
shut_doors = [name for name in os.listdir("/packages") if not os.access(f"/packages/{name}", os.R_OK)]
if open_walls or shut_doors or not os.getuid():
    os._exit(1)
"""
FORK = "import os\ntry: os.fork()\nexcept PermissionError: pass\nelse: os._exit(1)"


def _works(own_user: bool, filtered: bool = False) -> bool:
    """Whether a sandbox so built starts, with no hole to be seen from inside; `filtered`: with the filter, too."""
    text = seccomp.program() if filtered else b""
    if text is None:
        return False
    with memory_file(text) as file:
        options = [option for name in PACKAGES for option in _package(name)]
        options += ["--seccomp", str(file.fileno())] if filtered else []
        try:
            done = subprocess.run(
                [*_bubblewrap(own_user), *options, *SHUT, *_other_user(own_user), *PYTHON, FORK if filtered else PROBE],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=START, pass_fds=[file.fileno()], env=ENVIRONMENT,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return False
    return done.returncode == 0


# ------------------------------------------------------------------------------------------------ how they are built


def python(scripts: str, *arguments: str) -> list[str]:
    """The command line of the interpreter that runs `child.py`: imported, since that is compiled once."""
    start = f"import sys; sys.path.insert(0, {scripts!r}); import child; child.main()"
    return [*PYTHON, start, *arguments]


def walled(command: Sequence[str], alive: int, files: list[IO[bytes]], task: bytes) -> list[str]:
    """`command` inside all walls that stand here. `files` gets what has to be open until it has started.

    Of the PACKAGES those that `task` names are there: each mount takes its time."""
    options = ["--sync-fd", str(alive), *(o for name in PACKAGES if name.encode() in task for o in _package(name))]
    if layers()["system calls"]:
        files.append(memory_file(seccomp.program() or b""))
        options += ["--seccomp", str(files[-1].fileno())]
    own_user = layers()["own user"]
    return [*_bubblewrap(own_user), *options, *SHUT, *_other_user(own_user), *command]


@functools.cache
def _bubblewrap(own_user: bool) -> tuple[str, ...]:
    """The options that are the same for every child."""
    prefix = os.path.realpath(sys.base_prefix)
    binds = {path: path for path in ("/usr", prefix, "/etc/ld.so.cache") if os.path.exists(path)}
    binds[str(SCRIPTS)] = INSIDE
    links = []
    for link in ("/lib", "/lib64", "/lib32", "/bin"):
        if os.path.islink(link):
            links += ["--symlink", os.readlink(link), link]
        elif os.path.isdir(link):
            binds[link] = link
    options = [
        shutil.which("bwrap") or "bwrap", "--die-with-parent", "--new-session",
        "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup-try",
        "--hostname", "sandbox", "--cap-drop", "ALL",
    ]  # fmt: skip
    if own_user:
        options += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        options += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    # What bubblewrap makes by itself on the way to a mount is for the user who starts it alone.
    above = {str(folder) for path in binds.values() for folder in Path(path).parents} | {"/packages", "/dev"}
    for folder in sorted(above - {"/"}):
        options += ["--dir", folder]
    for path, inside in binds.items():
        options += ["--ro-bind", path, inside]
    # Read-only: root's sandbox is a process of root's, without capabilities, but owner of /proc/sys and so of the host.
    options += [*links, "--proc", "/proc", "--remount-ro", "/proc"]
    for device in DEVICES:
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        options += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    options += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return tuple(options)


@functools.cache
def _package(name: str) -> tuple[str, ...]:
    """The options that put it into /packages, if it is installed here."""
    spec = importlib.util.find_spec(name)
    options: list[str] = []
    for folder in spec and spec.submodule_search_locations or ():
        for suffix in ("", ".libs"):  # the second holds the shared libraries of a wheel
            if os.path.exists(folder + suffix):
                options += ["--ro-bind", folder + suffix, f"/packages/{name}{suffix}"]
    return tuple(options)


_started = itertools.count()


def _other_user(own_user: bool) -> list[str]:
    """What comes before the interpreter: it gives up root, and with it what the capabilities were for."""
    if not own_user:
        return []
    user = str(FIRST_USER + os.getpid() % (1 << 20) * 256 + next(_started) % 256)
    return ["/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all", "--"]


def memory_file(content: bytes) -> IO[bytes]:
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
