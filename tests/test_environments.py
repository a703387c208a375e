"""The commands where a terminal, a locale, a disk or a network is not what it mostly is."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from or1lab import runs_view, terminal
from or1lab.recipe import ROOT, load_recipe
from or1lab.store import Run
from or1lab.sweep import run_sweep
from or1lab.tracker import Wanted

SMALL = ROOT / "tests" / "small.yaml"
NAMES = ("entropy_dynamics/gs-16-n-sgd-4/seed-0", "clip_higher/clip-0.2/seed-100", "with a space/seed-1")
# One process for many commands, as a start costs a second; it tells each attempt to reach another machine.
SAY = """
import shlex, sys
def heard(event, given):
    if event == "socket.getaddrinfo" or event == "socket.connect" and isinstance(given[1], tuple):
        print("ASKS FOR", *given, file=sys.stderr)
sys.addaudithook(heard)
from or1lab import cli
for line in sys.argv[1:]:
    sys.argv = ["or1lab", *shlex.split(line)]
    try:
        cli.main()
    except SystemExit as ended:
        print("ended with", ended.code or 0, flush=True)
"""
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:[34][0-8]|9\d|10\d)[\d;]*m")
OTHERS = {"NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "HF_HUB_OFFLINE", "MPLCONFIGDIR", "HF_HOME", "XDG_CACHE_HOME"}


def said(*lines: str, terminal: bool = False, **env: str) -> str:
    """What one process says to these commands, into a pipe or on a terminal."""
    kept = {name: value for name, value in os.environ.items() if name not in OTHERS}
    how = {"cwd": ROOT, "env": kept | env, "stdin": subprocess.DEVNULL}
    command = [sys.executable, "-c", SAY, *lines]
    if not terminal:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)
        return done.stdout.decode(env.get("PYTHONIOENCODING", "utf-8"))
    ours, its = pty.openpty()
    with subprocess.Popen(command, stdout=its, stderr=its, **how):
        os.close(its)
        text = b""
        with contextlib.suppress(OSError):  # nobody is at its other end any more
            while part := os.read(ours, 1 << 16):
                text += part
    os.close(ours)
    return text.decode()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs without a step, in a path with spaces."""
    folder = tmp_path_factory.mktemp("runs") / "my runs"
    for name in NAMES:
        Run.create(folder / name, recipe=load_recipe(SMALL).resolved(), extra={"status": "finished"}).close()
    return folder


@pytest.mark.parametrize(
    ("env", "coloured", "codes"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False, True),  # bold is no colour
        ({"TERM": "dumb"}, False, False),
    ],
    ids=["colours", "NO_COLOR", "TERM=dumb"],
)
def test_colours_are_shown_where_they_are_wanted_and_nowhere_else(env, coloured, codes, runs):
    lines = f"runs list '{runs}'", "sweep demo --dry-run", "show tiney", "runs list --nothing", "show --help"
    text = said(*lines, terminal=True, **env)
    assert re.findall(r"ended with (\d)", text) == ["0", "0", "2", "2", "0"]
    assert bool(COLOUR.search(text)) == coloured and ("\x1b" in text) == codes


@pytest.mark.parametrize(
    ("force", "coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True)], ids=["pipe", "FORCE_COLOR"]
)
def test_a_pipe_gets_plain_text_unless_it_asks_for_more(force, coloured):
    assert bool(COLOUR.search(said("show tiney", "show --help", **force))) == coloured


@pytest.mark.parametrize("width", [60, 80])
def test_the_list_of_runs_breaks_paths_behind_slashes_and_keeps_within_its_width(width, runs):
    screen = io.StringIO()
    runs_view.listing(runs, Wanted(), Console(file=screen, width=width), None)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width and "…" not in screen.getvalue()
    cells = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert all(name in "".join(cells) for name in NAMES)
    assert all(cell.endswith("/") or any(name.endswith(cell) for name in NAMES) for cell in cells)


@pytest.mark.parametrize("width", [60, 80])
def test_a_dry_run_in_a_narrow_terminal_cuts_no_word(width, tmp_path):
    screen = io.StringIO()
    run_sweep("demo", dry_run=True, out=tmp_path, console=Console(file=screen, width=width))
    text = screen.getvalue()
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    for word in ("on-policy ", "off-policy ", "D_R=16", "gs=8", "stages.0.steps=", "D_T=2"):
        assert text.count(word) >= 3, word


def test_a_locale_of_ascii_alone_stops_no_command(runs):
    """Also where files are read: they are UTF-8 whatever the locale is."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    lines = f"runs list '{runs}'", f"runs show '{runs}/{NAMES[0]}'", "show tiny", "sweep demo --dry-run", "show tiney"
    text = said(*lines, "figures --list", "runs --help", **plain)
    assert re.findall(r"ended with (\d)", text) == ["0", "0", "0", "0", "2", "0", "0"], text
    assert "unexpected" not in text and "did you mean 'tiny'" in text and "N_SGD = " in text


@pytest.fixture(scope="module")
def cut_off(runs, tmp_path_factory):
    """What commands say and draw that can neither write at home nor reach anybody."""
    file = tmp_path_factory.mktemp("home") / "file"
    file.touch()
    out = file.with_name("a b")
    lines = "show tiny", f"runs show '{runs}/{NAMES[2]}'", f"claims --results '{runs}'"
    text = said(*lines, f"figures figure8 --results '{runs}' --out '{out}'", HOME=str(file / "home"))
    return text, out


def test_without_a_home_to_write_in_commands_show_and_draw_also_into_a_path_with_spaces(cut_off):
    text, out = cut_off
    assert re.findall(r"ended with (\d)", text) == ["0"] * 4, text
    assert {path.name for path in out.iterdir()} == {f"figure8.{ending}" for ending in ("png", "pdf", "csv", "txt")}
    assert (out / "figure8.png").stat().st_size > 10_000


def test_no_command_that_shows_or_draws_asks_for_another_machine(cut_off):
    text, _ = cut_off
    assert "ended with" in text and "ASKS FOR" not in text
    alone = [
        sys.executable,
        "-c",
        SAY.partition("from or1lab")[0] + "import socket\nsocket.getaddrinfo('localhost', 1)",
    ]
    assert "ASKS FOR localhost" in subprocess.run(alone, capture_output=True, text=True).stderr


STUDY = f"""
name: short
title: Short
question: Does it run?
recipe: {SMALL}
set: {{stages.0.steps: 2, eval.every: 0}}
baseline: only
arms: {{only: {{set: {{D_T: 2}}}}}}
seeds: [0]
"""


@pytest.mark.slow
def test_a_sweep_trains_into_a_path_with_spaces(tmp_path):
    folder = tmp_path / "my studies"
    folder.mkdir()
    (folder / "one study.yaml").write_text(STUDY)
    text = said(f"sweep '{folder}/one study.yaml' --jobs 1 --out '{folder}/all runs'")
    run = Run.open(folder / "all runs" / "short" / "only" / "seed-0")
    assert run.status == "finished" and run.last()["step"] == 2, text
    assert (run.folder / "checkpoints" / "final").is_dir() and "1 of 1 runs finished" in text


@pytest.mark.parametrize("markup", [True, False])
def test_what_was_sampled_is_no_picture(markup):
    with terminal.console.capture() as said:
        terminal.console.print("answer: :x:", markup=markup)
    assert said.get() == "answer: :x:\n"
