"""`or1lab runs export`: a run's model as a folder ready for the Hub, with a card that says how it was made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from or1lab import models, tracker
from or1lab.comparison import PLACE
from or1lab.errors import Or1labError, UsageError
from or1lab.lineage import lineage
from or1lab.manifest import full_disk_explained
from or1lab.recipe import Recipe
from or1lab.recipe_view import arithmetic
from or1lab.store import PACKED_METRICS, Run

# What makes a model folder; optimizer, random streams and our state stay behind.
FILES = (
    "config.json", "generation_config.json", "*.safetensors", "model.safetensors.index.json", "tokenizer*",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
)  # fmt: skip
# Model -> licence and name on the Hub, of what this project carries or starts from; others: see the card.
BASES = {
    "tiny": ("apache-2.0", None),
    "smol": ("apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": ("mit", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": ("mit", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": ("mit", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"),
}
TOLD = {  # newest metrics on the card
    "eval/accuracy": "share of right answers to held-out problems", "eval/truncated_frac": "share cut off at the limit",
    "eval/length": "tokens of a response", "eval/entropy": "nats per token", "reward/mean": "training reward",
}  # fmt: skip


def export(name: str, out: Path) -> dict[str, Any]:
    """Write the model of `RUN` or `RUN@STEP` to the new or empty folder `out`; what was written.

    Raises:
        UsageError: no run, no such model in it, a packed run, a folder that is not empty.
        Or1labError: the run is not finished and no step is named; no room on the disk.
    """
    out = out.absolute()
    folder = Path(name) if Path(name).is_dir() else Path(name.rpartition("@")[0] or name)
    run = tracker.open_run(folder)
    if (run.folder / PACKED_METRICS).exists():
        raise UsageError(f"{run.folder} is a packed run, which holds no model; export the run folder it was made from")
    if folder == Path(name) and run.status != "finished":
        raise Or1labError(
            f"{run.folder} is {run.status}: it has no final model; name a step (@20), or train on --resume"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already and not empty; name a new folder")
    model = models.find_model(name)
    base, aside = Path(run.manifest["recipe"]["model"]).name, out.with_name(f".{out.name}.{os.getpid()}")
    with full_disk_explained(out.parent):
        aside.mkdir(parents=True)
        try:
            for path in _files(Path(model.folder)):
                shutil.copyfile(path, aside / path.name)
            _figure(run, aside / "training.png", f"{base}, trained")
            recipe = yaml.safe_dump(run.manifest["recipe"], sort_keys=False, allow_unicode=True)
            (aside / "recipe.yaml").write_text(recipe, encoding="utf-8")
            (aside / "README.md").write_text(card(run, model.step, out.name), encoding="utf-8")
            aside.replace(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    files = sorted(path.name for path in out.iterdir())
    return {"folder": str(out), "files": files, "bytes": sum((out / name).stat().st_size for name in files)}


def _files(folder: Path) -> list[Path]:
    return sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})


def _figure(run: Run, path: Path, title: str) -> None:
    from or1lab.plots import card as plots
    from or1lab.plots import style

    with style.theme():
        plots.card(run.metrics, title).savefig(path, metadata={"Software": None})


def card(run: Run, step: int | None, title: str) -> str:
    """The model card: front matter, how to load it, recipe, figures, limits, licence (markdown)."""
    manifest = run.manifest
    recipe = run.recipe
    origin = lineage(run)  # of a run that started from another one, the model at the beginning counts
    base, earlier = origin["base"], len(origin["ancestors"])
    licence, hub = BASES.get(base, ("other", base if _on_hub(base) else None))
    base = hub or Path(base).name  # no folder of this machine on the card
    front: dict[str, Any] = {"license": licence}
    if licence == "other":
        front["license_name"] = "of-the-base-model"
    if hub:
        front["base_model"] = hub
    front |= {
        "library_name": "transformers", "pipeline_tag": "text-generation",
        "tags": ["or1lab", "reinforcement-learning", "grpo", "reasoning"],
    }  # fmt: skip
    rows = [(key, manifest[key]) for key in ("experiment", "arm") if manifest[key]]
    rows += [("model", base), ("data", _sources(recipe)), ("reward", recipe.reward), ("seed", recipe.seed)]
    for key in ("D_R", "D_T", "N_reuse", "gs", "tau", "lr", "clip_low", "clip_high", "beta", "entropy", "loss"):
        rows.append((key, getattr(recipe, key)))
    figures = [(name, f"{value:.4g}", TOLD[name]) for name, value in _numbers(run, step).items()]
    before = f" It starts from the model of another run; runs before: {earlier}." if earlier else ""
    place = {key: manifest.get(key) for key in PLACE if key != "hardware"} | (manifest.get("packages") or {})
    made = [(key, value) for key, value in tracker.flatten(place).items() if value is not None]
    return "\n".join([
        "---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "", f"# {title}", "",
        f"`{base}` after reinforcement learning with verified rewards by or1lab {manifest['code']['version']}; "
        f"training steps: {step}.{before}", "",
        "## Use", "", "```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", "",
        f'model = AutoModelForCausalLM.from_pretrained("{title}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{title}")', "```", "",
        f"Or `vllm serve {title}`. It was trained with temperature {recipe.tau:g} and at most {recipe.max_T} tokens a "
        f"response, on prompts of at most {recipe.data.prompt_limit} tokens.", "",
        "## Training", "", *(f"- {line}" for line in arithmetic(recipe)), "",
        *_table(("knob", "value"), rows), "", "The whole recipe is in `recipe.yaml`.", "",
        "## Figures", "", "![Reward, entropy, length, truncation, kept groups and time](training.png)", "",
        *_table(("metric", "value", "what it is"), figures), "",
        f"They are those of {f'step {step} of ' if step is not None else ''}one run with one seed, on problems of its "
        "own data held out from training.", "",
        "## Limits", "", *(f"- {line}" for line in _limits(recipe, base)), "",
        "## Made with", "", *_table(("what", "which"), made), "",
        "## Licence", "", _licence(licence, base), "",
    ])  # fmt: skip


def _numbers(run: Run, step: int | None) -> dict[str, float]:
    """The newest value of each number on the card when the model of that step was made."""
    rows = run.metrics.query("kind != 'sgd'")
    rows = rows if step is None else rows[rows["step"] <= step]
    columns = {name: rows[name].dropna() for name in TOLD if name in rows}
    return {name: column.iloc[-1] for name, column in columns.items() if len(column)}


def _on_hub(model: str) -> bool:
    return model.count("/") == 1 and not model.startswith((".", "/", "~")) and not Path(model).exists()


def _sources(recipe: Recipe) -> str:
    sources = [part.source for part in recipe.data.parts]
    return ", ".join(source if _on_hub(source) else Path(source).name for source in map(str, sources))


def _limits(recipe: Recipe, base: str) -> Iterable[str]:
    if base == "tiny":
        yield "A toy: it answers sums of the tiny world in its own few words and knows nothing else."
    rewards = recipe.reward.values() if isinstance(recipe.reward, dict) else [recipe.reward]
    told = ", ".join(f"`{reward}`" for reward in dict.fromkeys(rewards))
    yield f"Its reward was the verdict of {told} on the answer alone: nothing was asked of reasoning, style or safety."
    yield "Nothing was measured beyond the problems it was trained on and those held out from them, unless said above."
    yield "Responses to problems that need more tokens than the limit of training are cut off or get worse."
    if recipe.data.wrong_golds or recipe.verifier_errors.misses or recipe.verifier_errors.pays:
        yield "Rewards or golds were made wrong on purpose, as part of an experiment: see `recipe.yaml`."


def _licence(licence: str, base: str) -> str:
    if licence == "other":
        return (
            f"That of the model it starts from, `{base}`, and of the data: set `license` above before you publish it."
        )
    return f"{licence}, as that of the model it starts from."


def _table(columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    rule = f"|{'|'.join(' --- ' for _ in columns)}|"
    return [f"| {' | '.join(map(str, row))} |" for row in (columns,)] + [rule] + [
        f"| {' | '.join(str(value).replace('|', chr(92) + '|') for value in row)} |" for row in rows
    ]  # fmt: skip
