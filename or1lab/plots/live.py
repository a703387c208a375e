"""The run card, redrawn in a notebook while the run trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from or1lab.plots.card import card

EVERY = 5.0  # seconds between redraws: each takes about half of one


def live_card(title: str = "") -> Callable[[dict[str, Any]], None]:
    """A watcher for `train.run(on_record=...)` that keeps one card below the cell up to date."""
    from IPython.display import display

    records: list[dict[str, Any]] = []
    handle = display("starting: the engine needs half a minute", display_id=True)
    drawn = 0.0

    def watch(record: dict[str, Any]) -> None:
        nonlocal drawn
        records.append(record)
        due = record["kind"] != "sgd" and time.monotonic() - drawn >= EVERY
        if due or record.get("final"):
            handle.update(card(pd.DataFrame(records), title))
            drawn = time.monotonic()

    return watch
