"""A whole run on the session's engine: what it leaves, whether the numbers fit together, how it resumes and fails."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from or1lab import train
from or1lab.errors import Or1labError, UsageError
from or1lab.magic.advantages import group_advantages
from or1lab.magic.trainer import MagicTrainer
from or1lab.models import find_model
from or1lab.recipe import load_recipe
from or1lab.results import best_step
from or1lab.rewards import Verdict
from or1lab.rollout.base import Request, encode_prompt, sample_seed
from or1lab.sources import load_problems, load_tokenizer, model_folder
from or1lab.store import Run
from or1lab.world import CLAIMS, FOLLOW_UPS, content_hash
from tests.lacking import needs_vllm

SMALL = Path(__file__).parent / "small.yaml"
BASE = model_folder("tiny")
OFF_POLICY = ["D_T=2", "entropy=paper", "tgt_ent=2.0", "delta=0.01", "lr=1e-3", "seed=5"]
STEP = {
    "kind", "step", "stage", "reward/mean", "reward/nontruncated", "reward/errors", "length/mean", "length/p95",
    "length/truncated_frac", "groups/sampled", "groups/kept_frac", "groups/all_right_frac", "groups/all_wrong_frac",
    "tokens/generated", "tokens/kept", "sgd/steps", "entropy/rollout", "entropy/e_k", "entropy/bonus", "entropy/c",
    "entropy/alpha", "ratio/max", "clip/low_frac", "clip/high_frac", "kl/rollout_trainer", "kl/rollout_trainer_max",
    "kl/reference", "grad/norm", "lr", "time/rollout", "time/update", "time/sync", "time/other", "time/elapsed",
    "tokens_per_s", "memory/peak_gib", "loss", "reward/p_nontruncated", "reward/nontruncated_by_problem",
    "reward/decomposition_rest", "reward/mean/<domain>", "advantage/histogram", "entropy/by_position", "entropy/top20",
    "entropy/top20_share", "length/all", "correction/above_cap_frac", "correction/above_cap_long_frac",
}  # fmt: skip
EVAL = {
    "kind", "step", "eval/accuracy", "eval/accuracy/<domain>", "eval/nontruncated", "eval/length",
    "eval/truncated_frac", "eval/entropy", "time/eval", "time/elapsed",
}  # fmt: skip
TIMES = ("time/", "tokens_per_s", "memory/")


def steady(run: Run) -> pd.DataFrame:
    """A run's metrics without what the clock decides."""
    frame = run.metrics
    return frame[[name for name in frame if not name.startswith(TIMES)]]


@contextmanager
def power_cut(monkeypatch, at: int):
    """Training inside ends as training step `at` begins."""
    whole = MagicTrainer.training_step

    def cut(self, model, inputs, *rest):
        if int(inputs["step"]) == at:
            raise KeyboardInterrupt
        return whole(self, model, inputs, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MagicTrainer, "training_step", cut)
        yield


@pytest.fixture(scope="module")
def finished(engine, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "off-policy"
    return train.run(load_recipe(SMALL, OFF_POLICY), folder, engine=engine, progress=False)


def test_every_metric_of_the_design_is_there(finished):
    metrics = finished.metrics
    steps, evals = (metrics[metrics["kind"] == kind].dropna(axis=1, how="all") for kind in ("step", "eval"))
    steps, evals = (frame.rename(columns=lambda name: name.replace("/tiny", "/<domain>")) for frame in (steps, evals))
    assert set(steps) == STEP and list(steps["step"]) == [1, 2, 3, 4]
    assert documented("step") == STEP - {"kind", "step"}
    assert (
        set(evals) == EVAL | {"final"}
        and documented("eval") >= EVAL - {"kind", "step"}
        and list(evals["step"]) == [0, 2, 4]
    )
    assert list(evals["final"]) == [False, False, True]
    sgd = metrics[metrics["kind"] == "sgd"]
    assert list(sgd["sgd_step"]) == [n for k in steps["sgd/steps"] for n in range(int(k))]
    assert steps["sgd/steps"].max() == 2 and (sgd["grad/norm"] > 0).all()


def documented(kind: str) -> set[str]:
    """Metric names in the table of docs/metrics.md for records of that kind."""
    table = (
        (Path(__file__).parent.parent / "docs/metrics.md")
        .read_text()
        .partition(f"## {kind}\n")[2]
        .partition("\n## ")[0]
    )
    return {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall("`([^`]+)`", line.split("|")[1])
    }


def test_diagnostics_are_those_of_the_step(finished):
    """Histogram, decomposition and profile against the step's rollouts."""
    steps = finished.metrics.query("kind == 'step' and `sgd/steps` > 0").set_index("step")
    assert len(steps) >= 2
    for k, step in steps.iterrows():
        rows = finished.rollouts(k)
        assert sum(step["advantage/histogram"]) == rows["kept"].sum()
        p, r = step["reward/p_nontruncated"], step["reward/nontruncated_by_problem"]
        assert p == 1 - rows["truncated"].mean()
        assert p * r + step["reward/decomposition_rest"] == pytest.approx(rows["correct"].mean())
        assert len(step["entropy/by_position"]) == 10 and math.isfinite(step["entropy/by_position"][0])
        assert 0.2 < step["entropy/top20_share"] <= 1 and step["entropy/top20"] > step["entropy/bonus"] > 0


@pytest.mark.parametrize("mask", ["before", "after"])
def test_masked_responses_have_no_advantage_but_their_tokens_count(mask, engine, tmp_run):
    recipe = load_recipe(SMALL, [f"mask={mask}", "T=32", "D_R=16", "D_T=16", "stages.0.steps=1", "eval.every=0"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    step, rows = run.metrics.query("kind == 'step'").iloc[0], run.rollouts(1)
    masked = rows["truncated"] & rows["kept"]
    assert masked.any() and (rows.loc[masked, "advantage"] == 0).all()
    assert step["tokens/kept"] == rows.loc[rows["kept"], "length"].sum()


@needs_vllm
def test_the_manifest_says_what_ran(finished):
    manifest = finished.manifest
    assert manifest["hardware"]["threads"] == torch.get_num_threads() == 1
    assert finished.status == "finished" and manifest["backend"] == "vllm"
    assert manifest["recipe"]["D_T"] == 2 and manifest["seconds"] > 0
    assert manifest["model_hash"] and manifest["data_hash"] and manifest["packages"]["trl"]
    assert manifest["world"] is manifest["world_hash"] is None  # in no world, but for these claims
    assert manifest["claims_hash"] == content_hash(CLAIMS)
    assert manifest["follow_ups_hash"] == content_hash(FOLLOW_UPS)


def test_numbers_of_a_step_fit_its_rollouts(finished):
    step = finished.metrics.query("kind == 'step'").set_index("step").loc[3]
    rows = finished.rollouts(3)
    assert len(rows) == 16 and rows["problem_id"].nunique() == 4
    assert step["reward/mean"] == rows["correct"].mean()
    assert step["tokens/generated"] == rows["length"].sum() and step["length/all"] == list(rows["length"])
    assert step["entropy/rollout"] == pytest.approx(-rows["logprob"].sum() / rows["length"].sum())
    assert step["tokens/kept"] == rows.loc[rows["kept"], "length"].sum()
    rewards = torch.tensor(rows["correct"].to_numpy(dtype=float).reshape(4, 4))
    advantages, kept = group_advantages(rewards)
    assert torch.equal(advantages.flatten(), torch.tensor(rows["advantage"].to_numpy()))
    assert step["groups/kept_frac"] == kept.double().mean().item()


def test_the_controller_counts_up_below_its_target(finished):
    steps = finished.metrics.query("kind == 'step'")
    assert list(steps["entropy/c"]) == pytest.approx([0.0, 0.01, 0.02, 0.03])
    assert list(steps["entropy/alpha"]) == list(steps["entropy/c"])


@needs_vllm
def test_trainer_and_sampler_agree_at_every_step(finished):
    worst = finished.metrics["kl/rollout_trainer_max"].dropna()
    assert len(worst) and 0 < worst.max() < 5e-5


def test_the_final_model_loads_and_has_learned_something(finished, small_recipe):
    final = str(finished.folder / "checkpoints" / "final")
    model = AutoModelForCausalLM.from_pretrained(final, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    moved = [(a - b).abs().max().item() for a, b in zip(model.parameters(), base.parameters(), strict=True)]
    assert all(0 < distance < 0.1 for distance in moved)
    ours, theirs = (load_tokenizer(folder)("12-6=?")["input_ids"] for folder in (final, BASE))
    assert ours == theirs


@needs_vllm
def test_what_is_sampled_depends_on_seed_step_and_problem_alone(finished, engine):
    """The first step's rollouts, sampled again outside the run from the base policy."""
    recipe = load_recipe(SMALL, OFF_POLICY)
    tokenizer = load_tokenizer(BASE)
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    engine.sync(base.named_parameters())
    rows = finished.rollouts(1)
    problem = next(p for p in load_problems(recipe.data, "train", tokenizer) if p.id == rows["problem_id"].iloc[0])
    first = sample_seed(5, 1, problem.id)
    request = Request(encode_prompt(tokenizer, problem.prompt), [first + j for j in range(4)])
    (samples,) = engine.generate([request], tau=1.0, T=recipe.T)
    assert [tokenizer.decode(s.token_ids, skip_special_tokens=True) for s in samples] == list(rows["response"][:4])


def test_a_broken_off_run_resumes_to_the_same_numbers(finished, engine, tmp_run, monkeypatch):
    recipe = load_recipe(SMALL, OFF_POLICY)
    with power_cut(monkeypatch, at=4):
        train.run(recipe, tmp_run, engine=engine, progress=False)
    broken = Run.open(tmp_run)
    assert broken.status == "failed" and broken.last()["step"] == 3  # a step beyond the checkpoint of step 2
    with pytest.raises(Or1labError, match="--resume"):
        train.run(recipe, tmp_run, engine=engine, progress=False)
    resumed = train.run(recipe, tmp_run, resume=True, engine=engine, progress=False)
    pd.testing.assert_frame_equal(steady(resumed), steady(finished), check_exact=True)
    for step in (1, 2, 3, 4):
        pd.testing.assert_frame_equal(resumed.rollouts(step), finished.rollouts(step), check_exact=True)
    ours, theirs = (
        AutoModelForCausalLM.from_pretrained(run.folder / "checkpoints" / "final", dtype=torch.float32)
        for run in (resumed, finished)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_finished_run_is_left_alone_and_another_recipe_is_refused(finished, engine):
    before = (finished.folder / "metrics.jsonl").read_bytes()
    train.run(load_recipe(SMALL, OFF_POLICY), finished.folder, resume=True, engine=engine, progress=False)
    assert (finished.folder / "metrics.jsonl").read_bytes() == before
    lr, here = load_recipe(SMALL, OFF_POLICY).lr, re.escape(str(finished.folder))
    named = rf"^{here} was made with another recipe \(lr was {lr}, is now 0.2\): go back to it or .* with --out$"
    with pytest.raises(UsageError, match=named):  # the name and the mirror are none of the recipe's
        moved = [*OFF_POLICY, "lr=0.2", "name=mine", "wandb=online", "rollout.sleep=true"]
        train.run(load_recipe(SMALL, moved), finished.folder, resume=True, engine=engine)


def test_a_run_without_weight_sync_stops_with_a_reason(engine, tmp_run, monkeypatch):
    monkeypatch.setattr(engine, "sync", lambda named_weights: list(named_weights))
    recipe = load_recipe(SMALL, ["lr=1e-2", "eval.every=0"])
    with pytest.raises(Or1labError, match="disagree"):
        train.run(recipe, tmp_run, engine=engine, progress=False)
    run = Run.open(tmp_run)
    assert run.status == "failed" and "disagree" in run.manifest["error"]


@pytest.mark.filterwarnings("ignore:.*have no verdict")
def test_failing_verdicts_cost_their_samples_only(engine, tmp_run, monkeypatch):
    judged = train.get_reward("tiny")

    def flaky(problems, texts, truncated):
        verdicts = judged(problems, texts, truncated)
        return [Verdict(False, "error: judge died") if i % 4 == 1 else v for i, v in enumerate(verdicts)]

    monkeypatch.setattr(train, "get_reward", lambda name: flaky)
    recipe = load_recipe(SMALL, ["stages.0.steps=1", "eval.every=0"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    step, rows = run.metrics.query("kind == 'step'").iloc[0], run.rollouts(1)
    failed = rows["reason"].str.startswith("error")
    assert step["reward/errors"] == 4 == failed.sum() and math.isfinite(step["reward/mean"])
    assert step["tokens/kept"] == rows.loc[rows["kept"] & ~failed, "length"].sum()


def test_verifier_errors_turn_verdicts_of_training_and_none_of_an_evaluation(engine, tmp_run):
    plain = train.run(load_recipe(SMALL, ["stages.0.steps=1"]), tmp_run / "plain", engine=engine, progress=False)
    weak = ["stages.0.steps=1", "verifier_errors={misses: 1.0, pays: 0.0}"]
    turned = train.run(load_recipe(SMALL, weak), tmp_run / "weak", engine=engine, progress=False)
    before, after = plain.rollouts(1), turned.rollouts(1)
    assert before["correct"].any() and not after["correct"].any()
    assert list(after["reason"] == "missed") == list(before["correct"])
    first = [run.metrics.query("kind == 'eval'")["eval/accuracy"].iloc[0] for run in (plain, turned)]
    assert first[0] == first[1] > 0  # of the base policy


def test_preview_samples_and_judges(engine, small_recipe):
    rows = train.preview(small_recipe, 3, engine=engine)
    assert len(rows) == 3
    assert {"prompt", "response", "gold", "reason", "correct", "length"} <= set(rows[0])


def test_a_run_stopped_after_its_final_evaluation_has_one_when_it_resumes(engine, tmp_run, monkeypatch):
    recipe = load_recipe(SMALL, ["stages.0.steps=2"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MagicTrainer, "save_final", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        train.run(recipe, tmp_run, engine=engine, progress=False)
    assert Run.open(tmp_run).metrics["final"].sum() == 1
    run = train.run(recipe, tmp_run, resume=True, engine=engine, progress=False)
    assert run.status == "finished" and run.metrics["final"].sum() == 1
    assert len(run.evals.query("final")) == 8 * 2


def test_an_evaluation_at_two_temperatures_survives_a_death(engine, tmp_run, monkeypatch):
    short = ["stages.0.steps=3", "eval.k=2", "checkpoint.keep=2"]
    recipe = load_recipe(SMALL, [*short, "eval.temperatures=[1.0, 0.5]"])
    plain = train.run(load_recipe(SMALL, short), tmp_run / "plain", engine=engine, progress=False)
    with power_cut(monkeypatch, at=3):
        train.run(recipe, tmp_run / "both", engine=engine, progress=False)
    run = train.run(recipe, tmp_run / "both", resume=True, engine=engine, progress=False)
    evals = run.metrics.query("kind == 'eval'")
    assert list(evals["step"]) == [0, 2, 3] and list(evals["final"]) == [False, False, True]
    frame = run.evals
    for step in (0, 2, 3):
        for tau, name in ((1.0, "eval/accuracy"), (0.5, "eval/accuracy/tau-0.5")):
            own = frame[(frame["step"] == step) & (frame["tau"] == tau)]
            assert len(own) == 8 * 2 and (own["final"] == (step == 3)).all()
            assert own["correct"].mean() == pytest.approx(evals.set_index("step").loc[step, name])
    names = [name for name in steady(plain) if name in steady(run)]  # the main temperature is that of a run with one
    pd.testing.assert_frame_equal(steady(run)[names], steady(plain)[names])
    assert {"eval/accuracy/tiny/tau-0.5", "eval/entropy/tau-0.5", "eval/truncated_frac/tau-0.5"} <= set(evals)
    assert (evals["eval/entropy/tau-0.5"] < evals["eval/entropy"]).all()
    best = best_step(run)
    own = run.evals.query("tau == 1.0 and step > 0")
    assert best["accuracy"] == own.groupby("step")["correct"].mean().max() and best["problems"] == 8
    assert find_model(f"{run.folder}@best").step == best["step"] and find_model(str(run.folder)).step == 3
    assert find_model(f"{run.folder}@2").folder.endswith("checkpoint-2")
    with pytest.raises(UsageError, match=r"no model of step '7'; there are: @2, @3, @final"):
        find_model(f"{run.folder}@7")


def test_a_checkpoint_of_another_base_policy_is_not_continued(engine, tmp_run, monkeypatch):
    recipe = load_recipe(SMALL, ["stages.0.steps=4"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MagicTrainer, "save_final", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        train.run(recipe, tmp_run, engine=engine, progress=False)
    Run.open(tmp_run).update_manifest(model_hash="0123456789abcdef")
    with pytest.raises(Or1labError, match="another model"):
        train.run(recipe, tmp_run, resume=True, engine=engine, progress=False)


def test_the_time_of_a_killed_sitting_counts(engine, tmp_run):
    recipe = load_recipe(SMALL, ["stages.0.steps=2", "eval.every=0"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False)
    run.log("step", step=3, **{"time/elapsed": 1501.0})
    run.update_manifest(status="running", seconds=500.0)  # as a SIGKILL in a second sitting leaves it
    assert train.run(recipe, tmp_run, resume=True, engine=engine, progress=False).manifest["seconds"] > 1500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("T=100000", "has a context of 1024"),
        ("eval.final_problems=100", "only 16 to test on"),
        ("D_R=1000", "only 64 problems"),
        ("reward=math", "domain 'tiny'"),
        ("data.options={operands: 5}", "data.options"),
        ("data.prompt_limit=2", "longer than data.prompt_limit"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(change, message, tmp_run):
    with pytest.raises(UsageError, match=message):
        train.run(load_recipe(SMALL, [change, "eval.every=1"]), tmp_run)
    assert not tmp_run.exists()


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(UsageError, match="is a file"):
        train.run(load_recipe(SMALL), tmp_path / "run")


def test_the_fallback_engine_trains_a_run(tmp_run):
    """What macOS gets: transformers samples; the sync check of every step compares it with the trainer."""
    recipe = load_recipe(SMALL, ["stages.0.steps=2", "rollout.backend=transformers", "D_T=2", "lr=1e-3"])
    run = train.run(recipe, tmp_run, progress=False)
    assert run.status == "finished" and run.manifest["backend"] == "transformers"
    assert run.metrics["kl/rollout_trainer_max"].max() < 5e-5


def test_a_guard_stops_a_run_and_says_why(engine, tmp_run):
    watched = ["guard.entropy_below=5", "guard.steps=2", "eval.every=0"]
    with pytest.raises(Or1labError, match=r"below 5 for 2 steps in a row, at step 2 .*--resume"):
        train.run(load_recipe(SMALL, [*watched, "guard.action=stop"]), tmp_run, engine=engine, progress=False)
    stopped = Run.open(tmp_run)
    assert stopped.status == "failed" and stopped.last()["step"] == 2 and len(stopped.manifest["alarms"]) == 1
    with pytest.warns(UserWarning, match="below 5"):  # the same run, with a guard that only warns
        run = train.run(load_recipe(SMALL, watched), tmp_run, resume=True, engine=engine, progress=False)
    assert run.status == "finished" and run.last()["step"] == 4
