"""Where a recipe's model and problems come from."""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from or1lab.data import load
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import Data


def model_folder(name: str) -> str:
    """A model folder (or Hub name) for 'tiny', 'smol', a path or a Hub name.

    Raises UsageError for a local folder that is no complete model."""
    if name == "tiny":
        from or1lab.data.tiny import BASE as path

        if not path.exists():
            raise UsageError(f"the tiny base policy is missing; or1lab tiny build --out {path} makes it anew")
    elif name == "smol":
        from or1lab.data import smol

        return str(smol.model_folder())
    else:
        path = Path(name).expanduser()
        if not path.exists():
            if name.startswith((".", "/", "~")) or name.count("/") != 1:
                raise UsageError(f"no model folder '{name}'; give 'tiny', 'smol', an existing folder or a Hub name")
            return name
    if not (path / "config.json").is_file():
        raise UsageError(f"{path} holds no config.json, so it is no model folder (save_pretrained writes one)")
    if not _has_tokenizer(path):
        raise UsageError(f"{path} holds a model but no tokenizer; tokenizer.save_pretrained('{path}') writes one")
    if not any(path.glob("*.safetensors")):
        raise UsageError(f"{path} holds no weights (*.safetensors); model.save_pretrained('{path}') writes them")
    return str(path)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json", "vocab.json"))


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a model folder. Raises Or1labError when there is none or it cannot be read."""
    from transformers import AutoTokenizer

    if Path(folder).is_dir() and not _has_tokenizer(Path(folder)):  # transformers would invent an empty one
        raise Or1labError(f"no readable tokenizer for '{folder}': the folder holds none")
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise Or1labError(f"no readable tokenizer for '{folder}': {error}") from None


def load_problems(data: Data, split: str, tokenizer: Any) -> list[Problem]:
    """Problems of a split ("train" or "test"), without those whose prompt is longer than the prompt limit.

    A file holds both splits: its last `test` problems are held out, the `train` before them are trained on."""
    from or1lab.rollout.base import encode_prompt

    count = data.train if split == "train" else data.test
    if data.source in ("tiny", "smol"):
        generate = importlib.import_module(f"or1lab.data.{data.source}").problems
        try:
            problems = generate(split, count, seed=data.seed, **data.options)
        except (TypeError, ValueError) as error:
            raise UsageError(f"data.options of the source '{data.source}': {error}") from None
    else:
        found = read_problems(data.source, data.options)
        rest = len(found) - data.test
        if rest < 1:
            raise UsageError(f"{data.source} holds {len(found)} problems, but data.test keeps {data.test} of them back")
        problems = found[rest:] if split == "test" else found[: min(rest, data.train)]
    short = [p for p in problems if len(encode_prompt(tokenizer, p.prompt)) <= data.prompt_limit]
    if short and len(short) < len(problems):
        warnings.warn(
            f"{len(problems) - len(short)} of {len(problems)} {split} prompts are longer than data.prompt_limit = "
            f"{data.prompt_limit} tokens and were left out",
            stacklevel=2,
        )
    if not short:
        raise UsageError(f"every {split} prompt is longer than data.prompt_limit = {data.prompt_limit} tokens")
    return short


def read_problems(source: str, options: Mapping[str, Any] | None = None) -> list[Problem]:
    """The problems of a file or published set. Of a file every row has to be one (UsageError); what a published set
    holds besides, such as proofs, is left out with a warning that counts it."""
    try:
        loaded = load.read(source, strict=Path(source).expanduser().is_file(), options=options)
    except UsageError as error:
        raise UsageError(f"data.source, if neither 'tiny' nor 'smol', is a file or a published set: {error}") from None
    problems = list(loaded)
    if loaded.skipped:
        first = loaded.skipped[0]
        warnings.warn(
            f"{len(loaded.skipped)} rows of {source} are no problems and were left out (or1lab data stats {source} "
            f"counts the reasons); the first is row {first.number}: {first.reason}",
            stacklevel=2,
        )
    return problems


def problems_hash(problems: Sequence[Problem]) -> str:
    plain = json.dumps([problem.model_dump() for problem in problems], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def weights_hash(folder: str) -> str:
    """SHA-256 over the weight files of a local folder; a Hub name is its own identity."""
    files = sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else []
    digest = hashlib.sha256(b"" if files else folder.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]

