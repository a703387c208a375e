"""The command line as a user meets it: quick help, one clear message for each mistake, the exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer

from or1lab import cli
from or1lab.errors import UsageError
from or1lab.recipe import ROOT, load_recipe
from or1lab.store import Run
from or1lab.terminal import KEPT, RUNS, runs_at
from tests.made_up import write_study

HEAVY = {"torch", "transformers", "trl", "vllm", "wandb"}
SMALL = Path(__file__).parent / "small.yaml"


def commands(group: Any, before: str = "") -> Iterator[str]:
    """The commands that users see, as they are typed."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        elif not command.hidden:
            yield f"{before}{name}"


COMMANDS = list(commands(typer.main.get_command(cli.app)))


def call(*arguments: str, monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit code and output of `or1lab ARGUMENTS`, in this process."""
    monkeypatch.setattr(sys, "argv", ["or1lab", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture
def or1lab(monkeypatch, capsys):
    return lambda *arguments: call(*arguments, monkeypatch=monkeypatch, capsys=capsys)


def loaded_by(*arguments: str, code: int = 0) -> set[str]:
    """Heavy packages that a command imports which ends with this exit code."""
    script = (
        "import atexit, sys\n"
        "from or1lab import cli\n"
        f"sys.argv = {['or1lab', *arguments]!r}\n"
        "atexit.register(lambda: print('', *(name.partition('.')[0] for name in sys.modules), sep='\\n'))\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr
    return HEAVY & set(done.stdout.splitlines())


def test_help_answers_at_once_and_lists_every_command():
    seconds = []
    for _ in range(3):  # the best of three: this is about imports, not about a busy machine
        begin = os.times()
        command = [sys.executable, "-m", "or1lab.cli", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(os.times().children_user - begin.children_user)
    assert min(seconds) < 1.0
    for command in COMMANDS:
        assert command.split()[0] in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_locale_without_utf_8_costs_no_sign_and_no_command(encoding):
    env = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    command = [sys.executable, "-m", "or1lab.cli", "claims"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=env)
    text = done.stdout.decode(encoding)
    assert done.returncode == 0 and not done.stderr and ("−" in text) == (encoding == "utf-8")
    assert re.search(r"\[[−-]0\.\d+, \+0\.\d+\]", text) and "?" not in text


@pytest.mark.parametrize("tier", ["tiny", "7b"])
@pytest.mark.parametrize("command", ["claims", "report", "figures figure8", "tables table1"])
def test_a_default_folder_of_runs_that_is_not_there_is_named(command, tier, or1lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = or1lab(*command.split(), "--tier", tier)
    assert code == 2 and f"there is no folder {RUNS if tier == '7b' else KEPT}:" in err
    assert not list(tmp_path.iterdir())


def test_which_folder_of_runs_is_the_default(or1lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (RUNS / "evaluations").mkdir(parents=True)  # what an evaluation alone has left is no run
    KEPT.mkdir(parents=True)
    assert runs_at(None, "tiny") == runs_at(None, "tiny", of_study=True) == KEPT
    Run.create(RUNS / "mine", recipe=load_recipe("tiny").resolved())
    assert (runs_at(None, "tiny"), runs_at(None, "tiny", of_study=True)) == (RUNS, KEPT)
    assert runs_at(None, "7b") == runs_at(None, "7b", of_study=True) == RUNS
    assert runs_at(RUNS / "mine", "7b") == RUNS / "mine"
    assert "no finished run of the experiment 'demo' in runs;" in or1lab("tables", "demo")[2]
    write_study(KEPT, "kl", seeds=[100])
    for named in ("kl", "law"):  # a study of which there is nothing in runs/; what neither has is looked for there
        assert runs_at(None, "tiny", named=[named]) == (KEPT if named == "kl" else RUNS)
    assert runs_at(None, "tiny") == runs_at(RUNS, "tiny", named=["kl"]) == RUNS
    shutil.rmtree(KEPT)
    for command in ("claims", "report"):
        assert f"there is no folder {KEPT}:" in or1lab(command)[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_example(command, or1lab):
    assert len(COMMANDS) == len(set(COMMANDS)) > 25
    code, out, _ = or1lab(*command.split(), "--help")
    assert code == 0 and f"or1lab {command}" in out.split("Example:")[1]


@pytest.mark.parametrize(
    "arguments",
    ["--help", "show tiny", "runs list", "runs watch experiments/results/kl/none/seed-100",
     "runs gc experiments/results/kl --checkpoints none --dry-run", "sweep demo --dry-run",
     "figures figure8 --results experiments/results --out {tmp}",
     "tables table1 --results experiments/results --out {tmp}", "doctor --quick", "suites", "suites --models",
     "plan tiny", "verify math --gold 5 --pred 5", "data stats --help", "data show {tmp}/problems.jsonl",
     "evaluate --help", "data curate --help"],
)  # fmt: skip
def test_light_commands_import_nothing_heavy(arguments, tmp_path):
    (tmp_path / "problems.jsonl").write_text('{"id": "a", "domain": "math", "prompt": "?", "gold": "1"}\n')
    assert loaded_by(*arguments.format(tmp=tmp_path).split()) == set()


@pytest.mark.parametrize(
    "arguments", ["report --results nothing", "evaluate tiny", "data curate nothing --out here --stages dedup"]
)
def test_wrong_use_of_a_command_that_does_more_is_told_before_anything_heavy_is_imported(arguments):
    assert loaded_by(*arguments.split(), code=2) == set()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "tiney"), 2, "did you mean 'tiny'"),
        (("show", "tiny", "D_TT=3"), 2, "did you mean 'D_T'"),
        (("show", "tiny", "temperature=0.6"), 2, "it is called 'tau'"),
        (("train", "tiny", "model=/no/such/folder"), 2, "no model folder"),
        (("train", "tiny", "data.source=nothing.jsonl"), 2, "no file 'nothing.jsonl'"),
        (("sweep", "dem"), 2, "did you mean 'demo'"),
        (("sweep", "demo", "--seeds", "one"), 2, "0,1,2"),
        (("figures", "dmo"), 2, "did you mean 'demo'"),
        (("tables", "dmo"), 2, "did you mean 'demo'"),
        (("show", "tiny", "D_TT=3"), 2, "tiny.yaml with D_TT=3: "),
        (("figures", "demo", "--results", "nowhere"), 2, "or1lab sweep demo"),
        (("figures", "nosuch", "--list"), 2, "no figure 'nosuch'"),
        (("runs", "list", "docs", "--experiment", "demo"), 2, "no experiment 'demo'; there are none"),
        (("figures", "--results", "nowhere"), 2, "there is no folder nowhere"),
        (("tables", "--results", "nowhere"), 2, "there is no folder nowhere"),
        (("claims", "--results", "nowhere"), 2, "there is no folder nowhere"),
        (("claims", "sgd-ned"), 2, "did you mean 'sgd-end'"),
        (("runs", "show", "nowhere"), 2, "holds no run"),
        (("verify", "math", "--gold", "5"), 2, "--gold and --pred"),
        (("verify", "math", "--gold", "5", "--pred", "5", "--strict"), 2, "--gold and --pred"),
        (("verify", "math", "--batch", "nowhere.jsonl"), 2, "no file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_gets_one_clear_message(arguments, code, words, or1lab, tmp_path):
    if arguments[0] == "train":
        arguments = (*arguments, "--out", str(tmp_path / "run"))
    found, out, err = or1lab(*arguments)
    assert found == code and words in err.replace("\n", " ")
    assert "Traceback" not in out + err and err.startswith("error: ")
    assert not (tmp_path / "run").exists()  # what cannot start leaves nothing behind


def test_a_claim_is_told_run_by_run(or1lab):
    code, out, _ = or1lab("claims", "sgd-end", "--json")
    (told,) = json.loads(out)["claims"]
    one, other = told["numbers"]
    assert code == 0 and len(told["runs"]) == len(one) + len(other) == 10
    assert sum(one) / 5 - sum(other) / 5 == pytest.approx(told["effect"])
    code, out, _ = or1lab("claims", "sgd-end", "cliphi-too")
    assert code == 0 and out.count("seed-10") == 15 and "smallest effect +0.020" in out and "×1.50" in out


def test_wrong_options_are_wrong_use(or1lab):
    assert or1lab("show")[0] == 2
    assert or1lab("sweep", "demo", "--jobs", "0")[0] == 2


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["or1lab", "show", "tiney", "--debug"])
    with pytest.raises(UsageError):
        cli.main()


def test_an_unexpected_error_is_one_line_too(or1lab, monkeypatch):
    from or1lab import runs_view

    monkeypatch.setattr(runs_view, "listing", lambda *_, **__: 1 / 0)
    code, _, err = or1lab("runs", "list")
    assert code == 1 and "unexpected ZeroDivisionError" in err and "--debug" in err and "Traceback" not in err


def test_ctrl_c_says_how_to_go_on(or1lab, monkeypatch, tmp_path):
    from or1lab import train

    monkeypatch.setattr(train, "run", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, err = or1lab("train", str(SMALL), "--out", str(tmp_path / "run"))
    assert code == 1 and "stopped" in err and "--resume" in err


def test_a_model_folder_without_a_tokenizer_is_named(or1lab, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    code, _, err = or1lab("train", "tiny", f"model={model}", "--out", str(tmp_path / "run"))
    assert code == 2 and "no tokenizer" in err and "save_pretrained" in err


def test_a_run_folder_is_not_trained_over(or1lab, tmp_path):

    Run.create(tmp_path / "run", recipe=load_recipe(SMALL).resolved())
    code, _, err = or1lab("train", str(SMALL), "--out", str(tmp_path / "run"))
    assert code == 1 and "--resume" in err


def test_show_prints_values_with_origin_and_the_arithmetic(or1lab):
    code, out, _ = or1lab("show", "tiny", "D_T=2", "--json")
    shown = json.loads(out)
    assert code == 0 and shown["N_SGD"] == [8] and shown["recipe"]["D_T"] == 2
    assert shown["origin"]["D_T"]["set_by"] == "command line"
    assert shown["origin"]["lr"]["set_by"].startswith("tiny.yaml:")
    assert "paper" in shown["origin"]["clip_low"]["source"]
    code, out, _ = or1lab("show", "tiny", "D_T=2")
    assert "N_SGD = (16 / 2) x 1 = 8 (off-policy)" in out


@pytest.mark.parametrize("text", ["amc[test]", "x[/tmp]", "red \x1b[31m"])
def test_what_a_model_or_a_data_set_says_is_neither_markup_nor_control(text, or1lab, monkeypatch, tmp_path):
    from or1lab import train

    row = {"problem_id": text, "prompt": text, "response": text, "gold": text, "reason": text, "correct": True}
    monkeypatch.setattr(train, "preview", lambda *_: [row | {"length": 3}])
    shown = text.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    code, out, err = or1lab("preview", str(SMALL))
    assert code == 0 and not err and out.count(shown) == 5 and "\x1b" not in out
    run = Run.create(tmp_path / "run", recipe=load_recipe("tiny").resolved())
    run.write_rollouts(1, pd.DataFrame([row]))
    code, out, err = or1lab("runs", "show", str(tmp_path / "run"))
    assert code == 0 and not err and out.count(shown) == 3 and "\x1b" not in out


def test_preview_and_train_through_the_command_line(engine, or1lab, tmp_path, monkeypatch):
    from or1lab import train

    monkeypatch.setattr(train, "open_engine", lambda *_: engine)  # the session's: a start costs half a minute
    code, out, _ = or1lab("preview", str(SMALL), "-n", "2", "--json")
    assert code == 0 and len(json.loads(out)) == 2
    code, out, _ = or1lab("preview", str(SMALL), "-n", "1")
    assert code == 0 and "gold:" in out and ("right" in out or "wrong" in out)
    folder = tmp_path / "run"
    code, out, _ = or1lab("train", str(SMALL), "stages.0.steps=1", "--out", str(folder))
    assert code == 0 and "finished" in out
    code, out, _ = or1lab("runs", "list", str(tmp_path), "--json")
    assert code == 0 and [row["status"] for row in json.loads(out)] == ["finished"]
    code, out, _ = or1lab("runs", "show", str(folder))
    assert code == 0 and "a response of step 1" in out
