"""What must hold of a problem by itself, both sides of each rule."""

from __future__ import annotations

import pytest

from or1lab.data import checks
from or1lab.data.figures import pointer
from or1lab.data.problem import Problem
from or1lab.rewards import code
from tests.lacking import needs_bubblewrap

ADD = "def add(a, b):\n    return a + b\n"
ADDED = {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, 7]}


def mathematics(gold: str | list[str], solution: str | None, prompt: str = "How many?") -> Problem:
    return Problem(id="m", domain="math", prompt=prompt, gold=gold, solution=solution)


def program(tests, solution: str | None = None) -> Problem:
    return Problem(id="c", domain="code", prompt="Add. See the figure below.", tests=tests, solution=solution)


def reason(stage, problem: Problem) -> str:
    ((same, why),) = stage([problem])
    assert same is problem
    return why


# ----------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("gold", "solution", "expected"),
    [
        ("18", "She sells 9, so 9 * 2 = \\boxed{18} dollars.", ""),
        ("\\frac{1}{2}", "Thus the answer is $\\boxed{0.5}$.", ""),
        (["3", "-3"], "so $x = \\boxed{-3}$", ""),
        ("18", "9 * 2 = <<9*2=18>>18 a day.\n#### 18", ""),
        ("1,234", "so far\n####  1234  \n", ""),
        ("17", "9 * 2 = \\boxed{18}", "answer not that of the solution: wrong"),
        ("17", "9 * 2 = 18\n#### 18", "answer not that of the solution: wrong"),
        ("18", "Left to the reader.", "answer not that of the solution: no answer"),
        ("18", None, "unchecked: no solution"),
    ],
)
def test_the_solution_must_reach_the_answer(gold, solution, expected):
    assert reason(checks.answers, mathematics(gold, solution)) == expected


def test_programs_have_no_answer_to_extract():
    assert reason(checks.answers, program(ADDED)) == ""


# ----------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    "text",
    [
        "In the figure, $AB = 3$. Find $BC$.",
        "The circle shown below has radius 2, see the diagram.",
        "Two lines meet as shown. What is the angle?",
        "The graph shown has a maximum at 3.",
        "Using the following diagram, count the squares.",
        "See Figure 3 for the shape of the garden.",
        "Figure 2 shows a triangle.",
        "A tower is pictured as shown in the figure.",
        "Use the figure below to answer.",
        "The diagram shows a square of side 4.",
        "[asy]\ndraw((0,0)--(1,1));\n[/asy] What is the length?",
        "Look: \\includegraphics[width=3cm]{a.png}",
        "![](a.png) How many?",
        'Consider <img src="a.png"> and count.',
        "Source: https://artofproblemsolving.com/wiki, problem 3",
        "Graph\nhttps : //www.desmos.com/calculator/x",
        "taken from www.example.org/page",
    ],
)
def test_a_text_that_points_elsewhere_goes(text):
    assert pointer(text), text
    assert reason(checks.figures, mathematics("1", None, text)) == pointer(text)
    assert reason(checks.figures, program(ADDED)) == ""  # only mathematics is meant


@pytest.mark.parametrize(
    "text",
    [
        "Give the answer to three significant figures.",
        "What is the area of the resulting figure?",
        "A figure skater turns 4 times a second.",
        "Find the area between the graph of $y = x^2$ and the $x$-axis, below the line $y = 4$.",
        "The region above the $x$-axis and below the graph of $f$ is turned about the axis.",
        "Draw a Venn diagram of the sets. How many regions has it?",
        "Each senior receives a picture frame that costs $20.",
        "The data in the table below shows the percentage of riders.",
        "How many figures has the number $2^{100}$?",
        "Rows 1 to 3 of a triangular array are shown below.\n1\n1 1\n1 3 1",
        "Find the image of the point under the map given by $z \\mapsto z^2$.",
        "As shown by Euler, the sum converges. To what?",
        "Four figures formed by five squares are given. How many are congruent?",
        "He drove to http and back? No: at 3:1 odds w.w.w is not an address.",
    ],
)
def test_a_text_that_stands_alone_stays(text):
    assert pointer(text) == ""


# ------------------------------------------------------------------------------------------------------- tests


CUT = "1 " * 150 + "..."


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"inputs": ["1\n"], "outputs": ["2\n"]}, ""),
        ({"inputs": [""], "outputs": ["2"]}, ""),  # a program may need no input
        ({"inputs": [["1", "2"]], "outputs": [["3"]]}, ""),  # lines
        (ADDED, ""),
        ({"fn_name": "f", "inputs": [[[]]], "outputs": [""]}, ""),  # an empty text is a value
        ([{"input": "1", "output": "2"}], ""),
        ({"inputs": ["#"], "outputs": ["." * 300]}, ""),  # dots are what some programs print
        ({"assert_case": ["assert f(1) == 2"]}, ""),
        ({"test_code": "def check(f):\n    assert f(1) == 2", "entry_point": "f", "import_prefix": ""}, ""),
        ({"inputs": [], "outputs": []}, "empty tests"),
        ({"assert_case": ["f(1)"]}, "empty tests"),
        ({"test_code": "def check(f):\n    pass", "entry_point": "f"}, "empty tests"),
        ({"inputs": ["1", "2"], "outputs": ["1"]}, "incomplete tests: 2 inputs, 1 outputs"),
        ({"inputs": ["1"], "outputs": [" \n"]}, "incomplete tests: an output is empty"),
        ({"inputs": [CUT], "outputs": ["1"]}, "incomplete tests: cut off"),
        ([{"input": "1"}], "incomplete tests: an input or output is missing"),
        ({"inputs": ["1"]}, "corrupted tests: inputs and outputs are no lists"),
        ({"inputs": ["1"], "outputs": ["a\0"]}, "corrupted tests: characters that are none"),
        ({"inputs": ["caf\ufffd"], "outputs": ["1"]}, "corrupted tests: characters that are none"),
        ({"assert_case": ["assert f(1) =="]}, "corrupted tests: "),
        ({"test_code": "def test(f):\n    assert f(1)", "entry_point": "f"}, "corrupted tests: "),
        ({"test_code": None, "entry_point": "f"}, "corrupted tests: "),
        ({"something": 1}, "corrupted tests: no record of a known kind"),
    ],
)
def test_tests_must_be_there_and_whole(record, fault):
    found = checks.faulty(record)
    assert found == fault or (fault.endswith(": ") and found.startswith(fault))


@needs_bubblewrap
@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        (ADD, ""),
        (ADD.replace("+", "-"), "solution fails: wrong answer, 0 of 2 tests passed"),
        ("def add(a, b):\n    return a + b if a < 2 else 1/0\n", "solution fails: runtime error, 1 of 2 tests passed"),
        ("def add(a, b)", "solution fails: syntax error, 0 of 2 tests passed"),
        (None, "unchecked: no solution"),
    ],
)
def test_the_reference_solution_must_pass_every_test(solution, expected):
    assert reason(checks.tests, program(ADDED, solution)) == expected


def test_a_solution_that_runs_out_of_time_is_tried_again(monkeypatch):
    verdicts = [code.CodeVerdict(False, "timeout", 1, 2), code.CodeVerdict(True, "passed", 2, 2)]
    monkeypatch.setattr(code, "judge", lambda *_: verdicts.pop(0))
    assert reason(checks.tests, program(ADDED, ADD)) == "" and not verdicts


def test_mathematics_has_no_tests():
    assert reason(checks.tests, mathematics("1", "nothing")) == ""
