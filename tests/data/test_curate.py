"""The pipeline as a whole: the stages in order, what they leave on disk, killed and resumed, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import matplotlib.image
import pytest

from or1lab.data import checks, load, tiny, votes
from or1lab.data.curate import STAGES, Wanted, curate
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.kill_points import EXIT_CODE
from or1lab.plots import data
from or1lab.recipe import ROOT
from tests.data.book import Book
from tests.lacking import needs_bubblewrap

ADD = "def add(a, b):\n    return a + b\n"
ADDED = {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, 7]}
ITEM = "A farmer has 17 sheep and buys 25 more at the market; 9 of them run away. How many has the farmer now?"


def mathematics(name: str, prompt: str, gold: str, solution: str | None = None) -> Problem:
    return Problem(id=name, domain="math", prompt=prompt, gold=gold, solution=solution, licence="MIT")


def program(name: str, prompt: str, solution: str) -> Problem:
    return Problem(id=name, domain="code", prompt=prompt, tests=ADDED, solution=solution, source="programs")


@pytest.fixture
def sets(tmp_path):
    """Two files and a benchmark; the ids say what becomes of each problem."""
    text = "Nine friends share 45 coins so that each gets as many as the others. How many coins does each of them get?"
    one = [
        mathematics("fine", text, "5", "45/9 = \\boxed{5}"),
        mathematics("equal", text.upper(), "5"),
        mathematics("wrong", "What is $2+2$?", "5", "It is \\boxed{4}."),
        mathematics("figure", "In the figure, what is $x$?", "1"),
        mathematics("numbers", text.replace("45", "54"), "6"),
        program("program", "Write add(a, b), which adds.", ADD),
    ]
    two = [
        mathematics("near", text.replace("friends", "pirates"), "5"),
        mathematics("leak", f"Hint: count. {ITEM}", "33"),
        mathematics("fine", "What is the largest prime below 100?", "97"),
        program("broken", "Write add(a, b) once more, which adds two numbers.", ADD.replace("+", "*")),
    ]
    load.write(one, tmp_path / "one.jsonl")
    load.write(two, tmp_path / "two.jsonl")
    with (tmp_path / "two.jsonl").open("a") as file:
        file.write("no problem\n")
    load.write([mathematics("item", ITEM, "33")], tmp_path / "bench.jsonl")
    return tmp_path


@pytest.fixture
def wanted(sets):
    return Wanted((str(sets / "one.jsonl"), str(sets / "two.jsonl")), (str(sets / "bench.jsonl"),))


GONE = {
    "line 5": "read", "equal": "dedupe", "wrong": "answers", "figure": "figures", "broken": "tests", "near": "near",
    "leak": "leaks",
}  # fmt: skip


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@needs_bubblewrap
def test_each_fault_is_removed_by_its_stage_and_the_rest_stays(wanted, tmp_path):
    out = tmp_path / "out"
    funnel = curate(wanted, out)
    assert [stage["stage"] for stage in funnel["stages"]] == ["read", *STAGES[:6]]
    removed = lines(out / "removed.jsonl")
    assert {row["id"].rpartition(", ")[2]: row["stage"] for row in removed} == GONE
    assert all(row["reason"] and row.get("prompt", "-") for row in removed)
    kept = {problem.id: problem for problem in load.read(str(out / "problems.jsonl"))}
    assert list(kept) == ["fine", "numbers", "program", "fine#2"]
    assert kept["fine#2"].gold == "97" and kept["fine#2"].source == "two" and kept["program"].source == "programs"


@needs_bubblewrap
def test_the_folder_says_what_was_done(wanted, tmp_path):
    out = tmp_path / "out"
    funnel = curate(wanted, out)
    assert funnel == json.loads((out / "funnel.json").read_text())
    by_name = {stage["stage"]: stage for stage in funnel["stages"]}
    assert by_name["read"]["in"] == {"math": 8, "code": 2, "unknown": 1}
    assert by_name["answers"]["unchecked"] == {"unchecked: no solution": 5}
    assert by_name["near"]["removed"] == {"near-duplicate": {"math": 1}}
    assert by_name["leaks"]["out"] == {"math": 3, "code": 1}
    for before, stage in zip(funnel["stages"], funnel["stages"][1:], strict=False):
        assert stage["in"] == before["out"]
        assert sum(stage["in"].values()) == sum(stage["out"].values()) + sum(
            sum(by.values()) for by in stage["removed"].values()
        )
    assert [row["reason"] for row in by_name["leaks"]["sample"]] == ["benchmark item: item"]
    card = (out / "README.md").read_text()
    benchmark = by_name["leaks"]["settings"]["against"][wanted.against[0]]
    for words in ("4 of 11 problems", "| near | 6 | 1 | 5 |", "MinHash", "| one | MIT | 2 |", "unknown", benchmark):
        assert words in card
    assert funnel["outputs"]["problems.jsonl"] in card and len(benchmark) == 64
    head = card.split("---")[1]
    assert "license: other" in head and "data_files: problems.jsonl" in head
    picture = matplotlib.image.imread(out / "funnel.png")
    assert picture.shape[1] > 1000 and picture[..., :3].std() > 0.05


def test_the_funnel_names_what_went_and_how_many():
    stages = [
        {"stage": "read", "in": {"math": 9000, "unknown": 3}, "out": {"math": 9000},
         "removed": {"no problem": {"unknown": 3}}},
        {"stage": "tests", "in": {"math": 9000}, "out": {"math": 8994},
         "removed": {"solution fails": {"code": 1}, "empty tests": {"code": 3}, "cut": {"code": 2}}},
    ]  # fmt: skip
    frame = data.stages_frame(stages)
    assert frame["why"].tolist() == ["no problem 3", "empty tests 3\ncut 2\nothers 1"]
    figure = data.funnel(frame)
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "9,000   (no problem 3)", "8,994   (empty tests 3, cut 2, others 1)",
    ]  # fmt: skip
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["math", "removed"]  # no code, no such bar


def test_a_single_licence_is_named(sets, tmp_path):
    load.write([mathematics("a", "What is 1+1?", "2")], sets / "mit.jsonl")
    curate(Wanted((str(sets / "mit.jsonl"),), stages=("dedupe",)), tmp_path / "out")
    assert "license: MIT" in (tmp_path / "out" / "README.md").read_text()


def test_stages_run_in_the_papers_order_whatever_order_they_are_named_in(wanted, tmp_path):
    some = Wanted(wanted.inputs, wanted.against, ("leaks", "dedupe"))
    assert [s["stage"] for s in curate(some, tmp_path / "out")["stages"]] == ["read", "dedupe", "leaks"]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"stages": ("dedup",)}, "did you mean 'dedupe'"),
        ({"stages": ("leaks",), "against": ()}, "'leaks' needs --against"),
        ({"stages": ("difficulty",)}, "'difficulty' needs --model"),
        ({"stages": ("votes",)}, "'votes' needs --votes"),
        ({"stages": ("dedupe",)}, "--against is for the stage 'leaks'"),
        ({"endpoint": "http://localhost:1"}, "give --endpoint, --judge"),
        ({"judges": ("llama",)}, "give --endpoint, --judge"),
        ({"votes": ROOT / "nowhere.jsonl"}, "no file of votes"),
        ({"inputs": ("nowhere.jsonl",)}, "nowhere.jsonl"),
    ],
)
def test_wishes_that_cannot_be_met_are_explained(wanted, tmp_path, wishes, message):
    plain = {"inputs": wanted.inputs, "against": wanted.against} | wishes
    with pytest.raises(UsageError, match=message):
        curate(Wanted(**plain), tmp_path / "out")


def test_inputs_without_a_problem_are_an_error(tmp_path):
    (tmp_path / "none.jsonl").write_text("[]\n")
    with pytest.raises(Or1labError, match="no problem in .*none.jsonl, line 1: not an object"):
        curate(Wanted((str(tmp_path / "none.jsonl"),)), tmp_path / "out")
    load.write([mathematics("a", "What is 1+1?", "2")], tmp_path / "none.jsonl")
    funnel = curate(Wanted((str(tmp_path / "none.jsonl"),)), tmp_path / "out")  # nothing is in the way
    assert len(funnel["stages"]) == 6


def test_a_row_that_is_no_problem_stops_where_strict_and_always_in_a_benchmark(wanted, sets, tmp_path):
    with pytest.raises(UsageError, match=r"two\.jsonl, line 5 is no problem: not JSON"):
        curate(replace(wanted, strict=True), tmp_path / "out")
    (sets / "bench.jsonl").write_text('{"id": "item", "domain": "math", "prompt": "And?"}\n')
    with pytest.raises(UsageError, match=r"bench\.jsonl, line 1 is no problem: neither gold nor tests"):
        curate(replace(wanted, stages=("leaks",)), tmp_path / "out")
    (sets / "bench.jsonl").write_text("\n")
    with pytest.raises(Or1labError, match=r"the benchmark .*bench\.jsonl holds no problem"):
        curate(replace(wanted, stages=("leaks",)), tmp_path / "other")


def test_an_unknown_benchmark_is_named_before_any_stage_runs(wanted, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'aime24'"):
        curate(replace(wanted, against=("aime2024",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_set_of_which_nothing_is_left_still_has_its_card(tmp_path):
    load.write([mathematics("a", "See the figure below.", "2")], tmp_path / "in.jsonl")
    curate(Wanted((str(tmp_path / "in.jsonl"),)), tmp_path / "out")
    assert "0 of 1 problems" in (tmp_path / "out" / "README.md").read_text()


def run_cli(*arguments, kill_at: str = "") -> subprocess.CompletedProcess:
    env = os.environ | {"OR1LAB_KILL_AT": kill_at, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "or1lab.cli", "data", "curate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


@needs_bubblewrap
@pytest.mark.parametrize("kill_at", ["manifest/aside:4", "manifest/before:8"])
def test_killed_and_resumed_it_ends_as_if_unbroken(wanted, tmp_path, kill_at):
    """The reports are the manifests of the stages, and the eighth is funnel.json."""
    unbroken = curate(wanted, tmp_path / "unbroken")
    arguments = [*wanted.inputs, "--against", wanted.against[0], "--out", tmp_path / "out"]
    assert run_cli(*arguments, kill_at=kill_at).returncode == EXIT_CODE
    assert not (tmp_path / "out" / "README.md").exists()
    ended = run_cli(*arguments, "--resume")
    assert ended.returncode == 0, ended.stderr
    assert "near" in ended.stdout and "near-duplicate 1" in ended.stdout
    funnel = json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert funnel["outputs"] == unbroken["outputs"]


@needs_bubblewrap
def test_a_finished_stage_is_not_done_again(wanted, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("the sandbox is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(checks, "tests", broken)
        with pytest.raises(OSError, match="on fire"):
            curate(wanted, tmp_path / "out")
        patch.undo()
        patch.setattr(checks, "answers", broken)
        assert [s["stage"] for s in curate(wanted, tmp_path / "out", resume=True)["stages"]] == ["read", *STAGES[:6]]


@needs_bubblewrap
def test_a_folder_in_use_and_changed_wishes_are_refused(wanted, sets, tmp_path):
    out = tmp_path / "out"
    curate(wanted, out)
    with pytest.raises(UsageError, match="already holds a curation: go on with --resume"):
        curate(wanted, out)
    with pytest.raises(UsageError, match="other inputs or settings"):
        curate(Wanted(wanted.inputs[:1], wanted.against), out, resume=True)
    with (sets / "one.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(UsageError, match="other inputs or settings"):
        curate(wanted, out, resume=True)


def test_difficulty_and_votes_can_be_added_to_a_finished_curation(tmp_path):
    problems = tiny.problems("train", 4)
    book = Book({problem.prompt: solved for problem, solved in zip(problems, (0, 1, 2, 4), strict=True)})
    load.write(problems, tmp_path / "tiny.jsonl")
    wishes = {"inputs": (str(tmp_path / "tiny.jsonl"),), "model": "tiny", "samples": 4}
    out = tmp_path / "out"
    curate(Wanted(wishes["inputs"]), out)
    funnel = curate(Wanted(**wishes), out, resume=True, engine=book)
    assert funnel["stages"][-1]["removed"] == {"never solved": {"math": 1}, "always solved": {"math": 1}}
    with (tmp_path / "votes.jsonl").open("w") as file:
        for one, vote in ((problems[1], True), (problems[2], False)):
            file.write(json.dumps(votes.row(one, "judge", [vote] * 32)) + "\n")
    curate(Wanted(**wishes, votes=tmp_path / "votes.jsonl"), out, resume=True, engine=book)
    (left,) = load.read(str(out / "problems.jsonl"))
    assert left.id == problems[1].id and left.difficulty["tiny"].solved == 1 and len(book.asked) == 4


def test_the_command_prints_json_and_explains_wrong_use(wanted, tmp_path):
    done = run_cli(*wanted.inputs, "--out", tmp_path / "out", "--stages", "dedupe,figures", "--json")
    assert done.returncode == 0, done.stderr
    assert [stage["stage"] for stage in json.loads(done.stdout)["stages"]] == ["read", "dedupe", "figures"]
    wrong = run_cli(*wanted.inputs, "--out", tmp_path / "other", "--stages", "dedup")
    assert wrong.returncode == 2 and "did you mean 'dedupe'" in wrong.stderr
