"""Alternating timing: what is compared runs in turns in one process, so that a busy machine slows all of it alike.

A ratio is the time of stock divided by that of ours, above 1 where ours is faster: the median over rounds of each
round's own ratio, with the quartiles of the rounds as low and high.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from or1lab.environment import environment


def alternate(functions: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each round by name. A function returns its own seconds.

    The order rotates from round to round, so that nothing always runs after the same other.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()  # nobody pays for the garbage of the one before
            taken = functions[name]()
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def ratio(stock: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Time of stock / time of ours over the rounds of `alternate`, and the median seconds of both."""
    each = [a / b for a, b in zip(stock, ours, strict=True)]
    low, _, high = quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
    return {
        "ratio": median(each),
        "low": low,
        "high": high,
        "threads": torch.get_num_threads(),
        "stock": median(stock),
        "ours": median(ours),
    }


def deliver(name: str, results: Mapping[str, Any], options: argparse.Namespace, show: Callable[[], None]) -> None:
    """Print the results as a table (`show`) or as JSON, and save them with where they come from, if that is wanted."""
    if options.save:
        machine = {key: value for key, value in environment().items() if key in ("packages", "hardware")}
        origin = {"command": f"python -m benchmarks.{name}", **machine}
        options.save.write_text(json.dumps({**origin, "results": results}, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        show()


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark can do with its results."""
    parser.add_argument("--json", action="store_true", help="print a dict instead of the table")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the dict and the machine's description there")


def print_ratios(title: str, ratios: Mapping[str, Mapping[str, float]]) -> None:
    """A table with a row per comparison."""
    threads = {int(values["threads"]) for values in ratios.values()}
    table = Table(title=f"{title}; threads: {', '.join(map(str, sorted(threads)))}", title_justify="left")
    table.add_column("against")
    for column in ("stock, s", "ours, s", "stock / ours", "quartiles of rounds"):
        table.add_column(column, justify="right")
    for name, values in ratios.items():
        table.add_row(
            name,
            f"{values['stock']:.3f}",
            f"{values['ours']:.3f}",
            f"{values['ratio']:.2f}",
            f"{values['low']:.2f} to {values['high']:.2f}",
        )
    Console().print(table)
