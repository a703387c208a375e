"""A model that is not here and a Hub that does not answer: an error in seconds, or the cache."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from or1lab import train
from or1lab.errors import Or1labError
from or1lab.evaluate import evaluate
from or1lab.recipe import load_recipe
from or1lab.sources import load_tokenizer, model_folder
from tests.broken_runs import SMALL
from tests.test_evaluation import suite

NAME = "some-owner/some-model"


@pytest.fixture(params=["unreachable", "offline"])
def no_hub(request, tmp_path, monkeypatch) -> Path:
    """Nobody listens at the Hub's address, or HF_HUB_OFFLINE is set. Its cache."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", request.param == "offline")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_model_that_cannot_be_fetched_is_an_error_at_once(no_hub, tmp_path):
    told = rf"no model '{NAME}': .*(refused|offline mode).*hf download {NAME} --local-dir DIR"
    begin = time.process_time(), time.monotonic()
    with pytest.raises(Or1labError, match=told):
        train.run(load_recipe(SMALL, [f"model={NAME}"]), tmp_path / "run")
    with pytest.raises(Or1labError, match=told):
        evaluate(NAME, suite(), out=tmp_path / "evaluation", backend="transformers")
    assert time.monotonic() - begin[1] < 20  # the libraries alone: 96 s for one of them
    assert not (tmp_path / "run").exists() and not (tmp_path / "evaluation").exists()


@pytest.mark.filterwarnings("ignore:the Hub does not give")
def test_what_the_cache_holds_is_used(no_hub):
    snapshot = no_hub / "models--some-owner--some-model" / "snapshots" / ("0" * 40)
    shutil.copytree(model_folder("tiny"), snapshot)
    (no_hub / "models--some-owner--some-model" / "refs").mkdir()
    (no_hub / "models--some-owner--some-model" / "refs" / "main").write_text("0" * 40)
    begin = time.monotonic()
    assert load_tokenizer(NAME).get_vocab() == load_tokenizer(model_folder("tiny")).get_vocab()
    assert time.monotonic() - begin < 20 and constants.HF_HUB_OFFLINE
