"""Published sets: three made-up rows of each, in the columns and types of its card, read like the Hub's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import huggingface_hub
import pytest

from or1lab.data import hub, published
from or1lab.data.load import Loaded, Skipped, read
from or1lab.data.published import PAPER_SUBSETS, SETS
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import ROOT
from or1lab.rewards.code import judge
from tests.lacking import needs_bubblewrap

FIXTURES = Path(__file__).parent / "fixtures"
MODELS = {size: f"DeepSeek-R1-Distill-Qwen-{size}" for size in ("1.5B", "7B", "32B")}

# Of each set: the ends of the ids, what the answers are checked by, and the rows that are no problems.
EXPECTED: dict[str, tuple[list[str], list[object], list[Skipped]]] = {
    "skywork-math": (["", "", ""], ["21", ["\\frac{1}{6}", "1/6"], "72"], []),
    "skywork-code": (
        ["", "", ""],
        [
            {"inputs": ["1 2\n", "-4 4\n"], "outputs": ["3\n", "0\n"]},
            {"fn_name": "twice", "inputs": [[2], [-1]], "outputs": [4, -2]},
            {"import_prefix": "import math\n", "entry_point": "Solution().thrice",
             "test_code": "def check(candidate):\n    assert candidate(x = 2) == 6\n"},
        ],
        [],
    ),
    "numinamath": (["", ""], ["4", "42"], [Skipped(2, "a proof: no answer to verify")]),
    "deepscaler": (["", ""], ["49", "1024"], [Skipped(3, "an empty gold answer")]),
    "still3": (["", "", "-2"], ["2", "6", "7"], []),
    "omnimath": (["", "", ""], ["29", "$80^\\circ$", "0, 1"], []),
    "taco": (
        ["", ""],
        [
            {"inputs": ["3 9\n", "5 -5\n"], "outputs": ["9\n", "5\n"]},
            {"fn_name": "size", "inputs": [["ab"], [""]], "outputs": [2, 0]},
        ],
        [Skipped(3, "no tests")],
    ),
    "leetcode": (
        ["square-it", "negate-it", "count-em"],
        [
            {"import_prefix": "import math\nfrom typing import *\n", "entry_point": f"Solution().{name}",
             "test_code": "def check(candidate):\n" + "".join(f"    assert candidate({test}\n" for test in tests)}
            for name, *tests in [
                ("square", "x = 3) == 9", "x = -2) == 4"), ("negate", "x = 3) == -3"), ("count", "a = [1, 1]) == 2"),
            ]
        ],
        [],
    ),
    "aime24": (["60", "61", "62"], ["025", "992", "000"], []),
    "aime25": (["0", "1", "2"], ["10", "270^\\circ", "120"], []),
    "amc23": (["0", "1", "2"], ["90", "6", "49"], []),
    "math500": (
        ["test/algebra/made-up-1.json", "test/counting/made-up-2.json", "test/prealgebra/made-up-3.json"],
        ["(x-1)(x+1)", "6", "0.25"],
        [],
    ),
    "gsm8k": (["", ""], ["24", "1,500"], [Skipped(3, "no final answer after ####")]),
    "humaneval": (
        ["Made/0", "Made/1"],
        [
            {"import_prefix": row["prompt"].strip() + "\n", "test_code": row["test"], "entry_point": row["entry_point"]}
            for row in map(json.loads, (FIXTURES / "humaneval.jsonl").read_text(encoding="utf-8").splitlines()[:2])
        ],
        [Skipped(3, "no tests")],
    ),
    "livecodebench": (
        ["made_a", "9004", "made_b"],
        [
            {"inputs": ["1\n", "5\n", "-1\n"], "outputs": ["2\n", "6\n", "0\n"]},
            {"inputs": ['["a", "b"]\n"-"', '["x"]\n"+"'], "outputs": ['"a-b"', '"x"'], "fn_name": "joined"},
            {"inputs": ["ab\n", "é\n"], "outputs": ["ba\n", "é\n"]},
        ],
        [],
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """Nothing of these tests stays in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def fixture(name: str, **options: object) -> Loaded:
    return read(name, options={"file": str(FIXTURES / f"{name}.jsonl"), **options})


def raw(name: str) -> list[dict]:
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def save(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def features(kind: object) -> object:
    if isinstance(kind, str):
        return datasets.Value(kind)
    if isinstance(kind, list):
        return datasets.List(features(kind[0]))
    return {name: features(inner) for name, inner in kind.items()}


def as_published(name: str, path: Path) -> Path:
    """The fixture as a file with exactly the columns and types of the card."""
    card = datasets.Features(features(dict(SETS[name].columns)))
    datasets.Dataset.from_list(raw(name)).cast(card).to_parquet(path)
    return path


@pytest.mark.parametrize("name", SETS)
def test_three_rows_become_problems(name):
    ends, answers, skipped = EXPECTED[name]
    loaded = fixture(name)
    found = list(loaded)
    assert loaded.total == len(raw(name)) == 3
    assert loaded.skipped == skipped
    for problem, end, answer in zip(found, ends, answers, strict=True):
        assert problem.id.startswith(f"{name}-") and problem.id.endswith(end)
        assert (problem.gold if SETS[name].domain == "math" else problem.tests) == answer
        assert (problem.domain, problem.source) == (SETS[name].domain, SETS[name].hub)
        assert problem.licence == SETS[name].licence
    assert len({problem.id for problem in found}) == len(found)


@pytest.mark.parametrize("name", SETS)
def test_the_same_with_the_types_of_the_card(name, tmp_path):
    assert {*raw(name)[0]} == {*SETS[name].columns}
    path = as_published(name, tmp_path / "card.parquet")
    assert list(read(name, options={"file": str(path)})) == list(fixture(name))


@pytest.mark.parametrize("name", SETS)
def test_ids_do_not_depend_on_the_order_of_the_rows(name, tmp_path):
    rows = raw(name)
    path = tmp_path / "turned.jsonl"
    save(path, rows[::-1])
    turned = {problem.prompt: problem.id for problem in read(name, options={"file": str(path)})}
    straight = {problem.prompt: problem.id for problem in fixture(name)}
    if name != "still3":  # the same question twice
        assert turned == straight


# Each set's columns without which no row is a problem, and a name close to them.
RENAMED = {
    "skywork-math": ("reward_model", "reward_modell"), "skywork-code": ("extra_info", "extra_infos"),
    "numinamath": ("question_type", "questiontype"), "deepscaler": ("answer", "final_answer"),
    "still3": ("question", "questions"), "omnimath": ("domain", "domains"), "taco": ("input_output", "inputs_outputs"),
    "leetcode": ("entry_point", "entrypoint"), "aime24": ("problem", "Problem"), "aime25": ("answer", "Answer"),
    "amc23": ("question", "questions"), "math500": ("unique_id", "uniq_id"), "gsm8k": ("answer", "answers"),
    "humaneval": ("entry_point", "entrypoint"), "livecodebench": ("private_test_cases", "private_tests"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_a_renamed_column_names_the_nearest(name, tmp_path):
    old, new = RENAMED[name]
    path = tmp_path / "p.jsonl"
    save(path, [{new if k == old else k: v for k, v in row.items()} for row in raw(name)])
    expected = rf"^{name} \({SETS[name].hub}\): no column '{old}' \(did you mean '{new}'\?\); it has: .*{new}"
    with pytest.raises(Or1labError, match=expected):
        list(read(name, options={"file": str(path)}))


def test_a_renamed_inner_column_too(tmp_path):
    rows = raw("skywork-math")
    for row in rows:
        row["reward_model"]["groundtruth"] = row["reward_model"].pop("ground_truth")
    path = tmp_path / "p.jsonl"
    save(path, rows)
    with pytest.raises(Or1labError, match=r"no column 'ground_truth' \(did you mean 'groundtruth'\?\)"):
        list(read("skywork-math", options={"file": str(path)}))


# ------------------------------------------------------------------------------------------------- single sets


def test_difficulty_is_failures_of_sixteen():
    found = [
        {size: (one.solved, one.samples) for size, name in MODELS.items() if (one := problem.difficulty.get(name))}
        for problem in fixture("skywork-math")
    ]
    assert found == [
        {"1.5B": (13, 16), "7B": (16, 16), "32B": (16, 16)},
        {"1.5B": (0, 16), "7B": (7, 16), "32B": (12, 16)},
        {"7B": (0, 16)},  # the others: null, and -1
    ]


@needs_bubblewrap
@pytest.mark.parametrize("name", ["taco", "leetcode"])
def test_reference_solutions_pass_their_tests(name):
    found = list(fixture(name))
    assert len(found) >= 2
    for problem in found:
        assert judge(problem.solution, problem.tests).reason == "passed", problem.id


@needs_bubblewrap
def test_the_judge_takes_the_tests_of_the_other_sets():
    solutions = {
        "skywork-code": [
            "print(sum(map(int, input().split())))", "def twice(x): return 2 * x",
            "class Solution:\n    def thrice(self, x): return 3 * x",
        ],
        "livecodebench": [
            "print(int(input()) + 1)", "class Solution:\n    def joined(self, words, by): return by.join(words)",
            "print(input()[::-1])",
        ],
    }  # fmt: skip
    for name, programs in solutions.items():
        for problem, program in zip(fixture(name), programs, strict=True):
            assert judge(program, problem.tests).reason == "passed", problem.id
            assert not judge("def f(x): return x", problem.tests).correct


@pytest.mark.parametrize(
    "outputs, kept",
    [([[4], [-2]], [4, -2]), ([[4], -2], [[4], -2]), ([[1, 2]], [[1, 2]]), ([[], []], [[], []]), ([[[1]]], [[1]])],
)
def test_values_in_lists_of_one_are_taken_out(outputs, kept):
    tests = {"fn_name": "f", "inputs": [[0]] * len(outputs), "outputs": outputs}
    assert published.record(json.dumps(tests))["outputs"] == kept
    del tests["fn_name"]
    assert published.record(json.dumps(tests))["outputs"] == outputs  # lines of a program's output


@pytest.mark.parametrize("plain", ["", "{}", "[]", '{"inputs": [], "outputs": []}', '{"fn_name": "f"}', "null"])
def test_a_record_without_tests_is_none(plain):
    with pytest.raises(ValueError, match="no tests"):
        published.record(plain)


def test_the_subsets_of_the_paper():
    assert [p.meta["subset"] for p in fixture("numinamath", subsets="paper")] == ["olympiads"]
    assert [p.meta["subset"] for p in fixture("numinamath", subsets="cn_k12,olympiads")] == ["olympiads", "cn_k12"]
    assert len(list(fixture("numinamath", subsets=list(PAPER_SUBSETS)))) == 1
    loaded = fixture("numinamath", subsets=["cn_k12"])
    assert [p.meta["subset"] for p in loaded] == ["cn_k12"] and loaded.skipped == []  # the proof was not asked for
    with pytest.raises(UsageError, match="no subset of NuminaMath-1.5 'olympiad' .did you mean 'olympiads'"):
        fixture("numinamath", subsets="olympiad")


@pytest.mark.parametrize(
    "value, ends",
    [
        ("2024-08..2025-02", ["9004"]),
        ("2024-07..2025-03", ["made_a", "9004", "made_b"]),
        ("2025-02..2025-03", ["made_b"]),
    ],
)
def test_the_second_month_of_a_window_is_outside(value, ends):
    assert [problem.id.removeprefix("livecodebench-") for problem in fixture("livecodebench", window=value)] == ends


@pytest.mark.parametrize("value", ["2024-08", "2025-02..2024-08", "2024-08..2024-08", "2024-8..2025-2", "", None])
def test_what_is_no_window(value):
    with pytest.raises(UsageError, match=r"two months, such as window=2024-08\.\.2025-02"):
        fixture("livecodebench", window=value)


# ------------------------------------------------------------------------------------------------- files and names


@pytest.mark.parametrize("name", ["math500", "taco", "skywork-math", "still3"])
def test_files_come_from_the_hub_or_a_folder_with_its_layout(name, tmp_path, monkeypatch):
    pattern = next(iter(SETS[name].splits.values()))[0]
    relative = pattern.replace("**/", "somewhere/").replace("*", "00000-of-00001")
    path = tmp_path / "snapshot" / relative
    path.parent.mkdir(parents=True)
    if path.suffix == ".parquet":
        as_published(name, path)
    else:
        shutil.copy(FIXTURES / f"{name}.jsonl", path)

    def download(hub: str, repo_type: str, allow_patterns: list[str]) -> str:
        assert (hub, repo_type, allow_patterns) == (SETS[name].hub, "dataset", [pattern])
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    expected = list(fixture(name))
    assert list(read(name)) == expected
    assert list(read(name, options={"file": str(tmp_path / "snapshot")})) == expected
    if name in ("math500", "taco"):
        assert list(read(SETS[name].hub.upper())) == expected


def test_every_file_of_a_release_has_to_be_there(tmp_path):
    for n in ("", 2, 3, 4):
        shutil.copy(FIXTURES / "livecodebench.jsonl", tmp_path / f"test{n}.jsonl")
    with pytest.raises(Or1labError, match=r"has no test5\.jsonl; .*--include 'test5\.jsonl' --local-dir DIR"):
        read("livecodebench", options={"file": str(tmp_path)})
    loaded = read("livecodebench", options={"file": str(tmp_path), "split": "release_v4"})
    assert loaded.total == 12 and len(list(loaded)) == 3  # the same ids in each file
    assert loaded.skipped[0] == Skipped(4, "the id 'livecodebench-made_a' is taken by row 1")


def test_without_a_network_both_ways_are_named(monkeypatch):
    def fails(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("nobody answers")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(Or1labError) as raised:
        read("gsm8k", options={"split": "test"})
    message = str(raised.value)
    assert message.startswith("openai/gsm8k cannot be fetched (nobody answers)")
    assert "hf download --repo-type dataset openai/gsm8k --include 'main/test-*.parquet' --local-dir DIR" in message
    assert "or1lab data stats gsm8k file=DIR" in message and "data.options.file=DIR" in message


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("gsm8k", {"split": "tests"}, "no split of gsm8k 'tests' .did you mean 'test'"),
        ("gsm8k", {"windows": "x"}, "no option of gsm8k 'windows'"),
        ("livecodebench", {"windows": "x"}, "no option of livecodebench 'windows' .did you mean 'window'"),
        ("gsm8k", {"file": "no/where"}, "no file or folder 'no/where'"),
        ("Skywork/Skywork-OR1-RL-Data", {}, "is several sets here: skywork-math or skywork-code"),
        ("openai/gsm8", {}, "did you mean 'openai/gsm8k'"),
    ],
)
def test_what_is_asked_for_wrongly(name, options, words):
    with pytest.raises(UsageError, match=words):
        read(name, options=options)


def test_a_file_that_is_no_table(tmp_path):
    path = tmp_path / "p.parquet"
    path.write_bytes(b"junk")
    with pytest.raises(Or1labError, match=r"gsm8k: .*p\.parquet cannot be read"):
        read("gsm8k", options={"file": str(path)})
    other = path.with_suffix(".csv")
    other.write_text("question,answer\n")
    with pytest.raises(UsageError, match=r"is none of \.parquet, \.jsonl"):
        read("gsm8k", options={"file": str(other)})


# ------------------------------------------------------------------------------------------------- the page


def table() -> str:
    rows = [("set", "on the Hub", "domain", "splits (the first is read)", "licence on its card"), ("---",) * 5]
    for name, one in SETS.items():
        rows.append((f"`{name}`", one.hub, one.domain, ", ".join(one.splits), one.licence or "none stated"))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_page_has_the_table_of_the_sets():
    assert table() in (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), f"docs/data.md should hold:\n{table()}"


def test_every_set_is_found_by_its_names():
    for name, one in SETS.items():
        assert hub.find(name) == name
        if not name.startswith("skywork"):
            assert hub.find(one.hub) == name
