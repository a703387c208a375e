"""`or1lab plan` in a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from or1lab.paper import tokens
from or1lab.planner.memory import ERROR, GIB
from or1lab.planner.plan import Plan
from or1lab.planner.suggest import Suggestion
from or1lab.terminal import right


def show(p: Plan, better: list[Suggestion], console: Console) -> None:
    """Print a plan: memory by part, stages, what does not fit and by how much, then the suggestions."""
    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, highlight=False, markup=False)

    say(f"{p.recipe.name} on {p.cluster}: {p.a.name}, {_count(p.a.parameters)} parameters", "bold")
    if p.cluster.device.is_gpu:
        say(f"{p.layout} ({p.host_gib:,.0f} GiB of host memory a node)")
    console.print(_memory(p))
    for missing, why in p.complaints:
        say(f"does not fit, by {missing:.1f} GiB: {why}", "red")
    if p.fits:
        of, share = "the fullest GPU" if p.cluster.device.is_gpu else "the memory", p.spare_gib / p.cluster.device.gib
        tight = f"; predictions may be off by {ERROR:.0%}: it may not fit" * (share < ERROR)
        say(f"fits, with {p.spare_gib:.1f} GiB ({share:.1%}) of {of} to spare{tight}", "yellow" if tight else None)
        console.print(_stages(p))
        gpus = f", {p.gpu_hours:,.0f} GPU-hours" if p.cluster.device.is_gpu else ""
        say(f"in all {long_duration(p.hours)}{gpus}", "bold")
    say(f"lengths: {p.law.source}")
    if not p.cluster.device.is_gpu:
        say("times: one thread in float32 of the CPU that experiments/hardware.yaml describes")
    if better:
        console.print(_suggestions(better, p.fits))
    elif not p.fits:
        say("nothing that was tried fits: tensor parallelism, sleep mode, offload, other shares of memory, a server, "
            "more of these GPUs")  # fmt: skip
    say("not counted: rewards, checkpoints, start-up; docs/scale.md has the formulas and how far to trust them", "dim")


def _memory(p: Plan) -> Table:
    title = f"peak memory, GiB ({p.cluster.device.gib:.0f} there are)"
    table = Table("part", *right("update", "rollout"), title=title, title_justify="left")
    for part in dict.fromkeys([*p.update, *p.rollout]):
        cells = [parts[part] / GIB if part in parts else None for parts in (p.update, p.rollout)]
        if any(cells):
            table.add_row(part, *("" if cell is None else f"{cell:.2f}" for cell in cells))
    totals = [sum(parts.values()) / GIB for parts in (p.update, p.rollout)]
    table.add_row("together", *(f"{total:.2f}" for total in totals), style="bold")
    return table


def _stages(p: Plan) -> Table:
    names = ["", "steps", "T", "cut", "seqs", "t_R", "floor", "t_T", "t_O", "hours"]
    names += ["GPU-h"] * p.cluster.device.is_gpu
    title = "seconds a training step: t_R rollout, t_T update, t_O other"
    table = Table(*right(*names), title=title, title_justify="left")
    for s in p.stages:
        times = map(_short, (s.t_R, s.floor, s.t_T, s.t_O, s.hours, s.gpu_hours))
        counts = (f"{s.stage}", f"{s.steps}", tokens(s.T), f"{s.truncated:.0%}", f"{s.together:.0f}")
        table.add_row(*[*counts, *times][: len(names)])
    table.caption = (
        "cut: share of responses that reach T; seqs: sequences the slowest engine decodes together; floor: t_R of "
        "the longest response alone"
    )
    table.caption_justify = "left"
    return table


def _suggestions(better: list[Suggestion], fits: bool) -> Table:
    words = [Column(name, overflow="fold") for name in ("change", "what it does")]
    columns = (*words, *right("GiB", "hours", "GPU-hours"))
    table = Table(*columns, title="instead" if fits else "what fits", title_justify="left")
    for s in better:
        table.add_row(s.change, s.why, f"{s.plan.peak_gib:.0f}", f"{s.plan.hours:,.0f}", f"{s.plan.gpu_hours:,.0f}")
    return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _count(parameters: int) -> str:
    """`7.62B`, `135M`."""
    return f"{parameters / 1e9:.3g}B" if parameters >= 1e9 else f"{parameters / 1e6:.3g}M"


def long_duration(hours: float) -> str:
    """`3.2 hours`, `23 days`, `4 minutes`."""
    if hours >= 72:
        return f"{hours / 24:,.0f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} minutes"
