"""Judging a stored evaluation of mathematics: python -m benchmarks.scoring [--json]

500 problems x 32 responses of a thousand characters, with 8 different answers a problem, so 4,000 pairs of a gold and
an answer: integers, fractions, terms with roots and powers, pairs and intervals in equal parts, half of them right in
some wording. Timed are the verdicts (`or1lab evaluate --rescore`), and which answers of a problem are the same, for
majority votes. The workers start with nothing remembered. Processor time is theirs and ours; on two idle cores the
clock shows about half of it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks.timing import add_output_options, deliver
from or1lab.data.problem import Problem
from or1lab.evaluation import Evaluation
from or1lab.rewards import get_reward
from or1lab.scoring import finish, score

PART = 64
WORDS = "We look at the equation again and see what is left of it. " * 18


def answers(i: int) -> tuple[str, list[str]]:
    """The gold of problem i, and 8 answers to it, the first 4 right."""
    a, b, c = i + 2, i + 3, 2 * i + 1
    kind = i % 4
    if kind == 0:
        n = 37 * i + 11
        return str(n), [str(n), f"{n}.0", f"{n:,}", f"x = {n}", str(n + 1), str(n - 1), f"{n}.5", f"-{n}"]
    if kind == 1:
        right = [rf"\frac{{{a}}}{{{b}}}", f"{a}/{b}", rf"\frac{{{2 * a}}}{{{2 * b}}}", rf"1 - \frac{{1}}{{{b}}}"]
        wrong = [rf"\frac{{{b}}}{{{a}}}", rf"\frac{{{a}}}{{{b + 1}}}", f"{a + 1}/{b}", rf"-\frac{{{a}}}{{{b}}}"]
        return right[0], right + wrong
    if kind == 2:
        right = [rf"{a}x^2 + \sqrt{{{b}}}", rf"\sqrt{{{b}}} + {a}x^2", rf"{a}x^{{2}}+{b}^{{1/2}}"]
        right.append(rf"x \cdot {a}x + \sqrt{{{b}}}")
        wrong = [rf"{a}x^2 - \sqrt{{{b}}}", rf"{b}x^2 + \sqrt{{{b}}}", rf"{a}x^3 + \sqrt{{{b}}}", rf"{a}x^2 + {b}"]
        return right[0], right + wrong
    right = [f"({a}, {c})", rf"\left({a},{c}\right)", f"({a}.0, {c})", rf"(\frac{{{2 * a}}}{{2}}, {c})"]
    wrong = [f"[{a}, {c}]", f"({c}, {a})", f"({a}, {c + 1})", f"{a}, {c}, {b}"]
    return right[0], right + wrong


def stored(folder: Path, problems: int, k: int) -> Evaluation:
    """An evaluation of that size without verdicts."""
    known = [Problem(id=f"p{i}", domain="math", prompt=f"Question {i}", gold=answers(i)[0]) for i in range(problems)]
    evaluation = Evaluation.create(folder, {"k": k, "limit": 4096, "scores": "timed"}, known)
    rows = [
        (f"p{i}", j, f"<think>{WORDS}</think>So it is \\boxed{{{answers(i)[1][j % 8]}}}.", 300 + j, False)
        for i in range(problems)
        for j in range(k)
    ]
    frame = pd.DataFrame(rows, columns=["problem_id", "sample", "response", "length", "truncated"])
    for start in range(0, len(frame), PART):
        evaluation.write_samples(frame[start : start + PART])
    return evaluation


def measure(problems: int, k: int) -> dict[str, Any]:
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        evaluation = stored(Path(name), problems, k)
        begin = clocks()
        for part in evaluation.parts():
            score(evaluation, part, get_reward("math"), "timed")
        judged = clocks()
        finish(evaluation, "timed")
        grouped = clocks()
        right = float(evaluation.correct().mean())
    return {
        "responses": problems * k, "pairs": problems * min(8, k), "right": right, "verdicts": between(begin, judged),
        "votes": between(judged, grouped), "load_before_and_after": [load, os.getloadavg()],
    }  # fmt: skip


def clocks() -> tuple[float, float]:
    """Seconds by the clock, and of processor time of this process and its workers."""
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return time.perf_counter(), sum(t.user + t.system for t in times)


def between(begin: tuple[float, float], end: tuple[float, float]) -> dict[str, float]:
    """What has passed."""
    return {"seconds": end[0] - begin[0], "processor_seconds": end[1] - begin[1]}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=500, help="default: 500")
    parser.add_argument("-k", type=int, default=32, help="responses of each (default: 32)")
    add_output_options(parser)
    options = parser.parse_args()
    found = measure(options.problems, options.k)

    def show() -> None:
        print(f"{found['responses']:,} responses, {found['pairs']:,} different pairs; right: {found['right']:.3f}")
        for name, what in (("verdicts", "verdicts"), ("votes", "which answers are the same")):
            one = found[name]
            print(f"{what}: {one['seconds']:.1f} s ({one['processor_seconds']:.1f} s of processor time)")

    deliver("scoring", found, options, show)


if __name__ == "__main__":
    main()
