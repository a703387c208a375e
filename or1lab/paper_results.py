"""Results of finished models beside ours: Table 13, the previews, every evaluation, and the table of difficulty."""

from __future__ import annotations

from typing import Any

import pandas as pd

from or1lab import paper
from or1lab.errors import UsageError
from or1lab.measured import Measured
from or1lab.sheet import NOTHING, PAPER, Cell, Sheet, estimate, number, printed
from or1lab.suites import load_suite

COMPUTED = "The mean of the three and the gains are computed."
SUITES = {"aime24": "AIME24", "aime25": "AIME25", "livecodebench": "LCB"}


def benchmark_results(measured: Measured) -> Sheet:
    """Table 13: finished models; below them every evaluation of ours."""
    marked = paper.load("results")["contradictions"]
    about: dict[tuple[str, str], tuple[str, ...]] = {(row["model"], row["suite"]): (row["note"],) for row in marked}
    groups: dict[str, list[list[Cell]]] = {}
    for row in paper.results("table-13"):
        groups.setdefault(row["group"].replace(">=", "≥ "), []).append(_scores(row, about))
    ours = _our_scores(measured.evaluations)
    if ours:
        groups["ours"] = ours
    columns = ["model", *SUITES.values(), "mean"]
    title = "Table 13. Results, percent: AIME24 and AIME25 avg@32, LCB avg@4"
    told = paper.load("results")["protocol"]
    line = f"Paper: at most {told['limit']:,} tokens, temperature {told['temperature']:g}, top-p {told['top_p']:g}."
    below = [_gains(), line, COMPUTED, *(c.text for c in paper.contradictions("table13"))]
    return Sheet(columns, groups, title, below)


def _gains() -> str:
    """The abstract's gains beside those that Table 13 gives."""
    means = {row["model"]: sum(row[s] or 0 for s in SUITES) / len(SUITES) for row in paper.results("table-13")}
    parts = [
        f"{row['size']} +{row['gain']} ({number(means[row['after']['model']] - means[row['before']['model']], '+.1f')})"
        for row in paper.load("results")["averages"]["rows"]
    ]
    return f"Gain of the mean over the base model in the abstract (and by this table): {', '.join(parts)}."


def previews(measured: Measured) -> Sheet:
    """The previews of April 2025, beside the models that followed."""
    followed = {"skywork-or1-7b-preview": "skywork-or1-7b", "skywork-or1-32b-preview": "skywork-or1-32b"}
    final = {row["model"]: row for row in paper.results("table-13")}
    rows = []
    for row in paper.results("readme"):
        later = final.get(followed.get(row["model"], ""))
        gains = [number(later[s] - row[s], "+.1f") if later else NOTHING for s in SUITES]
        rows.append([*_scores(row, {}), Cell(" / ".join(gains) if later else NOTHING)])
    columns = ["model", *SUITES.values(), "mean", "gain of the final model"]
    source = paper.load("results")["sources"]["readme"]["place"]
    below = [f"{source}.", COMPUTED, *(c.text for c in paper.contradictions("previews"))]
    return Sheet(columns, {"": rows}, "Previews of April 2025, percent", below)


def _scores(row: dict[str, Any], about: dict[tuple[str, str], tuple[str, ...]]) -> list[Cell]:
    """Name, the three suites and their mean."""
    model, scores = row["model"], [row[suite] for suite in SUITES]
    cells = [printed(row[suite], ".1f", about.get((model, suite), ())) for suite in SUITES]
    mean = None if None in scores else sum(scores) / len(scores)
    return [printed(row["name"]), *cells, printed(mean, ".1f", about.get((model, "mean"), ()))]


def _our_scores(evaluations: pd.DataFrame) -> list[list[Cell]]:
    """One row a model and step that was asked one of the paper's suites, more where it was asked one several times.
    Settings other than the paper's are a footnote."""
    rows = []
    asked = evaluations[evaluations["suite"].isin(list(SUITES))]
    again = asked.groupby(["model", "label", "suite"], sort=False).cumcount()
    for (model, label, _), part in asked.groupby(["model", "label", again], sort=False):
        known = {
            row.suite: estimate(row.accuracy, row.low, row.high, ".1f", ".0f", _otherwise(row))
            for row in part.itertuples()
        }
        scores = (known.get(suite, Cell(NOTHING)) for suite in SUITES)
        rows.append([Cell(paper.names().get(model, label), "ours"), *scores, Cell(NOTHING)])
    return rows


def _otherwise(row: Any) -> tuple[str, ...]:
    """In what an evaluation of one of the paper's suites differs from the paper's: one footnote, or none."""
    differ = differences(row)
    return (f"Not as in the paper: {differ}.",) if differ else ()


def differences(row: Any, *, limit: bool = True) -> str:
    """In what an evaluation (a row of `Measured`) differs from the paper's of that suite, in words; empty for one that
    does not, and for another suite. The limit is left out where it is what is plotted."""
    told = paper.load("results")
    if row.suite not in told["suites"]:
        return ""
    size = load_suite(row.suite).size
    parts = [
        f"avg@{row.k}" if row.k != told["suites"][row.suite]["k"] else "",
        f"temperature {number(row.tau)}" if row.tau != told["protocol"]["temperature"] else "",
        f"at most {row.limit:,} tokens" if limit and row.limit != told["protocol"]["limit"] else "",
        f"{row.problems} of {size} problems" if row.problems != size else "",
    ]
    return ", ".join(filter(None, parts))


def evaluations(measured: Measured) -> Sheet:
    """Every evaluation of ours, on whatever suite.

    Raises UsageError when there is none."""
    if not len(measured.evaluations):
        raise UsageError(f"no finished evaluation in {measured.folder}; make one with `or1lab evaluate`")
    groups: dict[str, list[list[Cell]]] = {}
    for row in measured.evaluations.itertuples():
        asked = [f"{row.suite}, {row.problems} x {row.k}", number(row.tau), f"{row.limit:,}"]
        answers = [Cell(f"{row.length:,.0f}", "ours"), Cell(f"{row.truncated:.1f}", "ours")]
        right = estimate(row.accuracy, row.low, row.high, ".1f")
        without = (f"{row.left_out} more with a response that nothing could judge.",) if row.left_out else ()
        cells = [Cell(asked[0], notes=without), *map(Cell, asked[1:]), right, *answers]
        groups.setdefault(row.label, []).append(cells)
    columns = ["suite, problems x k", "τ", "limit", "right, %", "length", "truncated, %"]
    note = "Intervals over problems; length is the mean, in tokens as the limit; τ is the temperature."
    return Sheet(columns, groups, "Evaluations of ours", [note])


def difficulty(measured: Measured) -> Sheet:
    """The table of section 6.2: shares of problems that a model never and always solves."""
    told = paper.load("data")["difficulty_filter"]
    columns = ["model", "domain", "problems", "never, %", "always, %", "kept, %"]
    rows = [
        [printed(row["model"]), printed(domain), Cell(NOTHING),
         *(printed(row[share][domain], ".1f") for share in ("never", "always", "kept"))]
        for row in told["rows"] for domain in ("math", "code")
    ]  # fmt: skip
    groups = {PAPER: rows}
    known = list(measured.difficulty.itertuples(index=False, name=None))
    for row in measured.evaluations[measured.evaluations["step"].isna()].itertuples():  # of models as they came
        shares = (row.never, row.always, 100 - row.never - row.always)
        known.append((f"{row.label} ({row.k} samples)", row.suite, row.problems, *shares))
    for model, asked, n, *parts in known:
        texts = (str(model), asked, f"{n:,}", *(number(part, ".1f") for part in parts))
        groups.setdefault("ours: curations and evaluations", []).append([Cell(text, "ours") for text in texts])
    samples = told["samples"]
    lines = [
        f"Paper: {samples['math']} samples of a mathematical problem, {samples['code']} of a program, temperature "
        f"{told['tau']:g}, at most {told['T']:,} tokens.",
        *(c.text for c in paper.contradictions("difficulty")),
    ]
    return Sheet(columns, groups, "Difficulty for the base models (section 6.2)", lines, left=2)
