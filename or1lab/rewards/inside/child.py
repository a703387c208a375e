"""What runs inside the sandbox: loads a submission, or tests, and talks to the judge. Started by `sandbox.Child`.

    python -c "import child; child.main()" DESCRIPTOR

The first message on the descriptor says what to do (`role`): "stdio" runs a program once, "calls" loads a submission
and answers calls into it, "tests" runs test code whose calls go, through the judge, to another sandbox with the
submission. A process of the first two kinds belongs to the submission as soon as that has run one line: what it
answers is data that may be wrong, never a verdict. A process of the third kind has never seen the submission's code.

Messages to the child are marshalled (the judge is trusted), messages from it are JSON. Standard library only, and as
little of it as can be.
"""

from __future__ import annotations

import builtins
import marshal
import os
import resource
import sys

import wire  # found beside this file: the judge imports only that one

TYPE_CHECKING = False  # `typing` is 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Names that starter code of coding sites uses without importing them. Looked up only when a submission mentions them.
SITE_NAMES = {
    "typing": "Any Callable DefaultDict Deque Dict Iterable Iterator List Optional Sequence Set Tuple Union",
    "collections": "Counter OrderedDict defaultdict deque namedtuple",
    "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "itertools": "accumulate chain combinations combinations_with_replacement count cycle groupby islice pairwise "
                 "permutations product repeat starmap takewhile zip_longest",
    "functools": "cache cmp_to_key lru_cache partial reduce wraps",
    "math": "ceil comb cos dist exp factorial floor gcd hypot inf isqrt lcm log log10 log2 nan perm pi prod sin sqrt",
    "operator": "itemgetter xor",
    "copy": "deepcopy",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits",
    "random": "choice randint shuffle",
}  # fmt: skip
SITE_MODULES = "bisect collections copy functools heapq itertools json math operator os random re string sys typing"
HOME = {name: module for module, names in SITE_NAMES.items() for name in names.split()}


class Channel:
    """Length-prefixed messages over a socket that the judge holds the other end of."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def send(self, *message: Any) -> None:
        text = wire.dumps(list(message)).encode()
        rest = memoryview(len(text).to_bytes(4, "big") + text)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]

    def receive(self) -> Any:
        return marshal.loads(self._read(int.from_bytes(self._read(4), "big")))

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self.descriptor, min(size, 1 << 20))
            if not part:  # the judge has gone
                os._exit(1)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def restrict(limits: dict[str, int]) -> None:
    """Hard limits, before anything untrusted runs."""
    for name, value in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (ValueError, OSError):  # not every system lets itself be limited so (macOS)
            if sys.platform == "linux":
                raise


def module(name: str) -> dict[str, Any]:
    """The namespace of a new module."""
    created = type(sys)(name)
    sys.modules[name] = created
    namespace = vars(created)
    namespace["__builtins__"] = builtins
    return namespace


def begin(task: dict[str, Any], namespace: dict[str, Any], channel: Channel) -> None:
    """Run what the record puts before everything else."""
    try:
        exec(task["prefix"], namespace)
    except Exception as error:
        channel.send("prefix", type(error).__name__)
        os._exit(0)


def defined(namespace: dict[str, Any]) -> dict[str, type]:
    """The classes that a module itself has made: the only ones of which values may be rebuilt."""
    here = namespace["__name__"]
    return {name: item for name, item in namespace.items() if isinstance(item, type) and item.__module__ == here}


def supply(code: Any, namespace: dict[str, Any]) -> None:
    """Put the names of SITE_NAMES and SITE_MODULES that `code` mentions into its namespace."""
    pending, names = [code], set()
    while pending:
        part = pending.pop()
        names.update(part.co_names)
        pending.extend(const for const in part.co_consts if isinstance(const, type(code)))
    for name in names - namespace.keys():
        if name in HOME:
            namespace[name] = getattr(__import__(HOME[name]), name)
        elif name in SITE_MODULES.split():
            namespace[name] = __import__(name)


def parsed(source: bytes, channel: Channel) -> Any:
    """The submission's code, or no return: a submission that does not parse runs nothing."""
    try:
        return compile(source, "submission", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        channel.send("syntax")
        os._exit(0)


def stdio(task: dict[str, Any], channel: Channel) -> None:
    code = parsed(task["source"], channel)
    namespace = module("__main__")
    supply(code, namespace)
    channel.send("ready")
    os.close(channel.descriptor)
    exec(code, namespace)


def calls(task: dict[str, Any], channel: Channel) -> None:
    namespace = module("solution")
    begin(task, namespace, channel)
    code = parsed(task["source"], channel)
    supply(code, namespace)
    channel.send("ready")
    target: Any = None
    try:
        exec(code, namespace)
        target = task["entry"] and find(task["entry"], namespace)
    except BaseException as error:
        channel.send("raised", type(error).__name__)
        os._exit(0)
    if task["entry"] and target is None:
        channel.send("missing")
        os._exit(0)
    found = {name: namespace[name] for name in task["names"] if not isinstance(namespace.get(name, sys), type(sys))}
    kinds = [[name, None if callable(item) else wire.encode(item)] for name, item in found.items()]
    channel.send("loaded", [part for pair in kinds for part in pair])
    while True:
        name, arguments = channel.receive()
        args, kwargs = wire.decode(arguments, defined(namespace))
        before = wire.encode([args, kwargs]) if task["mutation"] else None
        try:
            result = (found[name] if name else target)(*args, **kwargs)
            answer = wire.encode(result)
            after = wire.encode([args, kwargs]) if task["mutation"] else None
            channel.send("value", answer, None if before == after else after)
        except BaseException as error:  # SystemExit too: leaving is no answer
            channel.send("raised", type(error).__name__)


def find(entry: str, namespace: dict[str, Any]) -> Callable | None:
    """`name`, as a method of class Solution or as a plain function, or any other expression as it stands."""
    if not entry.isidentifier():
        try:
            return eval(entry, namespace)
        except (NameError, AttributeError):
            return None
    owner = namespace.get("Solution")
    method = getattr(owner() if isinstance(owner, type) else None, entry, None)
    target = method or namespace.get(entry)
    return target if callable(target) else None


def tests(task: dict[str, Any], channel: Channel) -> None:
    namespace = module("tests")
    begin(task, namespace, channel)
    own, classes = set(namespace), defined(namespace)
    code = marshal.loads(task["code"])  # compiled by the judge, which runs the same Python

    def proxy(name: str) -> Callable:
        def candidate(*args: Any, **kwargs: Any) -> Any:
            channel.send("call", name, wire.encode([args, kwargs]))
            kind, answer, mutated = channel.receive()
            if kind == "raised":
                error = getattr(builtins, answer, None)
                raise (error if isinstance(error, type) and issubclass(error, Exception) else RuntimeError)
            if mutated:
                new_args, new_kwargs = wire.decode(mutated, classes)
                for old, new in zip([*args, *kwargs.values()], [*new_args, *new_kwargs.values()], strict=True):
                    write_back(old, new)
            return wire.decode(answer, classes)

        return candidate

    for name, value in zip(task["names"][::2], task["names"][1::2], strict=True):
        if name not in own:
            namespace[name] = proxy(name) if value is None else wire.decode(value, classes)

    supply(code, namespace)
    namespace[task["report"]] = lambda right: channel.send("test", right)
    try:
        exec(code, namespace)
        if task["entry"]:
            namespace["check"](proxy(""))
    except Exception as error:
        channel.send("stopped", type(error).__name__)
    channel.send("end")


def write_back(old: Any, new: Any) -> None:
    """Make an argument what the submission, working on a copy, has made of it."""
    if isinstance(old, list):
        old[:] = new
    elif isinstance(old, (dict, set)):
        old.clear()
        old.update(new)
    elif hasattr(old, "__dict__") and hasattr(new, "__dict__"):
        vars(old).update(vars(new))


def main() -> None:
    channel = Channel(int(sys.argv[1]))
    sys.argv[:] = ["main.py"]
    del sys.path[0]  # this folder
    sys.path.append("/packages")
    task = channel.receive()
    restrict(task["limits"])
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # the module that defines them (`site`) is not loaded
    sys.setrecursionlimit(50_000)  # as LiveCodeBench's runner
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    channel.send("started")
    {"stdio": stdio, "calls": calls, "tests": tests}[task["role"]](task, channel)
    if task["role"] == "tests":
        os._exit(0)
