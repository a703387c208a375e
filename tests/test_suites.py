"""Suites: each loads from a generator or from local rows, asks as it says, and refuses what is no suite."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import datasets
import huggingface_hub
import pandas as pd
import pytest
import yaml

from or1lab.data import tiny
from or1lab.data.load import read, write
from or1lab.data.published import SETS
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import RECIPES, ROOT, load_recipe
from or1lab.rewards.code import judge
from or1lab.sources import load_problems, problems_hash
from or1lab.suites import Suite, load_suite, names, place, template_hash
from tests.lacking import needs_bubblewrap

FIXTURES = Path(__file__).parent / "data" / "fixtures"
SHARED = ROOT.parent / "shared" / "data"  # not part of the repository
THINK = " Let's think step by step and output the final answer within \\boxed{}."
needs_smol = pytest.mark.skipif(not find_spec("reasoning_gym"), reason="needs the extra smol (reasoning-gym)")
PUBLISHED = [name for name in names() if load_suite(name).set]
GENERATED = [name for name in names() if load_suite(name).generate]
# Of version 1. What changes a problem needs a new version, or results of both would be taken for the same.
HASHES = {"functions": "b4fb02c15e01f0ea", "smol": "4e653010198fcfd8", "tiny": "e5baf349a0cc17e6"}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """No network, and nothing from or in the user's caches."""
    monkeypatch.setenv("OR1LAB_CACHE", str(tmp_path / "or1lab"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")

    def fetch(*_: object, **__: object) -> str:
        raise OSError("no network in tests")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)


def save(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def good_rows(name: str, tmp_path: Path) -> Path:
    """The rows of a set's fixture that are problems."""
    skipped = read(name, options={"file": str(FIXTURES / f"{name}.jsonl")})
    list(skipped)
    bad = {one.number for one in skipped.skipped}
    lines = (FIXTURES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return save(tmp_path / f"{name}-good.jsonl", *(json.loads(row) for n, row in enumerate(lines, 1) if n not in bad))


# ------------------------------------------------------------------------------------------------ the suites of ours


def test_there_are_the_suites_of_the_report_and_ours():
    assert set(names()) == {
        "aime24", "aime25", "amc23", "math500", "gsm8k", "livecodebench", "humaneval", "functions", "tiny", "smol",
    }  # fmt: skip


@pytest.mark.parametrize("name", names())
def test_a_suite_is_named_as_its_file_and_says_where_its_licence_is(name):
    suite = load_suite(name)
    assert suite.name == name and suite.licence and suite.title and isinstance(suite.version, int)
    assert (suite.temperature, suite.top_p) == (1.0, 1.0)  # paper section 8.1
    assert suite.size


@pytest.mark.parametrize(("name", "k"), [("aime24", 32), ("aime25", 32), ("livecodebench", 4)])
def test_the_protocol_of_the_report(name, k):
    suite = load_suite(name)
    assert (suite.k, suite.limit, suite.size) == (k, 32768, 279 if name == "livecodebench" else 30)
    assert suite.options.get("window") == ("2024-08..2025-02" if name == "livecodebench" else None)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.filterwarnings("ignore:.*the whole suite has")
def test_a_published_suite_loads_from_rows_of_its_set(name, tmp_path):
    suite = load_suite(name, {"file": str(good_rows(name, tmp_path))})
    found = suite.problems()
    assert found and found == suite.problems()
    assert {problem.domain for problem in found} == {suite.domain}
    assert all(problem.id.startswith(f"{name}-") for problem in found)
    assert all(problem.prompt.endswith(suite.prompt_suffix) for problem in found)


def test_the_window_of_livecodebench(tmp_path):
    with pytest.warns(UserWarning, match="1 problems; the whole suite has 279"):
        (only,) = load_suite("livecodebench", {"file": str(FIXTURES / "livecodebench.jsonl")}).problems()
    assert only.meta["date"] == "2024-08-01"  # of 2024-07-31, 2024-08-01 and 2025-02-01


@pytest.mark.parametrize("name", [pytest.param(one, marks=needs_smol if one == "smol" else ()) for one in GENERATED])
def test_a_generated_suite_is_what_its_version_says(name):
    suite = load_suite(name)
    found = suite.problems()
    assert (suite.version, problems_hash(found)) == (1, HASHES[name])
    assert len({problem.id for problem in found}) == len(found) == suite.size
    for band, settings in suite.bands.items():
        assert sum(problem.meta["band"] == band for problem in found) == settings.n


def test_the_bands_of_tiny():
    suite = load_suite("tiny")
    operands = {band: set() for band in suite.bands}
    for problem in suite.problems():
        operands[problem.meta["band"]].add(problem.meta["operands"])
        assert tiny.is_test(problem.prompt) and problem.gold == str(tiny.answer(problem.prompt))
    assert operands == {"2-3": {2, 3}, "4-6": {4, 5, 6}, "7-8": {7, 8}}


class Words:
    """Enough of a tokenizer to measure a prompt."""

    chat_template = None

    def __call__(self, text: str, **_: object) -> dict:
        return {"input_ids": text.split()}


@needs_smol
@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_no_recipe_trains_on_a_suite_or_looks_at_it(name):
    recipe = load_recipe(name)
    asked = {problem.prompt for suite in GENERATED for problem in load_suite(suite).problems()}
    sources = {part.source for part in recipe.data.parts}
    if not sources <= set(GENERATED):  # as published, from the Hub: of other sets than the suites
        assert sources <= set(SETS) and sources.isdisjoint({load_suite(suite).set for suite in names()})
        return
    for split in ("train", "test"):
        seen = {problem.prompt for problem in load_problems(recipe.data, split, Words())}
        assert seen and not seen & asked


# ------------------------------------------------------------------------------------------------ how it is asked


@pytest.mark.parametrize(
    ("name", "option", "behind"),
    [
        ("aime24", None, THINK), ("aime24", "released", THINK), ("aime24", "both", THINK), ("aime24", "none", ""),
        ("aime25", None, ""), ("aime25", "released", ""), ("aime25", "both", THINK), ("aime25", "none", ""),
        ("math500", None, THINK), ("math500", "none", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("brought", ["", THINK])
@pytest.mark.filterwarnings("ignore:.*the whole suite has")
def test_the_suffix(name, option, behind, brought, tmp_path):
    path = save(tmp_path / "p.jsonl", {"id": 1, "problem": "What is $5!$?" + brought, "answer": "120"})
    suite = load_suite(name, {"file": str(path), **({"suffix": option} if option else {})})
    assert [problem.prompt for problem in suite.problems()] == ["What is $5!$?" + behind]
    assert suite.record()["prompt_suffix"] == behind
    assert suite.record()["suffix"] == (option or ("boxed" if name == "math500" else "released"))


def test_the_template_hash_is_of_what_stands_around_a_question():
    plain, chat = Words(), Words()
    chat.chat_template = "{{ messages }}"
    hashes = [template_hash(plain), template_hash(plain, THINK), template_hash(chat), template_hash(chat, THINK)]
    assert len(set(hashes)) == 4 and hashes == [
        template_hash(Words()), template_hash(Words(), THINK), template_hash(chat), template_hash(chat, THINK),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ local files


def test_without_network_the_message_has_both_ways(tmp_path):
    with pytest.raises(Or1labError) as error:
        load_suite("livecodebench").problems()
    message = str(error.value)
    assert "no network in tests" in message and "hf download --repo-type dataset" in message
    assert "--suite livecodebench file=DIR" in message
    assert str(tmp_path / "or1lab" / "suites" / "livecodebench.jsonl") in message
    assert "convert livecodebench split=release_v5 window=2024-08..2025-02 file=DIR --out" in message


@pytest.mark.filterwarnings("ignore:.*the whole suite has")
@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_a_file_in_its_place_is_read_instead(kind):
    problem = read("gsm8k", options={"file": str(FIXTURES / "gsm8k.jsonl")})
    place("gsm8k").parent.mkdir(parents=True)
    write(problem, place("gsm8k", kind))
    suite = load_suite("gsm8k")
    assert [(one.gold, one.prompt.endswith(THINK)) for one in suite.problems()] == [("24", True), ("1,500", True)]
    assert suite.record()["file"] == str(place("gsm8k", kind)) and len(suite.record()["sha256"]) == 12


@pytest.mark.parametrize(
    ("row", "gold", "id"),
    [
        ({"id": "a", "problem": "1 + 1?", "answer": "2"}, "2", "a"),
        ({"id": 7, "question": "1 + 1?", "answer": 2}, "2", "7"),
        ({"question": "1 + 1?", "answer": "One and one.\n#### 2"}, "2", None),
        ({"unique_id": "t/1", "problem": "1 + 1?", "answer": ["2", "two"], "level": 3}, ["2", "two"], "t/1"),
        ({"id": "a", "domain": "math", "prompt": "1 + 1?", "gold": "2"}, "2", "a"),
    ],
)
def test_rows_of_a_file(row, gold, id, tmp_path):
    suite = load_suite(save(tmp_path / "mine.jsonl", row))
    (problem,) = suite.problems()
    assert (problem.prompt, problem.gold, problem.domain) == ("1 + 1?", gold, "math")
    assert problem.id == id if id else len(problem.id) == 16
    assert (suite.name, len(str(suite.version)), suite.limit, suite.suffix) == ("mine", 12, 32768, None)
    if "level" in row:
        assert problem.meta == {"level": 3}


def test_a_parquet_file_of_questions(tmp_path):
    rows = [{"id": n, "problem": f"{n} + {n}?", "answer": float(2 * n), "solution": None} for n in range(3)]
    pd.DataFrame(rows).to_parquet(tmp_path / "sums.parquet")
    found = load_suite(tmp_path / "sums.parquet").problems()
    assert [(one.id, one.gold) for one in found] == [("0", "0"), ("1", "2"), ("2", "4")]


@needs_bubblewrap
def test_functions_with_tests_are_problems_that_their_solutions_solve(tmp_path):
    rows = [json.loads(line) for line in (FIXTURES / "humaneval.jsonl").read_text().splitlines()[:2]]
    asserts = {"id": 3, "prompt": "def one():", "entry_point": "one", "test": ["assert one() == 1"]}
    found = load_suite(save(tmp_path / "p.jsonl", *rows, asserts)).problems()
    for problem in found[:2]:
        assert judge(problem.solution, problem.tests).correct
        assert problem.prompt.count(problem.meta.get("name", "def ")) >= 1 and "```python" in problem.prompt
    half = "def quarter(n):\n    return half(half(n))"  # the helper stands in what was asked
    assert judge(half, found[1].tests).correct and not judge("def quarter(n):\n    return 3", found[1].tests).correct
    assert judge("def one():\n    return 1", found[2].tests).correct


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data here")
@pytest.mark.parametrize(
    ("name", "number"), [("aime24", 30), ("math500", 300), ("gsm8k_test", 300), ("code_functional", 300)]
)
def test_real_files(name, number):
    assert len(load_suite(SHARED / f"{name}.jsonl").problems()) == number


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": "a", "problem": "?", "answer": "1"}] * 2, "line 2 is no problem: the id 'a' is taken by line 1"),
        ([{"id": "a", "problem": "?"}], "line 1 is no problem: a question without an answer"),
        ([{"id": "a", "problem": "?", "answer": ""}], "a question without an answer"),
        ([{"id": "a", "problem": "?", "answer": [""]}], "an empty gold answer"),
        ([{"id": "a", "domain": "math", "prompt": "?"}], "neither gold nor tests"),
        ([{"id": "a", "domain": "math", "prompt": "?", "golds": "1"}], "no field 'golds' .did you mean 'gold'"),
        ([{"prompt": "def f():", "entry_point": "f", "test": ""}], "line 1 is no problem: no tests"),
        ([{"prompt": "def f():", "entry_point": "f"}], "line 1 is no problem: no tests"),
        ([{"entry_point": "f", "test": "assert f()"}], "line 1 is no problem: no prompt"),
        ([{"problem": " ", "answer": "1"}], "the prompt is empty"),
        ([[1, 2]], "line 1 is no problem: not an object but list"),
        ([{"a": 1}], "id: Field required"),
        ([], "the suite p has no problem"),
    ],
)
def test_a_bad_file_is_refused_in_words(rows, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        load_suite(save(tmp_path / "p.jsonl", *rows)).problems()


def test_a_bad_file_in_place_of_a_set_as_well(tmp_path):
    path = save(
        tmp_path / "p.jsonl", {"id": 1, "problem": "?", "answer": "1"}, {"id": 1, "problem": "!", "answer": "1"}
    )
    with pytest.raises(UsageError, match="the id '1' is taken by line 1"):
        load_suite("aime24", {"file": str(path)}).problems()
    (tmp_path / "p.jsonl").write_text("no json\n")
    with pytest.raises(UsageError, match="line 1 is no problem: not JSON"):
        load_suite("aime24", {"file": str(path)}).problems()


def test_rows_of_a_set_that_are_no_problems_are_refused():
    with pytest.raises(UsageError, match="gsm8k, row 3 is no problem: no final answer after ####"):
        load_suite("gsm8k", {"file": str(FIXTURES / "gsm8k.jsonl")}).problems()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("aime42", {}, "no suite 'aime42' .did you mean 'aime2[45]'"),
        ("nowhere.jsonl", {}, "no suite 'nowhere.jsonl'.*or give a suite file"),
        ("aime24", {"sufix": "none"}, "no option of the suite aime24 'sufix' .did you mean 'suffix'"),
        ("aime24", {"suffix": "some"}, "no suffix 'some'; there are: released, both, none"),
        ("tiny", {"file": "x.jsonl"}, "no option of the suite tiny 'file'"),
        ("tiny", {"suffix": "none"}, "no option of the suite tiny 'suffix'"),
        ("aime24", {"k": 0}, "k: Input should be greater than or equal to 1"),
        ("aime24", {"temperature": -1}, "temperature: "),
        ("aime24", {"top_p": 1.5}, "top_p: "),
        ("aime24", {"temperature": float("nan")}, "temperature: "),
        ("aime24", {"limit": "long"}, "limit: "),
    ],
)
def test_a_bad_name_or_option_is_refused_in_words(name, options, words):
    with pytest.raises(UsageError, match=words):
        load_suite(name, options)


def test_a_file_that_is_not_there():
    with pytest.raises(UsageError, match="no file 'nowhere.jsonl'"):
        load_suite("aime24", {"file": "nowhere.jsonl"}).problems()
    with pytest.raises(UsageError, match="no file or folder 'nowhere'"):
        load_suite("aime24", {"file": "nowhere"}).problems()


PLAIN = {
    "name": "own", "version": 1, "title": "Own", "domain": "tiny", "generate": "tiny", "bands": {"all": {"n": 3}},
    "k": 2, "temperature": 1.0, "top_p": 1.0, "limit": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bandz": {}}, "unknown key 'bandz' .did you mean 'bands'"),
        ({"bands": {"all": {"m": 3}}}, "unknown key 'bands.all.m'|bands.all.n: Field required"),
        ({"bands": {}}, "a generated suite has bands"),
        ({"generate": "tinny"}, "no generator 'tinny' .did you mean 'tiny'"),
        ({"set": "aime24"}, "one of: set, generate, file"),
        ({"generate": None, "bands": {}, "set": "aime26"}, "no published set 'aime26' .did you mean 'aime2"),
        ({"suffixes": {"a": "b"}}, "suffixes and suffix: both or neither"),
        ({"k": None}, "k: "),
    ],
)
def test_a_bad_suite_file_is_refused_in_words(change, words, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(PLAIN | change))
    with pytest.raises(UsageError, match=words):
        load_suite(path)


def test_a_suite_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    assert len(load_suite(path).problems()) == 3
    save(tmp_path / "p.jsonl", {"problem": "?", "answer": "1"})
    change = {"generate": None, "bands": {}, "file": "p.jsonl", "domain": "math"}
    path.write_text(yaml.safe_dump(PLAIN | change))
    assert [problem.gold for problem in load_suite(path).problems()] == ["1"]
    path.write_text("k: [1")
    with pytest.raises(UsageError, match="not readable YAML"):
        load_suite(path)


def test_a_band_that_the_generator_refuses(tmp_path):
    for options, words in (({"operands": [1, 1]}, "operands"), ({"operand": [2, 3]}, "unexpected keyword")):
        band = {"all": {"n": 3, "options": options}}
        with pytest.raises(UsageError, match=words):
            Suite.model_validate(PLAIN | {"bands": band}).problems()
