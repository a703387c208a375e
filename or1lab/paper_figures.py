"""The data of the paper's Figures 1, 2, 3, 5b and 8, with our evaluations beside it, as frames to draw and to keep.

One row a point: panel, series, read (printed, eye: read by eye off the figure, ours), x, y (percent unless the figure
says otherwise), low, high (our 95% interval over problems). Panels of suites that the paper does not have come last.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from or1lab import paper
from or1lab.measured import Measured
from or1lab.paper_results import differences

COLUMNS = ["panel", "series", "read", "x", "y", "low", "high"]
SUITES = {"aime24": "AIME24 avg@32", "aime25": "AIME25 avg@32", "livecodebench": "LiveCodeBench avg@4"}


def training_curve(measured: Measured) -> pd.DataFrame:
    """Figure 1: accuracy of the 32B model against the training step (x), the released model and its peers (x: none);
    ours: evaluations of runs at their steps."""
    told, printed = paper.load("curves")["figure_1"], {row["model"]: row for row in paper.results("table-13")}
    released = paper.load("stages")["tables"][12]["released"]
    rows = []
    for suite in ("aime24", "aime25"):
        panel = SUITES[suite]
        rows += [[panel, "Skywork-OR1-32B in training", "eye", x, 100 * y] for x, y in told["accuracy"][suite]]
        score = printed["skywork-or1-32b"][suite]
        rows.append([panel, f"Skywork-OR1-32B as released (step {released})", "printed", released, score])
        rows += [[panel, paper.names()[m], "printed", None, printed[m][suite]] for m in ("qwen3-32b", "deepseek-r1")]
    ours = _whole(measured.evaluations.dropna(subset=["step"])).sort_values("step")
    steps = ours.groupby(["suite", "run"])["step"].transform("nunique")
    for row in ours[(steps > 1) | ours["suite"].isin(["aime24", "aime25"])].itertuples():
        rows.append([_panel(row), _series(row, row.run), "ours", row.step, row.accuracy, row.low, row.high])
    return _frame(rows)


def bars(figure: str, measured: Measured) -> pd.DataFrame:
    """Figures 2 and 3 (`figure-2`, `figure-3`): three suites of finished models; ours: the last step of each run."""
    rows = [
        [SUITES[suite], paper.names()[row["model"]], "printed", None, row[suite]]
        for suite in SUITES
        for row in paper.results(figure)
    ]
    for row in _last(_whole(measured.evaluations)).itertuples():
        rows.append([_panel(row), _series(row, row.label), "ours", None, row.accuracy, row.low, row.high])
    return _frame(rows)


def token_efficiency(measured: Measured) -> pd.DataFrame:
    """Figure 5b: mean length in tokens (y) against accuracy in percent (x, with low and high of x)."""
    points = paper.load("curves")["figure_5b"]["points"]
    rows = [[SUITES["aime24"], point["model"], "eye", point["aime24"], point["length"]] for point in points]
    for row in _last(_whole(measured.evaluations)).itertuples():
        rows.append([_panel(row), _series(row, row.label), "ours", row.accuracy, row.length, row.low, row.high])
    return _frame(rows)


def limits(measured: Measured) -> pd.DataFrame:
    """Figure 8: accuracy under shorter limits on the response (x, tokens)."""
    told = paper.load("curves")["figure_8"]
    rows = [
        [SUITES["aime24"], f"Math-7B, {series}" if series.startswith("stage") else series, "eye", T, 100 * share]
        for series, shares in told["accuracy"].items()
        for T, share in zip(told["T"], shares, strict=True)
    ]
    for row in _last(_whole(measured.limits)).itertuples():
        series = _series(row, row.label, limit=False)
        rows.append([_panel(row), series, "ours", row.limit, row.accuracy, row.low, row.high])
    return _frame(rows)


DATA: dict[str, Callable[[Measured], pd.DataFrame]] = {
    "figure1": training_curve,
    "figure2": partial(bars, "figure-2"),
    "figure3": partial(bars, "figure-3"),
    "figure5b": token_efficiency,
    "figure8": limits,
}


def data(name: str, measured: Measured) -> pd.DataFrame:
    """The frame of a figure; its attribute `notes` holds the contradictions that concern it."""
    frame = DATA[name](measured)
    frame.attrs["notes"] = [contradiction.text for contradiction in paper.contradictions(name)]
    return frame


def _panel(row: Any) -> str:
    return SUITES.get(row.suite, f"{row.suite} avg@{row.k}")


def _series(row: Any, name: str, *, limit: bool = True) -> str:
    """The name of what we measured, the paper's for a model of its tables, with what was not as in the paper."""
    name, differ = paper.names().get(row.model, name), differences(row, limit=limit)
    return f"{name} ({differ})" if differ else name


def _whole(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Without the bands of a suite, which would be one panel each."""
    return evaluations[~evaluations["suite"].astype(str).str.contains("/")]


def _last(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Of a run that was evaluated at several steps, the last one of them, for each suite."""
    steps = evaluations["step"].fillna(0).astype(float)
    return evaluations[steps == steps.groupby([evaluations["run"], evaluations["suite"]]).transform("max")]


def _frame(rows: list[list[Any]]) -> pd.DataFrame:
    whole = [[*row, *[None] * (len(COLUMNS) - len(row))] for row in rows]
    frame = pd.DataFrame(whole, columns=COLUMNS)
    return frame.astype(dict.fromkeys(["x", "y", "low", "high"], float))
