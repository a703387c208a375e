"""The code judge, against the same programs without isolation: python -m benchmarks.judge [--json]

Short programs, two at a time, in rounds: judged (a sandbox for each program), in a bare interpreter as anybody would
start it (`python FILE`), and in the leanest one (`python -I -S -E -B`, no site packages). Ratios are medians of rounds.
Then what 20 tests cost in relation to one, in the formats that run all of them in one process. CPU time is not
counted: it does not say what the kernel does for a namespace after its processes have ended. A busy machine slows both
sides, and the rate; the load is in the results.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.timing import add_output_options, alternate, deliver, ratio
from or1lab.rewards.code import judge
from or1lab.rewards.sandbox import layers

FORMATS = ("stdio", "function", "assert")
SOLUTION = """
def solve(items, k):
    best = total = sum(items[:k])
    for old, new in zip(items, items[k:]):
        total += new - old
        best = max(best, total)
    return best
"""
MAIN = "k, *items = map(int, input().split())\nprint(solve(items, k))\n"


def case(number: int) -> tuple[list[int], int, int]:
    """Arguments, and what they give: the largest sum of k neighbours."""
    items, k = [(number * 7 + i * 5) % 23 for i in range(12)], 3
    return items, k, max(sum(items[i : i + k]) for i in range(len(items) - k + 1))


def record(name: str, tests: int) -> dict[str, Any]:
    """A record of that format with so many tests."""
    cases = [case(number) for number in range(tests)]
    if name == "assert":
        return {"assert_case": [f"assert solve({items}, {k}) == {wanted}" for items, k, wanted in cases]}
    if name == "function":
        return {"inputs": [[items, k] for items, k, _ in cases], "outputs": [c[2] for c in cases], "fn_name": "solve"}
    inputs = [" ".join(map(str, [k, *items])) for items, k, _ in cases]
    return {"inputs": inputs, "outputs": [str(wanted) for *_, wanted in cases]}


def judged(name: str, tests: int = 1) -> None:
    verdict = judge(SOLUTION + (MAIN if name == "stdio" else ""), record(name, tests))
    if not verdict.correct:
        raise RuntimeError(f"a right program is judged {verdict}")


def bare(name: str, folder: Path, flags: list[str]) -> None:
    """The same program and test in a process that nothing confines."""
    items, k, wanted = case(0)
    test = {
        "stdio": MAIN, "function": f"print(solve({items}, {k}))",
        "assert": f"assert solve({items}, {k}) == {wanted}\nprint({wanted})",
    }[name]  # fmt: skip
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".py") as file:
        file.write(SOLUTION + test)
        file.flush()
        given = record("stdio", 1)["inputs"][0]
        done = subprocess.run([sys.executable, *flags, file.name], input=given, capture_output=True, text=True)
    if done.stdout.strip() != str(wanted):
        raise RuntimeError(f"a right program printed {done.stdout!r} {done.stderr!r}")


def timed(work: Callable[[str], None], names: tuple[str, ...], count: int, threads: int) -> Callable[[], float]:
    """Seconds for `count` pieces of work, formats in turn, so many at a time."""

    def run() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(work, [names[i % len(names)] for i in range(count)]):
                pass
        return time.perf_counter() - start

    return run


def measure(rounds: int, count: int, threads: int) -> dict[str, Any]:
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways: dict[str, Callable[[str], None]] = {
            "judge": judged,
            "python FILE": lambda format_: bare(format_, folder, []),
            "python -I -S -E -B FILE": lambda format_: bare(format_, folder, ["-I", "-S", "-E", "-B"]),
        }
        functions = {way: timed(work, FORMATS, count, threads) for way, work in ways.items()}
        functions |= {format_: timed(judged, (format_,), count // 3, threads) for format_ in FORMATS}
        for format_ in FORMATS[1:]:
            functions[f"{format_}, 20 tests"] = timed(lambda f: judged(f, 20), (format_,), count // 3, threads)
        seconds = alternate(functions, rounds)
    for key, values in seconds.items():  # of one verdict
        seconds[key] = [value / (count if key in ways else count // 3) for value in values]
    return {
        "per_second": {key: 1 / median(values) for key, values in seconds.items()},
        "judge_to_bare": {way: ratio(seconds["judge"], seconds[way])["ratio"] for way in list(ways)[1:]},
        "20_tests_to_1": {f: ratio(seconds[f"{f}, 20 tests"], seconds[f])["ratio"] for f in FORMATS[1:]},
        "rounds": rounds, "programs_a_round": count, "threads": threads, "layers": layers(),
        "load_before_and_after": [load, os.getloadavg()],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.judge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--programs", type=int, default=90, help="in a round (default: 90)")
    parser.add_argument("--threads", type=int, default=2, help="judged at a time (default: 2)")
    add_output_options(parser)
    options = parser.parse_args()
    results = measure(options.rounds, options.programs, options.threads)

    def show() -> None:
        table = Table(title=f"short programs, {options.threads} at a time", title_justify="left")
        for column in ("", "a second"):
            table.add_column(column, justify="right" if column else "left")
        for name, rate in results["per_second"].items():
            table.add_row(name, f"{rate:.0f}")
        Console().print(table)
        for way, times in results["judge_to_bare"].items():
            print(f"time of the judge / {way}: {times:.2f}")
        for name, times in results["20_tests_to_1"].items():
            print(f"{name}: 20 tests / 1 test: {times:.2f}")
        print("load of the machine before and after:", *(f"{load[0]:.1f}" for load in results["load_before_and_after"]))

    deliver("judge", results, options, show)


if __name__ == "__main__":
    main()
