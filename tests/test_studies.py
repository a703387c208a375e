"""The studies of experiments/ablations: what they are, that they share runs, how the paper's constants came over."""

from __future__ import annotations

import json
from collections import defaultdict
from operator import attrgetter

import pytest
import yaml

from or1lab.claims import load_follow_ups
from or1lab.data.tiny import BASE
from or1lab.errors import UsageError
from or1lab.experiment import EXPERIMENTS, Job, expand, load_experiment
from or1lab.recipe import load_recipe, recipe_hash

FOLLOW_UPS = {claim.experiment for claim in load_follow_ups()}
STUDIES = {path.stem: load_experiment(path.stem) for path in sorted(EXPERIMENTS.glob("*.yaml")) if path.stem != "demo"}
GRID: list[Job] = [job for study in STUDIES.values() for job in expand(study)]


def arms(name: str) -> dict[str, Job]:
    """The jobs of a study's first seed by arm."""
    return {job.arm: job for job in expand(STUDIES[name], [100])}


def test_every_study_of_the_plan_is_there():
    assert set(STUDIES) == {
        "mixture", "multi_stage", "masks", "temperature", "adaptive_stages", "kl", "alpha_prelim", "diversity",
        "sgd_steps", "on_off_policy", "off_policy_batch", "fixed_alpha", "data_sensitivity", "adaptive_control",
        "clip_higher", "resources", "filters", "verifier", "controllers", "loss_weighting", "rejection", "correction",
        "baseline", *FOLLOW_UPS,
    }  # fmt: skip
    assert all(study.name == name and study.recipe == "tiny" for name, study in STUDIES.items())


def test_seeds_are_fixed_and_no_pilots():
    for study in STUDIES.values():
        assert study.seeds in ([100, 101, 102], [100, 101, 102, 103, 104]), study.name


def test_shared_arms_are_one_run():
    """222 runs in all, 198 without the follow-ups: an arm that two studies name is the same recipe."""
    assert len({recipe_hash(job.recipe) for job in GRID}) == 222 < len(GRID)
    first = {recipe_hash(job.recipe) for job in GRID if job.experiment.name not in FOLLOW_UPS}
    assert len(first) == 198
    by_hash = defaultdict(set)
    for job in GRID:
        if job.seed == 100:
            by_hash[recipe_hash(job.recipe)].add(f"{job.experiment.name}/{job.arm}")
    at = {name: names for names in by_hash.values() for name in names}
    assert at["sgd_steps/4-64-16-1"] >= {"clip_higher/clip-0.20", "adaptive_control/4-none"}
    assert at["baseline/baseline"] >= {"sgd_steps/1-64-64-1", "diversity/D_R-64", "verifier/exact", "filters/all"}
    assert at["mixture/broad"] >= {"controllers/paper", "adaptive_control/2-adaptive"}
    assert at["high_target/none"] == at["adaptive_control/4-none"]
    assert at["resources/gs-4"] == {"resources/gs-4", "diversity/gs-4"}


def test_no_study_has_the_same_arm_twice():
    for study in STUDIES:
        hashes = [recipe_hash(job.recipe) for job in arms(study).values()]
        assert len(set(hashes)) == len(hashes), study


OTHER_PROBLEMS = {  # arms that ask just that
    "mixture": {"narrow", "noise"}, "data_sensitivity": {"narrow"}, "filters": {"offline", "online", "online-off"},
}  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_all_arms_of_a_study_start_from_the_same_problems(name):
    """But those that ask what other problems do."""
    data = {arm: job.recipe.data.model_dump_json() for arm, job in arms(name).items()}
    same = {data[arm] for arm in data.keys() - OTHER_PROBLEMS.get(name, set())}
    assert len(same) == 1 and same.isdisjoint(data[arm] for arm in OTHER_PROBLEMS.get(name, ()))


def test_a_run_is_120_steps_with_its_jobs_seed():
    for job in GRID:
        assert job.recipe.seed == job.seed
        assert job.recipe.total_steps == (360 if job.experiment.name == "long_run" else 120), job.name
        assert job.recipe.eval.final_problems * job.recipe.eval.final_k >= 2048


def test_arms_from_a_stage_1_checkpoint_share_stage_1():
    """The first stage of each is the same recipe, so one seed takes every arm to the same checkpoint."""
    for study in ("kl", "fixed_alpha"):
        firsts = {recipe_hash(job.recipe.stage(0)) for job in arms(study).values()}
        seconds = {recipe_hash(job.recipe.stage(1)) for job in arms(study).values()}
        assert len(firsts) == 1 and len(seconds) == len(STUDIES[study].arms)


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.paper and study.paper.table])
def test_settings_are_the_papers_by_a_common_divisor(name):
    """Batches over 4 or 16, the same in all arms of a study, and groups over 2; what is no constant of the world that
    comes over by a formula is unchanged in the last stage."""
    paper, divisors = STUDIES[name].paper, set()
    for arm, job in arms(name).items():
        theirs, last = paper.settings | paper.arms.get(arm, {}), job.recipe.by_stage[-1]
        divisors.add(divisor := theirs.pop("D_R") // last.D_R)
        assert divisor in (4, 16) and theirs.pop("D_T") == divisor * last.D_T and theirs.pop("gs") == 2 * last.gs
        unchanged = {key for key in theirs if key not in {"T", "lr", "tgt_ent", "alpha", "stages"}}
        unchanged -= {"beta"} if theirs.get("beta") else set()
        assert {key: attrgetter(key)(last) for key in unchanged} == {key: theirs[key] for key in unchanged}, arm
    assert len(divisors) == 1


@pytest.mark.parametrize("name", ["sgd_steps", "on_off_policy", "off_policy_batch", "diversity", "resources"])
def test_every_arm_has_the_papers_quadruple(name):
    paper = STUDIES[name].paper
    for arm, job in arms(name).items():
        theirs, ours = paper.settings | paper.arms[arm], job.recipe
        assert (theirs["D_R"], theirs["D_T"], theirs["N_reuse"]) == (4 * ours.D_R, 4 * ours.D_T, ours.N_reuse)
        assert theirs["gs"] == 2 * ours.gs
        if arm.count("-") == 3:
            assert arm == f"{ours.N_SGD}-{4 * ours.D_R}-{4 * ours.D_T}-{ours.N_reuse}"


def test_tables_1_to_6_have_one_study_each():
    tables = {study.paper.table: name for name, study in STUDIES.items() if study.paper and study.paper.table}
    assert tables == {1: "multi_stage", 2: "masks", 3: "temperature", 4: "kl", 5: "baseline", 6: "fixed_alpha"}


def test_constants_come_over_by_their_formulas():
    recipe, base = load_recipe("tiny"), json.loads((BASE / "base.json").read_text())
    factor = 20  # experiments/calibrate_alpha.py
    assert recipe.tgt_ent == pytest.approx(base["entropy"] / 3, abs=0.005)
    assert recipe.c_max == pytest.approx(0.005 * factor) and recipe.delta == pytest.approx(recipe.c_max / 50)
    for name in ("alpha_prelim", "fixed_alpha"):
        paper = STUDIES[name].paper
        for arm, job in arms(name).items():
            last = job.recipe.stage(len(job.recipe.stages) - 1)
            assert last.entropy == "constant" and last.alpha == pytest.approx(paper.arms[arm]["alpha"] * factor)
    assert arms("kl")["kl"].recipe.stage(1).beta == pytest.approx(STUDIES["kl"].paper.arms["kl"]["beta"] * factor)
    assert arms("kl")["none"].recipe.stage(1).beta == 0
    for arm, job in arms("clip_higher").items():
        assert job.recipe.clip_high == STUDIES["clip_higher"].paper.arms[arm]["clip_high"]
    assert base["length"]["q60"] == 34 and base["length"]["q95"] == 80 and base["length"]["q99"] < recipe.T


def test_section_3_runs_with_control_and_two_sgd_steps_section_4_without_and_one():
    for name in ("mixture", "multi_stage", "masks", "kl", "fixed_alpha"):
        assert all(job.recipe.N_SGD == 2 and job.recipe.entropy == "paper" for job in arms(name).values())
    for name in ("diversity", "loss_weighting", "verifier", "baseline"):
        assert all(job.recipe.N_SGD == 1 and job.recipe.entropy == "none" for job in arms(name).values())


def test_easy_problems_are_tested_on_the_hard_ones():
    for name in ("mixture", "data_sensitivity"):
        assert arms(name)["narrow"].recipe.data.test_options == {} == arms(name)["broad"].recipe.data.options


def test_a_key_that_is_none_of_ours_is_told(tmp_path):
    plain = yaml.safe_load((EXPERIMENTS / "masks.yaml").read_text())
    plain["paper"]["arms"]["before"] = {"advantage_mask": "before"}
    path = tmp_path / "masks.yaml"
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(UsageError, match="'advantage_mask' is no key of a recipe"):
        load_experiment(path)
