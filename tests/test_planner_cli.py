"""The `plan` command: what fits, what is suggested instead, wrong use."""

from __future__ import annotations

import itertools
import json
import resource
import shlex
import subprocess
import sys

import pytest

from or1lab.errors import UsageError
from or1lab.planner.memory import GIB
from or1lab.planner.suggest import suggestions
from or1lab.recipe import ROOT
from tests.test_cli import call, loaded_by
from tests.test_planner import R1, planned


@pytest.mark.parametrize("gpus", ["1xH100", "16xH100", "8xA100-40"])
def test_what_does_not_fit_says_by_how_much_and_every_suggestion_fits(gpus, monkeypatch, capsys):
    recipe = "7b" if gpus == "1xH100" else "32b"
    code, out, _ = call("plan", recipe, "--gpus", gpus, "--json", monkeypatch=monkeypatch, capsys=capsys)
    told = json.loads(out)
    assert code == 1 and not told["fits"] and told["missing_gib"] > 0 and "GiB" in told["why"]
    most = max(told["memory_gib"][phase]["together"] for phase in ("update", "rollout"))
    assert told["missing_gib"] >= most - told["cluster"]["gib"] - 1e-6
    assert told["suggestions"] or gpus == "8xA100-40"
    for one in told["suggestions"]:
        words = shlex.split(one["change"])
        machine = [] if "--gpus" in words else ["--gpus", gpus]
        code, out, _ = call("plan", recipe, *machine, *words, "--json", monkeypatch=monkeypatch, capsys=capsys)
        again = json.loads(out)
        assert code == 0 and again["fits"] and again["hours"] == pytest.approx(one["hours"])


@pytest.mark.parametrize(
    ("gpus", "share", "fits", "tight"),
    [("64xH100", 0.5, True, False), ("64xH100", 0.85, True, False), ("64xH100", 0.87, True, True),
     ("64xH100", 0.95, True, True), ("16xH100", 0.95, False, True)],
)  # fmt: skip
def test_what_fits_says_how_much_is_left_and_whether_that_is_within_the_error(
    gpus, share, fits, tight, monkeypatch, capsys
):
    """An engine that sleeps: the peak is its share of the GPU, the trainer's state and the reserve."""
    command = ("plan", "7b", "--gpus", gpus, "--sleep", "--tp", "1", f"rollout.gpu_memory_utilization={share}")
    code, out, _ = call(*command, "--json", monkeypatch=monkeypatch, capsys=capsys)
    told = json.loads(out)
    left = 79 * (1 - share) - 12 * 7.615616512e9 / GIB / int(gpus[:2]) - 2
    assert told["spare_gib"] == pytest.approx(left) and told["spare_share"] == pytest.approx(left / 79)
    assert (told["fits"], code, left / 79 < 0.1) == (fits, int(not fits), tight)
    _, out, _ = call(*command, monkeypatch=monkeypatch, capsys=capsys)
    words = " ".join(out.split())
    assert (f"fits, with {left:.1f} GiB ({left / 79:.1%}) of the fullest GPU to spare" in words) == fits
    assert ("predictions may be off by 10%: it may not fit" in words) == (fits and tight)


def test_one_gpu_is_not_told_to_offload_what_several_share(monkeypatch, capsys):
    large = ("1.5b", "--gpus", "1xH100", "rollout.gpu_memory_utilization=0.8")
    for command in (("1.5b", "--gpus", "1xRTX4090"), ("7b", "--gpus", "1xH100"), large):
        _, out, _ = call("plan", *command, "--json", monkeypatch=monkeypatch, capsys=capsys)
        changes = [one["change"] for one in json.loads(out)["suggestions"]]
        assert changes and not any("offload" in change for change in changes)
        code, _, error = call("plan", *command, "--offload", monkeypatch=monkeypatch, capsys=capsys)
        assert code == 2 and "--offload is for weights that several GPUs share" in error
    _, out, _ = call("plan", "7b", "--gpus", "2xH100", "--json", monkeypatch=monkeypatch, capsys=capsys)
    assert any("--offload" in one["change"] for one in json.loads(out)["suggestions"])


@pytest.mark.parametrize("gpu", ["1xH100", "1xA100", "1xH800", "1xH200"])
def test_the_recipe_for_one_gpu_fits_one_of_80_gib_with_room_to_spare(gpu, monkeypatch, capsys):
    code, out, _ = call("plan", "1.5b", "--gpus", gpu, "--json", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 and json.loads(out)["spare_share"] > 0.1


@pytest.mark.parametrize(
    ("recipe", "gpus", "options"),
    [
        ("1.5b", "8xH100", {}),
        ("1.5b", "8xH100", {"tp": 4, "sleep": True}),
        ("7b", "4xH200", {"tp": 4}),  # no engine of half the GPUs has so many
        ("1.5b", "2xH100", {"offload": True}),  # which is for several
    ],
)
def test_other_counts_of_gpus_are_shown_with_their_fastest_layout_as_it_is_typed(
    recipe, gpus, options, monkeypatch, capsys
):
    number, _, name = gpus.partition("x")
    shown = {s.why.partition(" the GPUs")[0]: s for s in suggestions(planned(recipe, gpus, **options))}
    assert "twice" in shown
    for word, count in (("twice", 2 * int(number)), ("half", int(number) // 2)):
        offload = options.get("offload", False) and count > 1
        possible = []
        for tp, sleep in itertools.product([n for n in (1, 2, 4, 8) if count % n == 0], (False, True)):
            try:
                possible.append(planned(recipe, f"{count}x{name}", tp=tp, sleep=sleep, offload=offload))
            except UsageError:  # the model's heads
                continue
        fitting = [p for p in possible if p.fits]
        assert bool(fitting) == (word in shown)
        if fitting:
            one = shown[word]
            assert one.plan.sampling_hours == min(p.sampling_hours for p in fitting)
            assert one.plan.hours <= 1.005 * min(p.hours for p in fitting)  # evaluations may be faster elsewhere
            ours = planned(recipe, gpus, **options).layout
            assert ("another layout" in one.why) == (one.plan.layout != ours)
            words = [*shlex.split(one.change), *["--offload"] * offload]
            code, out, _ = call("plan", recipe, *words, "--json", monkeypatch=monkeypatch, capsys=capsys)
            assert code == 0 and json.loads(out)["hours"] == pytest.approx(one.plan.hours)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("7b --gpus 8xH1000", "did you mean 'H100'"),
        ("7b --gpus 0xH100", "at least one GPU"),
        ("7b --gpus H100", "8xH100"),
        ("7b --gpus 8x4090", "did you mean 'RTX4090'"),
        ("7b --gpus 8xH100 --nodes 0", "at least one GPU"),
        ("7b --gpus 256xH800 --nodes 32", "give 8xH800"),
        ("7b --gpus 8xH100 --tp 3", "1, 2, 4, 7"),
        ("7b --gpus 8xH100 --tp 0", "'--tp'"),
        ("7b --gpus 9xH100 --tp 2", "divide the 9"),
        ("7b --gpus 8xH100 --server 8", "leaves none to train on"),
        ("7b --gpus 8xH100 --server 4 --sleep", "its own"),
        ("tiny --sleep", "for GPUs"),
        ("7b --gpus 8xH100 stages.1.T=200000", "context of 131,072"),
        ("7b --gpus 8xH100 model=some/model", "no architecture is known"),
        (f"7b --gpus 8xH100 model={R1}7b", f"did you mean '{R1}7B'"),
        ("7b --gpus 8xH100 --lengths nowhere", "nowhere"),
    ],
)
def test_wrong_use_is_named(arguments, says, monkeypatch, capsys):
    code, _, err = call("plan", *arguments.split(), monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2 and says in err.replace("\n", " ")


def test_the_command_is_light_and_quick():
    command = [sys.executable, "-m", "or1lab.cli", "plan", "32b", "--gpus", "256xH800", "--json"]
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert told["fits"] and told["stages"][1]["T"] == 24576 and len(told["suggestions"]) >= 3
    assert end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime < 5
    assert loaded_by("plan", "32b", "--gpus", "256xH800") == set()


def test_the_screen_holds_the_tables(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("plan", "32b", "--gpus", "256xH800", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 and max(map(len, out.splitlines())) <= 80 and "GPU-hours" in out
    code, out, _ = call("plan", "tiny", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 and "CPU" in out
