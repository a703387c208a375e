"""A filter of system calls for the sandbox: no new processes, no way round the limits of memory, disk and network.

Threads may start, processes may not: one process is then all there is to limit and to kill, and limits of one process
(address space) are limits of the submission. Sockets are of the families that a network namespace confines: AF_VSOCK
reaches the host of a virtual machine from within any. A classic BPF program, assembled here, since it is a few dozen
instructions; for x86-64 and arm64.
"""

from __future__ import annotations

import errno
import functools
import platform
import struct

# (AUDIT_ARCH, {call: number}). `clone3` hides its flags from filters, so it is "not there": libc then uses `clone`.
ARCHITECTURES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (0xC000003E, {
        "clone": 56, "clone3": 435, "fork": 57, "vfork": 58, "ptrace": 101, "process_vm_readv": 310,
        "process_vm_writev": 311, "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "msgget": 68, "semget": 64,
        "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "keyctl": 250,
        "add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "io_uring_setup": 425, "open_by_handle_at": 304, "fsopen": 430, "move_mount": 429, "open_tree": 428,
        "socket": 41, "socketpair": 53,
    }),
    "aarch64": (0xC00000B7, {
        "clone": 220, "clone3": 435, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "msgget": 186, "semget": 190, "unshare": 97,
        "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "keyctl": 219, "add_key": 217,
        "request_key": 218, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425,
        "open_by_handle_at": 265, "fsopen": 430, "move_mount": 429, "open_tree": 428, "socket": 198, "socketpair": 199,
    }),
}  # fmt: skip
SPECIAL = ("clone", "clone3", "socket", "socketpair")  # refused for some arguments only
FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, ALLOW = 0x80000000, 0x7FFF0000
CLONE_THREAD = 0x10000


@functools.cache
def program() -> bytes | None:
    """The filter as bubblewrap reads it, or None for an architecture that is not known here."""
    if platform.machine() not in ARCHITECTURES or struct.calcsize("P") != 8:
        return None
    audit, numbers = ARCHITECTURES[platform.machine()]
    refuse = 0x00050000  # SECCOMP_RET_ERRNO
    rest = [number for name, number in numbers.items() if name not in SPECIAL]
    code = [
        (LOAD, 0, 0, 4), (EQUAL, 1, 0, audit), (RETURN, 0, 0, KILL),  # another architecture has other numbers
        (LOAD, 0, 0, 0),
        (AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL),  # so has x32
        (EQUAL, 0, 1, numbers["clone3"]), (RETURN, 0, 0, refuse | errno.ENOSYS),
    ]  # fmt: skip
    for number in rest:
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, refuse | errno.EPERM)]
    code += [
        (EQUAL, 1, 0, numbers["socket"]), (EQUAL, 0, len(FAMILIES) + 3, numbers["socketpair"]),
        (LOAD, 0, 0, 16),
        *((EQUAL, len(FAMILIES) - place, 0, family) for place, family in enumerate(FAMILIES)),
        (RETURN, 0, 0, refuse | errno.EAFNOSUPPORT), (RETURN, 0, 0, ALLOW),
        (EQUAL, 0, 3, numbers["clone"]),
        (LOAD, 0, 0, 16),  # the flags, lower half of the first argument
        (ANY_BIT, 1, 0, CLONE_THREAD), (RETURN, 0, 0, refuse | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
