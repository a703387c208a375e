"""Verdicts on the public data, where it is at hand: right solutions pass, broken ones and attacks do not."""

from __future__ import annotations

import itertools
import json
import random
import socket
import sysconfig
from pathlib import Path

import psutil
import pytest

from or1lab.recipe import ROOT
from or1lab.rewards import is_error
from or1lab.rewards.code import judge
from tests.lacking import needs_bubblewrap
from tests.rewards.test_code import PATIENT, QUICK

DATA = ROOT.parent / "shared" / "data"  # not part of the repository
pytestmark = needs_bubblewrap


def rows(name: str, quick: int = 1) -> list:
    """The rows of a file; of those but every `quick`-th the tests are slow ones."""
    path = DATA / name
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no ../shared/data/{name}"))]
    parsed = map(json.loads, path.read_text(encoding="utf-8", errors="surrogatepass").splitlines())
    marks = itertools.cycle([(), *[pytest.mark.slow] * (quick - 1)])
    return [pytest.param(row, id=row["id"], marks=mark) for row, mark in zip(parsed, marks, strict=False)]


@pytest.mark.parametrize("row", rows("code_functional.jsonl", quick=5))
def test_functional(row):
    record = {"import_prefix": "", "test_code": row["test"], "entry_point": row["entry_point"]}
    tests = {"assert_case": row["test"]} if isinstance(row["test"], list) else record
    broken = f"{row['solution']}\ndef {row['entry_point']}(*args, **kwargs): return [args, -987654321]"
    verdict = judge(row["solution"], tests, limits=PATIENT)
    assert verdict.correct, verdict
    assert not judge(broken, tests).correct
    if row["io"]:
        verdict = judge(f"thought</think>\n```python\n{row['solution']}\n```", row["io"], limits=PATIENT)
        assert verdict.correct, verdict
        assert not judge(broken, row["io"]).correct


@pytest.mark.parametrize("row", rows("code_leetcode.jsonl", quick=5))
def test_leetcode(row):
    verdict = judge(row["solution"], row["ground_truth"], limits=PATIENT)
    assert verdict.correct, verdict
    name = row["ground_truth"]["entry_point"].removeprefix("Solution().")
    broken = f"{row['solution']}\nSolution.{name} = lambda *args, **kwargs: -987654321"
    assert judge(broken, row["ground_truth"]).passed == 0


@pytest.mark.parametrize("row", rows("code_stdio.jsonl", quick=3))
def test_stdio(row):
    verdict = judge(row["solution"], row["tests"], limits=PATIENT)
    assert verdict.correct, verdict
    assert not judge("print(-987654321)", row["tests"]).correct


@pytest.mark.parametrize("row", rows("apps_samples.jsonl"))
def test_apps(row):
    for solution in row["solutions"]:
        verdict = judge(solution, row["input_output"])
        assert verdict.correct, verdict
    assert not judge("def findKthPositive(*args): return -1", row["input_output"]).correct


@pytest.mark.parametrize("row", rows("livecodebench_samples.jsonl"))
def test_livecodebench(row):
    assert judge(row["right"], row["input_output"]).correct
    assert judge(row["wrong"], row["input_output"]).reason == "wrong answer"


FOLDERS = {"<purelib>": sysconfig.get_paths()["purelib"], "<stdlib>": sysconfig.get_paths()["stdlib"]}


@pytest.mark.parametrize("row", rows("sandbox_attacks.jsonl"))
def test_attacks(row, monkeypatch):
    monkeypatch.setenv("OR1LAB_CANARY", "canary-7f3a")
    problem = dict(row["problem"])
    if row["verdict"] == "fail" and problem["name"].startswith("impossible"):
        numbers = [random.randrange(10**8, 10**9) for _ in problem["inputs"]]
        problem["outputs"] = numbers if problem["mode"] == "functional" else [f"{number}\n" for number in numbers]
    victim = Path("/tmp/or1lab_victim/keep")
    victim.parent.mkdir(exist_ok=True)
    victim.write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        source = row["code"].replace("@PORT@", str(server.getsockname()[1]))
        verdict = judge(source, problem, limits=QUICK)
        with pytest.raises(TimeoutError):
            server.accept()
        if problem["mode"] == "functional" and "class Solution" not in source:  # the same, as asserts
            calls = zip(problem["inputs"], problem["outputs"], strict=True)
            cases = [f"assert {problem['fn_name']}(*{given!r}) == {wanted!r}" for given, wanted in calls]
            asserted = judge(source, {"assert_case": cases}, limits=QUICK)
            assert asserted.correct == (row["verdict"] == "pass"), asserted
            assert not is_error(asserted)
    assert verdict.correct == (row["verdict"] == "pass"), verdict
    assert not is_error(verdict)
    for path in row["absent_paths"]:
        for name, folder in FOLDERS.items():
            path = path.replace(name, folder)
        assert not Path(path).expanduser().exists()
    assert victim.read_text() == "x"
    marker = row["no_process_with"]
    assert not marker or not any(marker in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
    assert not any(text in verdict.reason for text in row["output_must_not_contain"])
    victim.unlink()
    victim.parent.rmdir()
