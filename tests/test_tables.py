"""The paper's tables cell by cell, and ours beside them. Runs and answers are made up."""

from __future__ import annotations

import io
import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from or1lab import paper, paper_tables
from or1lab.data.problem import Problem
from or1lab.errors import UsageError
from or1lab.evaluation import Evaluation
from or1lab.measured import Measured
from or1lab.recipe import ROOT, load_recipe
from or1lab.sheet import number
from or1lab.store import Run
from or1lab.tables import make_tables, show
from tests.made_up import write_study

NOWHERE = Path("nowhere")


def evaluation(
    root: Path, model: str, suite: str, solved: np.ndarray, *, step: int | None = None, lengths=None
) -> None:
    """An evaluation folder: `solved` (P, K) bool; a length of 10 tokens unless given; the limit is 64."""
    P, K = solved.shape
    lengths = np.full((P, K), 10) if lengths is None else lengths
    bands = ["easy", "hard"] if suite == "tiny" else [None]
    problems = [
        Problem(
            id=f"p{i}",
            prompt=f"{i}?",
            gold="1",
            domain="math",
            meta={"band": band} if (band := bands[i % len(bands)]) else {},
        )
        for i in range(P)
    ]
    manifest = {"suite": suite, "version": 1, "model": model, "step": step, "k": K, "temperature": 1.0, "limit": 64,
                "status": "finished", "scores": "v", "problems": P}  # fmt: skip
    made = Evaluation.create(root, manifest, problems)
    keys = [(f"p{i}", j) for i in range(P) for j in range(K)]
    cells = list(zip(keys, solved.ravel(), lengths.ravel(), strict=True))
    samples = [[*key, "text", int(n), bool(n >= 64)] for key, _, n in cells]
    part = made.write_samples(
        pd.DataFrame(samples, columns=["problem_id", "sample", "response", "length", "truncated"])
    )
    scores = [[*key, float(right), bool(right), "", None] for key, right, _ in cells]
    columns = ["problem_id", "sample", "reward", "correct", "reason", "answer"]
    made.write_scores("v", part, pd.DataFrame(scores, columns=columns))


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    """Two seeds of two arms with known times, and evaluations of known accuracy."""
    root = tmp_path_factory.mktemp("results")
    for D_T, update, T in ((16, 0.6, 128), (4, 1.2, 128), (4, 9.9, 34)):
        for seed in (0, 1):
            recipe = load_recipe("tiny", [f"D_T={D_T}", f"seed={seed}", "stages.0.steps=2", f"stages.0.T={T}"])
            run = Run.create(
                root / "runs" / f"{D_T}-{T}-{seed}", recipe=recipe.resolved(), extra={"experiment": "x", "arm": "a"}
            )
            times = {"time/rollout": 3.0 + 0.2 * seed, "time/update": update, "time/sync": 0.3, "time/other": 0.1}
            for step in (1, 2):
                run.log("step", step=step, **times)
            run.update_manifest(status="finished", hardware={"gpus": [], "threads": 2})
            run.close()
    half = np.arange(32).reshape(8, 4) % 2 == 0
    lengths = np.where(half, 10, 40)
    evaluation(root / "a24", "skywork-or1-7b", "aime24", np.arange(120).reshape(30, 4) % 4 > 0)
    evaluation(root / "base", "tiny", "tiny", half, lengths=lengths)
    wrong_right = np.zeros((8, 4), dtype=bool)
    wrong_right[:6] = True
    evaluation(root / "mine", "runs/x/a/seed-0@2", "tiny", wrong_right, step=2, lengths=lengths + 30)
    return root


# ------------------------------------------------------------------------------------------------- the paper's tables


@pytest.mark.parametrize("table", range(1, 7))
def test_our_experiment_files_agree_with_the_paper_in_every_cell(table):
    made = paper_tables.settings(table, Measured(NOWHERE))
    printed = [k for k, v in paper.load("settings")["tables"][table].items() if v is not None and k != "study"]
    assert not [cell for cell in made.cells if cell.read == "differs"]
    same = [cell for cell in made.cells if cell.text == "the same"]
    text = made.markdown()
    assert "in the paper the same." in text and len(same) == len(printed) - 1  # the base model is in a line of its own
    assert f"{len(printed)} of {len(printed)} cells" in text


def test_a_file_that_differs_is_marked_and_counted(monkeypatch):
    right = paper_tables._experiments()[2]
    told = right.paper.model_copy(update={"settings": right.paper.settings | {"D_T": 64, "T": 4096}})
    monkeypatch.setattr(paper_tables, "_experiments", lambda: {2: right.model_copy(update={"paper": told})})
    text = paper_tables.settings(2, Measured(NOWHERE)).markdown()
    assert re.search(r"mini-batch size D_T +\| 64 +\| ≠ 128", text) and re.search(r"response T +\| 4K +\| ≠ 8K", text)
    assert "5 of 7 cells" in text and "≠ differs" in text


def test_settings_of_arms_that_differ_are_listed():
    texts = {n: paper_tables.settings(n, Measured(NOWHERE)).markdown() for n in (1, 4, 5, 6)}
    assert (
        "16K, or 8K then 16K" in texts[1]
        and "0.001, 0 " in texts[4]
        and "0.0001, 0.0005, 0.001, 0.005, 0.01" in texts[6]
    )
    assert "1e−6" in texts[5] and "57.7" in texts[5] and "≈55.6" in texts[5]
    assert "Not printed in the paper: learning rate." in texts[1]


@pytest.mark.parametrize(("table", "cells"), [(10, 20), (11, 10), (12, 10)])
def test_our_recipes_agree_with_the_stages_of_the_paper(table, cells):
    made = paper_tables.stages(table, Measured(NOWHERE))
    assert f"{cells} of {cells} cells" in made.markdown() and "7 of 7 common settings" in made.markdown()
    assert [row[0].text for row in made.groups[""]] == [
        str(r["stage"]) for r in paper.load("stages")["rows"] if r["table"] == table
    ]


def test_a_recipe_that_differs_is_marked_and_counted(monkeypatch):
    other = load_recipe("32b", ["stages.0.steps=700", "stages.1.gs=64", "delta=0.0001"])
    monkeypatch.setattr(paper_tables, "load_recipe", lambda name: other)
    text = paper_tables.stages(12, Measured(NOWHERE)).markdown()
    assert (
        "≠ 0 to 700 (paper 0 to 760)" in text
        and "≠ 700 to 1070 (paper 760 to 1130)" in text
        and "≠ 64 (paper 32)" in text
    )
    assert "7 of 10 cells" in text and "6 of 7 common settings" in text and "delta is 0.0001 (paper 0.005)" in text


def test_a_recipe_with_too_few_stages_is_no_agreement(monkeypatch):
    short = load_recipe("7b", ["stages=[{steps: 660}]"])
    monkeypatch.setattr(paper_tables, "load_recipe", lambda name: short)
    assert "5 of 10 cells" in paper_tables.stages(11, Measured(NOWHERE)).markdown()


def test_contradictions_are_footnotes_of_their_cells():
    rows = {
        row[0].text: row for rows in paper_tables.benchmark_results(Measured(NOWHERE)).groups.values() for row in rows
    }
    assert len(rows) == 13
    assert "Figure 2 prints 69.0" in rows["QwQ-32B"][2].notes[0] and "63.4" in rows["QwQ-32B"][3].notes[0]
    assert (
        "57.8" in rows["DeepSeek-R1-Distill-Qwen-32B"][4].notes[0]
        and rows["DeepSeek-R1-Distill-Qwen-32B"][4].text == "63.0"
    )
    assert rows["Light-R1-32B"][3].text == rows["Light-R1-32B"][4].text == "–"
    assert sum(bool(cell.notes) for row in rows.values() for cell in row) == 4
    text = paper_tables.benchmark_results(Measured(NOWHERE)).markdown()
    assert "32B +15.0 (+9.8), 7B +13.9 (+13.4)" in text
    stages = paper_tables.stages(10, Measured(NOWHERE)).groups[""]
    assert [cell.text for row in stages for cell in row if cell.notes] == ["0 to 740"]


def test_printed_shares_that_are_cut_get_a_footnote():
    (row,) = paper_tables.time_of_a_run(Measured(NOWHERE)).groups["paper"]
    assert [bool(cell.notes) for cell in row] == [*[False] * 5, True, False] and "72.17" in row[5].notes[0]
    rows = next(iter(paper_tables.time_of_sgd_steps(Measured(NOWHERE)).groups.values()))
    assert [[bool(cell.notes) for cell in row[5:]] for row in rows] == [[False, False], [False, True], [False, False]]
    for told in paper.load("times")["table_8"]["rows"]:  # the note says that the others are rounded
        shares = {key: 100 * told[part] / told["total"] for key, part in (("share_R", "t_R"), ("share_T", "t_T"))}
        assert [k for k, share in shares.items() if told[k] != round(share, 1)] in ([], ["share_T"])
    assert "rounded" in rows[1][6].notes[0]


def test_previews_gain_what_the_final_models_have_more():
    text = paper_tables.previews(Measured(NOWHERE)).markdown()
    assert "+6.6 / +8.8 / +3.7" in text and "+2.5 / +4.3 / −0.9" in text


# ------------------------------------------------------------------------------------------------- ours beside them


def test_our_times_are_hours_of_a_thousand_steps_with_an_interval_over_runs(ours):
    groups = paper_tables.time_of_sgd_steps(Measured(ours)).groups
    on, off = groups["ours: tiny T 128, 2 CPU threads"]
    assert on[0].text == "(1, 16, 16, 1) (n = 2)" and off[0].text == "(4, 16, 4, 1) (n = 2)"
    seconds = np.array([4.0, 4.2])  # of a step
    mean, error = seconds.mean() / 3.6, 12.7062 * 0.1 / 3.6
    assert on[1].text == f"{mean:.2f} [{number(mean - error, '.2f')}, {mean + error:.2f}]"
    assert on[5].text == f"{100 * 3.1 / 4.1:.1f}" and off[6].text == f"{100 * 1.2 / 4.7:.1f}"
    seven = paper_tables.time_of_a_run(Measured(ours)).groups["ours, on-policy: D_R 16, gs 8"]
    assert len(seven) == 1 and seven[0][1] == on[1]
    assert [row[0].text for row in groups["ours: tiny T 34, 2 CPU threads"]] == ["(4, 16, 4, 1) (n = 2)"]
    nine, short = paper_tables.time_of_rollouts(Measured(ours)).groups["ours"]
    assert [cell.text for cell in nine] == ["tiny T 128, 2 CPU threads", "128", "3.10", "–"]
    assert short[0].text == "tiny T 34, 2 CPU threads"


def test_what_is_damaged_or_unjudged_is_left_out_with_a_warning(ours, tmp_path):
    shutil.copytree(ours, tmp_path, dirs_exist_ok=True)
    for name in ("unjudged", "torn"):
        evaluation(tmp_path / name, "tiny", "tiny", np.ones((2, 2), dtype=bool))
    shutil.rmtree(tmp_path / "unjudged" / "scores")
    (tmp_path / "torn" / "manifest.json").write_text('{"suite": ')
    with (tmp_path / "runs" / "4-34-0" / "metrics.jsonl").open("a") as file:
        file.write("{no json\n")
    with pytest.warns(UserWarning, match="left out: ") as told:
        measured = Measured(tmp_path)
        pd.testing.assert_frame_equal(measured.evaluations, Measured(ours).evaluations)
        assert measured.times["runs"].tolist() == [2, 2, 1]
    assert [next(name for name in ("torn", "unjudged", "4-34-0") if name in str(one.message)) for one in told] == [
        "torn", "unjudged", "4-34-0",
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="left out: "):
        assert make_tables([], tmp_path, tmp_path / "out")


def test_rows_of_one_quadruple_tell_their_group_size(ours):
    measured = Measured(ours)
    on = measured.times[measured.times["setting"] == "tiny T 128"].iloc[:1]
    measured.__dict__["times"] = pd.concat([measured.times, on.assign(responses=32)])
    told = [row[0].text for row in paper_tables.time_of_sgd_steps(measured).groups["ours: tiny T 128, 2 CPU threads"]]
    assert told == ["(1, 16, 16, 1), gs 2 (n = 2)", "(1, 16, 16, 1), gs 8 (n = 2)", "(4, 16, 4, 1) (n = 2)"]


def test_many_tables_are_made_by_several_processes_and_are_the_same(tmp_path, monkeypatch):
    write_study(tmp_path / "runs", "controllers", seeds=[100, 101])
    names = ["controllers", "table8", "table1"]
    one_by_one = make_tables(names, tmp_path / "runs", tmp_path / "a")
    monkeypatch.setattr("or1lab.terminal.FEW", 1)
    side_by_side = make_tables(names, tmp_path / "runs", tmp_path / "b")
    assert list(side_by_side.values()) == list(one_by_one.values())
    assert [path.name for path in side_by_side] == [f"{name}.md" for name in names]
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()


def test_our_evaluations_stand_below_the_papers_rows_with_intervals(ours):
    rows = paper_tables.benchmark_results(Measured(ours)).groups["ours"]
    assert [row[0].text for row in rows] == ["Skywork-OR1-7B"]  # tiny is no suite of the paper
    assert rows[0][1].text.startswith("75.0 [") and rows[0][1].read == "ours" and rows[0][2].text == "–"
    assert rows[0][1].notes == ("Not as in the paper: avg@4, at most 64 tokens.",)
    made = paper_tables.evaluations(Measured(ours)).groups
    assert list(made) == ["skywork-or1-7b", "tiny", "x/a/seed-0, step 2"]
    assert [row[0].text for row in made["tiny"]] == ["tiny, 8 x 4", "tiny/easy, 4 x 4", "tiny/hard, 4 x 4"]
    mine = made["x/a/seed-0, step 2"][0]
    assert mine[3].text.startswith("75.0 [") and mine[4].text == "55" and mine[5].text == "50.0"


def test_a_suite_that_was_asked_again_has_a_row_of_its_own_and_its_settings_below(tmp_path):
    right = np.arange(120).reshape(30, 4) % 4 > 0
    evaluation(tmp_path / "a", "skywork-or1-7b", "aime24", right)
    evaluation(tmp_path / "b", "skywork-or1-7b", "aime25", right)
    evaluation(tmp_path / "c", "skywork-or1-7b", "aime24", ~right[:20])
    Evaluation.open(tmp_path / "c").update_manifest(temperature=0.6)
    Evaluation.open(tmp_path / "b").update_manifest(limit=32768)
    one, two = paper_tables.benchmark_results(Measured(tmp_path)).groups["ours"]
    assert [cell.text[:4] for cell in one[1:]] == ["75.0", "75.0", "–", "–"]
    assert [cell.text[:4] for cell in two[1:]] == ["25.0", "–", "–", "–"]
    assert one[2].notes == ("Not as in the paper: avg@4.",)
    assert two[1].notes == (
        "Not as in the paper: avg@4, temperature 0.6, at most 64 tokens, 20 of 30 problems.",
    )


def test_the_settings_of_the_report_are_not_said_of_the_previews():
    assert "Paper: at most" not in paper_tables.previews(Measured(NOWHERE)).markdown()
    assert "Paper: at most" in paper_tables.benchmark_results(Measured(NOWHERE)).markdown()


def test_our_difficulty_is_of_models_as_they_came(ours):
    rows = paper_tables.difficulty(Measured(ours)).groups["ours: curations and evaluations"]
    assert [[cell.text for cell in row] for row in rows if row[1].text == "tiny"] == [
        ["tiny (4 samples)", "tiny", "8", "0.0", "0.0", "100.0"]
    ]


def test_curations_count_as_difficulty(tmp_path):
    stage = {"stage": "difficulty", "settings": {"model": "mine"}, "in": {"math": 10}, "out": {"math": 7},
             "removed": {"never solved": {"math": 2}, "always solved": {"math": 1}}}  # fmt: skip
    for name, stages in (("a", [{"stage": "dedup"}, stage]), ("b", [{"stage": "dedup"}])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "funnel.json").write_text(json.dumps({"stages": stages}))
    (row,) = paper_tables.difficulty(Measured(tmp_path)).groups["ours: curations and evaluations"]
    assert [cell.text for cell in row] == ["mine", "math", "10", "20.0", "10.0", "70.0"]


def test_shorter_limits_make_longer_answers_wrong(ours):
    frame = Measured(ours).limits
    part = frame[(frame["label"] == "tiny") & (frame["suite"] == "tiny")].set_index("limit")["accuracy"]
    assert part[64] == 50.0 and part[16] == 50.0 and part[8] == 0.0  # right answers have 10 tokens
    part = frame[(frame["label"] == "x/a/seed-0, step 2") & (frame["suite"] == "tiny")].set_index("limit")["accuracy"]
    assert (part[64], part[48], part[32]) == (37.5, 37.5, 0.0)  # 40 tokens, or truncated


def test_no_evaluation_no_table_of_them(tmp_path):
    with pytest.raises(UsageError, match="or1lab evaluate"):
        make_tables(["evaluations"], tmp_path, tmp_path / "out")


def test_a_problem_without_all_its_verdicts_is_left_out_and_counted(tmp_path):
    solved = np.ones((8, 4), dtype=bool)
    solved[0] = False
    evaluation(tmp_path / "a", "smol", "smol", solved)
    (path,) = Evaluation.open(tmp_path / "a").score_parts("v")
    scores = pd.read_parquet(path).astype({"correct": "boolean"})
    scores.loc[1, ["reward", "correct"]] = [np.nan, pd.NA]
    scores.to_parquet(path)
    ((row,),) = paper_tables.evaluations(Measured(tmp_path)).groups.values()
    assert row[0].text == "smol, 7 x 4" and row[0].notes == ("1 more with a response that nothing could judge.",)
    assert row[3].text.startswith("100.0 [")


def test_an_unfinished_evaluation_does_not_count(ours, tmp_path):
    evaluation(tmp_path / "half", "tiny", "tiny", np.ones((8, 4), dtype=bool))
    Evaluation.open(tmp_path / "half").update_manifest(status="failed")
    assert len(Measured(tmp_path).evaluations) == 0 and len(Measured(ours).evaluations) == 7


def test_all_tables_are_made_within_ten_seconds_and_import_nothing_heavy(ours, tmp_path):
    script = (
        "import sys\nfrom or1lab import cli\n"
        f"sys.argv = ['or1lab', 'tables', '--results', {str(ours)!r}, '--out', {str(tmp_path)!r}]\n"
        "try: cli.main()\nexcept SystemExit as end: print(end.code)\n"
        "print(*(name.partition('.')[0] for name in sys.modules))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10  # of this process alone
    assert not {"torch", "transformers", "trl", "vllm", "wandb"} & set(done.stdout.splitlines()[-1].split())
    assert done.stderr == ""
    stems = {"difficulty", "previews", "evaluations", *(f"table{n}" for n in range(1, 14))}
    assert {path.name for path in tmp_path.iterdir()} == {f"{s}{e}" for s in stems for e in (".md", ".html", ".tex")}
    for path in tmp_path.glob("*.md"):
        wide = max(len(line) for line in path.read_text().splitlines() if line.startswith("|"))
        assert wide <= 100, path.name
        assert not re.search(r"[ (\[|]-\d", path.read_text()), path.name  # a hyphen is no minus sign


def test_a_terminal_gets_whole_words_and_a_pipe_whole_lines(tmp_path):
    written = make_tables(["table10"], NOWHERE, tmp_path)
    for terminal, wide in ((True, 100), (False, 125)):
        screen = io.StringIO()
        show(written, Console(file=screen, width=100, force_terminal=terminal, color_system=None))
        lines = [line for line in screen.getvalue().splitlines() if not line.startswith("wrote")]
        assert (max(map(len, lines)) <= 100) == (wide == 100)
        assert " ".join("\n".join(lines).split()) == " ".join(written[tmp_path / "table10.md"].split())
