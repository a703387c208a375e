"""Stages in whole runs: what carries over, what starts afresh, what a stage may set, how it ends, what is resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from or1lab import train
from or1lab.curriculum import Curriculum
from or1lab.magic import trainer as trainer_module
from or1lab.magic.trainer import MagicTrainer
from or1lab.recipe import load_recipe
from or1lab.rewards import Verdict
from or1lab.store import Run
from tests.lacking import needs_vllm
from tests.test_train import power_cut, steady

SMALL = Path(__file__).parent / "small.yaml"
TWO = ["stages=[{steps: 2}, {steps: 2}]", "eval.every=0", "lr=1e-3"]


@pytest.fixture
def optimizer_ages(monkeypatch) -> list[int]:
    """Optimizer steps taken by the state, seen at the end of each training step (0: no state yet)."""
    ages = []
    whole = MagicTrainer.log

    def log(self, logs, start_time=None):
        if self.pending:
            state = self.optimizer.state
            ages.append(int(max((entry["step"] for entry in state.values()), default=torch.tensor(0))))
        whole(self, logs, start_time)

    monkeypatch.setattr(MagicTrainer, "log", log)
    return ages


@pytest.mark.parametrize(
    ("start", "ages", "c"), [("carried", [1, 2, 3, 4], [0, 1, 2, 3]), ("fresh", [1, 2, 1, 2], [0, 1, 0, 1])]
)
def test_optimizer_and_controller_carry_over_or_start_afresh(start, ages, c, engine, tmp_run, optimizer_ages):
    controlled = ["entropy=paper", "tgt_ent=2.0", "delta=0.01", "checkpoint.every=1"]
    recipe = load_recipe(SMALL, [*TWO, *controlled, f"stage_start={start}"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    assert optimizer_ages == ages
    assert list(run.metrics.query("kind == 'step'")["entropy/c"]) == pytest.approx([0.01 * n for n in c])


@pytest.mark.parametrize("start", ["carried", "fresh"])
@pytest.mark.parametrize("cut", [3, 4])
def test_a_run_cut_at_or_after_a_boundary_resumes_to_the_same(start, cut, engine, tmp_path, monkeypatch):
    recipe = load_recipe(SMALL, [*TWO, "checkpoint.every=1", f"stage_start={start}", "entropy=paper", "tgt_ent=2.0"])
    whole = train.run(recipe, tmp_path / "whole", engine=engine, progress=False)
    with power_cut(monkeypatch, at=cut):
        train.run(recipe, tmp_path / "cut", engine=engine, progress=False)
    resumed = train.run(recipe, tmp_path / "cut", resume=True, engine=engine, progress=False)
    pd.testing.assert_frame_equal(steady(resumed), steady(whole), check_exact=True)


@needs_vllm  # whose samples keep two groups in these steps
def test_a_stage_sets_its_own_batch_clip_temperature_and_kl(engine, tmp_run):
    """KL is off in the first stage (no pass of the reference) and on in the second."""
    second = "{steps: 2, T: 96, D_R: 8, D_T: 4, gs: 2, tau: 0.7, beta: 0.5, clip_low: 0.1, clip_high: 0.3}"
    recipe = load_recipe(SMALL, [f"stages=[{{steps: 2, T: 64}}, {second}]", "eval.every=0", "lr=1e-3"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    steps = run.metrics.query("kind == 'step'").set_index("step")
    assert list(steps["groups/sampled"]) == [4, 4, 8, 8]
    assert [len(run.rollouts(k)) for k in (1, 2, 3, 4)] == [16, 16, 16, 16]
    assert list(steps.loc[[1, 2], "kl/reference"]) == [0, 0] and (steps.loc[[3, 4], "kl/reference"] > 0).all()
    assert steps["kl/rollout_trainer_max"].max() < 5e-5  # both at the stage's temperature
    assert (steps.loc[[3, 4], "entropy/rollout"] < steps.loc[1, "entropy/rollout"]).all()  # 0.7 is cooler than 1
    assert run.rollouts(1)["length"].max() <= 64
    kept = [run.rollouts(k).query("kept")["problem_id"].nunique() for k in (3, 4)]
    assert list(steps.loc[[3, 4], "sgd/steps"]) == [min(2, n) for n in kept] and max(kept) >= 2  # D_R / D_T


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_stage_sets_its_own_entropy_control_and_resumes_with_it(cut, engine, tmp_path, monkeypatch):
    stages = "stages=[{steps: 2}, {steps: 2, entropy: constant, alpha: 0.02}]"
    recipe = load_recipe(
        SMALL, [stages, "eval.every=0", "entropy=paper", "tgt_ent=2.0", "delta=0.01", "checkpoint.every=1"]
    )
    whole = train.run(recipe, tmp_path / "whole", engine=engine, progress=False)
    steps = whole.metrics.query("kind == 'step'")
    assert list(steps["entropy/alpha"]) == pytest.approx([0, 0.01, 0.02, 0.02])
    assert list(steps["entropy/c"]) == pytest.approx([0, 0.01, 0, 0])
    with power_cut(monkeypatch, at=cut):
        train.run(recipe, tmp_path / "cut", engine=engine, progress=False)
    resumed = train.run(recipe, tmp_path / "cut", resume=True, engine=engine, progress=False)
    pd.testing.assert_frame_equal(steady(resumed), steady(whole), check_exact=True)


def test_kl_switched_off_again_costs_no_reference_pass(engine, tmp_run, monkeypatch):
    passes = []
    whole = trainer_module.Policy.reference_logp
    monkeypatch.setattr(
        trainer_module.Policy, "reference_logp", lambda self, *rest: passes.append(1) or whole(self, *rest)
    )
    recipe = load_recipe(SMALL, ["stages=[{steps: 1, beta: 0.1}, {steps: 2}]", "eval.every=0"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    steps = run.metrics.query("kind == 'step'")
    assert steps["sgd/steps"].iloc[1:].sum() > 0  # there was something to leave out
    assert 0 < len(passes) <= 2 and list(steps["kl/reference"].iloc[1:].fillna(0)) == [0, 0]


def test_a_stage_ends_when_its_evaluations_stop_rising(engine, tmp_run, monkeypatch):
    """Everything wrong: the accuracy is flat, so both stages end at their third evaluation, long before their steps are
    up; the run ends with the second, leaves its decisions in its records, and resumes to the same from the boundary."""
    wrong = Verdict(False, "wrong")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [wrong] * len(problems))
    stage = "{steps: 50, until_converged: {window: 3, min_steps: 3}}"
    recipe = load_recipe(SMALL, [f"stages=[{stage}, {stage}]", "eval.every=1", "eval.problems=2", "checkpoint.every=1"])
    with power_cut(monkeypatch, at=4):
        train.run(recipe, tmp_run, engine=engine, progress=False)
    run = train.run(recipe, tmp_run, resume=True, engine=engine, progress=False)
    steps, evals = (run.metrics.query("kind == @kind") for kind in ("step", "eval"))
    assert list(steps["stage"]) == [0, 0, 0, 1, 1, 1]
    decisions = evals.dropna(subset="stage/slope")
    assert list(decisions["step"]) == [3, 6] and decisions["stage/converged"].all()
    assert (decisions[["stage/slope", "stage/slope_low", "stage/slope_high"]] == 0).all(axis=None)
    assert run.status == "finished" and evals["final"].iloc[-1]


def test_the_filtered_problems_are_kept(engine, tmp_run, monkeypatch):
    right = Verdict(True, "match")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [right] * len(problems))
    recipe = load_recipe(SMALL, [*TWO, "online_filter=last"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    kept = json.loads((tmp_run / "online_filter.json").read_text())
    assert kept["1"] == sorted(set(run.rollouts(1)["problem_id"]) | set(run.rollouts(2)["problem_id"]))


@pytest.mark.parametrize("changes", [["D_T=2"], ["D_T=4", "N_reuse=2"]])
def test_old_log_probs_of_sampler_and_trainer_give_the_same_metrics(changes, engine, tmp_path):
    runs: dict[str, Run] = {}
    for source in ("trainer", "sampler"):
        recipe = load_recipe(SMALL, [*changes, f"old_logp={source}", "D_R=4", "stages.0.steps=3", "eval.every=0"])
        runs[source] = train.run(recipe, tmp_path / source, engine=engine, progress=False)
    frames = [steady(run).drop(columns=["kl/rollout_trainer", "kl/rollout_trainer_max"]) for run in runs.values()]
    numbers = [frame.select_dtypes("number") for frame in frames]
    assert (numbers[0]["ratio/max"] > 1.001).any()
    pd.testing.assert_frame_equal(*numbers, check_exact=False, rtol=1e-4, atol=1e-4)
    pd.testing.assert_frame_equal(runs["trainer"].rollouts(3), runs["sampler"].rollouts(3), atol=1e-4)


def test_the_importance_correction_is_close_to_one_in_fp32_and_off_by_default(engine, tmp_path):
    """In fp32 the sampler is the trainer, but for rounding: the corrected run hardly differs, yet it differs."""
    runs = {}
    for correction in ("none", "truncated"):
        recipe = load_recipe(
            SMALL, ["old_logp=trainer", f"correction={correction}", "stages.0.steps=2", "eval.every=0"]
        )
        runs[correction] = steady(train.run(recipe, tmp_path / correction, engine=engine, progress=False))
    assert load_recipe(SMALL).correction == "none"
    plain, corrected = (list(runs[name]["loss"].dropna()) for name in ("none", "truncated"))
    assert plain != corrected and plain == pytest.approx(corrected, abs=1e-4)


def test_the_curriculum_of_a_checkpoint_is_loaded_before_the_trainer_is_made(engine, tmp_run, monkeypatch):
    """A run killed between its converged end and its final model has no step left to take."""
    wrong = Verdict(False, "wrong")
    monkeypatch.setattr(train, "get_reward", lambda name: lambda problems, *_: [wrong] * len(problems))
    stage = "{steps: 50, until_converged: {window: 3}}"
    recipe = load_recipe(SMALL, [f"stages=[{stage}]", "eval.every=1", "eval.problems=2", "checkpoint.every=2"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MagicTrainer, "save_final", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        train.run(recipe, tmp_run, engine=engine, progress=False)
    run = train.run(recipe, tmp_run, resume=True, engine=engine, progress=False)
    assert list(run.metrics.query("kind == 'step'")["step"]) == [1, 2, 3]
    assert Curriculum(recipe, [None] * 64).last_step == 50  # type: ignore[list-item]
