"""Decontamination: items inside other text, in other layout, a word exchanged; never another problem."""

from __future__ import annotations

import json

import pytest

from or1lab.data.leaks import Benchmarks, leaks
from or1lab.data.problem import Problem
from or1lab.recipe import ROOT

SHARED = ROOT.parent / "shared" / "data"
ITEM = (
    "Let $m$ be the smallest positive integer whose digits add up to $48$ and which leaves a remainder of $5$ when it "
    "is divided by $11$. Find the remainder when $m$ is divided by $1000$."
)


def problem(prompt: str, name: str = "p") -> Problem:
    return Problem(id=name, domain="math", prompt=prompt, gold="1")


@pytest.fixture(scope="module")
def index() -> Benchmarks:
    return Benchmarks([problem(ITEM, "item"), problem("What is $7 \\cdot 8$?", "short"), problem("12-6*19=?", "chain")])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ITEM, "item"),
        (ITEM.replace("$", " ").upper(), "item"),
        (ITEM.replace("smallest", "least"), "item"),
        (ITEM.replace("smallest", "least").replace("Find", "Compute"), "item"),
        (f"Problem 7 of the contest of 2024. {ITEM} Give the final answer in a box.", "item"),
        (ITEM.replace("$m$", "\\(\\mathit{m}\\)").replace("$11$", "\\(n=11\\)"), "item"),  # other markup
        (ITEM.replace("48", "47"), ""),  # another problem
        (ITEM[: len(ITEM) // 3], ""),
        ("Find the remainder when $m$ is divided by $1000$.", ""),  # a phrase that many problems share
        ("what is 7 * 8", "short"),
        ("What is $7 \\cdot 8$, and why?", ""),  # short items only as a whole
        ("12-6*19=?", "chain"),
        ("3+12-6*19=?", ""),
        ("", ""),
    ],
)
def test_what_holds_an_item(index, text, found):
    assert index.find(text) == found


def test_the_stage_names_the_item():
    found = list(leaks([problem("clean"), problem(f"Hint. {ITEM}")], [problem(ITEM, "aime-3")]))
    assert [reason for _, reason in found] == ["", "benchmark item: aime-3"]


def test_an_instruction_that_many_items_share_is_no_leak():
    instruction = "State the final answer to the following arithmetic problem and put it in a box at the very end:"
    items = [problem(f"{instruction} {n} + {n + 7} =", f"item-{n}") for n in range(20, 60)]
    index = Benchmarks(items)
    assert [index.find(item.prompt) for item in items] == [item.id for item in items]
    assert [index.find(f"{instruction} {n + 90} + {n} + {n + 7} =") for n in range(20, 60)] == [""] * 40
    assert index.find(items[3].prompt.replace("final", "last")) == "item-23"


def test_a_programs_task_turns_on_a_letter_in_quotes():
    text = "Write a function that returns its text without any letter '{}', small or capital; other letters stay."
    item = Problem(id="item", domain="code", prompt=text.format("b"), tests={"inputs": [1], "outputs": [1]})
    index = Benchmarks([item])
    assert index.find(f"Warm up. {text.format('b')}") == "item" and index.find(text.format("c")) == ""


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data here")
def test_public_sets_do_not_leak_into_each_other():
    def read(name: str) -> list[Problem]:
        lines = (SHARED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [problem(row["problem"], row["id"]) for row in map(json.loads, lines)]

    index = Benchmarks(read("aime24") + read("aime25") + read("math500"))
    others = read("omni_math_rule") + read("college_math") + read("gsm8k_test")
    assert [other.id for other in others if index.find(other.prompt)] == []
    assert all(index.find(f"Solve. {p.prompt}") for p in read("aime24"))
