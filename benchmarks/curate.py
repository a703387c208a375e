"""Curation of many problems, duplicates and benchmark items planted among them: python -m benchmarks.curate [--json]

Stages read, dedupe, near and leaks over 50,000 generated problems (word problems of 24 to 90 words, a sixth with LaTeX,
and families of one wording that differ in a number only), with in addition, each at a known place:

    equal texts in another layout (blanks, case, LaTeX spacing), near-duplicates with one or two words exchanged,
    benchmark items as they are, with a word exchanged, and inside a longer text

Printed: the share of the planted that each stage removes, removals that were not planted, seconds, and the peak of
resident memory. Two cores at most are used: the process runs on the first two it may use.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.timing import add_output_options, deliver
from or1lab.data import load
from or1lab.data.curate import Wanted, curate
from or1lab.data.problem import Problem

PLANTED = ("layout", "one word", "two words", "item", "item, one word", "item inside")
STAGE_OF = {"layout": "dedupe", "one word": "near", "two words": "near"}
SHARE = 0.02  # of the problems, of each kind
ITEMS = 500

SYLLABLES = [
    a + b
    for a in (*"bdfgklmnprstvz", "br", "st", "tr")
    for b in (*"aeiou", "ai", "on", "er")
]
GLUE = (
    "the", "of", "and", "a", "in", "to", "is", "with", "for", "on", "each", "from", "that", "at", "by", "are", "has",
    "if", "then", "how", "many",
)  # fmt: skip
FORMULAS = (r"\frac{{{0}}}{{{1}}} + x", r"x^{{{0}}} - {1}x", r"\sqrt{{{0} + y}}", r"\left({0}, {1}\right)")


class Texts:
    """Wordings that have nothing in common but common words."""

    def __init__(self, seed: int) -> None:
        self.rng, self.used = random.Random(seed), 1000
        words = {"".join(self.rng.choices(SYLLABLES, k=self.rng.randint(2, 3))) for _ in range(9000)}
        self.words = sorted(words)

    def number(self) -> str:
        return str(self.rng.randint(2, 999))

    def text(self) -> str:
        rng = self.rng
        words = [rng.choice(GLUE) if rng.random() < 0.4 else rng.choice(self.words) for _ in range(rng.randint(24, 90))]
        for _ in range(rng.randint(2, 5)):
            words.insert(rng.randrange(len(words)), self.number())
        if rng.random() < 1 / 6:
            formula = rng.choice(FORMULAS).format(self.number(), self.number())
            words.insert(rng.randrange(len(words)), f"${formula}$")
        return " ".join(words).capitalize() + "?"

    def exchange(self, text: str, count: int) -> str:
        words = text.split(" ")
        places = [i for i, word in enumerate(words) if word.isalpha() and len(word) > 3]
        for i in self.rng.sample(places, count):
            words[i] = self.rng.choice(self.words)
        return " ".join(words)

    def layout(self, text: str) -> str:
        """The same text with other blanks, another case and LaTeX's other spellings."""
        prose, *formula = text.split("$")
        for one, other in ((r"\frac", r"\dfrac"), ("x^", r"x\, ^"), (r"\left(", "("), (r"\right)", ")")):
            formula = [part.replace(one, other) for part in formula]
        return "  ".join([prose.upper(), *formula]).replace(" ", "  ") + "\n"

    def renumber(self, text: str) -> str:
        """The same wording with another number, which is another problem."""
        numbers = list(re.finditer(r"\d+", text))
        place = self.rng.choice(numbers)
        self.used += 1  # a number that no other text has
        return text[: place.start()] + str(self.used) + text[place.end() :]


def problem(name: str, prompt: str, gold: str) -> Problem:
    return Problem(id=name, domain="math", prompt=prompt, gold=gold, source="generated", licence="CC0-1.0")


def generate(count: int, seed: int = 0) -> tuple[list[Problem], Iterator[Problem]]:
    """Benchmark items, and `count` problems of which 2% of each kind are planted; their ids begin with the kind."""
    texts = Texts(seed)
    items = [problem(f"item-{n}", texts.text(), texts.number()) for n in range(ITEMS)]

    def stream() -> Iterator[Problem]:
        rng = texts.rng
        recent: list[Problem] = []
        for n in range(count):
            draw = rng.random()
            kind = PLANTED[int(draw / SHARE)] if draw < SHARE * len(PLANTED) and recent else "new"
            origin = rng.choice(recent if kind in STAGE_OF else items) if kind != "new" else None
            name = f"{kind}-{n}"
            if origin is None:
                family = rng.random() < 0.2 and recent
                text = texts.renumber(rng.choice(recent).prompt) if family else texts.text()
                made = problem(name, text, texts.number())
                recent = [*recent[-999:], made]
                yield made
                continue
            text = {
                "layout": texts.layout,
                "item": texts.layout,
                "one word": lambda t: texts.exchange(t, 1),
                "item, one word": lambda t: texts.exchange(t, 1),
                "two words": lambda t: texts.exchange(t, 2),
                "item inside": lambda t: f"{texts.text()} {t} Answer in a box.",
            }[kind](origin.prompt)
            yield problem(name, text, str(origin.gold))

    return items, stream()


def resident() -> float:
    """The peak of this process's resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(count: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        made, against, out = (Path(folder) / name for name in ("in.jsonl", "items.jsonl", "out"))
        items, problems = generate(count)
        load.write(items, against)
        load.write(problems, made)
        kinds = Counter(p.id.rpartition("-")[0] for p in load.read(str(made)))
        before, begin, cpu = resident(), time.perf_counter(), time.process_time()
        wanted = Wanted((str(made),), (str(against),), ("dedupe", "near", "leaks"))
        funnel = curate(wanted, out)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        lines = (out / "removed.jsonl").read_text(encoding="utf-8").splitlines()
    removed = Counter(json.loads(line)["id"].rpartition("-")[0] for line in lines)
    return {
        "problems": count,
        "recall": {kind: removed[kind] / kinds[kind] for kind in PLANTED},
        "planted": {kind: kinds[kind] for kind in PLANTED},
        "false_removals": removed["new"],
        "not_planted": kinds["new"],
        "seconds": seconds,
        "cpu_seconds": cpu,  # the same on a busy machine
        "stage_seconds": {stage["stage"]: stage["seconds"] for stage in funnel["stages"]},
        "peak_mib": resident(),
        "before_mib": before,  # of it, what stood before: libraries, and the generator
    }


def show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['problems']:,} problems", title_justify="left")
    for column in ("planted", "number", "removed"):
        table.add_column(column, justify="left" if column == "planted" else "right")
    for kind, share in result["recall"].items():
        table.add_row(kind, f"{result['planted'][kind]:,}", f"{share:.1%}")
    table.add_row("none (false removals)", f"{result['not_planted']:,}", f"{result['false_removals']}")
    Console().print(table)
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result["stage_seconds"].items())
    print(f"{result['seconds']:.1f} s, {result['cpu_seconds']:.1f} s of CPU ({stages})")
    print(f"peak of memory {result['peak_mib']:.0f} MiB, {result['before_mib']:.0f} of them before the first stage")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=50_000, help="(default: 50000)")
    add_output_options(parser)
    options = parser.parse_args()
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:2]))
    result = measure(options.problems)
    deliver("curate", result, options, lambda: show(result))


if __name__ == "__main__":
    main()
