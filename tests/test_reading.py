"""Reading single answers: what is shown of them, that nothing of them becomes a page, and where verifiers differ."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from or1lab import reading
from or1lab.errors import UsageError
from or1lab.evaluation_summary import curve
from or1lab.plots import evaluation as plots
from tests.test_evaluation import Fake, K, run, suite

HOSTILE = "<script>steal()</script></pre></td><img src=x onerror='steal()'>\x00\x1b[2J $x^2$ &lt;"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Sample j of problem i is right if j < i, the last sample is truncated; bands a and b in turns."""
    return run(tmp_path_factory.mktemp("reading") / "done")


@pytest.fixture(scope="module")
def answers(done):
    return reading.answers(done)


def said(tmp_path, texts, **options) -> pd.DataFrame:
    """The answers to one problem (gold 1) whose samples say these texts; the last is truncated."""
    return reading.answers(run(tmp_path / "said", Fake(text=lambda asked: texts[asked.sample]), suite(1), **options))


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_hardest_problems_come_first_each_with_its_samples_in_order(answers):
    assert list(answers["problem_id"].unique())[:3] == ["p0", "p1", "p2"] and len(answers) == 24
    assert list(answers["sample"]) == [0, 1, 2, 3] * 6
    assert answers.groupby("problem_id")["solved"].first()[["p0", "p1", "p5"]].tolist() == [0, 0.25, 0.75]
    assert list(answers["band"].cat.categories) == ["a", "b"]
    assert answers[["question", "gold"]].iloc[0].tolist() == ["0+1=?", "1"]


def test_the_majority_is_the_most_frequent_answer_and_its_verdict(answers):
    found = answers.groupby("problem_id")[["majority", "vote"]].first()
    assert found["majority"].tolist() == ["2", "3", "3", "4", "5", "6"]
    assert found["vote"].tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("answered", "majority", "vote"),
    [
        (("1", "2", None), "1 or 2", None),  # a tie with the right answer
        (("3", "2", None), "3 or 2", False),  # a tie of wrong ones
        (("3", "2", "1"), "3 answers tie, 1 each", None),
        ((None, None, None), None, None),
    ],
)
def test_ties_and_no_answer_at_all(tmp_path, answered, majority, vote):
    frame = said(tmp_path, [f"<think></think>\\boxed{{{a}}}" if a else "?" for a in (*answered, None)])
    assert [frame["majority"].iloc[0], frame["vote"].iloc[0]] == [majority, vote]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("so <think>a\nb</think>\\boxed{1}", ("so", "a\nb", "\\boxed{1}")),
        ("a</think>5", ("", "a", "5")),  # the first mark stood in the prompt
        ("<think>a, a, a", ("", "a, a, a", "")),  # never ended
        ("one\ntwo\nso \\boxed{3}.\nDone", ("", "one\ntwo", "so \\boxed{3}.\nDone")),
        ("\\boxed{1}\nor \\boxed{2}", ("", "\\boxed{1}", "or \\boxed{2}")),
        ("no mark, no box\nat all", ("", "", "no mark, no box\nat all")),
        ("", ("", "", "")),
    ],
)
def test_the_chain_of_thought_is_what_is_folded(text, parts):
    assert reading.split(text) == parts
    assert ("<details><summary>chain of thought" in reading.response(text)) == bool(parts[1])


def test_what_a_model_wrote_stays_text(tmp_path):
    for place in ("{}", "<think>{}</think>\\boxed{{1}}", "{}\n\\boxed{{1}}"):
        found = Tags(reading.response(place.format(HOSTILE)))
        assert set(found.found) <= {"pre", "details", "summary"} and "<script>steal()</script></pre>" in found.text
        assert "\x00" not in found.text and "\x1b" not in found.text
    frame = said(tmp_path, [f"<think>{HOSTILE}</think>\\boxed{{1}}"] * K)
    page = reading.table(frame.assign(majority=HOSTILE, question=HOSTILE, gold=HOSTILE, reason=HOSTILE)).data
    assert "<script>steal" not in page and "<img src=x" not in page and "\x00" not in page
    assert "steal()" in page  # it is shown


def test_long_texts_lose_their_middle_and_say_so():
    thought, end = "x" * 1_000_000 + "END", "y" * 50_000
    shown = reading.response(f"<think>START{thought}</think>{end}")
    assert len(shown) < 1.1 * (reading.THOUGHT + reading.TEXT) + 500
    assert "chain of thought, 1,000,008 characters" in shown and "START" in shown and "END" in shown
    assert f"[{1_000_008 - reading.THOUGHT:,} characters left out]" in shown
    assert f"[{50_000 - reading.TEXT:,} characters left out]" in shown


def test_a_page_with_few_rows_has_every_problem_right_and_wrong(answers):
    few = reading.some(answers, 11)
    assert few["problem_id"].nunique() == 6 and len(few) == 11
    assert few.groupby("problem_id")["correct"].nunique().tolist() == [1, 2, 2, 2, 2, 2]  # p0 has no right one
    assert few.index.is_monotonic_increasing
    assert "11 of 24 responses; the hardest problems first" in reading.table(answers, most=11).data
    assert len(reading.some(answers, 100)) == 24


def test_the_table_needs_no_network(answers):
    page = reading.table(answers).data
    assert "unpkg" not in page and "import(" in page and "from 'http" not in page
    assert '"columnControl": [["searchList"]]' in page
    rows = json.loads(page.partition('"data_json": ')[2].partition("\n")[0].rstrip(","))
    first = json.loads(rows)[0]
    assert first[3] == "0%" and first[5:8] == ["✗ wrong", "wrong", 10] and first[8].endswith("✗ wrong")
    assert "[truncated at the limit]" in json.loads(rows)[3][4]


def test_a_response_without_verdict_says_so(tmp_path):
    frame = said(tmp_path, ["\\boxed{1}"] * K).assign(correct=pd.array([pd.NA] * K, "boolean"), reason="error: timeout")
    page = reading.table(frame).data
    assert "no verdict" in page and "error: timeout" in page and "✓" not in page and "✗" not in page


def test_disagreements_are_those_of_the_stored_verdict_and_another_verifier():
    texts = ["22 + 73.", "\\boxed{95}", "\\boxed{94}", "so 95.0"]
    frame = pd.DataFrame({"response": texts, "gold": "95", "truncated": False, "problem_id": "p"})
    frame["correct"] = pd.array([False, True, True, pd.NA], "boolean")
    found = reading.disagreements(frame)
    assert found["response"].tolist() == ["22 + 73.", "\\boxed{94}"] and found.attrs["compared"] == 3
    assert found["Math-Verify"].tolist() == [True, False] and found["or1lab"].tolist() == [False, True]
    assert reading.disagreements(frame, "Math-Verify", "string match")["response"].tolist() == ["22 + 73."]
    several = frame.assign(gold=[["94", "95"]] * 4)
    assert reading.disagreements(several)["response"].tolist() == ["22 + 73."]
    assert reading.disagreements(frame.assign(gold=None)).attrs["compared"] == 0  # programs
    with pytest.raises(UsageError, match="did you mean 'Math-Verify'"):
        reading.disagreements(frame, other="math-verify")


# ------------------------------------------------------------------------------------------------------ figures


def test_the_heat_map_has_a_cell_for_each_response(answers):
    panel = plots.solved(answers).axes[0]
    cells = np.asarray(panel.collections[0].get_array()).reshape(K, -1)
    assert (cells == 3).sum(axis=0).tolist() == [0, 2, 3, 1, 3, 3]  # band a (p0, p2, p4), then b (p1, p3, p5)
    assert (cells[-1] == 1).all()  # the truncated ones, on top
    figure = plots.solved(answers.assign(correct=pd.array([pd.NA] * 24, "boolean")))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no verdict"]


def test_bands_and_limits_are_drawn_as_computed(done):
    found = done.summary()["bands"]
    left, right = plots.bands(found).axes
    assert [bar.get_width() for bar in right.patches] == [row["length"] for row in found["rows"]] == [55, 55]
    assert left.lines[0].get_xdata().tolist() == [100 * row["value"] for row in found["rows"]]
    rows = curve(done, [10, 40, 100])
    left, right = plots.limits(rows).axes
    assert left.lines[0].get_ydata().tolist() == [100 * row["value"] for row in rows]
    assert right.lines[0].get_ydata().tolist() == [75, 50, 25]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["10", "40", "100"]
