"""Tables 1 to 13 of the paper, its table of difficulty and the previews of its models, with what we have beside them.

Tables 1 to 6 are made of our experiment files and 10 to 12 of our recipes, and compared cell by cell with what the
paper reports; the others hold its numbers and, below them, ours. Contradictions become footnotes, from the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from or1lab import paper
from or1lab.experiment import EXPERIMENTS, Experiment, load_experiment
from or1lab.measured import Measured
from or1lab.paper_results import SUITES, benchmark_results, difficulty, evaluations, previews
from or1lab.recipe import Recipe, load_recipe
from or1lab.sheet import NOTHING, PAPER, Cell, Sheet, estimate, number, printed

LABELS = {
    "base": "base model", "D_R": "batch size D_R", "D_T": "mini-batch size D_T", "N_reuse": "passes N_reuse",
    "gs": "group size gs", "T": "limit on the response T", "switch": "step at which T changes",
    "tgt_ent": "entropy target", "alpha": "entropy coefficient α", "tau": "rollout temperature τ",
    "beta": "KL coefficient β", "lr": "learning rate",
}  # fmt: skip
COMMON = {"lr": "lr", "tgt_ent": "tgt_ent", "delta": "delta", "tau": "tau", "beta": "beta",
          "clip_low": "clip", "clip_high": "clip"}  # fmt: skip


def agreement(cells: Iterable[Cell], where: str, compared: int) -> str:
    """The line below a table of comparison: how many cells agree, and with what."""
    agree = compared - sum(cell.read == "differs" for cell in cells)
    return f"{agree} of {compared} cells of {where} agree with the paper."


# ------------------------------------------------------------------------------------- Tables 1 to 6: settings


def settings(table: int, measured: Measured) -> Sheet:
    """A table of settings, made of the experiment file that repeats its study."""
    reported, experiment = paper.load("settings")["tables"][table], _experiments()[table]
    notes = [contradiction.text for contradiction in paper.contradictions(f"table{table}")]
    rows, others, silent = [], [], []
    for key, value in reported.items():
        if key == "study":
            continue
        if value is None:
            silent.append(LABELS[key])
            continue
        found = file_value(experiment, key)
        others.append(Cell("the same") if found == value else Cell(in_words(key, value), "differs"))
        rows.append([Cell(LABELS[key]), Cell(in_words(key, found)), others[-1]])
    (_, base, other), *rows = rows  # some are too long for a column
    notes = [
        f"Base model: {base.text}; in the paper {'' if other.text == 'the same' else '≠ '}{other.text}.",
        agreement(others, f"experiments/ablations/{experiment.name}.yaml", len(others)),
        *([f"Not printed in the paper: {', '.join(silent)}."] if silent else []),
        *notes,
    ]
    if table == 5:
        rows += _baseline()
    columns = ["setting", "our experiment file", "paper"]
    return Sheet(columns, {"": rows}, f"Table {table}. Settings of {reported['study']}", notes, left=3)


@cache
def _experiments() -> dict[int, Experiment]:
    """The experiment files that repeat a study with a table of settings, by the table's number."""
    found = map(load_experiment, sorted(EXPERIMENTS.glob("*.yaml")))
    return {experiment.paper.table: experiment for experiment in found if experiment.paper and experiment.paper.table}


def file_value(experiment: Experiment, key: str) -> Any:
    """What an experiment file says of the paper's setting: one value, or a list of those that the arms differ by."""
    told = experiment.paper
    assert told is not None
    if key == "base":
        return told.base
    arms = [told.settings | arm for arm in told.arms.values()]
    if key == "switch":
        return next((arm["stages"][0]["steps"] for arm in arms if "stages" in arm), None)
    values: list[Any] = []
    for arm in arms:
        value = arm.get(key)
        if key == "T" and "stages" in arm:
            value = [stage["T"] for stage in arm["stages"]]
        elif key == "tgt_ent" and arm.get("entropy") == "none":
            value = "none"
        if value not in values:
            values.append(value)
    return values[0] if len(values) == 1 else values


def in_words(key: str, value: Any) -> str:
    """A setting for readers: `16K, or 8K then 16K`."""
    if value is None:
        return NOTHING
    if key == "T":
        several = value if isinstance(value, list) else [value]
        return ", or ".join(
            " then ".join(map(paper.tokens, T)) if isinstance(T, list) else paper.tokens(T) for T in several
        )
    if isinstance(value, list):
        return ", ".join(in_words(key, one) for one in value)
    return value if isinstance(value, str) else number(value)


def _baseline() -> list[list[Cell]]:
    """What Table 5's run came to (section 4.1), and the highest point of its curve."""
    told, run = paper.load("results")["baseline_of_section_4"], paper.load("settings")["baseline"]
    scores = [told[suite] for suite in SUITES]
    curve = paper.load("curves")["figure_16"]["accuracy"]["1-64-64-1"]
    rows = [["result: steps, machine", f"{run['steps']}, {run['gpus']}"]]
    rows += [[f"result: {SUITES[s]} avg@{told['k'][s]}, %", number(told[s], ".1f")] for s in SUITES]
    rows += [["result: mean of the three (computed), %", number(sum(scores) / 3, ".1f")]]
    cells = [[Cell(label), Cell(""), Cell(text)] for label, text in rows]
    best = Cell(number(100 * max(y for _, y in curve), ".1f"), "eye")
    return [*cells, [Cell("result: highest point in Figure 16, %"), Cell(""), best]]


# ------------------------------------------------------------------------------------- Tables 7 to 9: times


def _hours(row: Any, label: str) -> list[Cell]:
    """Seconds a step as hours in 1000 steps, and the shares of rollout and update."""
    hours = [1000 / 3600 * seconds for seconds in (row.total, row.rollout, row.update, row.other)]
    low, high = (None if pd.isna(b) else 1000 / 3600 * b for b in (row.low, row.high))
    shares = [Cell(number(100 * part / row.total, ".1f"), "ours") for part in (row.rollout, row.update)]
    return [Cell(label, "ours"), estimate(hours[0], low, high, ".2f"),
            *(Cell(number(h, ".2f"), "ours") for h in hours[1:]), *shares]  # fmt: skip


TIME = ["total", "t_R", "t_T", "t_O", "t_R, %", "t_T, %"]
UNIT = "The paper prints no unit here; hours as in Table 7."
PARTS = "t_R rollout, t_T policy update, t_O everything else."
TIME_KEYS = ("total", "t_R", "t_T", "t_O", "share_R", "share_T")


def time_of_a_run(measured: Measured) -> Sheet:
    """Table 7: where the hours of the 32B run went."""
    told = paper.load("times")["table_7"]
    notes = [c.text for c in paper.contradictions("table7")]
    rows = [[printed(row["model"]), *_times(row, notes)] for row in told["rows"]]
    groups = {PAPER: rows}
    if len(measured.times):
        on_policy = measured.times[[quadruple[0] == 1 for quadruple in measured.times["quadruple"]]]
        for row in on_policy.itertuples():
            D_R = row.quadruple[1]
            ours = groups.setdefault(f"ours, on-policy: D_R {D_R}, gs {row.responses // D_R}", [])
            ours.append(_hours(row, f"{row.setting}, {row.machine} (n = {row.runs})"))
    return Sheet(["run", *TIME], groups, "Table 7. Hours of 1000 training steps", [PARTS])


def time_of_sgd_steps(measured: Measured) -> Sheet:
    """Table 8: the hours do not depend on the number of SGD steps."""
    told = paper.load("times")["table_8"]
    cut, gpus = (c.text for c in reversed(paper.contradictions("table8")))
    rows = [[printed(_quadruple(row["quadruple"])), *_times(row, [cut])] for row in told["rows"]]
    groups = {f"paper: 7B on {told['gpus']}": rows}
    for (setting, machine), part in measured.times.groupby(["setting", "machine"], sort=False):
        several = part["quadruple"].duplicated(keep=False)  # in groups of another size
        sizes = [f", gs {row.responses // row.quadruple[1]}" for row in part.itertuples()]
        part = part.assign(gs=np.where(several, sizes, "")).sort_values(["quadruple", "responses"])
        ours = [_hours(row, f"{_quadruple(row.quadruple)}{row.gs} (n = {row.runs})") for row in part.itertuples()]
        groups[f"ours: {setting}, {machine}"] = ours
    columns = ["(N_SGD, D_R, D_T, N_reuse)", *TIME]
    return Sheet(columns, groups, "Table 8. Hours of 1000 training steps by SGD steps", [PARTS, UNIT, gpus])


def _times(row: dict[str, Any], notes: list[str]) -> list[Cell]:
    """The printed times of a row; where a share was cut instead of rounded, the footnote says so."""
    cells = []
    for key, part in zip(TIME_KEYS, (None, None, None, None, "t_R", "t_T"), strict=True):
        cut = part and row[key] < round(100 * row[part] / row["total"], 1)
        cells.append(printed(row[key], ".1f" if part else "g", notes if cut else ()))
    return cells


def _quadruple(values: Iterable[int]) -> str:
    return f"({', '.join(map(str, values))})"


def time_of_rollouts(measured: Measured) -> Sheet:
    """Table 9: more GPUs make a rollout less and less faster."""
    told = paper.load("times")["table_9"]
    rows = [
        [printed(f"{row['h800']} H800"), printed(told["responses"]), printed(row["seconds"]), printed(row["change"])]
        for row in told["rows"]
    ]
    groups = {PAPER: rows}
    if len(measured.times):
        by = measured.times.sort_values("responses").groupby(["setting", "machine", "responses"], sort=False)
        groups["ours"] = [
            [Cell(f"{setting}, {machine}", "ours"), Cell(f"{responses}", "ours"),
             Cell(number(part["rollout"].mean(), ".2f"), "ours"), Cell(NOTHING)]
            for (setting, machine, responses), part in by
        ]  # fmt: skip
    return Sheet(["machine", "responses", "seconds", "change"], groups, "Table 9. Seconds of one rollout")


# ------------------------------------------------------------------------------------- Tables 10 to 12: stages


def stages(table: int, measured: Measured) -> Sheet:
    """A table of stages, made of our recipe."""
    told = paper.load("stages")
    model, rows = told["tables"][table], [row for row in told["rows"] if row["table"] == table]
    recipe = load_recipe(model["recipe"])
    around, notes = {}, []
    for contradiction in paper.contradictions(f"table{table}"):
        if contradiction.cell:
            around[contradiction.cell] = contradiction.text
        else:
            notes.append(contradiction.text)
    cells, begin = [], 0
    for i, row in enumerate(rows):
        stage = recipe.stage(i) if i < len(recipe.stages) else None
        steps = [begin, begin + stage.total_steps] if stage else None
        begin = steps[1] if steps else begin
        values = {"steps": steps} | {key: getattr(stage, key, None) for key in ("T", "D_R", "D_T", "gs")}
        line = [Cell(number(row["stage"]))]
        for key, value in values.items():
            note = (around[row["stage"], key],) if (row["stage"], key) in around else ()
            agrees = value == row[key]
            text = _stage_cell(key, value) + ("" if agrees else f" (paper {_stage_cell(key, row[key])})")
            line.append(Cell(text, "printed" if agrees else "differs", note))
        cells.append([*line, Cell(number(row["D_R"] / row["D_T"]))])
    where = f"experiments/recipes/{model['recipe']}.yaml"
    compared = [cell for row in cells for cell in row[1:-1]]
    lines = [agreement(compared, where, len(compared)), _common(recipe)]
    columns = ["stage", "steps", "T", "D_R", "D_T", "gs", "N_SGD"]
    names = "T limit on the response, D_R batch, D_T mini-batch, gs group size; N_SGD = D_R / D_T is computed."
    title = f"Table {table}. Stages of {model['name']}; released: step {model['released']}"
    return Sheet(columns, {"": cells}, title, [names, *lines, *notes])


def _stage_cell(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if key == "steps":
        return f"{value[0]} to {value[1]}"
    return paper.tokens(value) if key == "T" else number(value)


def _common(recipe: Recipe) -> str:
    """The line that compares the settings common to the three models (section 8.1)."""
    told = paper.load("settings")["common"]
    wrong = [
        f"{ours} is {number(getattr(recipe, ours))} (paper {number(told[theirs])})"
        for ours, theirs in COMMON.items()
        if getattr(recipe, ours) != told[theirs]
    ]
    listed = ", ".join(f"{theirs} {number(told[theirs])}" for theirs in dict.fromkeys(COMMON.values()))
    right = f"{len(COMMON) - len(wrong)} of {len(COMMON)} common settings (section 8.1) agree: {listed}."
    return f"{right} Different: {'; '.join(wrong)}." if wrong else right


SHEETS: dict[str, Callable[[Measured], Sheet]] = {
    **{f"table{n}": partial(settings, n) for n in range(1, 7)},
    "table7": time_of_a_run, "table8": time_of_sgd_steps, "table9": time_of_rollouts,
    **{f"table{n}": partial(stages, n) for n in range(10, 13)},
    "table13": benchmark_results, "difficulty": difficulty, "previews": previews, "evaluations": evaluations,
}  # fmt: skip
