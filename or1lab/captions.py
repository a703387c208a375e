"""Captions of figures, computed from what is drawn: the question, n, the kind of interval, the settings."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from or1lab import study_figures
from or1lab.claims import study
from or1lab.experiment import TINY, expand
from or1lab.measured import Measured
from or1lab.plots.study import places
from or1lab.recipe import Recipe

PAPER = {  # the paper's figures that are drawn from its numbers
    "figure1": "The paper's Figure 1: accuracy of the 32B model in training",
    "figure2": "The paper's Figure 2: the finished 32B model beside others of its size",
    "figure3": "The paper's Figure 3: the finished 7B models beside others of their size",
    "figure5b": "The paper's Figure 5b: mean length of the responses against accuracy",
    "figure8": "The paper's Figure 8: accuracy under shorter limits on the response",
}
KNOBS = (
    "D_R", "gs", "D_T", "N_reuse", "tau", "lr", "clip_low", "clip_high", "beta", "entropy", "alpha", "tgt_ent", "mask",
)  # fmt: skip
NO_INTERVAL = "Every run is a thin line or a dot, the mean of an arm a thick line or a bar; no interval is drawn."
OVER_PROBLEMS = "Bars and bands are 95% intervals over problems, not over runs."


@dataclass(frozen=True)
class Captioned:
    """A figure with its caption; a notebook shows the one below the other."""

    figure: Figure
    caption: str

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        display(self.figure, Markdown(self.caption))


def titles() -> dict[str, str]:
    """Every figure that there is: name -> what it shows, in a line."""
    return {name: study(study_figures.table().study(name)).title for name in study_figures.names()} | PAPER


def caption(name: str, data: pd.DataFrame, measured: Measured, tier: str = TINY) -> str:
    """The caption of a figure drawn from `data` (figures.prepared)."""
    if name in PAPER:
        return _of_the_paper(name, data, measured)
    table = study_figures.table()
    experiment, spec = study(table.study(name), tier), table.spec(name).at(tier)
    parts = [f"{experiment.title}. {experiment.question}"]
    theirs = [place for panel in spec.panels for place in panel.paper]
    if theirs:
        parts.append(f"Hollow: the paper's {places(tuple(theirs))}.")
    parts.append(_runs({spec.labels.get(arm, arm): n for arm, n in data.attrs["seeds"].items()}))
    forecasts = [curve for curve, told in table.curves.items() if told.x == "forecast"]
    n = int(data["panel"].isin(forecasts).sum())
    dots = f"Dots are evaluations in the first panel, the {n} runs of all studies in the last; no interval is drawn."
    parts += [*data.attrs["notes"], dots if n else NO_INTERVAL]
    recipes = {job.arm: job.recipe for job in expand(experiment, experiment.seeds[:1])}
    parts.append(f"Tier {tier}; {_settings(recipes)}.")
    return " ".join(parts)


def _of_the_paper(name: str, data: pd.DataFrame, measured: Measured) -> str:
    parts = [f"{PAPER[name]}."]
    if (data["read"] == "eye").any():
        parts.append("Hollow markers are read by eye off it, no numbers that it gives.")
    if (data["read"] == "ours").any():
        whole = measured.evaluations[~measured.evaluations["suite"].astype(str).str.contains("/")]
        settings = whole.groupby(["suite", "k", "problems"], sort=False).size()
        told = [f"{suite}, {problems} problems, {k} responses each" for suite, k, problems in settings.index]
        parts += [f"Measured here: {'; '.join(told)}.", OVER_PROBLEMS]
    return " ".join([*parts, *data.attrs.get("notes", ())])


def _runs(counts: dict[str, int]) -> str:
    if len(set(counts.values())) == 1:
        n = next(iter(counts.values()))
        return f"Ours: n = {n} run{'s' * (n > 1)} of each arm ({'; '.join(counts)})."
    return f"Ours, runs of each arm: {'; '.join(f'{arm}, n = {n}' for arm, n in counts.items())}."


def _settings(recipes: dict[str, Recipe]) -> str:
    """What all arms have in common, and what they differ in."""
    stages = [recipe.by_stage for recipe in recipes.values()]
    told = {knob: [_by_stage(own, knob) for own in stages] for knob in (*KNOBS, "T")}
    told["steps"] = ["/".join(str(stage.steps) for stage in recipe.stages) for recipe in recipes.values()]
    entropy = {kind for value in told["entropy"] for kind in value.split("/")}
    for knob, kinds in (("alpha", {"constant"}), ("tgt_ent", {"paper", "released", "trl"})):
        if not entropy & kinds:  # of no effect
            del told[knob]
    same = [f"{knob} = {values[0]}" for knob, values in told.items() if len(set(values)) == 1]
    differ = [knob for knob, values in told.items() if len(set(values)) > 1]
    others = Recipe.model_fields.keys() - {*KNOBS, "T", "stages", "seed"}
    differ += [knob for knob in sorted(others) if len({repr(getattr(recipe, knob)) for recipe in recipes.values()}) > 1]
    return ", ".join(same) + (f"; arms differ in {', '.join(differ)}" if differ else "")


def _by_stage(stages: list[Recipe], knob: str) -> str:
    """The value of a knob; where stages differ, those of all: 34/80."""
    values = [str(getattr(stage, knob)) for stage in stages]
    return values[0] if len(set(values)) == 1 else "/".join(values)
