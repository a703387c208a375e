from __future__ import annotations

import pandas as pd

from or1lab.plots import verifiers as plots
from or1lab.rewards import verifiers

RESPONSES = {  # response to a gold of 1/2: which verifiers call it right
    r"\boxed{1/2}": (True, True, True),
    r"so \boxed{\frac{1}{2}}": (True, True, False),
    r"<think>?</think>\boxed{0.5}": (True, True, False),
    "Let x = 1/2. I am stuck.": (False, True, False),  # Math-Verify takes the last equation for an answer
    r"\boxed{1/3}": (False, False, False),
    "no idea": (False, False, False),
    "": (False, False, False),
}


def frame(**extra):
    rows = [{"problem_id": "p", "gold": "1/2", "response": text, "truncated": False} for text in RESPONSES]
    return pd.DataFrame(rows).assign(**extra)


def test_each_verifier_has_its_own_verdict():
    judged = verifiers.compare(frame())
    assert list(judged[list(verifiers.NAMES)].itertuples(index=False, name=None)) == list(RESPONSES.values())


def test_a_truncated_response_is_never_right():
    assert not verifiers.compare(frame(truncated=True))[list(verifiers.NAMES)].any(axis=None)


def test_a_repeated_question_pays_with_math_verify_alone():
    rows = pd.DataFrame([{"problem_id": "p", "gold": "95", "response": "22 + 73.", "truncated": False}])
    judged = verifiers.compare(rows)
    assert list(judged.loc[0, list(verifiers.NAMES)]) == [False, True, False]


def test_counts_and_disputes():
    judged = verifiers.compare(frame(problem_id=["p", "p", "p", "q", "q", "q", "q"]))
    assert verifiers.solved(judged).to_dict("index") == {
        "p": {"or1lab": 3, "Math-Verify": 3, "string match": 1},
        "q": {"or1lab": 0, "Math-Verify": 1, "string match": 0},
    }
    assert list(verifiers.disputed(judged)["response"]) == [list(RESPONSES)[i] for i in (1, 2, 3)]


def test_the_figure_shows_each_share():
    counts = pd.DataFrame({"a": [0, 0, 8, 8], "b": [4, 4, 4, 4]})
    panel = plots.solved(counts, 8).axes[0]
    assert sorted(text.get_text() for text in panel.texts) == ["100%", "50%", "50%"]
    assert panel.get_xlabel() == "share of 4 problems"
    widths = [bar.get_width() for bar in panel.containers[0]]
    assert widths == [0.5, 0.0]
