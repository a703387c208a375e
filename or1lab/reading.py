"""Reading single answers of an evaluation: an interactive table for a notebook (itables), which needs no network.

What a model wrote is untrusted: it is escaped, set as plain text (no formula of it is typeset), and cut where it is
long. Its chain of thought is folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from or1lab.data_view import safe
from or1lab.errors import check_names
from or1lab.evaluation import Evaluation
from or1lab.evaluation_summary import bands, tables
from or1lab.rewards import verifiers
from or1lab.searchable import searchable

if TYPE_CHECKING:
    from IPython.display import HTML

OURS = "or1lab"  # the verdicts of the evaluation
MOST = 300  # responses on a page
THOUGHT, TEXT, SHORT = 6000, 2000, 120  # characters shown of a chain of thought, another text, an answer
TIED = 2  # most frequent answers of a problem that are written out
WORDS = {True: "✓ right", False: "✗ wrong"}
COLUMNS = {  # name -> width
    "problem": "20em", "gold": "6em", "band": "4em", "solved": "4em", "response": "40em", "verdict": "6em",
    "reason": "6em", "length": "4em", "majority": "8em",
}  # fmt: skip
COMPARED = ("problem", "gold", "band", "response", "reason")  # beside the verdicts of two verifiers
FILTERED = ("band", "verdict", "reason")  # columns with a list of their values to choose from
CSS = """
.dt-container { font-size: 12px; } .dt-container td { vertical-align: top; }
.dt-container td, .dt-container th { text-align: left !important; }
.dt-container pre { font: 11px/1.3 monospace; white-space: pre-wrap; overflow-wrap: anywhere; word-break: normal;
  margin: 0; padding: 0; background: none; max-height: 26em; overflow-y: auto; }
.dt-container summary { cursor: pointer; color: #0072B2; } .dt-container details pre { color: #555; }
.dt-container span.dtcc-button-icon svg { width: 14px !important; height: 14px !important; max-width: none; }
"""


def answers(evaluation: Evaluation) -> pd.DataFrame:
    """One row a response, those of the hardest problems first: `Evaluation.samples` and, of its problem, the question,
    gold, band (categories in the suite's order), solved (share of right responses), majority (the most frequent answer,
    or what ties) and vote (whether that is right: True, False, or None without an answer to vote with and for a tie
    with the right one).

    Raises:
        Or1labError: as `evaluation_summary.tables`.
    """
    told, frame, problems = tables(evaluation), evaluation.samples, evaluation.problems
    values = (bands(problems) or ("", [""] * len(problems)))[1]
    about = pd.DataFrame({
        "problem_id": [problem.id for problem in problems],
        "band": pd.Categorical(values, dict.fromkeys(values)),
        "question": [problem.prompt for problem in problems],
        "gold": [problem.gold for problem in problems],
        "place": range(len(problems)),
    })  # fmt: skip
    votes = pd.DataFrame(columns=["problem_id", "majority", "vote"])
    if told.labels is not None:
        texts = frame.set_index(["problem_id", "sample"])["answer"]
        voted = zip(told.problems, told.labels, strict=True)
        rows = [[problem.id, *_majority(texts[problem.id].to_list(), own)] for problem, own in voted]
        votes = pd.DataFrame(rows, columns=votes.columns, dtype=object)
    whole = frame.merge(about.merge(votes, how="left"), on="problem_id", how="left", validate="many_to_one")
    for name in ("majority", "vote"):  # None, whatever merged it in
        whole[name] = whole[name].where(whole[name].notna(), None)
    whole["solved"] = whole["correct"].astype(float).groupby(whole["problem_id"]).transform("mean")
    return whole.sort_values(["solved", "place", "sample"], ignore_index=True).drop(columns="place")


def _majority(texts: Sequence[str | None], labels: np.ndarray) -> tuple[str | None, bool | None]:
    """The most frequent answers in their first wording, and whether they are right (class 0 is the gold's)."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        return None, None
    most = classes[counts == counts.max()]
    right = None if len(most) > 1 and 0 in most else bool(most[0] == 0)
    if len(most) > TIED:
        return f"{len(most)} answers tie, {counts.max()} each", right
    return " or ".join(str(texts[i]) for i in sorted(int(np.argmax(labels == label)) for label in most)), right


def disagreements(frame: pd.DataFrame, one: str = OURS, other: str = "Math-Verify") -> pd.DataFrame:
    """The responses on which two verifiers of mathematics disagree, with a boolean column for each; OURS is the verdict
    that the evaluation holds. `attrs["compared"]` is the number of responses that both have judged: those with a gold
    answer and a verdict.

    Args:
        frame: as by `answers`.
        one, other: names of `rewards.verifiers.NAMES`.

    Raises UsageError for a verifier of another name."""
    check_names([one, other], verifiers.NAMES, "verifier")
    asked = frame[frame["gold"].notna() & frame["correct"].notna()].copy()
    for name in (one, other):
        asked[name] = asked["correct"].astype(bool) if name == OURS else verifiers.judge(name, asked)
    found = asked[asked[one] != asked[other]]
    found.attrs["compared"] = len(asked)
    return found


# -------------------------------------------------------------------------------------------------------- the table


def table(frame: pd.DataFrame, also: Sequence[str] = (), most: int = MOST) -> HTML:
    """The interactive table: search, sort by a column, choose from the values of a column.

    Args:
        frame: rows of `answers` or `disagreements`.
        also: columns of booleans, the verdicts of two verifiers, instead of what the evaluation says.
        most: responses on the page; of more, the first right and the first wrong one of each problem, then the second
            ones and so on, and the caption says so.
    """
    from IPython.display import HTML

    chosen, columns = some(frame, most), [*(COMPARED if also else COLUMNS), *also]
    shown = pd.DataFrame([_row(row, also) for row in chosen.to_dict("records")], columns=[*COLUMNS, *also])[columns]
    caption = f"{len(shown):,} of {len(frame):,} responses" if len(shown) < len(frame) else f"{len(shown):,} responses"
    widths = [{"targets": i, "width": COLUMNS.get(name, "6em")} for i, name in enumerate(columns)]
    page = searchable(
        shown, f"{caption}; the hardest problems first", (*FILTERED, *also), widths, css=CSS, pageLength=5,
        lengthMenu=[5, 20, 100], allow_html=True,  # all of it is made by `_row`, which escapes
    )  # fmt: skip
    return HTML(page)


def some(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, spread over problems and verdicts, in their order."""
    rank = frame.groupby(["problem_id", frame["correct"].astype(object)], dropna=False, sort=False).cumcount()
    return frame.loc[rank.sort_values(kind="stable").index[:most]].sort_index()


def _row(row: dict[str, Any], also: Sequence[str]) -> list[Any]:
    gold = row["gold"] if isinstance(row["gold"], str) else " or ".join(row["gold"] or ["(tests)"])
    majority = block(row["majority"], SHORT) + _word(row["vote"], "") if row["majority"] else "-"
    return [
        f"<small>{plain(row['problem_id'])}, sample {row['sample']}</small>{block(row['question'], TEXT)}",
        block(gold, TEXT), plain(str(row["band"])), "-" if pd.isna(row["solved"]) else f"{row['solved']:.0%}",
        response(row["response"]) + ("<i>[truncated at the limit]</i>" if row["truncated"] else ""),
        _word(row["correct"]), plain(row["reason"] or ""), row["length"], majority,
        *(_word(row[name]) for name in also),
    ]  # fmt: skip


def _word(value: Any, nothing: str = "no verdict") -> str:
    return nothing if pd.isna(value) else WORDS[bool(value)]


def plain(text: str) -> str:
    """Text for HTML: escaped, control characters made visible."""
    return escape(safe(text)).replace("\n", "&#10;")  # which itables would spell out


def block(text: str, most: int) -> str:
    """A text as it was written; of a longer one than `most` characters its two ends, and how much is left out."""
    if len(text) <= most:
        return f"<pre>{plain(text)}</pre>" if text else ""
    half = most // 2
    note = f"&#10;<i>[{len(text) - 2 * half:,} characters left out]</i>&#10;"
    return f"<pre>{plain(text[:half])}{note}{plain(text[-half:])}</pre>"


def response(text: str) -> str:
    """A response for HTML, its chain of thought folded."""
    before, thought, after = split(text)
    fold = f"<summary>chain of thought, {len(thought):,} characters</summary>{block(thought, THOUGHT)}"
    return block(before, TEXT) + (f"<details>{fold}</details>" if thought else "") + block(after, TEXT)


def split(text: str) -> tuple[str, str, str]:
    """A response as what stands before the chain of thought, the chain, and what follows: by its marks (the first may
    stand in the prompt, the last may be missing), without marks the lines above that of the last box."""
    head, ended, after = text.partition("</think>")
    if ended or "<think>" in head:
        before, begun, thought = head.partition("<think>")
        parts = (before, thought, after) if begun else ("", head, after)
    else:
        line = text.rfind("\n", 0, max(text.rfind("\\boxed"), 0)) + 1
        parts = ("", text[:line], text[line:])
    before, thought, after = (part.strip() for part in parts)
    return before, thought, after
