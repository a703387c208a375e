"""Whether what a program printed or returned is what was expected, by LiveCodeBench's rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from or1lab.rewards.inside.wire import exact

# (input, what came back, what was expected) -> right? For problems with several valid outputs. A function's arguments
# are a list; what it returned comes as data of JSON, with NaN in place of what JSON cannot say.
Checker = Callable[[Any, Any, Any], bool]

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


def same_text(printed: str, expected: str) -> bool:
    """Line by line, without blanks at the ends of lines and of the whole; lines of numbers are equal as numbers."""
    left, right = printed.strip().split("\n"), expected.strip().split("\n")
    return len(left) == len(right) and all(map(_same_line, left, right))


def _same_line(left: str, right: str) -> bool:
    a, b = left.split(), right.split()
    if a == b:
        return True
    return (
        len(a) == len(b)
        and all(NUMBER.fullmatch(token) for token in a + b)
        and all(x == y or Decimal(x) == Decimal(y) for x, y in zip(a, b, strict=True))
    )


def same_value(returned: Any, expected: Any) -> bool:
    """Equal, both being data of JSON; True and 1, and 1 and 1.0, are."""
    try:
        return exact(returned) == exact(expected)
    except RecursionError:  # no record is so deep
        return False
