"""How long to fuzz: a few seconds among the tests, or OR1LAB_FUZZ_SECONDS=3600 for an hour, with a summary.

    OR1LAB_FUZZ_SECONDS=3600 python -m pytest -s -m 'not slow' tests/rewards/test_fuzz_code.py
"""

from __future__ import annotations

import os
import time
import traceback
from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, settings

SECONDS = float(os.environ.get("OR1LAB_FUZZ_SECONDS", 0))
seen: Counter[str] = Counter()  # what came out, by test


def fuzzed(examples: int) -> settings:
    """For one round of a property test: few examples that are the same each time, or new ones for hours."""
    return settings(
        max_examples=100 if SECONDS else examples, deadline=None, database=None, derandomize=not SECONDS,
        suppress_health_check=list(HealthCheck), print_blob=bool(SECONDS),
        phases=[Phase.explicit, Phase.generate] + [Phase.shrink] * (not SECONDS),
    )  # fmt: skip


def rounds(properties: list[Callable[[], None]]) -> None:
    """Each property once, or in turns until OR1LAB_FUZZ_SECONDS are over: then what fails is shown, and it goes on."""
    end, number, failed = time.monotonic() + SECONDS, 0, 0
    while number == 0 or time.monotonic() < end:
        for check in properties:
            try:
                check()
            except Exception:
                if not SECONDS:
                    raise
                failed += 1
                traceback.print_exc()
        number += 1
        if SECONDS:
            left = max(0, round(end - time.monotonic()))
            print(f"round {number}, {left} s left, {failed} failed: {dict(seen.most_common())}", flush=True)
    assert not failed
