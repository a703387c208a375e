"""Named places where a process can be made to end as a SIGKILL would end it: tests prove there that nothing is lost.

OR1LAB_KILL_AT=NAME ends the process when it reaches that place, OR1LAB_KILL_AT=NAME:3 when it does so for the third
time. A name that is in neither list is an error as soon as this module is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from or1lab.errors import UsageError, check_names

VARIABLE = "OR1LAB_KILL_AT"
EXIT_CODE = 113  # nothing else ends with it: a test that sees it knows that the place was reached
POINTS = (
    "metrics/before", "metrics/half", "metrics/after",  # one record; half: of its line
    "manifest/before", "manifest/aside", "manifest/renamed",  # aside: written, not yet under its name
    "rollouts/before", "rollouts/aside", "rollouts/renamed",
    "evals/before", "evals/aside", "evals/renamed",
    "filter/before", "filter/aside", "filter/renamed",
    "failures/before", "failures/aside", "failures/renamed",  # of a run that ends on a gradient that is not finite
    "truncate/before", "truncate/aside", "truncate/renamed", "truncate/after",  # records are cut, then files removed
    "checkpoint/before", "checkpoint/unsealed", "checkpoint/state", "checkpoint/aside", "checkpoint/gap",
    "checkpoint/renamed",  # unsealed: Hugging Face's files, state: ours too, aside: sealed, gap: an older one removed
    "prune/before", "prune/half", "prune/after",  # an old checkpoint
    "final/before", "final/aside", "final/gap", "final/renamed",
    "model/saved",  # the first files of a checkpoint, the only ones of the final model
    "optimizer/before", "optimizer/after",
    "sync/before", "sync/after",
    "finished/before", "finished/after",
)  # fmt: skip
EVALUATION_POINTS = (  # besides manifest/*
    "samples/before", "samples/aside", "samples/renamed",  # responses, as they come
    "scores/before", "scores/aside", "scores/renamed",  # verdicts on them; last, which answers are the same
    "evaluated/before", "evaluated/after",
)  # fmt: skip

_name, _left = "", 0


def arm(wanted: str) -> None:
    """End this process at `wanted` (NAME or NAME:n, counted from now), or nowhere if it is empty."""
    global _name, _left
    name, _, count = wanted.partition(":")
    if wanted:
        check_names([name], POINTS + EVALUATION_POINTS, "kill point")
        if not (count or "1").isdecimal():
            raise UsageError(f"{VARIABLE}={wanted}: after the colon comes a count")
    _name, _left = name, int(count or 1)


def kill_point(name: str, last_act: Callable[[], object] | None = None) -> None:
    """End the process if this is the place; `last_act` first leaves behind what no line of code would."""
    global _left
    if not _name:
        return
    check_names([name], POINTS + EVALUATION_POINTS, "kill point")
    if name == _name:
        _left -= 1
        if _left == 0:
            if last_act is not None:
                last_act()
            os._exit(EXIT_CODE)


arm(os.environ.get(VARIABLE, ""))
