"""`or1lab verify code`: one program, batches, and the shapes in which data sets keep tests."""

from __future__ import annotations

import json
import sys
from functools import partial

import pytest

from or1lab import cli, verify_code
from or1lab.recipe import ROOT
from or1lab.rewards import sandbox
from or1lab.rewards.code import judge
from or1lab.rewards.sandbox import Limits
from tests.lacking import needs_bubblewrap

pytestmark = needs_bubblewrap
DATA = ROOT.parent / "shared" / "data"  # not part of the repository
ADD = {"inputs": [[1, 2], [3, 4]], "outputs": [3, 7], "fn_name": "add"}
RIGHT, WRONG = "def add(a, b):\n    return a + b\n", "def add(a, b):\n    return 3\n"


@pytest.fixture
def or1lab(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["or1lab", "verify", "code", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def write(path, *rows, end: bytes = b"\n"):
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + end for row in rows))
    return path


@pytest.mark.parametrize("problem", [ADD, {"id": "p", "domain": "code", "prompt": "?", "tests": ADD}])
@pytest.mark.parametrize("fence", ["{}", "<think>hm</think>\n```python\n{}```"])
def test_one_program(problem, fence, or1lab, tmp_path):
    problem, solution = write(tmp_path / "p.json", problem), tmp_path / "s.py"
    layers = ", ".join(name for name, on in sandbox.active().items() if on)
    for source, word, passed in ((RIGHT, "right (passed)", 2), (WRONG, "wrong (wrong answer)", 1)):
        solution.write_text(fence.format(source))
        code, out, _ = or1lab("--problem", problem, "--solution", solution)
        assert code == 0
        assert out.splitlines() == [word, f"{passed} of 2 tests passed", f"sandbox: {layers}"]
        code, out, _ = or1lab("--problem", problem, "--solution", solution, "--json")
        assert json.loads(out) == {
            "correct": passed == 2, "reason": word.partition("(")[2][:-1], "passed": passed, "total": 2,
            "sandbox": sandbox.active(),
        }  # fmt: skip


@pytest.mark.parametrize(
    "row, kind",
    [
        (ADD, "inputs"), ({"tests": ADD}, "inputs"), ({"io": ADD}, "inputs"), ({"input_output": ADD}, "inputs"),
        ({"input_output": json.dumps(ADD)}, "inputs"), ({"problem": {"tests": ADD}}, "inputs"),
        ({"io": None, "test": "def check(f):\n    assert f(1, 2) == 3", "entry_point": "add"}, "test_code"),
        ({"test": ["assert add(1, 2) == 3"]}, "assert_case"), ({"ground_truth": {"assert_case": ["x"]}}, "assert_case"),
        ({"ground_truth": {"import_prefix": "", "test_code": "", "entry_point": ""}}, "test_code"),
    ],
)  # fmt: skip
def test_where_data_sets_keep_tests(row, kind):
    assert kind in verify_code.find_tests(row)


def test_what_holds_no_tests():
    for row in ({}, {"tests": {}}, {"tests": []}, {"input_output": "{"}, {"io": 3}, [], [1], 3, None, "x"):
        assert verify_code.find_tests(row) is None
    pairs = [{"input": "1", "output": "2", "name": "a"}]
    assert verify_code.find_tests({"tests": pairs}) == pairs


def test_a_batch_is_counted_by_category(or1lab, tmp_path):
    path = write(
        tmp_path / "cases.jsonl",
        {**ADD, "response": f"```python\n{RIGHT}```", "expected": True, "category": "a"},
        {"tests": ADD, "solution": WRONG, "category": "a", "id": "half|"},
        {"io": ADD, "code": WRONG, "expected": False, "category": "[/b]"},
        {"io": ADD, "code": RIGHT},
    )
    code, out, _ = or1lab("--batch", path, "--json")
    found = json.loads(out)
    assert code == 0 and found["unlabelled"] == 1
    assert found["total"] == {"cases": 3, "agree": 2, "false positives": 0, "false negatives": 1}
    assert found["by_category"]["a"] == {"cases": 2, "agree": 1, "false positives": 0, "false negatives": 1}
    assert [row["reason"] for row in found["disagreements"]] == ["wrong answer, 1 of 2 tests passed"]
    assert found["reasons"] == {"passed": 2, "wrong answer": 2}
    page = tmp_path / "page.md"
    code, out, _ = or1lab("--batch", path, "--markdown", page)
    assert code == 0 and "2 of 3 cases as expected" in out and "half| (a): answer" in out and "[/b]" in out
    assert r"| half\| | a |" in page.read_text() and "1 of 2 tests passed" in page.read_text()


BAD = [
    (b"{", "not JSON"), (b"3", "not an object"), (b"\xff\x00", "not JSON"), ({"response": "x"}, "no tests"),
    (ADD, "'response' must be a text"), ({**ADD, "solution": 3}, "'solution' must be a text"),
    ({**ADD, "solutions": []}, "'solutions' must be a text"), ({**ADD, "code": "", "expected": 1}, "'expected'"),
]  # fmt: skip


@pytest.mark.parametrize("line, words", BAD, ids=range(len(BAD)))
def test_an_invalid_line_is_named_skipped_and_counted(line, words, or1lab, tmp_path):
    path = write(tmp_path / "cases.jsonl", {**ADD, "solution": RIGHT}, line, {**ADD, "solutions": [RIGHT]}, end=b"\r\n")
    code, out, _ = or1lab("--batch", path)
    assert code == 0 and "skipped line 2: " in out and words in out and "2 of 2 cases" in out
    code, _, err = or1lab("--batch", path, "--strict")
    assert code == 1 and "line 2: " in err and words in err


def test_odd_programs_and_records_are_ordinary_cases(or1lab, tmp_path):
    odd = ["", "\0", "\ud800", "(" * 100_000, "x" * 3_000_000, "```python\n" * 1000, RIGHT.replace("\n", "\r\n")]
    rows = [{**ADD, "response": text, "expected": text.startswith("def")} for text in odd]
    rows.append({"inputs": [], "outputs": [], "code": RIGHT, "expected": False})
    path = write(tmp_path / "cases.jsonl", *rows)
    code, out, _ = or1lab("--batch", path, "--json")
    found = json.loads(out)
    assert code == 0 and found["total"] == {"cases": 8, "agree": 7, "false positives": 0, "false negatives": 0}
    assert found["reasons"]["error: bad tests: there are none"] == 1
    code, out, _ = or1lab("--batch", path)  # without a verdict the judge cannot agree, whatever was expected
    assert code == 0 and "7 of 8 cases as expected" in out and "1 without a verdict" in out
    assert "expected wrong, found no verdict (error: bad tests: there are none" in out


def test_wrong_use(or1lab, tmp_path):
    problem, solution = write(tmp_path / "p.json", ADD), tmp_path / "s.py"
    solution.write_text(RIGHT)
    assert or1lab("--problem", problem)[0] == 2
    assert or1lab("--problem", problem, "--solution", solution, "--strict")[0] == 2
    assert or1lab("--batch", tmp_path / "none.jsonl")[0] == 2
    for text, words in (("{}", "holds no tests"), ("{", "must be a JSON object"), ('{"gold": "5"}', "holds no tests")):
        problem.write_text(text)
        code, _, err = or1lab("--problem", problem, "--solution", solution)
        assert code == 2 and words in err


def test_records_that_cannot_judge_are_failures_and_junk_is_a_wrong_program(or1lab, tmp_path):
    problem, solution = write(tmp_path / "p.json", {**ADD, "outputs": [3]}), tmp_path / "s.py"
    solution.write_bytes(b"\xff\0print(")
    code, out, err = or1lab("--problem", problem, "--solution", solution)
    assert code == 1 and not out and "no verdict" in err and "2 inputs and 1 outputs" in err
    code, out, err = or1lab("--problem", write(problem, ADD), "--solution", solution)
    assert code == 0 and out.startswith("wrong (syntax error)") and not err
    for files in ((tmp_path / "no", solution), (problem, tmp_path)):
        code, _, err = or1lab("--problem", files[0], "--solution", files[1])
        assert code == 2 and "cannot be read" in err


def test_without_a_sandbox_the_mend_is_named(or1lab, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "layers", lambda: {"bubblewrap": False, "system calls": False, "limits": True})
    monkeypatch.delenv(sandbox.OPT_IN, raising=False)
    code, _, err = or1lab("--batch", write(tmp_path / "c.jsonl", {**ADD, "solution": RIGHT}))
    assert code == 1 and "install bubblewrap" in err


@pytest.mark.parametrize(
    "name, cases", [pytest.param("code_leetcode", 50, marks=pytest.mark.slow), ("apps_samples", 4)]
)
def test_reference_solutions_of_public_sets_are_right(name, cases, or1lab, monkeypatch):
    patient = Limits(seconds=60, assert_seconds=60, total=300)  # other tests share the cores, as do this one's threads
    monkeypatch.setattr(verify_code, "judge", partial(judge, limits=patient))
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"no ../shared/data/{path.name}")
    code, out, _ = or1lab("--batch", path, "--json")
    assert code == 0 and json.loads(out)["total"] == {
        "cases": cases, "agree": cases, "false positives": 0, "false negatives": 0
    }  # fmt: skip
