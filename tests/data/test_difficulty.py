"""Difficulty by rollouts: counts, what goes, nothing sampled twice. The engine here answers by the book."""

from __future__ import annotations

import json

import pytest

from or1lab.data import difficulty, tiny
from or1lab.data.difficulty import ALWAYS, NEVER, Lines, Rollouts
from or1lab.errors import UsageError
from or1lab.recipe import load_recipe
from or1lab.rewards import Verdict
from tests.data.book import Book

ROLLOUTS = Rollouts(load_recipe("tiny"), samples=4)


@pytest.fixture
def problems():
    return tiny.problems("train", 5)


@pytest.fixture
def book(problems):
    return Book({problem.prompt: solved for problem, solved in zip(problems, (0, 1, 2, 3, 4), strict=True)})


def test_never_and_always_solved_go_and_the_rest_knows_its_difficulty(problems, book, tmp_path):
    found = list(difficulty.difficulty(problems, ROLLOUTS, tmp_path / "r.jsonl", book))
    assert [reason for _, reason in found] == [NEVER, "", "", "", ALWAYS]
    assert [(p.difficulty["tiny"].solved, p.difficulty["tiny"].samples) for p, _ in found] == [(n, 4) for n in range(5)]
    assert all(p.model_copy(update={"difficulty": {}}) == q for (p, _), q in zip(found, problems, strict=True))


def test_what_was_sampled_is_not_sampled_again(problems, book, tmp_path):
    results = tmp_path / "r.jsonl"
    first = list(difficulty.difficulty(problems[:3], ROLLOUTS, results, book))
    with results.open("ab") as file:
        file.write(b'{"key": "half a li')  # a kill
    book.asked.clear()
    again = list(difficulty.difficulty(problems, ROLLOUTS, results, book))
    assert book.asked == [problem.prompt for problem in problems[3:]] and again[:3] == first
    assert len(results.read_text().splitlines()) == 5 and len(Lines(results).known) == 5
    book.asked.clear()
    more = Rollouts(ROLLOUTS.recipe, samples=2)  # another question: nothing of the above answers it
    list(difficulty.difficulty(problems, more, results, book))
    assert len(book.asked) == 5


def test_results_are_kept_as_they_come(problems, book, tmp_path, monkeypatch):
    monkeypatch.setattr(difficulty, "CHUNK", 2)
    stream = difficulty.difficulty(problems, ROLLOUTS, tmp_path / "r.jsonl", book)
    next(stream)
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 2  # the other three are not even asked yet


def test_what_cannot_be_judged_is_neither_solved_nor_unsolved(problems, book, tmp_path, monkeypatch):
    def broken(problem, response, truncated):
        raise ValueError("no verdict for anybody")

    monkeypatch.setattr(tiny, "verify_tiny", broken)
    with pytest.warns(UserWarning, match="no verdict"):
        ((problem, reason),) = difficulty.difficulty(problems[1:2], ROLLOUTS, tmp_path / "r.jsonl", book)
    assert reason.startswith("no verdict: error") and not problem.difficulty


def test_the_recipe_s_own_reward_judges(problems, book, tmp_path):
    own = Rollouts(load_recipe("tiny", ["reward=tests.data.test_difficulty.generous"]), samples=4)
    found = list(difficulty.difficulty(problems, own, tmp_path / "r.jsonl", book))
    assert [reason for _, reason in found] == [ALWAYS] * 5
    found = list(difficulty.difficulty(problems, ROLLOUTS, tmp_path / "r.jsonl", book))  # another question
    assert [reason for _, reason in found] == [NEVER, "", "", "", ALWAYS]
    assert "reward" not in ROLLOUTS.settings and own.settings["reward"].endswith("generous")


def generous(problems, texts, truncated):
    return [Verdict(True, "said")] * len(problems)


def test_a_prompt_beyond_the_limit_is_named(problems, book, tmp_path):
    recipe = load_recipe("tiny", ["data.prompt_limit=9"])
    found = list(difficulty.difficulty(problems, Rollouts(recipe, 4), tmp_path / "r.jsonl", book))
    long = [reason for _, reason in found if reason == "prompt too long: above 9 tokens"]
    assert 0 < len(long) < 5 and len(book.asked) == 5 - len(long)
    found = list(difficulty.difficulty(problems, ROLLOUTS, tmp_path / "r.jsonl", book))  # with the recipe's own limit
    assert all(problem.difficulty for problem, _ in found)


def test_a_model_is_a_recipe_or_a_folder_or_a_name(tmp_path):
    assert difficulty.recipe_for("tiny") == load_recipe("tiny")
    hub = difficulty.recipe_for("somebody/some-model")
    assert (hub.model, hub.T, hub.tau) == ("somebody/some-model", 32000, 1.0)
    assert difficulty.recipe_for(str(tmp_path)).model == str(tmp_path)
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        difficulty.recipe_for("tinny")


def test_shares_beside_the_paper(tmp_path):
    stage = {
        "stage": "difficulty", "settings": {"model": "tiny"}, "in": {"math": 45, "code": 10},
        "removed": {NEVER: {"math": 8}, ALWAYS: {"math": 12, "code": 5}, "prompt too long": {"math": 5}},
    }  # fmt: skip
    (tmp_path / "funnel.json").write_text(json.dumps({"stages": [stage]}))
    ours = difficulty.shares(tmp_path)
    assert ours.values.tolist() == [["tiny", "math", 40, 20.0, 30.0, 50.0], ["tiny", "code", 10, 0.0, 50.0, 50.0]]
    paper = difficulty.paper_shares().set_index(["model", "domain"])
    assert paper.loc[("R1-Distill-Qwen-7B", "math"), "kept, %"] == pytest.approx(46.2)  # as the report prints
    assert paper.loc[("R1-Distill-Qwen-32B", "code"), "kept, %"] == pytest.approx(37.6, abs=0.15)
