"""`or1lab data stats | show | convert`: what a file of problems or a published set holds."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Column, Table
from rich.text import Text

from or1lab.data import load
from or1lab.data.load import Loaded
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError

LENGTHS = {"shortest": 0.0, "quarter": 0.25, "median": 0.5, "three quarters": 0.75, "95%": 0.95, "longest": 1.0}
BARS = "▁▂▃▄▅▆▇█"
LONG = 1500  # characters of a text on screen
REASONS, NAMED = 20, 5  # on screen, and places named for each
TESTS = 2  # tests of a problem on screen


def opened(source: str, options: Sequence[str], *, strict: bool = False) -> Loaded:
    """The file or set of a command line, with its options KEY=VALUE."""
    pairs = dict(item.partition("=")[::2] for item in options)
    if not all(pairs.values()) or len(pairs) < len(options):
        raise UsageError(f"options are KEY=VALUE, each once; given: {' '.join(options)}")
    return load.read(source, strict=strict, options=pairs)


def watched(loaded: Loaded) -> Iterator[Problem]:
    """The same problems, with a bar in a terminal."""
    screen = Console(stderr=True)
    return iter(
        track(loaded, "reading", total=loaded.total, console=screen, transient=True, disable=not screen.is_terminal)
    )


def some(loaded: Loaded) -> Iterator[Problem]:
    """The same problems, watched. Raises Or1labError, in the end, if there were none."""
    empty = True
    for problem in watched(loaded):
        empty = False
        yield problem
    if empty:
        first = f"; {loaded.unit} {loaded.skipped[0].number}: {loaded.skipped[0].reason}" if loaded.skipped else ""
        raise Or1labError(f"{loaded.name} holds no problem{first}")


# ------------------------------------------------------------------------------------------------------- stats


def stats(problems: Iterable[Problem]) -> dict[str, Any]:
    """Counts and distributions, in one pass; lengths in characters, difficulty as solved/samples -> problems."""
    import numpy as np

    counts: dict[str, Counter[str]] = {name: Counter() for name in ("domain", "source", "licence")}
    difficulty: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    lengths: list[int] = []
    tests: list[int] = []
    solutions = 0
    for problem in problems:
        for name, counter in counts.items():
            counter[getattr(problem, name)] += 1
        for model, known in problem.difficulty.items():
            difficulty[model][known.solved, known.samples] += 1
        lengths.append(len(problem.prompt))
        tests += [count_tests(problem.tests)] if problem.tests else []
        solutions += problem.solution is not None

    def spread(values: list[int]) -> dict[str, int]:
        if not values:
            return {}
        found = np.quantile(values, list(LENGTHS.values()), method="inverted_cdf")
        return dict(zip(LENGTHS, map(int, found), strict=True))

    return {
        "problems": len(lengths),
        **{name: dict(counter.most_common()) for name, counter in counts.items()},
        "with_solution": solutions,
        "prompt_characters": spread(lengths),
        "tests_per_problem": spread(tests),
        "difficulty": {
            model: {f"{solved}/{samples}": n for (solved, samples), n in sorted(counter.items(), key=_share)}
            for model, counter in sorted(difficulty.items())
        },
    }


def _share(item: tuple[tuple[int, int], int]) -> Fraction:
    return Fraction(*item[0])


def count_tests(tests: Any) -> int:
    """How many tests a record of any kind holds."""
    if isinstance(tests, list):
        return len(tests)
    if "test_code" in tests:
        return len(re.findall(r"^\s*assert\b", tests["test_code"], re.MULTILINE))
    return len(tests.get("inputs") or tests.get("assert_case") or [])


def skipped_json(loaded: Loaded) -> dict[str, Any]:
    """The rows that are no problems: how many, how often each reason, and the place of each."""
    return {
        "count": len(loaded.skipped),
        "reasons": dict(Counter(row.reason for row in loaded.skipped).most_common()),
        "each": [{loaded.unit: row.number, "reason": row.reason} for row in loaded.skipped],
    }


def report(loaded: Loaded) -> dict[str, Any]:
    """The stats of all there is. Raises Or1labError if that is nothing."""
    return {"source": loaded.name, **stats(some(loaded)), "skipped": skipped_json(loaded)}


def show_stats(found: dict[str, Any], console: Console) -> None:
    """Print what `report` has found; of domains, sources and licences the 20 most frequent."""
    total = found["problems"]
    table = Table("", "", "problems")
    for name in ("domain", "source", "licence"):
        for value, n in list(found[name].items())[:20]:
            table.add_row(name, Text(safe(value) or "(none stated)"), f"{n} ({n / total:.1%})")
            name = ""
        table.add_section()
    table.add_row("all", f"{found['with_solution']} with a solution", str(total))
    console.print(table)
    for name, title in (("prompt_characters", "characters of a prompt"), ("tests_per_problem", "tests of a problem")):
        if spread := found[name]:
            console.print(f"{title}: " + ", ".join(f"{key} {value}" for key, value in spread.items()), highlight=False)
    if found["difficulty"]:
        console.print(_difficulty(found["difficulty"]))
    show_skipped(found["skipped"], console)


def _difficulty(found: dict[str, dict[str, int]]) -> Table:
    model = Column("solved by", overflow="fold")
    table = Table(model, "problems", "never", "sometimes", "always", "0 ····· 1")
    for name, histogram in found.items():
        shares = {Fraction(key): n for key, n in histogram.items()}
        total, never, always = sum(shares.values()), shares.get(Fraction(0), 0), shares.get(Fraction(1), 0)
        bins = [0] * (len(BARS) + 1)
        for share, n in shares.items():
            bins[int(share * len(BARS))] += n
        bars = "".join(BARS[min(n * len(BARS) // max(bins), len(BARS) - 1)] if n else " " for n in bins)
        parts = (f"{n / total:.1%}" for n in (never, total - never - always, always))
        table.add_row(Text(safe(name)), str(total), *parts, bars)
    return table


def show_skipped(skipped: dict[str, Any], console: Console) -> None:
    """One line for each of the most frequent reasons, with the first places; --json names every one."""
    places: dict[str, list[str]] = defaultdict(list)
    for row in skipped["each"]:
        (unit, number), (_, reason) = row.items()
        places[reason].append(f"{unit} {number}")
    for reason, n in list(skipped["reasons"].items())[:REASONS]:
        named = ", ".join(places[reason][:NAMED]) + (", …" if n > NAMED else "")
        console.out(f"skipped {n}: {reason} ({named})", style="yellow", highlight=False)
    if skipped["count"]:
        more = len(skipped["reasons"]) - REASONS
        rest = f", for {more} more reasons (--json lists all)" if more > 0 else ""
        console.print(f"skipped: {skipped['count']} in all{rest}", style="yellow", highlight=False)


# ------------------------------------------------------------------------------------------------------- show


def pick(loaded: Loaded, n: int, id: str | None = None) -> list[Problem]:
    """The first `n` problems, or the one with that id. Raises Or1labError if there is none."""
    among = loaded if id is None else (problem for problem in watched(loaded) if problem.id == id)
    found = list(islice(among, n if id is None else 1))
    if not found:
        raise Or1labError(f"{loaded.name} holds no problem" + (f" '{id}'" if id is not None else ""))
    return found


def show_problem(problem: Problem, console: Console) -> None:
    """Print one problem; long texts are cut at LONG characters, control characters made visible."""
    def line(name: str, text: str, style: str = "") -> None:
        console.out(f"{name}: {cut(text)}", style=style, highlight=False)

    console.rule(Text(safe(problem.id)))
    origin = (problem.domain, problem.source or "no source", problem.licence or "no licence stated")
    line("domain", " · ".join(origin), "dim")
    console.out(cut(problem.prompt), style="bold", highlight=False)
    if problem.gold is not None:
        line("gold", " | ".join(problem.golds), "green")
    if problem.tests:
        line(f"{count_tests(problem.tests)} tests", shown_tests(problem.tests), "green")
    if problem.solution:
        line("solution", problem.solution)
    for model, known in problem.difficulty.items():
        line("difficulty", f"{model} solved {known.solved} of {known.samples}", "dim")
    if problem.meta:
        line("meta", ", ".join(f"{key} {value}" for key, value in problem.meta.items()), "dim")


def shown_tests(tests: Any) -> str:
    """The first tests of a record, or its code."""
    if isinstance(tests, list):
        pairs = [(test.get("input"), test.get("output")) for test in tests]
    elif "inputs" in tests:
        pairs = list(zip(tests["inputs"], tests.get("outputs") or [], strict=False))
    else:
        return str(tests.get("test_code") or "\n".join(map(str, tests.get("assert_case") or [])))
    name = tests.get("fn_name") if isinstance(tests, dict) else None
    return (f"of {name}" if name else "") + "".join(
        f"\n{cut(repr(given), LONG // 3)} → {cut(repr(wanted), LONG // 3)}" for given, wanted in pairs[:TESTS]
    )


def cut(text: str, longest: int = LONG) -> str:
    """What a terminal can show of a text, and how much more there is."""
    rest = len(text) - longest
    return safe(text[:longest]) + (f"… ({rest} more characters)" if rest > 0 else "")


def safe(text: str) -> str:
    """Control characters, which could steer a terminal, and halves of surrogate pairs made visible."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
