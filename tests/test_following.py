"""Watching: from the folder alone, whatever state its files are in, and never in the way of the run."""

from __future__ import annotations

import io
import json
import os
import shutil

import pandas as pd
import pytest
from rich.console import Console

from or1lab import watch
from or1lab.errors import UsageError
from or1lab.following import Follower, answers
from or1lab.recipe import load_recipe
from or1lab.store import Run


@pytest.fixture
def run(tmp_path):
    made = Run.create(tmp_path / "runs" / "a", recipe=load_recipe("tiny", ["stages.0.steps=8"]).resolved())
    made.update_manifest(host="node-7")  # running elsewhere: its lock is not seen
    return made


def step(run: Run, number: int) -> None:
    values = {"reward/mean": number / 10, "entropy/rollout": 0.4, "entropy/alpha": 0.01, "time/rollout": 1.0}
    run.log("step", step=number, **values, **{"time/elapsed": 2.0 * number, "groups/kept_frac": 0.5})


def screen(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)


def test_a_follower_takes_in_whole_lines_only_and_starts_over_after_a_resume(run):
    one = Follower(run)
    assert one.look() and not one.look() and one.left is None and one.step == 0  # the first look at an empty file
    step(run, 1)
    run.log("sgd", step=2, sgd_step=0, **{"reward/mean": 9.0})
    path = run.folder / "metrics.jsonl"
    line = json.dumps({"kind": "step", "step": 2, "reward/mean": 0.2, "time/elapsed": 4.0}) + "\n"
    with path.open("a") as file:
        file.write(line[:30])
        file.flush()
        assert one.look() and len(one.records) == 2 and one.newest("reward/mean") == 0.1
        file.write(line[30:])
    assert one.look() and one.values("reward/mean") == [0.1, 0.2] and one.left == 2.0 * 6
    run.truncate_after(1)
    assert one.look() and [record["step"] for record in one.records] == [1]
    step(run, 2)
    assert one.look() and [record["step"] for record in one.records] == [1, 2] and len(one.frame) == 2


def test_watching_in_a_terminal_ends_with_the_run_and_shows_what_it_samples(run, monkeypatch):
    rows = {"prompt": ["3+4="] * 3, "response": ["\x1b[2J7", "8", "[red]7"], "correct": [True, False, True]}
    run.write_rollouts(1, pd.DataFrame({**rows, "reason": ["equal", "different", "equal"]}))
    step(run, 1)
    looks = []

    def sleep(_: float) -> None:
        looks.append(0)
        step(run, 1 + len(looks))
        if len(looks) == 3:
            run.update_manifest(status="finished")

    console = screen(True)
    watch.watch(run.folder, console, sleep)
    shown = console.file.getvalue()
    last = shown[shown.rindex(str(run.folder)) :]
    assert len(looks) == 3 and "running, step 1 of 8" in shown and "finished, step 4 of 8" in last
    for words in ("reward", "0.400", "▁▃▆█", "alpha", "kept groups", "rollout 1.00", "right (equal) 3+4=", "[red]7"):
        assert words in last, (words, last)
    assert "\x1b[2J7" not in shown
    assert [row["correct"] for row in answers(run)[1]] == [True, False, True]


def test_watching_a_folder_prints_plain_lines_where_there_is_no_terminal(run):
    other = Run.create(run.folder.with_name("b"), recipe=load_recipe("tiny").resolved(), extra={"status": "finished"})
    step(run, 1)
    console = screen(False)

    def sleep(_: float) -> None:
        step(run, 2)
        run.update_manifest(status="failed")

    watch.watch(run.folder.parent, console, sleep)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2 and "running, step 1/8, reward 0.100" in lines[0] and "failed, step 2/8" in lines[1]
    assert str(other.folder) not in "".join(lines)  # it has ended before

    step(run, 3)
    run.update_manifest(status="running")
    other.update_manifest(recipe=other.manifest["recipe"] | {"sharpness": 3})  # of another version, but it has ended
    broken = run.folder.with_name("[broken]")
    broken.mkdir()
    (broken / "metrics.jsonl").write_text("")
    console = screen(False)
    watch.watch(run.folder.parent, console, sleep)
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith(f"left out: {broken} has no manifest.json") and "failed, step 2/8" in lines[-1]
    with pytest.raises(UsageError, match="another version"):
        watch.watch(other.folder, console, sleep)

    other.update_manifest(recipe=load_recipe("tiny").resolved())
    console = screen(False)
    watch.watch(other.folder, console, sleep)
    assert "finished, step 0/" in console.file.getvalue()


def test_ctrl_c_stops_the_watching_alone(run):
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    console = screen(False)
    watch.watch(run.folder, console, stop)
    assert "the runs go on" in console.file.getvalue() and run.manifest["status"] == "running"
    with pytest.raises(UsageError, match="no runs in|there is no folder"):
        watch.watch(run.folder / "checkpoints", console)


def test_a_silent_run_of_another_machine_counts_as_broken_off(run):
    step(run, 1)
    one = Follower(run)
    one.look()
    assert one.state == "running"
    for name in ("metrics.jsonl", "manifest.json"):
        os.utime(run.folder / name, (0, 0))
    assert one.state == "interrupted"


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_ends_when_the_folder_is_removed(run, terminal):
    step(run, 1)
    looks = []

    def sleep(_: float) -> None:
        looks.append(0)
        if len(looks) == 1:  # as on a network: for a moment there is no manifest
            (run.folder / "manifest.json").rename(run.folder / "aside")
        assert len(looks) < 3, "it goes on"
        if len(looks) == 2:
            shutil.rmtree(run.folder)

    console = screen(terminal)
    watch.watch(run.folder, console, sleep)
    assert len(looks) == 2 and "interrupted, step 1" in console.file.getvalue()


def test_a_curve_spans_its_values():
    assert watch.curve([0, 1]) == "▁█" and watch.curve([3, 3, 3]) == "▁▁▁"
    assert watch.curve(list(range(100)), "01") == "0" * 12 + "1" * 12


def test_watching_in_a_notebook_draws_until_the_end(run, monkeypatch):
    pytest.importorskip("IPython")
    from or1lab.plots import live

    drawn = []
    monkeypatch.setattr(live, "_Below", lambda text: type("Below", (), {"update": lambda self, *a: drawn.append(a)})())

    def sleep(_: float) -> None:
        step(run, len(drawn))
        if len(drawn) == 2:
            run.update_manifest(status="finished")

    monkeypatch.setattr(live.time, "sleep", sleep)
    live.watch(run.folder)
    assert [len(metrics) for _, metrics, *_ in drawn] == [0, 1, 2] and "finished, step 2 of 8" in drawn[-1][0]
    run.write_rollouts(1, pd.DataFrame({"prompt": ["1"], "response": ["<img src=x>"], "correct": [1], "reason": ["x"]}))
    assert "<img" not in live.sampled(run) and "&lt;img" in live.sampled(run)


def test_answers_are_read_again_only_when_there_is_something_new(run, monkeypatch):
    reads = []
    monkeypatch.setattr("or1lab.following.answers", lambda _: reads.append(1) or (len(reads), []))
    one = Follower(run)
    step(run, 1)
    one.look()
    assert one.answers == one.answers == (1, []) and len(reads) == 1
    step(run, 2)
    one.look()
    assert one.answers == (2, []) and len(reads) == 2
