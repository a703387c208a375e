"""`or1lab evaluate` as a user meets it. A server answers, so no engine is started; one slow test kills a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.servers import chat_server
from tests.test_cli import call


@pytest.fixture
def or1lab(monkeypatch, capsys):
    return lambda *arguments: call(*map(str, arguments), monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def toy(tmp_path) -> Path:
    rows = [{"id": f"q{i}", "domain": "math", "prompt": f"{i}+1=?", "gold": str(i + 1)} for i in range(5)]
    rows[4] |= {"gold": "1/2"}
    path = tmp_path / "toy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(asked):
    """Right but for q3; of q4 three wordings of one half."""
    number = int(asked["messages"][0]["content"][0])
    halves = ["0.5", "\\frac12", "\\dfrac{1}{2}"]
    text = halves[asked["seed"] % 3] if number == 4 else str(number + 1 + (number == 3))
    return [(f"<think>so</think>\\boxed{{{text}}}", 3 + number, "stop")]


def test_a_suite_is_evaluated_printed_judged_again_and_compared(toy, or1lab, tmp_path):
    out = tmp_path / "one"
    with chat_server(answers) as (address, got):
        asked = ["evaluate", "a-model", "--suite", toy, "-k", 3, "--limit", 64, "--endpoint", address]
        code, said, _ = or1lab(*asked, "--out", out)
        assert code == 0 and len(got) == 15
        words = " ".join(said.split())
        for word in (
            "avg@3", "80.0%", "pass@3", "maj@3", "new problems", "new samples", "temperature 1", "top-p 1",
            "limit 64 tokens", "seed 0", "math-verify", "engine endpoint", "prompt suffix none", "match", "wrong 3",
        ):  # fmt: skip
            assert word in words, word
        code, said, _ = or1lab(*asked, "--out", out)
        assert code == 2 and len(got) == 15  # nothing is asked twice
        code, said, err = or1lab(*asked, "--out", tmp_path / "two", "--json")
        assert code == 0
        found = json.loads(said)  # nothing else on stdout
        assert found["estimates"][0] | {"name": "avg@3", "over": "problems"} == found["estimates"][0]
        assert found["k"] == 3 and found["reasons"]["wrong"] == 3
        by_vote = next(row for row in found["estimates"] if row["name"] == "maj@3")
        assert by_vote["value"] == pytest.approx(0.8)  # the three wordings vote together
    code, said, _ = or1lab("evaluate", out, "--limit", 5)
    assert code == 0 and "re-scored; sampled under 64" in " ".join(said.split()) and "60.0%" in said
    code, said, _ = or1lab("evaluate", "--rescore", out)
    assert code == 0 and "no verdict has changed" in said and "80.0%" in said
    code, said, _ = or1lab("evaluate", "--compare", out, tmp_path / "two", "--json")
    assert code == 0 and json.loads(said)["difference"] == 0 and json.loads(said)["p"] == 1
    for ignored, message in (
        ([out, "--problems", 2, "--temperature", 0], "takes no --temperature, --problems"),
        (["--rescore", out, "--limit", 5], "--rescore takes no --limit"),
        (["--compare", out, out, "-k", 2], "--compare takes no -k"),
    ):
        code, _, err = or1lab("evaluate", *ignored)
        assert code == 2 and message in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "which model?"),
        ("tiny", "on what? --suite aime24"),
        ("tiny --suite tinny", "no suite 'tinny' (did you mean 'tiny'?)"),
        ("skywork-or1-8b --suite aime24", "did you mean 'skywork-or1-7b'?"),
        ("tiny --suite tiny --backend vlm", "--backend vlm: auto, vllm or transformers"),
        ("tiny --suite tiny -k 0", "-k"),
        ("tiny --suite tiny suffix=x", "option of the suite tiny"),
        ("tiny --suite tiny --problems 9999", "--problems 9999: the suite tiny has"),
        ("tiny --rescore somewhere", "stand alone"),
        ("--rescore nowhere", "holds no evaluation"),
        ("m --suite tiny --endpoint http://x/v1 --backend vllm", "takes no --backend"),
    ],
)
def test_wrong_use_is_one_clear_message(arguments, message, or1lab, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = or1lab("evaluate", *arguments.split())
    assert code == 2 and message in " ".join(err.split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no problem"),
        ('{"id": "a", "domain": "math", "prompt": "1?"}\n', "line 1 is no problem: neither gold nor tests"),
        ('{"id": "a", "domain": "math", "prompt": "1?", "gold": "1"}\n' * 2, "the id 'a' is taken by line 1"),
        ("[1]\n", "line 1 is no problem"),
    ],
)
def test_a_bad_suite_is_refused_before_anything_is_asked(content, message, or1lab, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with chat_server(answers) as (address, got):
        code, _, err = or1lab("evaluate", "m", "--suite", path, "--endpoint", address, "--out", tmp_path / "out")
    assert code == 2 and message in " ".join(err.split()) and not got and not (tmp_path / "out").exists()


def test_a_limit_beyond_the_context_is_refused(or1lab, tmp_path):
    code, _, err = or1lab("evaluate", "tiny", "--suite", "tiny", "--limit", 4096, "--out", tmp_path / "out")
    assert code == 2 and "tiny has a context of 1024: --limit" in " ".join(err.split())
    assert not (tmp_path / "out").exists()
