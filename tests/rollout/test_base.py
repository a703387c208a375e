"""Seeds, prompts and the step's prompts: pure functions of what they claim to depend on."""

from __future__ import annotations

import warnings

import pytest

from or1lab.curriculum import Curriculum
from or1lab.data.problem import Problem
from or1lab.errors import UsageError
from or1lab.recipe import load_recipe
from or1lab.rollout import choose_backend, open_engine
from or1lab.rollout.base import sample_seed


def some_problems(n: int) -> list[Problem]:
    return [Problem(id=f"p{i}", domain="tiny", prompt=f"{i}+0=?", gold=str(i)) for i in range(n)]


def test_sample_seed_depends_on_everything_and_fits_a_signed_integer():
    seeds = {sample_seed(s, k, p) for s in range(3) for k in range(3) for p in ("a", "b")}
    assert len(seeds) == 18
    assert all(0 <= seed + 10_000 < 2**63 for seed in seeds)
    assert sample_seed(1, 2, "a") == sample_seed(1, 2, "a")
    assert sample_seed(1, 12, "a") != sample_seed(11, 2, "a")  # no collision by gluing digits


def test_prompts_of_a_step_are_a_function_of_seed_and_step():
    recipe = load_recipe("tiny", ["D_R=8", "D_T=8", "stages.0.steps=20"])
    first, again = Curriculum(recipe, some_problems(20)), Curriculum(recipe, some_problems(20))
    assert [first.prompts(k) for k in (1, 2, 9)] == [again.prompts(k) for k in (1, 2, 9)]
    other = Curriculum(load_recipe("tiny", ["D_R=8", "D_T=8", "stages.0.steps=20", "seed=1"]), some_problems(20))
    assert first.prompts(1) != other.prompts(1)


def test_an_epoch_uses_no_problem_twice_and_epochs_differ():
    recipe = load_recipe("tiny", ["D_R=8", "D_T=8", "stages.0.steps=20"])
    curriculum = Curriculum(recipe, some_problems(20))
    epoch = [p.id for k in (1, 2) for p in curriculum.prompts(k)]
    assert len(set(epoch)) == 16
    assert epoch != [p.id for k in (3, 4) for p in curriculum.prompts(k)]


def test_stages_count_through_and_use_their_own_D_R():
    recipe = load_recipe("tiny", ["stages=[{steps: 2, D_R: 4, D_T: 4}, {steps: 3, D_R: 8, D_T: 8}]"])
    curriculum = Curriculum(recipe, some_problems(20))
    assert [curriculum.at(k) for k in (1, 2, 3, 5)] == [(0, 0), (0, 1), (1, 0), (1, 2)]
    assert [len(curriculum.prompts(k)) for k in (2, 3)] == [4, 8]
    with pytest.raises(ValueError, match="beyond"):
        curriculum.at(6)


def test_too_few_problems_for_a_step():
    with pytest.raises(UsageError, match="only 3 problems"):
        Curriculum(load_recipe("tiny", ["D_R=4", "D_T=4"]), some_problems(3))


def test_backend_choice_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("or1lab.rollout._installed", lambda name: False)
    assert choose_backend("auto") == "transformers"
    with pytest.raises(Exception, match="rollout.backend=transformers"):
        choose_backend("vllm")


@pytest.mark.parametrize(
    ("emulated", "dtype", "warned"), [(True, "bfloat16", 1), (True, "float32", 0), (False, "bfloat16", 0)]
)
def test_a_cpu_that_emulates_bfloat16_is_told_of(monkeypatch, emulated, dtype, warned):
    monkeypatch.setattr("or1lab.rollout.emulates_bfloat16", lambda: emulated)
    monkeypatch.setattr("or1lab.rollout.build_engine", lambda *_, dtype, **__: dtype)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert open_engine(load_recipe("tiny", [f"dtype={dtype}"]), "folder", None) == dtype
    assert len(told) == warned and all("dtype=float32" in str(one.message) for one in told)
