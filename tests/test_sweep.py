"""Sweeps: the grid, its errors, and jobs that fail, are killed or are stopped. A stub notebook writes fake runs."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml
from rich.console import Console

from or1lab import sweep as sweeps
from or1lab.comparison import other_recipe
from or1lab.errors import Or1labError, UsageError
from or1lab.experiment import Experiment, Outcome, expand, load_experiment
from or1lab.recipe import load_recipe
from or1lab.store import Run
from or1lab.sweep import parse_seeds, run_sweep
from or1lab.sweep_view import Screen

PLAIN = {
    "name": "toy",
    "title": "A toy",
    "question": "Does it go on?",
    "recipe": "tiny",
    "set": {"stages.0.steps": 6},
    "arms": {"good": {}, "bad": {"set": {"D_T": 2, "entropy": "constant"}}},
    "seeds": [0],
    "baseline": "good",
    "figure": "demo",
}
PARAMETERS = """\
recipe: str = "tiny"
overrides: list[str] = []
seed: int = 0
out: str = "run"
resume: bool = False
experiment: str = ""
arm: str = ""
"""
# Six steps of a run that is no training; arms misbehave by name unless the file `mended` lies beside the notebook.
TRAIN = """\
import os, signal, sys, time
from pathlib import Path
from or1lab.recipe import load_recipe
from or1lab.store import MANIFEST, Run
here = Path({here!r})
mended = (here / "mended").exists()
assert (here / "journal").open("a").write(f"start {{arm}} {{seed}} {{os.getpid()}}\\n")
plain = load_recipe(recipe, [*overrides, f"seed={{seed}}"])
folder = Path(out)
assert resume
begun = (folder / MANIFEST).exists()
run = Run.open(out) if begun else Run.create(out, recipe=plain.resolved(), extra=dict(experiment=experiment, arm=arm))
with run.lock():
    run.update_manifest(status="running")
    done = (run.last() or {{"step": 0}})["step"]
    for step in range(done + 1, plain.total_steps + 1):
        run.log("step", **{{"step": step, "reward/mean": 0.5, "threads": int(os.environ.get("OMP_NUM_THREADS", 0))}})
        print("step", step)
        if step == 3 and not mended:
            if arm == "fails":
                raise ValueError("the reward is\\nnot a number")
            if arm == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if arm == "hangs":
                time.sleep(120)
            if arm == "deaf":  # busy in C code that never lets another Python thread run
                import ctypes
                ctypes.PyDLL(None).sleep(20)
    run.update_manifest(status="finished", seconds=12.0)
"""
PLOT = """\
if arm == "ugly" and not mended:
    raise KeyError("no such column")
"""


def experiment(*arms: str, **changes) -> Experiment:
    plain = PLAIN | changes
    return Experiment.model_validate(plain | ({"arms": {arm: {} for arm in arms}, "baseline": arms[0]} if arms else {}))


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    cells = [
        nbformat.v4.new_markdown_cell("# A stub"),
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import sys; print(sys.executable)"),
        nbformat.v4.new_code_cell(TRAIN.format(here=str(tmp_path))),
        nbformat.v4.new_code_cell(PLOT),
    ]
    path = tmp_path / "train.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def sweep(experiment: Experiment, notebook: Path, **options) -> tuple[sweeps.SweepResult, str]:
    text = io.StringIO()
    console = Console(file=text, width=160)
    result = run_sweep(experiment, notebook=notebook, out=notebook.parent / "runs", console=console, **options)
    return result, text.getvalue()


def starts(notebook: Path) -> Counter[str]:
    journal = notebook.parent / "journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return Counter(line.split()[1] for line in lines)


def states(result: sweeps.SweepResult) -> dict[str, str]:
    return {outcome.job.arm: outcome.state for outcome in result.outcomes}


def steps(job: sweeps.Job) -> list[int]:
    return [record["step"] for record in Run.open(job.folder).records()]


# --------------------------------------------------------------------------------------------- the grid, no process


def test_demo_is_ablation_6_in_small():
    demo = load_experiment("demo")
    grid = expand(demo)
    assert [(job.arm, job.seed) for job in grid] == [
        (arm, seed) for seed in (0, 1, 2) for arm in ("on-policy", "off-policy")
    ]
    on, off = grid[:2]
    assert (on.recipe.N_SGD, off.recipe.N_SGD) == (1, 8)
    for job in grid:
        assert (job.recipe.D_R * job.recipe.gs, job.recipe.total_steps, job.recipe.seed) == (128, 40, job.seed)
    assert on.folder == Path("runs/demo/on-policy/seed-0")
    assert demo.baseline == "on-policy" and max(demo.seeds) < 100


def test_overrides_keep_their_types():
    values = {"entropy": "constant", "alpha": 1e-5, "top_p": 1.0, "c_max": None, "stages.0.T": 200, "data.options": {}}
    job = expand(experiment(set=values))[0]
    assert (job.recipe.entropy, job.recipe.alpha, job.recipe.c_max) == ("constant", 1e-5, None)
    assert job.recipe.stages[0].T == 200
    assert job.parameters["overrides"] == list(job.overrides)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": [1]}, "unknown key 'seed' (did you mean 'seeds'?)"),
        ({"arms": {"good": {"sett": {}}}}, "unknown key 'arms.good.sett' (did you mean 'arms.good.set'?)"),
        ({"baseline": "god"}, "the baseline 'god' is no arm (did you mean 'good'?)"),
        ({"arms": {"a/b": {}}, "baseline": "a/b"}, "a/b"),
        ({"arms": {}}, "at least 1 item"),
    ],
)
def test_wrong_experiment_file_names_the_mend(tmp_path, change, message):
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(PLAIN | change))
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_experiment(path)
    assert str(path) in str(caught.value)


def test_wrong_recipe_key_names_arm_and_mend():
    with pytest.raises(UsageError, match=r"experiment toy, arm good: .*'gss' \(did you mean 'gs'\?\)"):
        expand(experiment(set={"gss": 4}))


def test_unknown_experiment_names_those_there_are():
    with pytest.raises(UsageError, match=r"no experiment 'dmo' \(did you mean 'demo'\?\)"):
        load_experiment("dmo")


def test_seeds():
    assert parse_seeds("0,1, 2") == [0, 1, 2]
    with pytest.raises(UsageError, match="is not a list such as"):
        parse_seeds("0..2")
    with pytest.raises(UsageError, match="repeat"):
        expand(experiment(), seeds=[1, 1])
    assert [job.seed for job in expand(experiment("a"), seeds=[100, 101])] == [100, 101]


def test_unknown_notebook_parameter_stops_before_anything_starts(notebook):
    content = nbformat.read(notebook, 4)
    content.cells[1].source = PARAMETERS.replace("overrides:", "override:")
    nbformat.write(content, notebook)
    with pytest.raises(UsageError, match=r"has no parameter 'overrides' \(did you mean 'override'\?\); it has: recipe"):
        sweep(experiment(), notebook)
    assert not (notebook.parent / "runs").exists()
    content.metadata.clear()
    nbformat.write(content, notebook)
    with pytest.raises(UsageError, match="No kernel name found"):
        sweep(experiment(), notebook)
    with pytest.raises(UsageError, match="there is no notebook"):
        sweep(experiment(), notebook.with_name("absent.ipynb"))


def fake_run(job: sweeps.Job, status: str, done: int) -> Run:
    extra = {"experiment": "toy", "arm": job.arm, "seconds": 12.0, "status": status}
    run = Run.create(job.folder, recipe=job.recipe.resolved(), extra=extra)
    for step in range(1, done + 1):
        run.log("step", step=step)
    return run


def test_dry_run_prints_the_grid_and_starts_nothing(notebook):
    result, text = sweep(experiment(), notebook, dry_run=True)
    assert result.exit_code == 0 and not (notebook.parent / "runs").exists()
    good, bad = (line for line in text.splitlines() if "seed" not in line and ("good" in line or "bad" in line))
    assert re.findall(r"[\w?]+", good)[:6] == ["good", "0", "1", "6", "new", "?"]
    assert re.findall(r"[\w?]+", bad)[:6] == ["bad", "0", "8", "6", "new", "?"] and 'entropy="constant"' in bad
    assert "estimated time: ?" in text
    _, text = sweep(experiment(seconds=30), notebook, dry_run=True)  # measured elsewhere, and said in the file
    assert "2 jobs, 2 at a time; estimated time: 30 s" in text


def test_dry_run_knows_states_and_times(notebook):
    grid = expand(experiment(seeds=[0, 1]), out=notebook.parent / "runs")
    fake_run(grid[0], "finished", 6)  # 12 s for 6 steps
    fake_run(grid[1], "running", 3)  # nobody holds its lock
    result, text = sweep(experiment(seeds=[0, 1]), notebook, dry_run=True)
    assert [outcome.state for outcome in result.outcomes] == ["finished", "interrupted", "new", "new"]
    assert re.findall(r"(\d+) s +\S+=", text) == ["0", "6", "12", "12"]
    assert "4 jobs, 2 at a time; estimated time: 15 s" in text


def test_existing_runs_are_not_touched_without_resume(notebook):
    grid = expand(experiment(), out=notebook.parent / "runs")
    for job in grid:
        fake_run(job, "finished", 6)
    with pytest.raises(Or1labError, match=r"already holds a run \(and 1 more\).*--resume.*--out"):
        sweep(experiment(), notebook)
    result, _ = sweep(experiment(), notebook, resume=True)
    assert result.exit_code == 0 and not starts(notebook)


def test_resume_refuses_a_folder_of_another_recipe(notebook):
    fake_run(expand(experiment(set={"gs": 16}), out=notebook.parent / "runs")[0], "running", 3)
    with pytest.raises(Or1labError, match=r"another recipe \(gs was 16, is now 8.*--out"):
        sweep(experiment(), notebook, resume=True)


def test_the_keys_that_make_another_recipe_are_named_with_both_values(tmp_path):
    """Those of stages one by one, three of many, and no knob that came after the run was made."""
    recipe = load_recipe("tiny", ["stages=[{steps: 4}, {steps: 6, T: 200}]"])
    run = Run.create(tmp_path / "run", recipe=recipe.resolved())
    other = load_recipe("tiny", ["stages=[{steps: 4}, {steps: 7, T: 200}]", "wandb=off", "checkpoint.every=9"])
    assert "another recipe (stages.1.steps was 6, is now 7): go back" in other_recipe(run, other)
    plain = recipe.resolved()
    del plain["data"]["wrong_golds"], plain["eval"]["temperatures"], plain["stages"][0]["alpha"], plain["guard"]
    run.update_manifest(recipe=plain)
    assert "(stages.1.steps was 6, is now 7)" in other_recipe(run, other)
    many = load_recipe("tiny", ["seed=9", "lr=1e-3", "gs=2", "tau=0.9", "stages=[{steps: 4}, {steps: 6, T: 200}]"])
    assert other_recipe(run, many).count(", is now ") == 3 and "; and 1 more): go back" in other_recipe(run, many)


def test_a_run_of_a_living_process_is_not_started_twice(notebook, monkeypatch):
    monkeypatch.setattr(sweeps, "GRACE", 0.3)
    job = expand(experiment("good"), out=notebook.parent / "runs")[0]
    with fake_run(job, "running", 3).lock():
        result, text = sweep(experiment("good"), notebook, resume=True)
    assert result.exit_code == 1 and states(result) == {"good": "running"} and not starts(notebook)
    assert "good seed 0 is being trained by another process" in text


def test_live_table_in_a_terminal(notebook):
    text = io.StringIO()
    console = Console(file=text, width=160, force_terminal=True)
    result = run_sweep(experiment("good", "fails"), notebook=notebook, out=notebook.parent / "runs", console=console)
    shown = text.getvalue()
    assert states(result) == {"good": "finished", "fails": "failed"}
    assert re.search(r"good.*0.*6/6.*0\.500.*finished", shown)
    quoted = "ValueError: the reward is not a number"
    assert quoted in shown.partition("2 of")[0] and shown.count(quoted) == 2  # as it happens, and at the end
    ended = shown[shown.rindex(quoted) :]
    assert re.search(r"good +1 .*12 s", ended) and "1 of 2 runs finished" in ended and "--resume" in ended


def test_of_many_jobs_a_low_terminal_shows_those_that_train_or_failed(notebook):
    outcomes = [sweeps.Outcome(job, "waiting") for job in expand(experiment(seeds=list(range(20))))]
    outcomes[30].state = "training"
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    console.print(Screen(console, outcomes)._table())
    shown = console.file.getvalue()
    assert "0 of 40 runs finished" in shown and "starting" in shown and "waiting" not in shown
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines())) <= 80


def test_the_time_left_of_a_run_that_went_back_to_its_checkpoint(notebook, monkeypatch):
    job = expand(experiment("good"), out=notebook.parent / "runs")[0]
    run, screen = fake_run(job, "running", 5), Screen(Console(file=io.StringIO()), [sweeps.Outcome(job, "training")])
    told = []
    for now, step in ((0, 5), (10, 3), (12, 4), (14, 5)):
        monkeypatch.setattr("or1lab.sweep_view.time.monotonic", lambda now=now: float(now))
        run.truncate_after(step - 1)
        run.log("step", step=step)
        told.append(screen._look(screen.outcomes[0])[1])
    assert told == ["?", "?", "4 s", "2 s"]


@pytest.mark.parametrize(
    ("state", "begun", "said"),
    [("queued", True, "queued"), ("training", False, "started"), ("training", True, "goes on")],
)
def test_a_job_that_begins_is_told_from_one_that_goes_on(state, begun, said, tmp_path):
    (job, *_) = expand(Experiment(**PLAIN), [0], tmp_path)
    if begun:
        Run.create(job.folder, recipe=job.recipe.resolved())
    told = io.StringIO()
    outcome = Outcome(job, state)
    Screen(Console(file=told), [outcome]).started(outcome)
    assert told.getvalue().startswith(f"{job.name}: {said}, log ")
