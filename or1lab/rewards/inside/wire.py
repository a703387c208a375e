"""Python values as plain JSON lists, for the channel between the judge and its sandboxed processes.

A value is written as `[root, table]`. Text, numbers, booleans and None stand for themselves; anything else is `[i]`,
the i-th entry of the table, which is flat: `["l", ...]` a list, `["d", key, value, ...]` a dict, and so on. Sharing
and cycles survive, and no depth of nesting costs stack here. What is rebuilt is of built-in types only, or an
instance of a class that the reader itself hands to `decode`: nothing that a submission returns brings code, or its
own `__eq__`, along.

Imported by the judge, and copied into the sandbox beside `child.py`: standard library only, and little of it,
since every submission pays for what is imported here.
"""

from __future__ import annotations

from _collections_abc import Iterator  # `collections` would be 3 ms more
from _json import encode_basestring_ascii as quote  # `json` itself would import `re`: 4 ms a process

TYPE_CHECKING = False  # `typing` is 8 ms
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Mapping
    from typing import Any
else:
    from _collections import deque

SEQUENCES: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "f", deque: "q"}
LONG = 10**4000  # a longer integer travels in hexadecimal: Python refuses to read more than 4300 decimal digits
SCALARS = (str, float, bool, type(None))


def encode(value: Any) -> list:
    """`[root, table]` of any value. What has no form becomes opaque: only its truth travels."""
    table: list[list] = []
    known: dict[int, list] = {}
    keep = []  # ids stay unique only while their objects live
    work: list[tuple[list, Any]] = []

    def refer(item: Any) -> Any:
        kind = type(item)
        if kind in SCALARS or (kind is int and -LONG < item < LONG):
            return item
        if id(item) not in known:
            known[id(item)] = [len(table)]
            keep.append(item)
            table.append([])
            work.append((table[-1], item))
        return known[id(item)]

    root = refer(value)
    while work:
        entry, item = work.pop()
        entry.extend(_entry(item, refer))
    return [root, table]


def _entry(item: Any, refer: Any) -> list:
    if isinstance(item, int):
        plain = int.__index__(item)
        return ["j", plain] if -LONG < plain < LONG else ["i", hex(plain)]
    if isinstance(item, str):
        return ["j", str.__str__(item)]
    if isinstance(item, float):
        return ["j", float.__float__(item)]
    for kind, tag in SEQUENCES.items():
        if isinstance(item, kind):
            return [tag, *map(refer, kind.__iter__(item))]  # type: ignore[attr-defined]
    if isinstance(item, dict):
        return ["d", *(refer(part) for pair in dict.items(item) for part in pair)]
    if isinstance(item, (bytes, bytearray)):
        return ["b", item.hex()]
    if isinstance(item, complex):
        return ["c", item.real, item.imag]
    if isinstance(item, range):
        return ["r", *map(refer, (item.start, item.stop, item.step))]
    if isinstance(item, Iterator):
        return ["n", *map(refer, item)]
    if type(getattr(item, "__dict__", None)) is dict and not isinstance(item, type) and not callable(item):
        return ["o", type(item).__name__, *(refer(part) for pair in item.__dict__.items() for part in pair)]
    return ["x", bool(item)]


def dumps(wire: list) -> str:
    """JSON of `[root, table]`, or of any list whose items are scalars or such lists."""
    return f"[{','.join(map(_text, wire))}]"


def _text(item: Any) -> str:
    kind = type(item)
    if kind is str:
        return quote(item)
    if kind is int:
        return int.__repr__(item)
    if kind is list:
        return dumps(item)
    if kind is float:
        return float.__repr__(item) if item - item == 0 else "NaN" if item != item else f"{'-' * (item < 0)}Infinity"
    return "null" if item is None else "true" if item else "false"


class Opaque:
    """A value that cannot travel. It equals nothing; it keeps its truth, for tests such as `assert match(...)`."""

    def __init__(self, truth: bool) -> None:
        self.truth = truth

    def __bool__(self) -> bool:
        return self.truth


def decode(wire: Any, classes: Mapping[str, Any] = {}) -> Any:
    """The value of `[root, table]`. Raises ValueError, TypeError or RecursionError on anything malformed."""
    root, table = wire
    built: dict[int, Any] = {}

    def value(reference: Any) -> Any:
        if not isinstance(reference, list):
            return reference
        (index,) = reference
        if index in built:
            return built[index]
        tag, *parts = table[index]
        if tag in MUTABLE:
            built[index] = MUTABLE[tag]()
            waiting.append((built[index], tag, parts))
        elif tag == "o":
            kind = classes.get(parts[0])
            if isinstance(kind, type):
                built[index] = object.__new__(kind)
                waiting.append((built[index], tag, parts[1:]))
            else:
                built[index] = Opaque(True)
        elif tag in ("t", "f"):
            built[index] = (tuple if tag == "t" else frozenset)(map(value, parts))
        elif tag == "r":
            built[index] = range(*map(value, parts))
        elif tag == "n":
            built[index] = iter([*map(value, parts)])
        else:
            built[index] = LEAVES[tag](*parts)
        return built[index]

    waiting: list[tuple[Any, str, list]] = []
    result = value(root)
    while waiting:
        target, tag, parts = waiting.pop()
        if tag == "d":
            target.update(zip(map(value, parts[::2]), map(value, parts[1::2]), strict=True))
        elif tag == "o":
            vars(target).update(zip(parts[::2], map(value, parts[1::2]), strict=True))
        elif tag == "s":
            target.update(map(value, parts))
        else:
            target.extend(map(value, parts))
    return result


MUTABLE: dict[str, Any] = {"l": list, "q": deque, "s": set, "d": dict}
LEAVES: dict[str, Any] = {
    "j": lambda item: item, "i": lambda text: int(text, 16), "b": bytes.fromhex, "c": complex, "x": Opaque,
}  # fmt: skip
