"""The seeds of samples, and which engine a recipe gets."""

from __future__ import annotations

import warnings

import pytest

from or1lab.errors import Or1labError
from or1lab.recipe import load_recipe
from or1lab.rollout import choose_backend, open_engine
from or1lab.rollout.base import sample_seed


def test_sample_seed_depends_on_everything_and_fits_a_signed_integer():
    seeds = {sample_seed(s, k, p) for s in range(3) for k in range(3) for p in ("a", "b")}
    assert len(seeds) == 18
    assert all(0 <= seed + 10_000 < 2**63 for seed in seeds)
    assert sample_seed(1, 2, "a") == sample_seed(1, 2, "a")
    assert sample_seed(1, 12, "a") != sample_seed(11, 2, "a")  # no collision by gluing digits


def test_backend_choice_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("or1lab.rollout.version", lambda name: None)
    assert choose_backend("auto") == "transformers"
    with pytest.raises(Or1labError, match="rollout.backend=transformers"):
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
