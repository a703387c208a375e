"""Studies with real models: which arms there are, whose numbers they have, and what the ledger asks of them."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from or1lab import claims, figures, tiers
from or1lab import ledger as ledgers
from or1lab.claims import load_claims, load_follow_ups, not_asked, study
from or1lab.errors import UsageError
from or1lab.experiment import EXPERIMENTS, TINY, Experiment, Paper, Scale, expand, load_experiment
from or1lab.figures import make_figures
from or1lab.ledger import NOT_ASKED, NOT_RUN, ledger
from or1lab.recipe import Recipe, load_recipe, recipe_hash
from or1lab.registry import models
from or1lab.studies import planned, studies
from or1lab.sweep import run_sweep
from or1lab.tables import make_tables
from or1lab.tiers import TIERS, at_tier
from or1lab.tracker import find_runs
from tests.made_up import write_study
from tests.test_run_statistics import made

REAL = TIERS[1:]
FOLLOW_UPS = {claim.experiment for claim in load_follow_ups()}
FILES = {experiment.name: experiment for experiment in studies()}
GRID = {
    (tier, name): {job.arm: job.recipe for job in expand(at_tier(experiment, tier), [100])}
    for tier in REAL
    for name, experiment in FILES.items()
}
# What a recipe of the tiers may say, whatever the study: the numbers of the paper's Tables 1 to 6 and 10, of its arms,
# and of the released scripts.
KNOWN = {
    "D_R": {16, 32, 64, 128, 256}, "D_T": {16, 32, 64, 128, 256}, "N_reuse": {1, 2, 4}, "gs": {4, 8, 16, 64},
    "T": {8192, 16384, 32768}, "tau": {1.0, 0.6}, "lr": {1e-6},
    "clip_low": {0.2}, "clip_high": {0.2, 0.25, 0.265, 0.28},
    "beta": {0.0, 1e-3}, "alpha": {0.0, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2}, "tgt_ent": {0.2}, "delta": {0.005, 0.0001},
    "c_min": {0.0}, "c_max": {None, 0.005}, "world": {None}, "dtype": {"bfloat16"}, "threads": {None},
}  # fmt: skip


def test_tiny_is_what_the_file_says():
    for experiment in FILES.values():
        assert at_tier(experiment, TINY) is experiment


@pytest.mark.parametrize("tier", REAL)
def test_every_study_runs_at_every_tier_with_the_arms_of_its_file(tier):
    missing = {name: set(experiment.arms) - set(GRID[tier, name]) for name, experiment in FILES.items()}
    assert {name: arms for name, arms in missing.items() if arms} == {"mixture": {"narrow"}}
    for (at, name), arms in GRID.items():
        own = at_tier(FILES[name], at)
        assert own.name == f"{name}-{at}" and own.seeds == FILES[name].seeds and own.seconds is None
        assert len({recipe_hash(recipe) for recipe in arms.values()}) == len(arms), name


@pytest.mark.parametrize("tier", REAL)
def test_the_paper_s_numbers_are_in_the_resolved_recipes(tier):
    """Wherever the paper printed a value for an arm, the arm has it, in the stage that it speaks of: the last one."""
    compared = 0
    for name, experiment in FILES.items():
        paper = experiment.paper or Paper(place="")
        for arm in GRID[tier, name].keys() & paper.arms.keys():
            told, recipe = paper.settings | paper.arms[arm], GRID[tier, name][arm]
            last = recipe.stage(len(recipe.stages) - 1)
            for key, value in told.items():
                if key == "stages":
                    stages = [recipe.stage(i) for i in range(len(value))]
                    printed = [(stage, key, number) for stage, row in zip(stages, value, strict=True)
                               for key, number in row.items() if key != "steps"]  # fmt: skip
                    assert all(getattr(stage, key) == number for stage, key, number in printed), (name, arm)
                    steps = [stage.steps for stage in recipe.stages]
                    assert all(row.get("steps", n) == n for row, n in zip(value, steps, strict=True)), (name, arm)
                elif key == "eval.tau":
                    assert recipe.eval.tau == value
                elif key != "T" or "stages" not in told:
                    assert getattr(last, key) == value, (name, arm, key)
                compared += 1
    assert compared > 250


@pytest.mark.parametrize("tier", REAL)
def test_no_number_of_the_tiny_world_leaks(tier):
    below, seen = load_recipe(tier), set()
    for name, arms in GRID.items():
        for arm, recipe in arms.items() if name[0] == tier else ():
            for i in range(len(recipe.stages)):
                for key, known in KNOWN.items():
                    ours = FILES[name[1]].scale.arms[arm].get(key) if name[1] in FOLLOW_UPS else None
                    assert getattr(recipe.stage(i), key) in known | {ours}, (name, arm, key)
            for key in Recipe.model_fields:
                if key not in KNOWN and getattr(recipe, key) != getattr(below, key):
                    seen.add(key)
            assert (recipe.model, recipe.micro_tokens) == (below.model, below.micro_tokens)
            assert recipe.eval.T in (None, 32768) and recipe.eval.problems == below.eval.problems
            assert {part.source for part in recipe.data.parts} <= {"skywork-math", "skywork-code", "deepscaler"}
    assert seen == {
        "seed", "data", "verifier_errors", "mask", "reject", "loss", "correction", "correction_cap", "entropy",
        "entropy_source", "online_filter", "stage_start", "stages", "eval",
    }  # fmt: skip


def test_quadruples_are_those_of_the_arms_names():
    for name in ("sgd_steps", "on_off_policy", "off_policy_batch"):
        for arm, recipe in GRID["7b", name].items():
            assert arm == f"{recipe.N_SGD}-{recipe.D_R}-{recipe.D_T}-{recipe.N_reuse}"
    sgd = {arm: recipe.N_SGD for arm, recipe in GRID["7b", "adaptive_control"].items()}
    assert sgd == {"4-none": 4, "4-adaptive": 4, "2-adaptive": 2, "1-adaptive": 1}


def test_the_models_are_the_paper_s_bases():
    hubs = {entry.hub.partition("/")[2]: entry.hub for entry in models().values()}
    for name, experiment in FILES.items():
        base = experiment.paper.base if experiment.paper else None
        if base in hubs:
            assert {recipe.model for recipe in GRID["7b", name].values()} == {hubs[base]}, name
    assert {recipe.model for recipe in GRID["1.5b", "masks"].values()} == {"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"}


def test_arms_from_a_stage_1_checkpoint_share_stage_1_here_too():
    for name in ("kl", "fixed_alpha"):
        first = {recipe_hash(recipe.stage(0)) for recipe in GRID["7b", name].values()}
        assert len(first) == 1 and all(recipe.stage_start == "fresh" for recipe in GRID["7b", name].values())
    (stage,) = {(r.stage(0).D_R, r.stage(0).D_T, r.stage(0).T, r.stage(0).entropy) for r in GRID["7b", "kl"].values()}
    assert stage == (256, 128, 8192, "paper")


def test_arms_that_studies_share_are_one_run_at_a_tier():
    at = {name: {recipe_hash(recipe) for recipe in GRID["7b", name].values()} for name in FILES}
    (baseline,) = at["baseline"]
    for name in ("sgd_steps", "on_off_policy", "off_policy_batch", "diversity", "resources", "verifier", "filters"):
        assert baseline in at[name], name
    assert len({key for keys in planned("sgd_steps", "7b").values() for key in keys}) == 25


def test_what_cannot_be_asked_says_why():
    silent = {claim.id: reason for claim in load_claims() if (reason := not_asked(claim, "7b"))}
    assert set(silent) == {"mix-broad", "mix-narrow-falls", "stage-cost", "stage-tokens"}
    assert silent["mix-broad"] == "the study mixture has no arm narrow there"
    assert "scale.reached of multi_stage.yaml" in silent["stage-cost"]
    assert not any(not_asked(claim, TINY) for claim in load_claims())


def test_the_ledger_of_a_tier(tmp_path):
    entries = {entry.claim.id: entry for entry in ledger(tmp_path, tier="7b")}
    assert len(entries) == len(load_claims()) + len(load_follow_ups())
    assert entries["stage-cost"].verdict == NOT_ASKED and entries["stage-cost"].plain()["tier"] == "7b"
    assert entries["sgd-end"].verdict == NOT_RUN and entries["sgd-end"].comment == "waits for 10 of 10 runs"
    with pytest.raises(UsageError, match="no tier '7B'.*did you mean '7b'"):
        ledger(tmp_path, tier="7B")


def test_runs_of_a_tier_decide_its_claims_alone_and_have_one_origin(tmp_path):
    asked = [claim for claim in load_claims() if claim.id == "collapse-acc"]
    write_study(tmp_path, "alpha_prelim", tier="7b", world_hash=None, model_hash="m", data_hash="d")
    (entry,) = ledger(tmp_path, asked, "7b")
    assert entry.verdict not in (NOT_RUN, NOT_ASKED) and (entry.seeds, entry.tier) == (3, "7b")
    assert "has changed" not in entry.comment
    assert len(entry.runs) == 6 and all("alpha_prelim-7b" in run for run in entry.runs)
    for tier in (TINY, "1.5b"):
        assert ledger(tmp_path, asked, tier)[0].verdict == NOT_RUN
    ((_, text),) = make_tables(["alpha_prelim"], tmp_path, tmp_path / "out", "7b").items()
    assert "alpha-5e-3 against alpha-1e-3" in text
    with pytest.raises(UsageError, match="or1lab sweep alpha_prelim`"):
        make_tables(["alpha_prelim"], tmp_path, tmp_path / "out")
    next(iter(find_runs(tmp_path))).update_manifest(data_hash="other")
    with pytest.raises(UsageError, match="different data_hash"):
        ledger(tmp_path, asked, "7b")


def test_an_accuracy_to_reach_that_a_study_fixes_is_used(tmp_path, monkeypatch):
    claim = next(claim for claim in load_claims() if claim.id == "stage-cost")
    own = study("multi_stage")
    fixed = own.model_copy(update={"scale": own.scale.model_copy(update={"reached": {"7b": 0.5}})})
    monkeypatch.setattr(claims, "study", lambda name, tier=TINY: at_tier(fixed, tier))
    assert claims.not_asked(claim, "7b") == "" and claims.not_asked(claim, "1.5b")
    run = made(accuracy=[0.0, 1.0], tokens__generated=1.0)
    assert ledgers.values(claim, ledgers.comparable(claim, [[run]], "7b")) == [[50.0]]
    assert ledgers.values(claim, ledgers.comparable(claim, [[run]])) == ledgers.values(claim, [[run]]) == [[70.0]]


def test_a_sweep_at_a_tier_is_a_grid_of_its_own(tmp_path):
    text = StringIO()
    console = Console(file=text, width=200)
    result = run_sweep("sgd_steps", tier="7b", seeds=[100], dry_run=True, out=tmp_path, console=console)
    folders = {str(outcome.job.folder.relative_to(tmp_path)) for outcome in result.outcomes}
    assert "sgd_steps-7b/4-64-16-1/seed-100" in folders and len(folders) == 5
    assert "N_reuse=4" in text.getvalue() and "estimated time: ?" in text.getvalue()
    whole = run_sweep(EXPERIMENTS, tier="1.5b", dry_run=True, out=tmp_path, console=Console(file=StringIO()))
    assert len(whole.outcomes) == 228 and {o.job.experiment.recipe for o in whole.outcomes} == {"1.5b"}
    parameters = result.outcomes[0].job.parameters
    assert (parameters["recipe"], parameters["experiment"]) == ("7b", "sgd_steps-7b")
    assert "D_R=64" in parameters["overrides"]


def test_what_the_file_sets_for_the_tiny_world_alone_is_named_by_the_dry_run(tmp_path):
    own = load_experiment("adaptive_stages")
    assert tiers.left_out(own, "7b") == ["D_T", "T"] and tiers.left_out(own, "tiny") == []
    assert tiers.left_out(load_experiment("sgd_steps"), "7b") == []  # its paper block says all of them
    text = StringIO()
    run_sweep("adaptive_stages", tier="7b", dry_run=True, out=tmp_path, console=Console(file=text, width=200))
    assert "set for the tiny world alone: D_T, T" in text.getvalue()


def test_an_experiment_of_the_tiny_world_costs_no_figure_of_a_real_model(tmp_path):
    listed = {name: runs for name, _, runs in figures.listed(tmp_path, "7b")}
    assert listed["demo"] == "" and listed["sgd_steps"] == "0 of 25"
    assert make_figures([], tmp_path, tmp_path / "out", tier="7b") and not (tmp_path / "out" / "demo.png").exists()
    with pytest.raises(UsageError, match="the experiment 'demo' cannot run at the tier 7b"):
        make_figures(["demo"], tmp_path, tmp_path / "out", tier="7b")


def test_a_real_model_goes_to_no_scheduler_without_gpus(tmp_path):
    for backend, cluster in (("ray", {}), ("slurm", {"time": 60})):
        with pytest.raises(UsageError, match=f"--gpus N: a job of {backend} gets no GPU unless.*7b wants them"):
            run_sweep("kl", tier="7b", dry_run=True, backend=backend, cluster=cluster, out=tmp_path)
        told = {"backend": backend, "cluster": cluster, "gpus": 8, "console": Console(file=StringIO())}
        assert run_sweep("kl", tier="7b", dry_run=True, out=tmp_path, **told).exit_code == 0


def test_an_experiment_that_says_nothing_of_real_models(tmp_path):
    with pytest.raises(UsageError, match="the experiment 'demo' cannot run at the tier 7b"):
        run_sweep("demo", tier="7b", dry_run=True, out=tmp_path)
    with pytest.raises(UsageError, match="no tier '7bb'.*did you mean '7b'.*there are: tiny, 1.5b, 7b, 32b"):
        run_sweep("demo", tier="7bb", dry_run=True, out=tmp_path)
    plain = load_experiment("demo").model_dump() | {"scale": Scale(arms={"on-polcy": {}}).model_dump()}
    with pytest.raises(ValueError, match="scale.arms: 'on-polcy' is no arm .did you mean 'on-policy'"):
        Experiment.model_validate(plain)
