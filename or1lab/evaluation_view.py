"""An evaluation in a terminal: how far it is, and what it says, with all that a reader needs not to misread it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from or1lab.terminal import right
from or1lab.tracking import PLAIN_EVERY, duration, live_bar

if TYPE_CHECKING:
    from or1lab.estimators import Paired
    from or1lab.evaluate import Running
    from or1lab.evaluation import Evaluation

OVER = {"problems": "new problems", "samples": "new samples"}
MEANING = "intervals over new problems: others like these; over new samples: these very problems, asked again"


class Bar:
    """The running score: a live line in a terminal, else a plain line a minute."""

    def __init__(self, console: Console) -> None:
        self.console, self.begun, self.printed = console, time.monotonic(), time.monotonic()
        self._bar: Progress | None = None

    def __call__(self, running: Running) -> None:
        text = self._text(running)
        if self.console.is_terminal and not self.console.is_jupyter:
            if self._bar is None:
                self._bar, self._task = live_bar(self.console, running.total)
            self._bar.update(self._task, completed=running.done, text=text)
        elif time.monotonic() - self.printed >= PLAIN_EVERY or running.done == running.total:
            self.console.print(f"{running.done}/{running.total} responses, {text}", highlight=False, markup=False)
            self.printed = time.monotonic()

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.stop()

    def _text(self, running: Running) -> str:
        parts = [f"right {percent(running.accuracy)} {interval(running.low, running.high, 'share')}"]
        parts.append(f"truncated {percent(running.truncated / running.done)}")
        if running.errors:
            parts.append(f"without verdict {running.errors}")
        fresh, spent = running.done - running.before, time.monotonic() - self.begun
        if fresh > 0 and running.done < running.total:
            parts.append(f"{duration(spent / fresh * (running.total - running.done))} left")
        return ", ".join(parts)


def show(summary: dict[str, Any], console: Console) -> None:
    """The table of `evaluation_summary.summary`, its settings, bands, and what was reported."""
    step = f", step {summary['step']}" if summary["step"] is not None else ""
    title = f"{summary['model']}{step} on {summary['suite']}, version {summary['version']}"
    numbers = right("value", "95% interval", no_wrap=True)
    table = Table("estimate", *numbers, "interval over", title=title, title_justify="left", title_style="bold")
    for row in summary["estimates"]:
        bounds = interval(row["low"], row["high"], row["unit"])
        table.add_row(row["name"], with_unit(row["value"], row["unit"]), bounds, OVER[row["over"]])
    console.print(table)
    for line in (MEANING, *settings(summary)):
        console.out(line, highlight=False)
    if summary["bands"]:
        _show_bands(summary["bands"], console)
    if summary["reported"]:
        style = "green" if summary["reported"]["inside"] else "yellow"
        console.out(summary["reported"]["text"], style=style, highlight=False)
    if missing := summary["without_verdict"]["responses"]:
        names = summary["without_verdict"]["problems"]
        console.out(
            f"{missing} responses have no verdict; left out of every number: {', '.join(names[:10])}"
            f"{' ...' if len(names) > 10 else ''}; or1lab evaluate --rescore {summary['folder']} judges them again",
            style="red", highlight=False,
        )  # fmt: skip


def settings(summary: dict[str, Any]) -> list[str]:
    """What the numbers rest on, in words."""
    limit = f"limit {summary['limit']} tokens"
    if summary["limit"] < summary["sampled_limit"]:
        limit += f" (re-scored; sampled under {summary['sampled_limit']})"
    template = "" if summary["chat_template"] else " (no chat template: plain questions)"
    verifier = summary["verifier"]
    packages = "".join(f", {name} {version}" for name, version in verifier["packages"].items())
    engine = " ".join(str(summary[key]) for key in ("engine", "engine_version", "dtype") if summary[key])
    counted = sorted(summary["reasons"].items(), key=lambda pair: -pair[1])
    return [
        f"{summary['problems']} problems x {summary['samples']} samples, temperature {summary['temperature']:g}, "
        f"top-p {summary['top_p']:g}, {limit}, seed {summary['seed']}",
        f"prompt suffix {summary['suffix'] or 'none'}, template {summary['template_hash']}{template}",
        f"verifier {', '.join(verifier['rewards'])} {verifier['version']}{packages}; engine {engine}",
        "verdicts: " + ", ".join(f"{reason} {count}" for reason, count in counted),
    ]


def _show_bands(bands: dict[str, Any], console: Console) -> None:
    numbers = ("problems", bands["rows"][0]["name_of"], "95% interval", "truncated", "tokens")
    table = Table(bands["by"], *right(*numbers, no_wrap=True))
    for row in bands["rows"]:
        table.add_row(
            row["name"], str(row["problems"]), with_unit(row["value"], "share"),
            interval(row["low"], row["high"], "share"), percent(row["truncated"]), with_unit(row["length"], "tokens"),
        )  # fmt: skip
    console.print(table)


def show_rescored(found: dict[str, Any], console: Console) -> None:
    """What has changed between two verifiers."""
    before, after = found["before"]["version"], found["after"]["version"]
    which = f"verifier {after}" if before == after else f"verifier {before} -> {after}"
    changed = ", ".join(f"{count} {kind}" for kind, count in found["changed"].items()) or "no verdict has changed"
    where = f" (problems: {', '.join(found['problems'])} ...)" if found["problems"] else ""
    console.out(f"{which}: {changed}{where}", highlight=False)


def show_compared(one: Evaluation, two: Evaluation, found: Paired, unlike: list[str], console: Console) -> None:
    """The paired comparison of two evaluations; `unlike` is what they differ in besides the model."""
    names = [f"{e.manifest['model']} ({e.folder})" for e in (one, two)]
    console.out(
        f"{names[0]} minus {names[1]}: {100 * found.difference:+.1f} points of avg@{one.k} "
        f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}], p = {found.p:.2g} (permutation), on {found.problems} "
        "problems; the interval is over problems", highlight=False,
    )  # fmt: skip
    if unlike:
        console.out(f"they differ in more than the model: {', '.join(unlike)}", style="yellow", highlight=False)


def with_unit(value: float | None, unit: str) -> str:
    """A share as percent, tokens as they are; '-' where there is no number."""
    if value is None:
        return "-"
    return percent(value) if unit == "share" else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def percent(share: float) -> str:
    """A share as percent; '-' for NaN."""
    return f"{100 * share:.1f}%" if share == share else "-"


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Both bounds in brackets; '-' for one that is not known."""
    return f"[{with_unit(low, unit)}, {with_unit(high, unit)}]"
