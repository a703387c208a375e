"""What runs inside the sandbox: loads a submission, or tests, and talks to the judge. Started by `sandbox.Child`.

    python -c "import child; child.main()" DESCRIPTOR

The first message on the descriptor says what to do (`role`): "stdio" runs a program once, "function" calls one of its
functions, "objects" lets test code use what it defines, "tests" runs that test code, in another sandbox, with the judge
in between. A process of the first three kinds belongs to the submission as soon as that has run one line: what it
answers is data that may be wrong, never a verdict. A process of the last kind has never seen the submission's code.

Messages to the child are marshalled (the judge is trusted), messages from it are JSON. Standard library only, and as
little of it as can be.
"""

from __future__ import annotations

import builtins
import marshal
import os
import resource
import sys

import wire  # found beside this file
from names import HOME, SITE_MODULES

TYPE_CHECKING = False  # `typing` is 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Python's own way out takes 2 ms: it is for programs in which something still runs, or is written, on that way.
LAST_WORDS = (b"__del__", b"open", b" io")


class Channel:
    """Length-prefixed messages over a socket that the judge holds the other end of."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def send(self, *message: Any) -> None:
        self.write(wire.dumps(list(message)))

    def write(self, message: str) -> None:
        text = message.encode()
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
    """Put the names of `names.py` that `code` mentions into its namespace."""
    pending, names = [code], set()
    while pending:
        part = pending.pop()
        names.update(part.co_names)
        pending.extend(const for const in part.co_consts if isinstance(const, type(code)))
    for name in names - namespace.keys():
        if name in HOME:
            namespace[name] = getattr(__import__(HOME[name]), name)
        elif name in SITE_MODULES:
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
    done = sys.stdout is sys.__stdout__ and sys.modules.keys().isdisjoint(("threading", "atexit"))
    if done and not any(word in task["source"] for word in LAST_WORDS):
        sys.stdout.flush()
        os._exit(0)


def load(task: dict[str, Any], channel: Channel) -> tuple[dict[str, Any], Any]:
    """The submission's namespace and the entry in it, or no return. Of a record's prefix, `shared` are the classes."""
    namespace = module("solution")
    begin(task, namespace, channel)
    task["shared"] = defined(namespace).keys()
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
    if target is None if task["entry"] else namespace.keys().isdisjoint(task["names"]):
        channel.send("missing")
        os._exit(0)
    return namespace, target


def function(task: dict[str, Any], channel: Channel) -> None:
    """What the entry, or another callee, returns for the arguments that come, in the form that is asked for."""
    namespace, target = load(task, channel)
    channel.send("loaded")
    while True:
        form, callee, args, kwargs = channel.receive()
        try:
            value = (eval(callee, namespace) if callee else target)(*args, **kwargs)
            channel.write(f'["value",{wire.quote(wire.exact(value)) if form == "exact" else wire.plain(value)}]')
        except BaseException as error:  # SystemExit too: leaving is no answer
            channel.send("raised", type(error).__name__)


def objects(task: dict[str, Any], channel: Channel) -> None:
    """The submission's objects for test code elsewhere: their attributes, and what calling them gives."""
    namespace, target = load(task, channel)
    objects: list[Any] = []
    numbers: dict[int, int] = {}

    def hold(item: Any) -> int:
        if id(item) not in numbers:
            numbers[id(item)] = len(objects)
            objects.append(item)
        return numbers[id(item)]

    def encode(item: Any) -> list:
        return wire.encode(item, hold, task["shared"])

    found = {name: namespace[name] for name in task["names"] if not isinstance(namespace.get(name, sys), type(sys))}
    try:
        channel.send("loaded", encode({**found, "": target}))
    except BaseException as error:
        channel.send("raised", type(error).__name__)
    while True:
        kind, number, what = channel.receive()
        try:
            if kind == "get":
                channel.send("value", encode(getattr(objects[number], what)), None)
                continue
            args, kwargs = wire.decode(what, lambda number, _: objects[number], defined(namespace))
            before = encode([args, kwargs])
            answer = encode(objects[number](*args, **kwargs))
            after = encode([args, kwargs])
            channel.send("value", answer, None if before == after else after)
        except BaseException as error:
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


class Remote:
    """An object of the submission's, seen by the tests: it equals nothing but itself, and has its attributes, its truth
    and what calling it gives from the other sandbox. Operators are not carried over: equality would be its own."""

    __slots__ = ("__ask", "__truth", "number")

    def __init__(self, ask: Callable, number: int, truth: bool) -> None:
        self.number, self.__ask, self.__truth = number, ask, truth

    def __bool__(self) -> bool:
        return self.__truth

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__ask("get", self.number, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__ask("call", self.number, [args, kwargs])


def tests(task: dict[str, Any], channel: Channel) -> None:
    """Test code, with the submission's objects as Remotes. Reports each test as it ends."""
    namespace = module("tests")
    begin(task, namespace, channel)
    own, classes = set(namespace), defined(namespace)
    code = marshal.loads(task["code"])  # compiled by the judge, which runs the same Python

    def decode(encoded: Any) -> Any:
        return wire.decode(encoded, lambda number, truth: Remote(ask, number, bool(truth)), classes)

    def ask(kind: str, number: int, what: Any) -> Any:
        encoded = what if kind == "get" else wire.encode(what, hold, classes)
        channel.send(kind, number, encoded)
        answer, *rest = channel.receive()
        if answer == "raised":
            error = getattr(builtins, rest[0], None)
            raise (error if isinstance(error, type) and issubclass(error, Exception) else RuntimeError)
        value, mutated = rest
        if mutated:
            for old, new in zip(_arguments(what), _arguments(decode(mutated)), strict=True):
                write_back(old, new)
        return decode(value)

    names = decode(task["names"])
    namespace.update((name, names[name]) for name in task["wanted"] if name in names and name not in own)
    supply(code, namespace)
    namespace[task["report"]] = lambda right: channel.send("test", right)
    try:
        exec(code, namespace)
        if task["entry"]:
            namespace["check"](names[""])
    except Exception as error:
        channel.send("stopped", type(error).__name__)
    channel.send("end")


def hold(item: Any) -> int:
    """Of the tests' own objects only data travel, and what came from the submission."""
    if not isinstance(item, Remote):
        raise TypeError(f"a {type(item).__name__} cannot be given to the submission")
    return item.number


def _arguments(what: Any) -> list:
    args, kwargs = what
    return [*args, *kwargs.values()]


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
    {"stdio": stdio, "function": function, "objects": objects, "tests": tests}[task["role"]](task, channel)
    if task["role"] == "tests":
        os._exit(0)
