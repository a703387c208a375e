"""Where a recipe's model and problems come from."""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from or1lab.data import difficulty, load
from or1lab.data.mix import interleave, shares
from or1lab.data.problem import Problem
from or1lab.data.spoil import wrong_golds
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe_parts import Data, Part

GENERATED = ("tiny", "smol", "functions")  # modules of or1lab.data with a function `problems`


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


def reach(name: str) -> None:
    """Ask the Hub once for a model: the libraries would try for minutes before they give up.

    Where it does not give it, the cache must, and is not asked for news again. Raises Or1labError if it cannot."""
    import httpx
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"))
    except (OSError, ValueError, httpx.HTTPError) as error:
        reason = load.shorten(str(error))
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            raise Or1labError(
                f"no model '{name}': it is no folder here, and the Hub does not give it ({reason}). Where there is a "
                f"network: hf download {name} --local-dir DIR; then give DIR as the model"
            ) from None
        if not constants.HF_HUB_OFFLINE:
            warnings.warn(f"the Hub does not give {name} ({reason}): it is taken from the cache", stacklevel=2)
            constants.HF_HUB_OFFLINE = True


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a model folder. Raises Or1labError when there is none or it cannot be read."""
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        reach(folder)
    if Path(folder).is_dir() and not _has_tokenizer(Path(folder)):  # transformers would invent an empty one
        raise Or1labError(f"no readable tokenizer for '{folder}': the folder holds none")
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise Or1labError(f"no readable tokenizer for '{folder}': {error}") from None


def load_problems(data: Data, split: str, tokenizer: Any) -> list[Problem]:
    """Problems of a split ("train" or "test"): what `data` names, within the prompt limit; of those to train on, what
    the offline filter leaves, some with a wrong gold where that is asked for."""
    problems = _problems(data, split, tokenizer)
    if split == "train" and data.offline_filter:
        problems = difficulty.solved_sometimes(problems, data.offline_filter)
    if split == "train" and data.wrong_golds:
        problems = wrong_golds(problems, data.wrong_golds)
    return problems


def _problems(data: Data, split: str, tokenizer: Any) -> list[Problem]:
    """Problems of a split, without those whose prompt is longer than the prompt limit.

    Of a mix, each source gives its share. A file holds both splits: its last `test` problems are held out, the `train`
    before them are trained on."""
    parts = data.parts
    if split == "test" and data.test_options is not None:
        if parts[0].source not in GENERATED:  # of a file, other options could hold out what is trained on
            raise UsageError(f"data.test_options: '{parts[0].source}' is no generated source ({', '.join(GENERATED)})")
        parts = (parts[0].model_copy(update={"options": data.test_options}),)
    weights = [part.weight for part in parts]
    dealt = list(zip(parts, shares(data.train, weights), shares(data.test, weights), strict=True))
    for part, train, test in dealt:
        if not train or not test:
            lacks = "test" if train else "train"
            raise UsageError(
                f"data.mix leaves no {lacks} problem to the source '{part.source}' with its weight of {part.weight:g}; "
                f"raise it, or data.{lacks}"
            )
    loaded = [_short(_read_part(*one, split, data.seed), split, data, tokenizer, one[0].source) for one in dealt]
    if not data.mix:
        return loaded[0]
    for (part, *counts), own in zip(dealt, loaded, strict=True):
        if len(own) < (wanted := counts[split == "test"]):
            warnings.warn(f"{part.source} gives {len(own)} of its {wanted} {split} problems of data.mix", stacklevel=2)
    problems = interleave(loaded, f"mix/{split}/{data.seed}")
    for name, count in Counter(problem.id for problem in problems).items():
        if count > 1:
            raise UsageError(f"the problem '{name}' comes from {count} parts of data.mix")
    return problems


def _read_part(part: Part, train: int, test: int, split: str, seed: int) -> list[Problem]:
    count = train if split == "train" else test
    if part.source in GENERATED:
        generate = importlib.import_module(f"or1lab.data.{part.source}").problems
        try:
            return generate(split, count, seed=seed, **part.options)
        except (TypeError, ValueError) as error:
            raise UsageError(f"data.options of the source '{part.source}': {error}") from None
    found = read_problems(part.source, part.options)
    rest = len(found) - test
    if rest < 1:
        raise UsageError(f"{part.source} holds {len(found)} problems, but data.test keeps {test} of them back")
    return found[rest:] if split == "test" else found[: min(rest, train)]


def _short(problems: list[Problem], split: str, data: Data, tokenizer: Any, source: str) -> list[Problem]:
    """Those within the prompt limit."""
    from or1lab.rollout.base import encode_prompt

    short = [p for p in problems if len(encode_prompt(tokenizer, p.prompt)) <= data.prompt_limit]
    if not short:
        raise UsageError(
            f"every {split} prompt is longer than data.prompt_limit = {data.prompt_limit} tokens (source '{source}')"
        )
    if len(short) < len(problems):
        warnings.warn(
            f"{len(problems) - len(short)} of {len(problems)} {split} prompts are longer than data.prompt_limit = "
            f"{data.prompt_limit} tokens and were left out (source '{source}')",
            stacklevel=2,
        )
    return short


def read_problems(source: str, options: Mapping[str, Any] | None = None) -> list[Problem]:
    """The problems of a file or published set. Of a file every row has to be one (UsageError); what a published set
    holds besides, such as proofs, is left out with a warning that counts it."""
    try:
        loaded = load.read(source, strict=Path(source).expanduser().is_file(), options=options)
    except UsageError as error:
        raise UsageError(f"a source is {', '.join(GENERATED)}, a file or a published set: {error}") from None
    problems = list(loaded)
    if loaded.skipped:
        first, n = loaded.skipped[0], len(loaded.skipped)
        warnings.warn(
            f"{source}: {n} row{'s' * (n > 1)} left out that are no problems (or1lab data stats {source} counts the "
            f"reasons); the first is {loaded.unit} {first.number}: {first.reason}",
            stacklevel=2,
        )
    return problems


def problems_hash(problems: Sequence[Problem]) -> str:
    """Identity of problems in their order, every field included; `data_hash` of a manifest."""
    plain = json.dumps([problem.model_dump() for problem in problems], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def weights_hash(folder: str) -> str:
    """SHA-256 over the weight files of a local folder; a Hub name is its own identity."""
    files = sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else []
    digest = hashlib.sha256(b"" if files else folder.encode())
    for file in files:
        with file.open("rb") as content:  # in pieces: a model may be larger than memory
            while piece := content.read(1 << 24):
                digest.update(piece)
    return digest.hexdigest()[:16]
