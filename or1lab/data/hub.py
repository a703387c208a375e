"""Published problem sets (in the making)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from or1lab.data.problem import Problem
from or1lab.errors import UsageError


def rows(name: str, **options: Any) -> tuple[Iterator[tuple[int, Problem | str]], int | None]:
    raise UsageError(f"no file '{name}', and no published set of that name")
