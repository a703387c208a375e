"""Python values as JSON, for the channel between the judge and its sandboxed processes.

`plain` and `exact` write what a function returned as the text that it is compared as. `encode` and `decode` carry
values between the sandbox of a submission and that of its tests; the judge only hands them on, since rebuilding them
takes as long as whoever wrote them likes (the hash of a tuple of tuples of tuples, for one).

A value is written as `[root, table]`. Text, numbers, booleans and None stand for themselves; anything else is `[i]`,
the i-th entry of the table, which is flat: `["l", ...]` a list, `["d", key, value, ...]` a dict, and so on. Sharing
and cycles survive, and no depth of nesting costs stack here. What is rebuilt is of built-in types only, or an
instance of a class that the reader itself hands to `decode`: nothing that a submission returns brings code, or its
own `__eq__`, along. What has no such form stays where it is, and a number stands for it.

Standard library only, and little of it, since every submission pays for what is imported here.
"""

from __future__ import annotations

from _collections_abc import Iterator  # `collections` would be 3 ms more
from _json import encode_basestring_ascii as quote  # `json` itself would import `re`: 4 ms a process

TYPE_CHECKING = False  # `typing` is 8 ms
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Container, Mapping
    from typing import Any
else:
    from _collections import deque

SEQUENCES: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "f", deque: "q", type({}.keys()): "k"}
LONG = 10**4000  # a longer integer travels in hexadecimal: Python refuses to read more than 4300 decimal digits
SCALARS = (str, float, bool, type(None))
NOTHING = "NaN"  # equals nothing, itself included


def plain(value: Any) -> str:
    """JSON of a value as data: a tuple is a list, a key is text, an array of numpy's its numbers.

    What JSON cannot say, a set for one, becomes NaN."""
    if value is None or isinstance(value, (bool, float, str)):
        return _text(value if value is None or isinstance(value, bool) else _bare(value))
    if isinstance(value, int):
        return int.__repr__(value) if -LONG < value < LONG else NOTHING
    if isinstance(value, (list, tuple)):
        return f"[{','.join([plain(item) for item in value])}]"
    if isinstance(value, dict):
        items = {key if isinstance(key, str) else plain(key): item for key, item in value.items()}
        if len(items) < len(value) or any(isinstance(key, tuple) for key in value):
            return NOTHING
        return f"{{{','.join([f'{quote(key)}:{plain(item)}' for key, item in items.items()])}}}"
    return plain(value.tolist()) if hasattr(type(value), "tolist") else NOTHING


def exact(value: Any) -> str:
    """A text that values of built-in types have in common where they are equal. What has none has NaN in it."""
    if isinstance(value, (bool, int)):
        return hex(int.__index__(value))
    if isinstance(value, float):
        return hex(int(value)) if value.is_integer() else _text(_bare(value))
    if value is None or isinstance(value, str):
        return _text(None if value is None else _bare(value))
    if isinstance(value, (list, tuple, deque)):
        kind = "l" if isinstance(value, list) else "t" if isinstance(value, tuple) else "q"
        return f"{kind}[{','.join([exact(item) for item in value])}]"
    if isinstance(value, (set, frozenset, type({}.keys()))):
        return f"{{{','.join(sorted([exact(item) for item in value]))}}}"
    if isinstance(value, dict):
        return f"d{{{','.join(sorted([f'{exact(key)}:{exact(item)}' for key, item in value.items()]))}}}"
    if isinstance(value, (bytes, bytearray)):
        return f"b{value.hex()}"
    if isinstance(value, complex):
        return f"c{exact(value.real)},{exact(value.imag)}" if value.imag else exact(value.real)
    return exact(value.tolist()) if hasattr(type(value), "tolist") else NOTHING


def encode(value: Any, hold: Callable[[Any], int], shared: Container[str]) -> list:
    """`[root, table]` of any value.

    Args:
        hold: the number that stands for an object without a form.
        shared: names of classes that the reader knows, too: their instances travel with their attributes.
    """
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
        if type(item).__name__ in shared and type(getattr(item, "__dict__", None)) is dict:
            entry.extend(["o", type(item).__name__, *(refer(part) for pair in vars(item).items() for part in pair)])
        else:
            entry.extend(_entry(item, refer) or ["h", hold(item), bool(item)])
    return [root, table]


def _entry(item: Any, refer: Callable[[Any], Any]) -> list | None:
    """An item of a built-in type, or None for any other."""
    if isinstance(item, int):
        number = int.__index__(item)
        return ["j", number] if -LONG < number < LONG else ["i", hex(number)]
    if isinstance(item, (str, float)):
        return ["j", _bare(item)]
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
    if isinstance(item, (Iterator, type({}.values()), type({}.items()))):
        return ["n", *map(refer, item)]
    return ["w", refer(item.tolist())] if hasattr(type(item), "tolist") else None


def _bare(item: str | float) -> str | float:
    """Of exactly the built-in type."""
    return str.__str__(item) if isinstance(item, str) else float.__float__(item)


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
        return float.__repr__(item) if item - item == 0 else NOTHING if item != item else f"{'-' * (item < 0)}Infinity"
    return "null" if item is None else "true" if item else "false"


def decode(wire: Any, held: Callable[[int, bool], Any], classes: Mapping[str, Any]) -> Any:
    """The value of `[root, table]`. Raises ValueError, TypeError or RecursionError on anything malformed.

    Args:
        held: what a number stands for; the second argument is the object's truth.
        classes: of which instances may be rebuilt.
    """
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
            built[index] = object.__new__(classes[parts[0]])
            waiting.append((built[index], tag, parts[1:]))
        elif tag == "h":
            built[index] = held(*parts)
        elif tag in LEAVES:
            built[index] = LEAVES[tag](*parts)
        else:
            built[index] = BUILT[tag]([*map(value, parts)])
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
BUILT: dict[str, Any] = {
    "t": tuple, "f": frozenset, "n": iter, "r": lambda parts: range(*parts), "w": lambda parts: parts[0],
    "k": lambda parts: dict.fromkeys(parts).keys(),
}  # fmt: skip
LEAVES: dict[str, Any] = {"j": lambda item: item, "i": lambda text: int(text, 16), "b": bytes.fromhex, "c": complex}
