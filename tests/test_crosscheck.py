"""Other evaluators on stored responses: counts, one row a disagreement, and what a reader wrote stays."""

from __future__ import annotations

import csv
import json
import sys

import pandas as pd
import pytest

from benchmarks import crosscheck
from or1lab.data.problem import Problem
from or1lab.errors import UsageError
from or1lab.evaluation import Evaluation
from or1lab.rewards import math as reward
from or1lab.rewards.math import verify_math

try:
    from lm_eval.api.metrics import exact_match_fn  # noqa: F401

    LM_EVAL = True
except ImportError:
    LM_EVAL = False
needs_lm_eval = pytest.mark.skipif(not LM_EVAL, reason="lm-eval is not installed (see benchmarks/crosscheck.py)")

# gold, response, and who calls it right: ours, Math-Verify, strict-match, flexible-extract
CASES = [
    ("24", r"So there are \boxed{24} pens.", (1, 1, 0, 1)),
    ("24", r"<think>5?</think>It is \boxed{25}.", (0, 0, 0, 0)),
    ("1500", "She saves 1,500.\n#### 1,500", (1, 1, 1, 1)),
    ("8", r"\boxed{8} since 5 + 3 = 8, and not 9", (1, 1, 0, 0)),  # the last number of the text is no answer
    ("3150", r"\boxed{75 * 42}", (0, 1, 0, 0)),  # the question again
    ("7", "I think of a number like 7", (1, 1, 0, 1)),
    ("6", "", (0, 0, 0, 0)),
]  # fmt: skip
NAMES = ("Math-Verify", "lm-eval, strict-match", "lm-eval, flexible-extract")


@pytest.fixture(scope="module", autouse=True)
def _no_workers_afterwards():
    yield
    reward._pool().close()


def stored(folder, cases, *, gold=True, without: int | None = None) -> Evaluation:
    """An evaluation folder of one sample a problem, judged by ours; `without`: this one has no verdict."""
    answers = [{"gold": case[0]} if gold else {"tests": {"inputs": ["1"], "outputs": ["1"]}} for case in cases]
    problems = [Problem(id=f"p{i}", domain="math", prompt="?", **answer) for i, answer in enumerate(answers)]
    made = Evaluation.create(folder, {"k": 1, "limit": 100, "scores": "v1"}, problems)
    texts = [case[1] for case in cases]
    frame = pd.DataFrame({"problem_id": [problem.id for problem in problems], "sample": 0, "response": texts})
    part = made.write_samples(frame.assign(length=10, truncated=False))
    found = [verify_math(text, case[0]) for case, text in zip(cases, texts, strict=True)]
    correct = pd.array([one.correct for one in found], dtype="boolean")
    if without is not None:
        correct[without] = pd.NA
    verdicts = frame[["problem_id", "sample"]].assign(
        reward=[float(one.correct) for one in found], correct=correct, reason=[one.reason for one in found], answer=None
    )
    made.write_scores("v1", part, verdicts)
    return made


def expected(evaluator: int) -> dict[str, int]:
    pairs = [(case[2][0], case[2][evaluator]) for case in CASES]
    names = {"both right": (1, 1), "both wrong": (0, 0), "only ours": (1, 0), "only theirs": (0, 1)}
    return {name: pairs.count(pair) for name, pair in names.items()}


def test_math_verify_alone(tmp_path):
    stored(tmp_path, CASES)
    found = crosscheck.check(tmp_path)
    assert found["agreement"]["Math-Verify"] == expected(1) and found["without a verdict"] == 0
    (row,) = (row for row in found["rows"] if row["evaluator"] == "Math-Verify")
    assert (row["problem"], row["gold"], row["ours"], row["theirs"]) == ("p4", "3150", "wrong (wrong)", "right")
    assert row["end of the response"] == r"\boxed{75 * 42}" and row["cause"] == row["right"] == ""


@needs_lm_eval
def test_the_filters_and_the_metric_of_lm_eval(tmp_path):
    stored(tmp_path, CASES)
    found = crosscheck.check(tmp_path)
    assert {name: found["agreement"][name] for name in NAMES} == {name: expected(i) for i, name in enumerate(NAMES, 1)}
    assert set(found["agreement"]) == set(NAMES)
    read = {row["problem"]: row["read"] for row in found["rows"] if row["evaluator"] == NAMES[2]}
    assert read == {"p3": "9"}
    strict = {row["problem"]: row["read"] for row in found["rows"] if row["evaluator"] == NAMES[1]}
    assert strict == dict.fromkeys(("p0", "p3", "p5"), "[invalid]")


@needs_lm_eval
def test_several_golds_and_thinking():
    judge = crosscheck.lm_eval_gsm8k()[NAMES[2]]
    assert judge("<think>3</think>It is 4", "4") == (True, "4")
    assert judge("It is 4. </think>", "4") == (False, "[invalid]")


def test_any_of_several_golds_counts(tmp_path):
    made = stored(tmp_path, CASES[:1])
    problem = made.problems[0].model_copy(update={"gold": ["twenty-four", "24"]})
    (tmp_path / "problems.jsonl").write_text(problem.model_dump_json() + "\n")
    assert crosscheck.check(tmp_path)["agreement"]["Math-Verify"]["both right"] == 1


def test_what_has_no_verdict_is_left_out(tmp_path):
    stored(tmp_path, CASES, without=0)
    found = crosscheck.check(tmp_path)
    assert found["without a verdict"] == 1 and sum(found["agreement"]["Math-Verify"].values()) == len(CASES) - 1


def test_programs_and_other_folders_are_refused(tmp_path):
    stored(tmp_path / "code", [("1", "x")], gold=False)
    with pytest.raises(UsageError, match="problems without a gold answer"):
        crosscheck.check(tmp_path / "code")
    with pytest.raises(UsageError, match="holds no evaluation"):
        crosscheck.check(tmp_path / "nothing")


def test_what_a_reader_filled_in_stays(tmp_path):
    stored(tmp_path / "e", CASES)
    rows, path = crosscheck.check(tmp_path / "e")["rows"], tmp_path / "rows.csv"
    assert crosscheck.fill(rows, path) == rows
    text = path.read_text(encoding="utf-8").replace(r"\boxed{75 * 42},,", r"\boxed{75 * 42},repeats the question,ours")
    path.write_text(text, encoding="utf-8")
    for _ in range(2):
        (again,) = (row for row in crosscheck.fill(rows, path) if row["evaluator"] == "Math-Verify")
        assert (again["cause"], again["right"]) == ("repeats the question", "ours")
    changed = [row | {"ours": "wrong (timeout)"} for row in rows]  # another verdict, another cause
    assert not any(row["cause"] for row in crosscheck.fill(changed, path))
    with path.open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_the_command(tmp_path, monkeypatch, capsys):
    stored(tmp_path, CASES)
    command = ["crosscheck", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setenv("COLUMNS", "160")
    crosscheck.main()
    printed = capsys.readouterr().out
    assert "Math-Verify" in printed and "6 of 7 (85.7%)" in printed and "1 of 1 disagreements" in printed
    monkeypatch.setattr(sys, "argv", [*command, "--json", "--rows", str(tmp_path / "rows.csv")])
    crosscheck.main()
    assert json.loads(capsys.readouterr().out)["agreement"]["Math-Verify"] == expected(1)
    assert (tmp_path / "rows.csv").is_file()
    monkeypatch.setattr(sys, "argv", ["crosscheck", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="holds no evaluation"):
        crosscheck.main()
