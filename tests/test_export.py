"""`runs export`: a folder for the Hub that loads, with a card that says how it was made."""

from __future__ import annotations

import shutil

import pytest
import yaml

from or1lab.data.tiny import BASE
from or1lab.errors import Or1labError, UsageError
from or1lab.export import card, export
from or1lab.recipe import load_recipe
from or1lab.store import Run


def make(folder, *overrides: str, **manifest) -> Run:
    extra = {"status": "finished"} | manifest
    run = Run.create(folder, recipe=load_recipe("tiny", list(overrides)).resolved(), extra=extra)
    run.log("step", step=1, **{"reward/mean": 0.25, "entropy/rollout": 0.5})
    run.log("eval", step=1, **{"eval/accuracy": 0.375, "eval/entropy": 0.4})
    run.log("step", step=2, **{"reward/mean": 0.75, "entropy/rollout": 0.5})
    run.log("eval", step=2, final=True, **{"eval/accuracy": 0.5})
    run.close()
    for name in ("checkpoint-1", "final"):
        shutil.copytree(BASE, run.folder / "checkpoints" / name)
        (run.folder / "checkpoints" / name / "optimizer.pt").write_bytes(b"moments")
    return run


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---")[1])


def test_the_folder_holds_model_tokenizer_card_recipe_and_figure(tmp_path):
    run = make(tmp_path / "run", "lr=3e-4")
    out = tmp_path / "to" / "my-model"
    made = export(str(run.folder), out)
    there = {path.name for path in out.iterdir()}
    assert there == set(made["files"]) and made["bytes"] == sum(path.stat().st_size for path in out.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "recipe.yaml", "training.png"} <= there
    assert "optimizer.pt" not in there and [path.name for path in out.parent.iterdir()] == ["my-model"]
    assert load_recipe(out / "recipe.yaml").lr == 3e-4
    text = (out / "README.md").read_text()
    assert front(text)["license"] == "apache-2.0" and "or1lab" in front(text)["tags"]
    for words in ("# my-model", "| lr | 0.0003 |", "| eval/accuracy | 0.5 |", "A toy", "## Licence", "steps: 2."):
        assert words in text, words
    export(f"{run.folder}@1", early := tmp_path / "of-a-step")
    text = (early / "README.md").read_text()
    assert (early / "model.safetensors").is_file() and "of step 1 of one run" in text
    assert "| eval/accuracy | 0.375 |" in text and "| reward/mean | 0.25 |" in text


def test_the_card_names_a_base_on_the_hub_and_an_unknown_licence(tmp_path):
    seven = Run.create(tmp_path / "7b", recipe=load_recipe("7b").resolved())
    about = front(card(seven, 300, "x"))
    assert about["license"] == "mit" and about["base_model"] == "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    other = Run.create(tmp_path / "other", recipe=load_recipe("7b", ["model=some/model"]).resolved())
    text = card(other, 300, "x")
    assert front(text)["license"] == "other" and front(text)["base_model"] == "some/model"
    assert "set `license` above" in text and "A toy" not in text and "verdict of `tiny`, `math`, `code` on" in text
    shutil.copytree(BASE, tmp_path / "mine")
    local = load_recipe("tiny", [f"model={tmp_path / 'mine'}", "reward=math"])
    labels = {"experiment": "kl", "arm": "none"}
    text = card(Run.create(tmp_path / "local", recipe=local.resolved(), extra=labels), 1, "x")
    assert "| experiment | kl |" in " ".join(text.split()) and "| arm | none |" in " ".join(text.split())
    assert "| model | mine |" in text and str(tmp_path) not in text and "verdict of `math` on" in text


def test_what_cannot_be_exported_is_refused(tmp_path):
    run, failed = make(tmp_path / "run"), make(tmp_path / "failed", status="failed")
    packed = Run.create(tmp_path / "packed", recipe=load_recipe("tiny").resolved())
    (packed.folder / "metrics.parquet").touch()
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    with pytest.raises(UsageError, match="not empty"):
        export(str(run.folder), full)
    with pytest.raises(UsageError, match="packed run, which holds no model"):
        export(str(packed.folder), tmp_path / "out")
    with pytest.raises(Or1labError, match=r"is failed.*@20.*--resume"):
        export(str(failed.folder), tmp_path / "out")
    with pytest.raises(UsageError, match="there are: @1, @final"):
        export(f"{run.folder}@7", tmp_path / "out")
    assert [path.name for path in full.iterdir()] == ["mine.txt"] and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_folder_loads_with_transformers_and_samples_with_the_engine(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from or1lab.train import preview

    out = tmp_path / "model"
    export(str(make(tmp_path / "run").folder), out)
    ours, base = (AutoModelForCausalLM.from_pretrained(folder) for folder in (out, BASE))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), base.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(out).vocab_size == AutoTokenizer.from_pretrained(BASE).vocab_size
    assert len(preview(load_recipe("tiny", [f"model={out}"]), n=2)) == 2  # vLLM, where it is installed
