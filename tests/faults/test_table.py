"""docs/faults.md: every row names tests that there are."""

from __future__ import annotations

import ast
import re

from or1lab.recipe import ROOT

FOLDER = ROOT / "tests" / "faults"
TESTS = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}


def rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]


def defined(name: str) -> set[str]:
    tree = ast.parse(TESTS[name].read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_names_its_tests():
    found = rows()
    assert len(found) >= 15
    for fault, lost, mend, tests in found:
        assert fault and lost and mend
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert named, f"no test in the row of: {fault}"
        for file, test in named:
            assert test in defined(file), f"{fault}: {file} has no {test}"


def test_every_file_of_tests_has_a_row():
    told = " ".join(row[3] for row in rows())
    for path in FOLDER.glob("test_*.py"):
        assert path.name in told or path.name == "test_table.py"
