"""Where model and problems come from: folders that are no model, problem files, prompt limit, identities."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import pytest

from or1lab import sources
from or1lab.data import smol, tiny
from or1lab.data.load import write as save
from or1lab.data.problem import Difficulty, Problem
from or1lab.data.spoil import wrong_golds
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import load_recipe
from or1lab.recipe_parts import Data


class Letters:
    """A tokenizer of one token a letter."""

    chat_template = None

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


class Chatty(Letters):
    """The same with a chat template that adds ten tokens."""

    chat_template = "a template"

    def apply_chat_template(self, messages, add_generation_prompt, return_dict):
        assert add_generation_prompt and not return_dict
        return [0] * 10 + [ord(letter) for message in messages for letter in message["content"]]


def problems(n: int) -> list[Problem]:
    return [
        Problem(id=f"p{i}", domain="math", prompt="x" * i, gold=["7", "8"], meta={"i": i})
        for i in range(1, n + 1)
    ]


def write(path: Path, found: list[Problem]) -> Path:
    path.write_text("".join(problem.model_dump_json() + "\n" for problem in found), encoding="utf-8")
    return path


def load(split: str, tokenizer: Letters | None = None, **data) -> list[Problem]:
    return sources.load_problems(Data(**data), split, tokenizer or Letters())


# ---------------------------------------------------------------------------------------------- model folders


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (
        "config.json",
        "tokenizer.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ):
        (folder / name).write_text(name)
    return folder


def test_a_whole_model_folder_is_taken_as_it_is(model, monkeypatch):
    assert sources.model_folder(str(model)) == str(model)
    monkeypatch.chdir(model.parent)
    assert sources.model_folder("model") == "model"
    monkeypatch.setenv("HOME", str(model.parent))
    assert sources.model_folder("~/model") == str(model)


@pytest.mark.parametrize(
    "missing, message",
    [
        ("config.json", r"holds no config\.json"),
        ("tokenizer.json", r"holds a model but no tokenizer; tokenizer\.save_pretrained\("),
        ("*.safetensors", r"holds no weights \(\*\.safetensors\); model\.save_pretrained\("),
    ],
)
def test_an_incomplete_model_folder_says_what_is_missing(model, missing, message):
    for file in model.glob(missing):
        file.unlink()
    with pytest.raises(UsageError, match=message):
        sources.model_folder(str(model))


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere", "tinny", "a/b/c"])
def test_a_folder_that_does_not_exist_names_the_choices(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        UsageError, match="no model folder '.*give 'tiny', 'smol', an existing folder or a Hub name"
    ):
        sources.model_folder(name)


def test_names_of_ours_and_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sources.model_folder("tiny") == str(tiny.BASE)
    monkeypatch.setattr(smol, "model_folder", lambda: tmp_path)
    assert sources.model_folder("smol") == str(tmp_path)
    assert sources.model_folder("an-owner/a-model") == "an-owner/a-model"


@pytest.mark.parametrize("content", [None, "", "{", "{}"])
def test_an_unreadable_tokenizer_is_an_error_that_names_the_folder(tmp_path, content):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(Or1labError, match=f"no readable tokenizer for '{tmp_path}'"):
        sources.load_tokenizer(str(tmp_path))


# --------------------------------------------------------------------------------------------------- problems


def test_a_file_comes_back_as_written(tmp_path):
    odd = Problem(id="odd", domain="math", prompt="a\u2028b\u0085c\x1cd\ne", gold="½")
    found = [*problems(3), odd]
    assert sources.read_problems(str(write(tmp_path / "f.jsonl", found))) == found


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"id": "b", "domain": "math", "prompt": "?"}', "line 2 is no problem: (.|\n)*gold"),
        (
            '{"id": "b", "domain": "math", "prompt": "?", "gold": "1", "answer": "1"}',
            "line 2 is no problem: (.|\n)*answer",
        ),
        ("{", "line 2 is no problem"),
        ("\udcff", "line 2 is no problem"),
        ('{"id": "p1", "domain": "math", "prompt": "?", "gold": "1"}', "line 2 is .* the id 'p1' is taken by line 1"),
    ],
)
def test_a_line_that_is_no_problem_is_named(tmp_path, line, message):
    path = tmp_path / "f.jsonl"
    first, last = (problem.model_dump_json() for problem in problems(2))
    path.write_text(f"{first}\n{line}\n{last}\n", encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError, match=rf"f\.jsonl, {message}"):
        sources.read_problems(str(path))


def test_a_missing_file_names_the_choices(tmp_path):
    with pytest.raises(UsageError, match="functions, a file or a published set: no file '.*nothing.jsonl'"):
        load("train", source=str(tmp_path / "nothing.jsonl"))


@pytest.mark.parametrize("train, kept", [(4096, 7), (7, 7), (2, 2)])
def test_a_file_gives_its_last_problems_to_the_test_split(tmp_path, train, kept):
    found = problems(10)
    data = {"source": str(write(tmp_path / "f.jsonl", found)), "train": train, "test": 3}
    assert load("train", **data) == found[:kept]
    assert load("test", **data) == found[7:]


def test_a_file_with_nothing_left_to_train_on_is_an_error(tmp_path):
    path = write(tmp_path / "f.jsonl", problems(3))
    for split in ("train", "test"):
        with pytest.raises(UsageError, match=r"holds 3 problems, but data\.test keeps 3 of them back"):
            load(split, source=str(path), test=3)


@pytest.mark.filterwarnings("ignore:.*left out")
def test_prompts_beyond_the_limit_are_left_out_and_counted(tmp_path):
    data = {"source": str(write(tmp_path / "f.jsonl", problems(30))), "test": 5}
    with pytest.warns(UserWarning, match="13 of 25 train prompts are longer than data.prompt_limit = 12"):
        assert [len(p.prompt) for p in load("train", prompt_limit=12, **data)] == list(range(1, 13))
    assert [len(p.prompt) for p in load("train", Chatty(), prompt_limit=12, **data)] == [1, 2]
    assert [len(p.prompt) for p in load("test", prompt_limit=27, **data)] == [26, 27]


def test_a_limit_below_every_prompt_is_an_error(tmp_path):
    data = {"source": str(write(tmp_path / "f.jsonl", problems(30))), "test": 5}
    with pytest.raises(UsageError, match=r"every test prompt is longer than data\.prompt_limit = 25 tokens"):
        load("test", prompt_limit=25, **data)


def test_generated_problems_follow_the_data_section():
    data = {"source": "tiny", "train": 20, "test": 10, "seed": 3, "options": {"operands": [3, 4]}}
    assert load("train", **data) == tiny.problems("train", 20, seed=3, operands=(3, 4))
    assert load("test", **data) == tiny.problems("test", 10, seed=3, operands=(3, 4))


def test_smol_problems_follow_the_data_section(monkeypatch):
    def stub(split, n, seed=0, *, families=("add",)):
        return [
            Problem(id=f"{split}/{seed}/{family}/{n}", domain="math", prompt="?", gold="1")
            for family in families
        ]

    monkeypatch.setattr(smol, "problems", stub)
    found = load("test", source="smol", test=9, seed=2, options={"families": ["gsm", "gcd"]})
    assert [problem.id for problem in found] == ["test/2/gsm/9", "test/2/gcd/9"]


@pytest.mark.parametrize("source", ["tiny", "smol"])
def test_an_option_that_the_generator_does_not_know_is_named(source):
    with pytest.raises(UsageError, match=f"data.options of the source '{source}': .*'operandz'"):
        load("train", source=source, options={"operandz": [2, 3]})


def test_a_mix_deals_by_weight_and_spreads_each_source(tmp_path):
    path = write(tmp_path / "f.jsonl", problems(200))
    parts = [{"source": "tiny", "weight": 2, "options": {"operands": [3, 4]}}, {"source": str(path), "weight": 1}]
    data = {"mix": parts, "train": 90, "test": 30, "prompt_limit": 500}
    for split, total in (("train", 90), ("test", 30)):
        found = load(split, **data)
        domains = [problem.domain for problem in found]
        assert (domains.count("tiny"), domains.count("math")) == (total * 2 // 3, total // 3)
        assert all(2 <= domains[i : i + 12].count("math") <= 6 for i in range(len(domains) - 11))  # 4 on the whole
        assert found == load(split, **data) and found != load(split, **data, seed=1)
    own = [problem for problem in load("test", **data) if problem.domain == "math"]
    assert own == problems(200)[-10:]
    assert [p for p in load("train", **data) if p.domain == "math"] == problems(200)[:30]
    assert [p for p in load("test", **data) if p.domain == "tiny"] == tiny.problems("test", 20, operands=(3, 4))


def test_a_mix_that_cannot_be_dealt_says_so(tmp_path):
    path = str(write(tmp_path / "f.jsonl", problems(9)))
    tiny_part = {"source": "tiny", "weight": 99}
    with pytest.raises(UsageError, match="leaves no test problem to the source '.*f.jsonl' with its weight of 1"):
        load("train", mix=[tiny_part, {"source": path}], train=1000, test=10)
    with pytest.raises(UsageError, match="'p1' comes from 2 parts"):
        load("train", mix=[{"source": path}, {"source": path}], train=4, test=4)
    with pytest.warns(UserWarning, match="f.jsonl gives 5 of its 20 train problems of data.mix"):
        assert len(load("train", mix=[{"source": "tiny"}, {"source": path}], train=40, test=8)) == 25
    with pytest.raises(UsageError, match="every train prompt is longer .*source 'tiny'"):
        load("train", mix=[{"source": "tiny"}, {"source": path}], train=4, test=4, prompt_limit=2)


def test_a_parquet_file_is_as_good(tmp_path):
    found = problems(4)
    path = tmp_path / "f.parquet"
    save(found, path)
    assert load("train", source=str(path), test=1) == found[:3]
    with pytest.raises(UsageError, match=r"a file has no options \(split\)"):
        load("train", source=str(path), options={"split": "test"})


def test_a_published_set_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    options = {"file": str(Path(__file__).parent / "data" / "fixtures" / "numinamath.jsonl")}
    with pytest.warns(UserWarning, match="numinamath: 1 row left out .*the first is row 2: a proof"):
        found = load("test", source="numinamath", options=options, test=1, prompt_limit=999)
    assert [problem.gold for problem in found] == ["42"]
    with pytest.raises(UsageError, match="no option of numinamath 'subset' .did you mean 'subsets'"):
        load("test", source="numinamath", options=options | {"subset": "paper"}, test=1)
    with pytest.raises(UsageError, match="did you mean 'AI-MO/NuminaMath-1.5'"):
        load("test", source="AI-MO/NuminaMath-15")


# ------------------------------------------------------------------------------------------------- identities


def test_the_hash_of_problems_sees_every_change_and_the_order():
    base = problems(3)
    others = [base[:2], base[::-1]]
    for change in (
        {"id": "q"},
        {"prompt": "y"},
        {"gold": ["7"]},
        {"gold": "7"},
        {"meta": {}},
        {"domain": "tiny"},
    ):
        others.append([*base[:2], base[2].model_copy(update=change)])
    hashes = [sources.problems_hash(found) for found in (base, *others)]
    assert len(set(hashes)) == len(hashes)
    assert sources.problems_hash(problems(3)) == hashes[0]
    turned = [p.model_copy(update={"meta": dict(reversed({"i": p.meta["i"], "j": 1}.items()))}) for p in base]
    straight = [p.model_copy(update={"meta": {"i": p.meta["i"], "j": 1}}) for p in base]
    assert sources.problems_hash(turned) == sources.problems_hash(straight)


def test_the_hash_of_weights_sees_weights_alone(model, tmp_path):
    first = sources.weights_hash(str(model))
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "config.json").write_text(json.dumps({"changed": True}))
    assert sources.weights_hash(str(copy)) == first
    (copy / "model-00002-of-00002.safetensors").write_text("other")
    assert sources.weights_hash(str(copy)) != first


def test_a_hub_name_is_its_own_identity():
    assert (
        sources.weights_hash("owner/a") == sources.weights_hash("owner/a") != sources.weights_hash("owner/b")
    )


# ------------------------------------------------------------------------------- what only training problems see


def test_the_held_out_problems_may_have_options_of_their_own():
    """A run on easy problems is tested on those of a run on hard ones."""
    easy = {"options": {"operands": [2, 3], "products": 0.25}, "train": 20, "test": 20, "prompt_limit": 24}
    world = load("test", train=20, test=20, prompt_limit=24)
    assert load("test", **easy, test_options={}) == world != load("test", **easy)
    assert load("train", **easy, test_options={}) == load("train", **easy)


def test_test_options_are_for_generated_sources_only(tmp_path):
    path = write(tmp_path / "problems.jsonl", problems(9))
    with pytest.raises(UsageError, match="is no generated source"):
        load("test", source=str(path), test=2, test_options={})
    with pytest.raises(ValueError, match="data.mix has several"):
        Data(mix=[{"source": "tiny"}], test_options={})


def test_the_offline_filter_drops_what_was_always_or_never_solved(tmp_path):
    tried = [
        p.model_copy(update={"difficulty": {"m": Difficulty(solved=i % 3, samples=2)}})
        for i, p in enumerate(problems(9))
    ]
    path = write(tmp_path / "problems.jsonl", tried)
    given = {"source": str(path), "train": 6, "test": 3}
    assert [p.id for p in load("train", **given, offline_filter="m")] == ["p2", "p5"]
    assert load("test", **given, offline_filter="m") == load("test", **given)
    with pytest.raises(UsageError, match="nobody knows how often 'n' solves the problem 'p1'; or1lab data curate"):
        load("train", **given, offline_filter="n")


def test_the_tiny_base_knows_its_training_problems():
    recipe = load_recipe("tiny")
    tokenizer = sources.load_tokenizer(str(tiny.BASE))
    known = json.loads((tiny.BASE / "difficulty.json").read_text())
    every = sources.load_problems(recipe.data, "train", tokenizer)
    left = sources.load_problems(recipe.data.model_copy(update={"offline_filter": "tiny"}), "train", tokenizer)
    assert set(known["solved"]) == {p.id for p in every} and known["model_hash"] == sources.weights_hash(str(tiny.BASE))
    assert [p.id for p in left] == [p.id for p in every if 0 < known["solved"][p.id] < known["samples"]]
    assert len(left) / len(every) == known["shares"]["kept"]


def test_wrong_golds_spoil_training_problems_alone():
    given = {"train": 400, "test": 20, "prompt_limit": 24}
    right, spoilt = load("train", **given), load("train", **given, wrong_golds=0.25)
    changed = [(a, b) for a, b in zip(right, spoilt, strict=True) if a != b]
    assert 80 < len(changed) < 120
    assert all(a.gold != b.gold and b.meta["right_gold"] == a.gold and int(b.gold) in range(23) for a, b in changed)
    assert load("test", **given, wrong_golds=0.25) == load("test", **given)
    assert spoilt == load("train", **given, wrong_golds=0.25)
    fewer = load("train", **given, wrong_golds=0.1)
    assert {b.id for a, b in changed} > {b.id for a, b in zip(right, fewer, strict=True) if a != b} != set()


def test_no_wrong_gold_without_another_answer():
    assert wrong_golds(problems(5), 0.99) == problems(5)  # several golds each
    one = [Problem(id=f"p{i}", domain="math", prompt="x", gold="7") for i in range(5)]
    assert wrong_golds(one, 0.99) == one
