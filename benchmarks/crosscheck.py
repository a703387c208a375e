"""An evaluation scored again by evaluators that are not ours: python -m benchmarks.crosscheck FOLDER [--rows FILE.csv]

The same responses of an evaluation folder of mathematics with short answers (GSM8K, arithmetic), judged by

    Math-Verify                  alone, as the paper uses it: the text after the thinking against the boxed gold
    lm-eval, strict-match        GSM8K of lm-evaluation-harness, its own filters and metric as its task file has them:
    lm-eval, flexible-extract      the number after ####, and the last number of the text

Printed: how often each agrees with our verdicts, and one row a disagreement: item, ours, theirs, cause, who is right.
The last two are for the reader to fill in, in FILE.csv; what stands there is kept when it is written again.

lm-eval is no dependency of this project. Without its many own ones: pip install --no-deps lm-eval==0.4.13 sacrebleu
portalocker colorama lxml. Without it only Math-Verify is asked.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from benchmarks.timing import add_output_options, deliver
from or1lab.errors import Or1labError, UsageError
from or1lab.evaluation import Evaluation
from or1lab.rewards import math
from or1lab.rewards.verifiers import math_verify

FILLED = ("cause", "right")  # by the reader
COLUMNS = ("problem", "sample", "evaluator", "gold", "ours", "theirs", "read", "end of the response", *FILLED)
SHOWN = 12  # rows an evaluator in the terminal
END = 160  # characters

Judged = tuple[bool, str]  # right, and what was read as the answer where that is known
Evaluator = Callable[[str, str], Judged]  # (response, gold)


def evaluators() -> dict[str, Evaluator]:
    """Those that are installed, by name."""
    found: dict[str, Evaluator] = {"Math-Verify": lambda response, gold: (math_verify(response, gold), "")}
    if find_spec("lm_eval"):
        found |= lm_eval_gsm8k()
    return found


def lm_eval_gsm8k() -> dict[str, Evaluator]:
    """One evaluator for each filter of lm-eval's task gsm8k. Raises Or1labError where it lacks one of its packages."""
    try:
        import lm_eval
        from lm_eval.api.metrics import exact_match_fn
        from lm_eval.filters import build_filter_ensemble
    except ImportError as error:
        raise Or1labError(f"lm-eval is installed but does not load: {error}; the head of this file says how") from None
    path = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
    task = yaml.safe_load(path.read_text(encoding="utf-8"))
    (metric,) = task["metric_list"]
    options = {key: value for key, value in metric.items() if key not in ("metric", "aggregation", "higher_is_better")}

    def evaluator(steps: Sequence[dict[str, Any]]) -> Evaluator:
        parts = [(step["function"], {k: v for k, v in step.items() if k != "function"}) for step in steps]
        chain = [make() for make in build_filter_ensemble("", parts).filters]

        def judge(response: str, gold: str) -> Judged:
            read: Any = [[response.rpartition("</think>")[2]]]
            for step in chain:
                read = list(step.apply(read, [{}]))
            same = exact_match_fn(predictions=read, references=[gold], **options)["exact_match"]
            return bool(same), read[0]

        return judge

    return {f"lm-eval, {one['name']}": evaluator(one["filter"]) for one in task["filter_list"]}


def check(folder: Path) -> dict[str, Any]:
    """Agreement of each evaluator with our verdicts, and the disagreements as rows of COLUMNS.

    Raises UsageError for a folder that is no evaluation, or has other problems than mathematics."""
    evaluation = Evaluation.open(folder)
    golds = {problem.id: problem.gold for problem in evaluation.problems}
    if None in golds.values():
        raise UsageError(f"{folder} has problems without a gold answer; these evaluators know nothing else")
    samples = evaluation.samples
    judged = samples[samples["correct"].notna()]
    agreement, rows = {}, []
    for name, evaluator in evaluators().items():

        def ask(problem: str, response: str, evaluator: Evaluator = evaluator) -> Judged:
            gold = golds[problem]
            found = [evaluator(response, one) for one in ([gold] if isinstance(gold, str) else gold or [])]
            return max(found, key=lambda one: one[0])

        with ThreadPoolExecutor(math.WORKERS) as threads:
            theirs = list(threads.map(ask, judged["problem_id"], judged["response"]))
        both = list(zip(judged["correct"], (right for right, _ in theirs), strict=True))
        counts = {
            "both right": both.count((True, True)), "both wrong": both.count((False, False)),
            "only ours": both.count((True, False)), "only theirs": both.count((False, True)),
        }  # fmt: skip
        agreement[name] = counts
        for sample, (right, read) in zip(judged.to_dict("records"), theirs, strict=True):
            if sample["correct"] != right:
                end = " ".join(sample["response"][-END:].split())
                verdicts = _word(sample["correct"]) + f" ({sample['reason']})", _word(right)
                gold = golds[sample["problem_id"]]
                item = (sample["problem_id"], sample["sample"], name, gold, *verdicts, read, end, "", "")
                rows.append(dict(zip(COLUMNS, item, strict=True)))
    return {
        "folder": str(folder),
        "without a verdict": len(samples) - len(judged),
        "agreement": agreement,
        "rows": rows,
    }


def _word(right: bool) -> str:
    return "right" if right else "wrong"


def fill(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The rows with what a reader has written into that file about the same items; and the file, anew."""
    known = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            known = {_key(row): {name: row[name] for name in FILLED} for row in csv.DictReader(file)}
    filled = [row | known.get(_key(row), {}) for row in rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(filled)
    return filled


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in COLUMNS[:6])  # of the verdicts, too: another one has another cause


def show(results: dict[str, Any], console: Console) -> None:
    table = Table(
        Column("evaluator", overflow="fold"),
        "agree",
        "both right",
        "both wrong",
        "only ours",
        "only theirs",
        title=results["folder"],
    )
    for name, counts in results["agreement"].items():
        total = sum(counts.values())
        agree = counts["both right"] + counts["both wrong"]
        table.add_row(name, f"{agree} of {total} ({agree / total:.1%})" if total else "-", *map(str, counts.values()))
    console.print(table)
    if results["without a verdict"]:
        console.print(f"left out, since our verifier gave no verdict: {results['without a verdict']}")
    for name in results["agreement"]:
        own = [row for row in results["rows"] if row["evaluator"] == name]
        if not own:
            continue
        console.print(f"\n{name}: {min(len(own), SHOWN)} of {len(own)} disagreements", style="bold")
        for row in own[:SHOWN]:  # Text: brackets are no markup
            console.print(Text(
                f"{row['problem']} #{row['sample']}: gold {row['gold']}; ours {row['ours']}, theirs {row['theirs']}"
                f" (read {row['read'] or 'nothing'})"
            ))  # fmt: skip
            console.print(Padding(Text(f"... {row['end of the response']}", style="dim"), (0, 0, 0, 4)))
            if row["cause"] or row["right"]:
                console.print(Padding(Text(f"{row['cause']}; right: {row['right']}"), (0, 0, 0, 4)))
    if "lm-eval, strict-match" not in results["agreement"]:
        console.print("lm-eval is not installed: python -m benchmarks.crosscheck --help says how")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="evaluation folder")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the disagreements there (CSV)")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        results = check(options.folder)
    except Or1labError as error:
        raise SystemExit(f"error: {error}") from None
    if options.rows:
        results["rows"] = fill(results["rows"], options.rows)
    deliver("crosscheck", results, options, lambda: show(results, Console()))


if __name__ == "__main__":
    main()
