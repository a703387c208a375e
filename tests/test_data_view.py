"""`or1lab data stats | show | convert`, as a user meets them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import datasets
import pytest

from or1lab import cli, data_view
from or1lab.data.load import read, write
from or1lab.data.problem import Problem

FIXTURES = Path(__file__).parent / "data" / "fixtures"


@pytest.fixture
def or1lab(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["or1lab", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def made(id: str, prompt: str = "?", **more: object) -> Problem:
    judged = {} if "tests" in more else {"gold": "1"}
    return Problem(id=id, domain="code" if "tests" in more else "math", prompt=prompt, **judged | more)


def known(solved: int) -> dict:
    return {"small": {"solved": solved, "samples": 4}, **({"big": {"solved": 8, "samples": 8}} if solved else {})}


PROBLEMS = [
    made("a", "x" * 10, source="web", licence="MIT", difficulty=known(0)),
    made("b", "x" * 20, source="web", solution="worked", difficulty=known(1)),
    made("c", "x" * 30, tests={"inputs": ["1", "2"], "outputs": ["1", "2"]}, difficulty=known(4)),
    made("d", "x" * 40, tests=[{"input": "1", "output": "1"}] * 5, difficulty=known(1)),
    made("e", "x" * 50, tests={"assert_case": ["assert f(1) == 1"] * 3}),
    made("f", "x" * 60, tests={"test_code": "def check(f):\n    assert f(1)\n    assert f(2)\n", "entry_point": "f"}),
]


def test_stats_count_and_measure():
    assert data_view.stats(PROBLEMS) == {
        "problems": 6,
        "domain": {"code": 4, "math": 2},
        "source": {"": 4, "web": 2},
        "licence": {"": 5, "MIT": 1},
        "with_solution": 1,
        "prompt_characters": {
            "shortest": 10, "quarter": 20, "median": 30, "three quarters": 50, "95%": 60, "longest": 60,
        },
        "tests_per_problem": {
            "shortest": 2, "quarter": 2, "median": 2, "three quarters": 3, "95%": 5, "longest": 5,
        },
        "difficulty": {"big": {"8/8": 3}, "small": {"0/4": 1, "1/4": 2, "4/4": 1}},
    }  # fmt: skip


def test_stats_of_a_file_name_what_is_skipped(or1lab, tmp_path):
    path = tmp_path / "p.jsonl"
    write(PROBLEMS, path)
    path.write_bytes(path.read_bytes() + b'{"id": "g"}\n[]\n[]\n')
    code, out, _ = or1lab("stats", path)
    assert code == 0
    for words in ("code", "4 (66.7%)", "(none stated)", "median 30", "big", "100.0%"):
        assert words in out
    assert "skipped 2: not an object but list (line 8, line 9)" in out and "skipped: 3 in all" in out
    code, out, _ = or1lab("stats", path, "--json")
    found = json.loads(out)
    assert code == 0 and found["problems"] == 6 and found["skipped"]["count"] == 3
    assert [row["line"] for row in found["skipped"]["each"]] == [7, 8, 9]
    assert found["skipped"]["reasons"]["not an object but list"] == 2
    code, _, err = or1lab("stats", path, "--strict")
    assert code == 2 and "line 7 is no problem" in err


def test_stats_of_a_published_set(or1lab):
    code, out, _ = or1lab("stats", "numinamath", f"file={FIXTURES / 'numinamath.jsonl'}", "--json")
    found = json.loads(out)
    assert code == 0 and found["licence"] == {"Apache-2.0": 2}
    assert found["skipped"]["each"] == [{"row": 2, "reason": "a proof: no answer to verify"}]
    code, out, _ = or1lab("stats", "numinamath", f"file={FIXTURES / 'numinamath.jsonl'}", "subsets=paper", "--json")
    assert json.loads(out)["problems"] == 1


def test_show_prints_problems_and_json_prints_them_whole(or1lab, tmp_path):
    path = tmp_path / "p.parquet"
    write(PROBLEMS, path)
    code, out, _ = or1lab("show", path, "-n", "2")
    assert code == 0 and "small solved 1 of 4" in out and "solution: worked" in out and "x" * 20 in out
    assert "x" * 30 not in out
    code, out, _ = or1lab("show", path, "--id", "c")
    assert code == 0 and "2 tests: \n'1' → '1'\n'2' → '2'" in out
    code, out, _ = or1lab("show", path, "-n", "99", "--json")
    assert [Problem(**row) for row in json.loads(out)] == PROBLEMS
    code, out, err = or1lab("show", path, "--id", "z")
    assert code == 1 and "holds no problem 'z'" in err


def test_what_a_problem_holds_steers_neither_markup_nor_terminal(or1lab, tmp_path):
    nasty = "[bold]x[/] [/nothing] \x1b[2J\x1b]0;title\x07 \x9b31m \r \u202e" + "y" * 9000
    problem = made(
        nasty[:40], nasty, solution=nasty, source=nasty[:60], licence=nasty[:60], meta={nasty[:50]: nasty},
        tests={"inputs": [nasty], "outputs": [nasty], "fn_name": nasty[:50]},
        difficulty={nasty[:60]: {"solved": 1, "samples": 2}},
    )  # fmt: skip
    path = tmp_path / "p.jsonl"
    write([problem, made("[/red]", gold=nasty)], path)
    path.write_bytes(path.read_bytes() + b'{"[/red] \x1b[2J": 1}\n')
    for command in (("show", path), ("stats", path)):
        code, out, err = or1lab(*command)
        assert code == 0, err
        assert "[bold]x[/] [/nothing]" in out
        assert not [char for char in out if not char.isprintable() and char != "\n"]
        assert "y" * 2000 not in out
    assert "more characters)" in or1lab("show", path)[1]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_convert_writes_what_stats_counts(or1lab, tmp_path, suffix):
    out = tmp_path / f"p{suffix}"
    source = ("numinamath", f"file={FIXTURES / 'numinamath.jsonl'}")
    code, printed, _ = or1lab("convert", *source, "--out", out)
    assert code == 0 and "problems: 2" in printed and "a proof" in printed
    assert list(read(str(out))) == list(read(source[0], options={"file": source[1][5:]}))
    code, printed, _ = or1lab("convert", *source, "--out", out, "--json")
    assert json.loads(printed) == {
        "written": str(out), "problems": 2,
        "skipped": {"count": 1, "reasons": {"a proof: no answer to verify": 1},
                    "each": [{"row": 2, "reason": "a proof: no answer to verify"}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["stats", "nothing.jsonl"], 2, "no file 'nothing.jsonl', and no published set"),
        (["stats", "gsm8"], 2, "did you mean 'gsm8k'"),
        (["stats", "gsm8k", "split"], 2, "options are KEY=VALUE"),
        (["stats", "gsm8k", "split="], 2, "options are KEY=VALUE"),
        (["stats", "gsm8k", "split=test", "split=train"], 2, "each once"),
        (["stats", "gsm8k", "split=tests"], 2, "did you mean 'test'"),
        (["stats", "FILE"], 1, "holds no problem; line 1: not an object but list"),
        (["stats", "EMPTY"], 1, "holds no problem"),
        (["show", "FILE"], 1, "holds no problem"),
        (["show", "FILE", "-n", "0"], 2, "-n"),
        (["convert", "FILE", "--out", "p.csv"], 2, "neither a .jsonl nor a .parquet file"),
        (["convert", "FILE"], 2, "--out"),
        (["convert", "FILE", "--out", "p.jsonl"], 1, "holds no problem; line 1: not an object but list"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(arguments, code, words, or1lab, tmp_path):
    (tmp_path / "FILE").write_text("[]\n")
    (tmp_path / "EMPTY").touch()
    found, _, err = or1lab(*[str(tmp_path / part) if part in ("FILE", "EMPTY") else part for part in arguments])
    assert found == code and words in " ".join(err.split())
