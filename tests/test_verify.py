"""`or1lab verify math`: single answers, batches, and files in which not every line is a case."""

from __future__ import annotations

import json
import sys

import pytest

from or1lab import cli, verify
from or1lab.errors import Or1labError
from or1lab.recipe import ROOT
from or1lab.rewards import math as reward

PAGE = ROOT / "docs" / "verifier.md"
CASES = ROOT.parent / "shared" / "data" / "verifier_cases.jsonl"  # not part of the repository
AGREEMENT = 285 / 286  # measured; lower means that a change made the verifier worse
FALSE_POSITIVES = 0  # measured


@pytest.fixture(scope="module", autouse=True)
def _no_workers_afterwards():
    yield
    reward._pool().close()


@pytest.fixture
def or1lab(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["or1lab", "verify", "math", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def case(gold: object, pred: object, expected: bool | None = True, **more: object) -> bytes:
    return json.dumps({"gold": gold, "pred": pred, "expected": expected, **more}).encode()


GOOD = [
    case(r"\frac12", "0.5", category="a"),
    case("5", r"so \boxed{6}", False, category="b", id="six", form="response"),
    case(["7", "8"], "8", category="b"),
    case(8, r"\boxed{9}", category="b", id="nine|`"),
    case("5", "6", category="c", policy=True),
    case("5", "5", None),
]


def write(path, lines: list[bytes], end: bytes = b"\n"):
    path.write_bytes(b"".join(line + end for line in lines))
    return path


@pytest.mark.parametrize(
    "gold, pred, right, reason",
    [
        ("025", "25", True, "equivalent"), ("5", "5", True, "match"), ("5", r"so \boxed{6}", False, "wrong"),
        ("5", r"<think>\boxed{5}", False, "no answer"),
    ],
)  # fmt: skip
def test_one_answer(gold, pred, right, reason, or1lab):
    code, out, _ = or1lab("--gold", gold, "--pred", pred, "--json")
    assert code == 0 and json.loads(out) == {"correct": right, "reason": reason}
    code, out, _ = or1lab("--gold", gold, "--pred", pred)
    assert code == 0 and out == f"{'right' if right else 'wrong'} ({reason})\n"


def test_several_golds(or1lab):
    assert "right" in or1lab("--gold", "4", "--gold", "5", "--pred", "5")[1]


def test_a_batch_is_counted_by_category(or1lab, tmp_path):
    code, out, _ = or1lab("--batch", write(tmp_path / "cases.jsonl", GOOD), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["total"] == {"cases": 4, "agree": 3, "false positives": 0, "false negatives": 1}
    assert found["by_category"]["b"] == {"cases": 3, "agree": 2, "false positives": 0, "false negatives": 1}
    assert [row["id"] for row in found["disagreements"]] == ["nine|`"]
    assert found["policy"]["cases"] == 1 and found["policy"]["disagreements"][0]["line"] == 5
    assert found["unlabelled"] == 1 and found["invalid_lines"] == [] and sum(found["reasons"].values()) == 6


def test_a_batch_on_screen_and_as_a_page(or1lab, tmp_path):
    page = tmp_path / "page.md"
    code, out, _ = or1lab("--batch", write(tmp_path / "cases.jsonl", GOOD), "--markdown", page)
    assert code == 0 and "3 of 4 cases as expected (75.00%)" in out and "nine|` (b): gold 8" in out
    text = page.read_text(encoding="utf-8")
    assert "| b | 3 | 2 | 0 | 1 |" in text and r"| nine\|' | b | `` 8 `` |" in text and str(tmp_path) not in text


BAD = [
    (b"{", "not JSON"), (b"[1]", "not an object"), (b"\xff\xfe\x00junk", "not JSON"), (b"[" * 100_000, "not JSON"),
    (case("", "5"), "'gold'"), (case([], "5"), "'gold'"), (case(None, "5"), "'gold'"), (case(True, "5"), "'gold'"),
    (case("5", 5), "'pred'"), (b'{"gold": "5"}', "'pred'"), (case("5", "5", "yes"), "'expected'"),
]  # fmt: skip


@pytest.mark.parametrize("line, words", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_invalid_line_is_named_skipped_and_counted(line, words, end, or1lab, tmp_path):
    path = write(tmp_path / "cases.jsonl", [GOOD[0], b"", line, GOOD[2]], end)
    code, out, _ = or1lab("--batch", path)
    assert code == 0 and "skipped line 3: " in out and words in out and "1 invalid lines skipped" in out
    assert "2 of 2 cases" in out
    code, _, err = or1lab("--batch", path, "--strict")
    assert code == 1 and "line 3: " in err and words in err


def test_a_file_without_a_case_has_failed(or1lab, tmp_path):
    for lines in ([], [b"{"]):
        code, _, err = or1lab("--batch", write(tmp_path / "cases.jsonl", lines))
        assert code == 1 and "holds no case" in err


def test_odd_texts_are_ordinary_cases(tmp_path, or1lab):
    odd = ["\0", "\ud800", "\u202e", "5\r\n", "", "{" * 50_000, "x" * 3_000_000, r"\boxed{" * 1000]
    path = write(tmp_path / "cases.jsonl", [case("5", text, False) for text in odd])
    code, out, _ = or1lab("--batch", path, "--json")
    assert code == 0 and json.loads(out)["total"]["cases"] == len(odd)
    code, out, _ = or1lab("--batch", path)
    assert code == 0 and "\0" not in out


def test_a_poisonous_case_costs_its_limit(tmp_path):
    lines = [case("3/7", "9^{9^{9^{9}}}", False), *[case(r"\frac12", f"0.5{'0' * n}") for n in range(1, 5)]]
    report = verify.run_batch(write(tmp_path / "cases.jsonl", lines), timeout=1.0)
    assert [found.reason for found in report.verdicts] == ["timeout"] + ["equivalent"] * 4
    assert not report.unlike()


def test_strict_names_the_file(tmp_path):
    with pytest.raises(Or1labError, match="cases.jsonl: line 1"):
        verify.run_batch(write(tmp_path / "cases.jsonl", [b"{"]), strict=True)


def test_agreement_with_the_cases_of_public_verifiers_and_the_page_in_the_docs():
    if not CASES.is_file():
        pytest.skip("needs the verifier cases beside the repository")
    report = verify.run_batch(CASES, timeout=10.0)  # one case never ends; on a busy machine only that one
    total = report.total()
    assert total["agree"] / total["cases"] >= AGREEMENT and total["false positives"] <= FALSE_POSITIVES, report.unlike()
    assert verify.markdown(report, CASES.name) == PAGE.read_text(encoding="utf-8")
