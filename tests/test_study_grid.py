"""Many studies as one grid, and runs that a study borrows from others. No process trains anything here."""

from __future__ import annotations

import json
import shutil
import subprocess
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from or1lab import studies
from or1lab.claims import load_claims
from or1lab.errors import UsageError
from or1lab.experiment import EXPERIMENTS, expand, load_experiment
from or1lab.recipe import recipe_hash
from or1lab.results import Shelf
from or1lab.store import Run
from or1lab.sweep import run_sweep
from or1lab.world import WORLD, content_hash


def write_run(job, folder: Path | None = None, **manifest) -> Path:
    folder = folder or job.folder
    folder.mkdir(parents=True)
    kept = {
        "experiment": job.experiment.name, "arm": job.arm, "seed": job.seed, "recipe": job.recipe.resolved(),
        "recipe_hash": recipe_hash(job.recipe), "status": "finished", "seconds": 120.0, "model_hash": "m",
        "data_hash": "d", "world_hash": content_hash(WORLD),
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(kept | manifest))
    (folder / "metrics.jsonl").touch()
    return folder


def jobs_of(name: str, out: Path) -> list:
    return expand(load_experiment(name), None, out)


def test_primary_studies_come_first_and_the_demo_is_none():
    names = [study.name for study in studies.studies()]
    primary = {claim.experiment for claim in load_claims() if claim.family == "primary"}
    assert set(names[: len(primary)]) == primary and "demo" not in names
    assert len(names) == len(list(EXPERIMENTS.glob("*.yaml"))) - 1


def test_what_several_studies_name_is_one_job(tmp_path):
    grid = studies.grid(studies.studies(), tmp_path)
    assert len(grid) == len({recipe_hash(job.recipe) for job in grid}) == len({job.folder for job in grid}) == 222
    assert len({job.name for job in grid}) == 222
    assert all(job.name.startswith(f"{job.experiment.name}/") for job in grid)


def test_a_finished_run_of_another_study_is_not_made_again(tmp_path):
    shared = next(job for job in jobs_of("clip_higher", tmp_path) if job.arm == "clip-0.20")
    folder = write_run(shared)
    wanted = recipe_hash(shared.recipe)
    (job,) = [job for job in studies.grid(studies.studies(), tmp_path) if recipe_hash(job.recipe) == wanted]
    assert job.experiment.name == "adaptive_control" and job.folder == folder and job.state == "finished"


def test_a_run_of_another_world_stands_in_for_none(tmp_path):
    shared = next(job for job in jobs_of("clip_higher", tmp_path) if job.arm == "clip-0.20")
    write_run(shared, world_hash=None)
    assert studies.by_recipe(tmp_path) == {} and Shelf(tmp_path).arms("sgd_steps") == {}


def test_a_study_has_the_runs_of_its_recipes_whichever_study_made_them(tmp_path):
    made = [job for job in jobs_of("sgd_steps", tmp_path) if job.arm == "4-64-16-1"]
    for job in made:
        write_run(job)
    own = [job for job in jobs_of("clip_higher", tmp_path) if job.arm == "clip-0.25"]
    write_run(own[0])
    shelf, seeds = Shelf(tmp_path), [100, 101, 102, 103, 104]
    arms = shelf.arms("clip_higher")
    assert {arm: list(runs) for arm, runs in arms.items()} == {"clip-0.20": seeds, "clip-0.25": [100]}
    assert all(run.manifest["experiment"] == "sgd_steps" for run in arms["clip-0.20"].values())
    assert list(shelf.arms("sgd_steps")) == ["4-64-16-1"]
    assert list(filter(shelf.has, ["baseline", "clip_higher", "kl"])) == ["clip_higher"]
    for job in jobs_of("clip_higher", tmp_path):  # swept alone, it makes the shared arm too: a run counts once
        if job.arm == "clip-0.20":
            write_run(job)
    assert len(Shelf(tmp_path).arms("sgd_steps")["4-64-16-1"]) == 5
    with pytest.raises(UsageError, match="no finished run of the experiment 'kl'"):
        shelf.some("kl")


def test_arms_may_have_problems_of_their_own(tmp_path):
    jobs = {job.arm: job for job in jobs_of("mixture", tmp_path) if job.seed == 100}
    for arm in ("broad", "narrow", "noise"):
        write_run(jobs[arm], data_hash=arm)
    assert len(Shelf(tmp_path).arms("mixture")) == 3
    write_run(next(job for job in jobs_of("mixture", tmp_path) if (job.arm, job.seed) == ("broad", 101)), data_hash="x")
    with pytest.raises(UsageError, match="have different data_hash"):
        Shelf(tmp_path).arms("mixture")


def test_a_folder_is_swept_as_one_grid(tmp_path):
    """The dry run: jobs of all its experiments, told apart by name; a toy beside the demo."""
    folder = tmp_path / "ablations"
    folder.mkdir()
    for name in ("rejection", "alpha_prelim", "demo"):
        (folder / f"{name}.yaml").write_text((EXPERIMENTS / f"{name}.yaml").read_text())
    result = run_sweep(folder, dry_run=True, out=tmp_path / "runs")
    assert len(result.outcomes) == 12  # 9 + 6, of which 3 are the same
    assert {outcome.job.experiment.name for outcome in result.outcomes} == {"rejection", "alpha_prelim"}
    assert len(run_sweep(folder, seeds=[100], dry_run=True, out=tmp_path / "runs").outcomes) == 4
    for path in (folder / "rejection.yaml", folder / "alpha_prelim.yaml"):
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"seeds": [0]}))
    with pytest.raises(UsageError, match="holds no study"):
        run_sweep(folder, dry_run=True)


def test_a_packed_run_is_done_and_a_finished_one_is_packed(tmp_path, monkeypatch):
    """The whole of a two-arm study, its training replaced by a process that ends at once."""
    folder, out, packed = tmp_path / "ablations", tmp_path / "runs", tmp_path / "packed"
    folder.mkdir()
    (folder / "kl.yaml").write_text(
        yaml.safe_dump(yaml.safe_load((EXPERIMENTS / "kl.yaml").read_text()) | {"seeds": [100]})
    )
    grid = studies.grid(studies.studies(folder), out)
    ended = subprocess.Popen(["true"])
    ended.wait()
    started = []

    def start(notebook, executed, parameters, **_):
        (job,) = [job for job in grid if job.executed == executed]
        started.append(job.arm)
        write_run(job)
        return ended

    monkeypatch.setattr("or1lab.sweep.notebooks.start", start)
    assert run_sweep(folder, out=out, packed=packed).exit_code == 0
    assert sorted(started) == ["kl", "none"] and len(studies.by_recipe(packed)) == 2
    shutil.rmtree(out)
    text = StringIO()
    result = run_sweep(folder, out=out, packed=packed, resume=True, console=Console(file=text))
    assert result.exit_code == 0 and len(started) == 2 and "2 of 2 runs finished" in text.getvalue()
    (one,) = (packed / "kl" / "kl").iterdir()  # of another world, say: trained again, and no room for it
    Run.open(one).update_manifest(recipe_hash="0" * 16)
    result = run_sweep(folder, out=out, packed=packed, resume=True, console=Console(file=StringIO()))
    ends = {outcome.job.arm: (outcome.state, outcome.error) for outcome in result.outcomes}
    assert result.exit_code == 1 and len(started) == 3 and ends["none"] == ("finished", None)
    assert ends["kl"][0] == "failed" and "trained, but not packed: " in ends["kl"][1]
    shutil.rmtree(one)
    assert run_sweep(folder, out=out, packed=packed, resume=True, console=Console(file=StringIO())).exit_code == 0
    run_sweep(folder, out=out, packed=packed, dry_run=True, console=Console(file=text))
    assert "2 jobs, 2 at a time; estimated time: 0 s" in text.getvalue()
    with pytest.raises(UsageError, match="or1lab runs pack"):
        run_sweep("demo", packed=packed)
