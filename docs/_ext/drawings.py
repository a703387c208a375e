"""The drawings of the documentation, made of the code and data that they speak of.

python docs/_ext/drawings.py [FOLDER]     writes study_design.png, on_off_policy.png and resources.png to docs/images
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from or1lab import paper
from or1lab.experiment import Experiment, expand
from or1lab.magic.schedule import mini_batches, n_sgd
from or1lab.plots import style
from or1lab.recipe import Recipe
from or1lab.recipe_view import leaves
from or1lab.studies import studies

IMAGES = Path(__file__).parent.parent / "images"
BLUE, ORANGE = style.COLORS[:2]
PALE = "#E8EEF3"

# The parts of a training step, in its order.
PARTS = {
    "which problems": "",
    "rollout": "$D_R$ prompts × gs\nresponses ≤ T",
    "advantages": "of kept groups",
    "entropy": "$e_k$ gives $α_k$",
    "update": "$N_{\\mathrm{SGD}}$ clipped\nSGD steps",
}
# What an arm changes against its baseline -> the part; the first that fits, since batches often follow another change.
KEYS = [
    ({"options", "mix", "train", "offline_filter", "online_filter", "wrong_golds", "misses", "pays"}, "which problems"),
    ({"mask", "std", "adv_eps", "reject"}, "advantages"),
    ({"tau", "T"}, "rollout"),
    ({"entropy", "entropy_source", "alpha", "tgt_ent", "delta"}, "entropy"),
    ({"N_SGD", "N_reuse", "loss", "beta", "clip_high", "correction"}, "update"),
    ({"D_R", "gs"}, "rollout"),
]


def part_of(study: Experiment) -> str:
    """The part of a training step at which most arms of a study leave its baseline."""
    recipes = {job.arm: job.recipe for job in expand(study, study.seeds[:1])}
    base = told(recipes.pop(study.baseline))
    parts = Counter[str]()
    for other in map(told, recipes.values()):
        changed = {key.rpartition(".")[2] for key in base | other if base.get(key) != other.get(key)}
        parts[next(part for keys, part in KEYS if changed & keys)] += 1
    return max(parts, key=lambda part: (parts[part], part == "update"), default="rollout")


def told(recipe: Recipe) -> dict[str, Any]:
    """Key -> value of a recipe, N_SGD included."""
    return {key: value for key, value, *_ in leaves(recipe)} | {"N_SGD": recipe.N_SGD}


def study_design() -> Figure:
    """Every study at the part of the training step that its arms change, with the number of its arms."""
    lists: dict[str, list[str]] = {part: [] for part in PARTS}
    for study in studies():
        lists[part_of(study)].append(f"{study.name} ({len(study.arms)})")
    with style.theme():
        figure, axes = _canvas(2.7)
        width, step = 17.6, 20.4
        for i, (part, names) in enumerate(lists.items()):
            left = i * step
            _box(axes, left, 76, width, 20, f"{part}\n{PARTS[part]}".strip())
            if i:
                _arrow(axes, (left - step + width, 86), (left, 86))
            axes.text(left + 0.6, 70, "\n".join(sorted(names)), fontsize=7.5, va="top", linespacing=1.5)
        _arrow(axes, (4 * step + 9, 96), (step + 9, 96), bend=0.1)
        axes.text(2.5 * step + 9, 110, "the new policy samples the next step", fontsize=8, ha="center")
        axes.set_xlim(-0.5, 4 * step + width + 0.5)
        axes.set_ylim(32, 114)
    return figure


def on_off_policy() -> Figure:
    """One rollout of 8 prompts, 2 of them rejected, under four schedules: what each SGD step learns from."""
    kept = [True, True, False, True, True, True, False, True]
    D_R = len(kept)
    with style.theme():
        figure, axes = _canvas(3.2)
        for row, (D_T, N_reuse) in enumerate([(8, 1), (4, 1), (2, 1), (8, 2)]):
            bottom = 75 - row * 23
            steps = n_sgd(D_R, D_T, N_reuse)
            words = f"$D_T$ = {D_T}, $N_{{\\mathrm{{reuse}}}}$ = {N_reuse}\n$N_{{\\mathrm{{SGD}}}}$ = {steps}"
            axes.text(0, bottom + 5, words, fontsize=8.5, va="center")
            for i, keep in enumerate(kept):
                _cell(axes, 22 + 4 * i, bottom, str(i), BLUE if keep else "#BBBBBB")
            _arrow(axes, (54.5, bottom + 5), (59, bottom + 5))
            generator = torch.Generator().manual_seed(1)
            left = 60.0
            batches = mini_batches(kept, D_R=D_R, D_T=D_T, N_reuse=N_reuse, generator=generator)
            for n, batch in enumerate(batches):
                for i in sorted(batch):
                    _cell(axes, left, bottom, str(i), ORANGE if n else BLUE)
                    left += 4
                axes.text(left - 2 * len(batch), bottom - 4.5, f"step {n + 1}", fontsize=7.5, ha="center")
                left += 2.5
        axes.text(22, 91, "rollout of $D_R$ = 8 prompts by $π_k$\n(grey: rejected)", fontsize=8.5)
        axes.text(60, 91, "SGD steps on the kept ones\n(orange: the policy is no longer $π_k$)", fontsize=8.5)
        axes.set_xlim(-1, 116)
        axes.set_ylim(0, 104)
    return figure


def resources() -> Figure:
    """Where the time of the paper goes (Tables 8 and 9), and what more GPUs do to a rollout."""
    steps, rollout = paper.load("times")["table_8"], paper.load("times")["table_9"]
    with style.theme():
        figure, grid = style.figure(2.6, columns=2)
        split, more = grid[0]
        parts = {"t_R": ("$t_R$ rollout", BLUE), "t_T": ("$t_T$ update", ORANGE), "t_O": ("$t_O$ else", "#999999")}
        for place, row in enumerate(steps["rows"]):
            left = 0
            for key, (label, colour) in parts.items():
                split.barh(place, row[key], left=left, color=colour, label=None if place else label, height=0.6)
                split.text(left + row[key] / 2, place, row[key], ha="center", va="center", color="white", fontsize=8)
                left += row[key]
        names = [f"$N_{{\\mathrm{{SGD}}}}$ = {row['quadruple'][0]}" for row in steps["rows"]]
        split.set_yticks(range(len(names)), names)
        split.invert_yaxis()
        split.grid(axis="y", visible=False)
        split.set_xlabel(f"hours for {steps['steps']:,} steps on {steps['gpus']}")
        split.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=3, columnspacing=1, handlelength=1)
        gpus, seconds = ([row[key] for row in rollout["rows"]] for key in ("h800", "seconds"))
        more.plot(gpus, seconds, color=BLUE, marker="o")
        for x, y in zip(gpus, seconds, strict=True):
            more.annotate(str(y), (x, y), (4, 5), textcoords="offset points", fontsize=8)
        more.set_xscale("log", base=2)
        more.set_xticks(gpus, [str(x) for x in gpus])
        more.set_ylim(0, 440)
        more.margins(x=0.12)
        more.set_xlabel(f"H800 for one rollout of {rollout['responses']:,} responses")
        more.set_ylabel("$t_R$ (seconds)")
    return figure


def _canvas(height: float) -> tuple[Figure, Axes]:
    figure, grid = style.figure(height)
    grid[0][0].axis("off")
    return figure, grid[0][0]


def _box(axes: Axes, left: float, bottom: float, width: float, height: float, text: str) -> None:
    axes.add_patch(Rectangle((left, bottom), width, height, facecolor=PALE, edgecolor=BLUE, linewidth=1.2))
    axes.text(left + width / 2, bottom + height / 2, text, fontsize=7.5, ha="center", va="center")


def _cell(axes: Axes, left: float, bottom: float, text: str, colour: str) -> None:
    axes.add_patch(Rectangle((left, bottom), 3.4, 10, facecolor=colour, edgecolor="none"))
    axes.text(left + 1.7, bottom + 5, text, fontsize=8, ha="center", va="center", color="white")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> None:
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "color": "black", "linewidth": 1}
    axes.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", shrinkA=0, shrinkB=0, **look))


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "study_design": study_design,
    "on_off_policy": on_off_policy,
    "resources": resources,
}


def draw(folder: Path) -> list[Path]:
    """Write all drawings as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, made in DRAWINGS.items():
        paths.append(folder / f"{name}.png")
        with style.theme():
            made().savefig(paths[-1], metadata={"Software": None})
    return paths


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
