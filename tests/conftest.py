"""Shared fixtures. One engine serves every in-process test of a pytest run: each start costs many seconds."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; tests compare runs bit by bit
os.environ.setdefault("WANDB_MODE", "offline")

import pytest

from or1lab.recipe import Recipe, load_recipe

SMALL = Path(__file__).parent / "small.yaml"


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """The tiny recipe cut to seconds."""
    return load_recipe(SMALL)


@pytest.fixture(scope="session")
def engine(small_recipe: Recipe):  # type: ignore[no-untyped-def]
    """The one engine of this pytest run, holding the tiny base (tests that change its weights sync first)."""
    from or1lab.train import open_engine

    return open_engine(small_recipe)


@pytest.fixture(scope="session")
def smol_dtype() -> str:
    """bfloat16, as the smol recipes have it, unless this CPU emulates it: a step then takes ten minutes."""
    from or1lab.rollout import emulates_bfloat16

    return "float32" if emulates_bfloat16() else "bfloat16"


@pytest.fixture
def tmp_run(tmp_path: Path) -> Path:
    return tmp_path / "run"
