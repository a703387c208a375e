"""`or1lab runs watch`: runs in a terminal while they train, refreshed from their folders; plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from or1lab import tracker
from or1lab.data_view import BARS, safe
from or1lab.errors import UsageError
from or1lab.following import TIMES, Follower
from or1lab.manifest import MANIFEST
from or1lab.terminal import right
from or1lab.tracking import PLAIN_EVERY, describe, duration, formatted

REFRESH = 1.0  # seconds between looks into the run folders
PLAIN_BARS = "_.-=+*#@"  # where a terminal has only ASCII
CURVE, ANSWER = 24, 300  # characters of a curve, of a response
ROWS = {  # metric -> its name, and its form
    "reward/mean": ("reward", ".3f"), "eval/accuracy": ("test accuracy", ".3f"),
    "entropy/rollout": ("entropy, nats a token", ".3f"), "entropy/alpha": ("alpha", ".5f"),
    "groups/kept_frac": ("kept groups", ".2f"), "length/truncated_frac": ("truncated", ".3f"),
    "length/mean": ("length, tokens", ",.0f"), "tokens_per_s": ("tokens/s", ",.0f"),
}  # fmt: skip


def watch(folder: Path, console: Console, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show a run, or those below a folder that are running (none: all), until none of them is; Ctrl-C ends the watching
    alone.

    Raises:
        UsageError: there is no run, or one of another program or another version.
        Or1labError: a damaged manifest.
    """
    if (folder / MANIFEST).is_file():
        runs = [tracker.open_run(folder)]
    else:
        found = tracker.find(folder)
        for why in found.unreadable.values():
            console.out(f"left out: {why}", highlight=False)
        running = [run for run, manifest in found.runs if tracker.state(run, manifest) == "running"]
        runs = running or [run for run, _ in found.runs]
    if not runs:
        raise UsageError(f"no runs in {folder}; `or1lab runs watch` wants a run folder or a folder of them")
    followers = [Follower(run) for run in runs]  # whose recipe may be of another version
    terminal = console.is_terminal and not console.is_jupyter
    try:
        (_live if terminal else _lines)(followers, folder, console, sleep)
    except KeyboardInterrupt:
        console.print("stopped watching; the runs go on", highlight=False)


def _live(followers: Sequence[Follower], root: Path, console: Console, sleep: Callable[[float], None]) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            running = any(one.state == "running" for one in followers)  # before the look: no last record is missed
            for one in followers:
                one.look()
            view = page(followers[0], console) if len(followers) == 1 else overview(followers, root)
            live.update(view, refresh=True)
            if not running:
                return
            sleep(REFRESH)


def _lines(followers: Sequence[Follower], root: Path, console: Console, sleep: Callable[[float], None]) -> None:
    """A line a run now, a minute and at its end."""
    ended, printed = set[Path](), dict[Path, float]()
    while len(ended) < len(followers):
        for one in followers:
            folder = one.run.folder
            if folder in ended:
                continue
            state = one.state
            new = one.look()
            if state != "running":
                ended.add(folder)
            elif not new or time.monotonic() - printed.get(folder, -PLAIN_EVERY) < PLAIN_EVERY:
                continue
            printed[folder] = time.monotonic()
            console.out(f"{folder}: {line(one, state)}", highlight=False)
        if len(ended) < len(followers):
            sleep(REFRESH)


def line(one: Follower, state: str) -> str:
    """A run in a line: its newest numbers and the time left."""
    record = {name: one.newest(name) for name in (*ROWS, *TIMES)}
    more = ", ".join(f"{ROWS[name][0]} {formatted(record[name], ROWS[name][1])}" for name in list(ROWS)[3:6])
    left = f", {duration(one.left)} left" if state == "running" and one.left is not None else ""
    return f"{state}, step {one.step}/{one.total}, {describe(record)}, {more}{left}"


def page(one: Follower, console: Console) -> RenderableType:
    """A run in a terminal: its numbers with their curves, the time of a step, sampled answers."""
    state, ascii_only = one.state, console.options.ascii_only
    left = f", {duration(one.left)} left" if state == "running" and one.left is not None else ""
    title = Text(f"{one.run.folder}: {state}, step {one.step} of {one.total}{left}", "bold", overflow="fold")
    table = Table(Column(), Column("now", justify="right"), Column("from first to last"), box=None)
    for name, (word, form) in ROWS.items():
        values = one.values(name)
        if values:
            table.add_row(word, formatted(values[-1], form), curve(values, PLAIN_BARS if ascii_only else BARS))
    times = {name.partition("/")[2]: one.newest(name) for name in TIMES}
    told = ", ".join(f"{name} {value:.2f}" for name, value in times.items() if value is not None)
    step, sampled = one.answers
    parts: list[RenderableType] = [title, table, Text(f" seconds: {told}" if told else " no step yet")]
    if sampled:
        parts.append(Text(f" answers of step {step}", "bold"))
    for answer in sampled:
        look, word = ("green", "right") if answer["correct"] else ("red", "wrong")
        asked, text = (" ".join(safe(str(answer[name])).split()) for name in ("prompt", "response"))
        if len(text) > ANSWER:
            text = f"{text[: ANSWER // 2]} ... {text[-ANSWER // 2 :]}"
        parts.append(Text.assemble((f" {word}", look), f" ({answer['reason']}) ", (asked[:ANSWER], "dim")))
        parts.append(Text(f"   {text}"))
    return Group(*parts)


def overview(followers: Sequence[Follower], root: Path) -> Table:
    """Many runs in a terminal, a row each."""
    numbers = right("step", "reward", "entropy", "alpha", "kept", "trunc.", "left", no_wrap=True)
    table = Table(Column("run", overflow="fold"), *numbers, box=None, title=f"runs in {root}", title_justify="left")
    names = ("reward/mean", "entropy/rollout", "entropy/alpha", "groups/kept_frac", "length/truncated_frac")
    for one in followers:
        state = one.state
        values = [formatted(one.newest(name), ".4f" if name == "entropy/alpha" else ".2f") for name in names]
        left = duration(one.left) if state == "running" and one.left is not None else state
        table.add_row(str(one.run.folder.relative_to(root)), f"{one.step}/{one.total}", *values, left)
    return table


def curve(values: Sequence[float], bars: str = BARS) -> str:
    """A curve of at most CURVE characters, each the mean of a stretch of the values, from the lowest to the highest."""
    width = min(CURVE, len(values))
    cuts = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(cuts, cuts[1:], strict=False)]
    low, span = min(means), max(means) - min(means)
    top = len(bars) - 1
    return "".join(bars[round((value - low) / span * top) if span else 0] for value in means)
