"""Errors meant for the person at the keyboard: one message that says what is wrong and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Or1labError(Exception):
    """Something failed; the message names the mend. The command line prints it without a traceback."""

    exit_code = 1


class UsageError(Or1labError):
    """The call itself was wrong (unknown key, impossible combination, missing file)."""

    exit_code = 2


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the valid word nearest to `word`, or an empty string.

    >>> did_you_mean("D_t", ["D_R", "D_T", "gs"])
    " (did you mean 'D_T'?)"
    """
    near = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""


def check_names(names: Iterable[str], known: Iterable[str], kind: str) -> None:
    """Raise UsageError for the first of `names` that is not known, naming the nearest and all there are."""
    known = list(known)
    for name in names:
        if name not in known:
            there = f"are: {', '.join(known)}" if known else "are none"
            raise UsageError(f"no {kind} '{name}'{did_you_mean(name, known)}; there {there}")
