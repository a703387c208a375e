"""The benchmarks compare like with like, and print what they say they print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import batch as rollouts
from benchmarks import coverage, gpu_check
from benchmarks.flops import update_flops
from benchmarks.ours import Ours, recipe_for
from benchmarks.stock import Stock
from benchmarks.timing import alternate, ratio


@pytest.fixture(scope="module")
def tiny():
    return rollouts.load("tiny")


def gradients(model) -> torch.Tensor:
    return torch.cat([p.grad.double().flatten() for p in model.parameters()])


@pytest.mark.parametrize("micro_batch", [8, 32])
def test_stock_trl_and_ours_have_the_same_gradient(tiny, micro_batch, monkeypatch):
    """`loss_type="dapo"`, no rejected group, one mini-batch: there both mean the same. Through real models and TRL's
    own trainer, from rewards to gradients."""
    _, tokenizer = tiny
    token_ids = range(5, 30)
    batch = rollouts.make_batch(token_ids, 8, rejected=0.0)
    stock = Stock(rollouts.load("tiny")[0], tokenizer, batch, micro_batch)
    recipe = recipe_for(batch, "loss=trl_dapo", "adv_eps=1e-4", "clip_high=0.28", "micro_tokens=700")
    ours = Ours(rollouts.load("tiny")[0], batch, recipe)
    seen = {}

    def hold(name, model):
        def clip(*_, **__):
            seen[name] = gradients(model)

        return clip

    monkeypatch.setattr(stock.trainer, "_clip_grad_norm", hold("stock", stock.model))
    monkeypatch.setattr(ours, "_step", hold("ours", ours.model))
    stock.update()
    ours.update()
    assert seen["stock"].norm() > 0.01
    assert (seen["ours"] - seen["stock"]).norm() / seen["stock"].norm() < 1e-5


def test_the_batch_is_what_the_issue_of_speed_is_about():
    batch = rollouts.make_batch(range(5, 30), 32)
    sizes = torch.tensor([len(response) for response in batch.responses], dtype=torch.float64)
    assert len(sizes) == 256 and sizes.max() == 160 and 38 < sizes.mean() < 44 and sizes.median() < sizes.mean()
    equal = batch.rewards.amax(1) == batch.rewards.amin(1)
    assert equal.sum() == 13  # 40% of 32
    none = rollouts.make_batch(range(5, 30), 32, rejected=0.0)
    assert none.responses == batch.responses and (none.rewards.amax(1) > none.rewards.amin(1)).all()


def test_flops_count_by_hand(tiny):
    model, _ = tiny
    hidden, layers = model.config.hidden_size, model.config.num_hidden_layers
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    head = model.get_output_embeddings().weight.numel()
    one = update_flops(model, [3], 2)  # three tokens, two scored; pairs a causal mask leaves: 1 + 2 + 3
    assert one == 6 * ((linear - head) * 3 + head * 2 + 2 * layers * hidden * 6)


def test_ratios_are_medians_of_rounds():
    seconds = alternate({"stock": lambda: 6.0, "ours": iter([9.0, 2.0, 3.0, 1.0]).__next__}, rounds=3)
    assert seconds == {"stock": [6.0] * 3, "ours": [2.0, 3.0, 1.0]}  # the 9 was the warm-up
    found = ratio(seconds["stock"], seconds["ours"])
    assert (found["ratio"], found["low"], found["high"], found["ours"]) == (3.0, 2.5, 4.5, 2.0)


def test_coverage_knows_what_is_true_of_its_tables():
    rng = np.random.default_rng(0)
    world = coverage.World(rng.beta(1, 3, 4), rng)
    right, cut, lengths = world.table(100_000)
    true = world.truth(2)
    assert true["avg@k"] == pytest.approx(right.mean(), rel=0.02)
    assert true["pass@k"] == pytest.approx((right[:, ::2] | right[:, 1::2]).mean(), rel=0.02)
    assert true["non-truncated accuracy"] == pytest.approx((right & ~cut).sum() / (~cut).sum(), rel=0.02)
    assert true["mean length"] == pytest.approx(lengths.mean(), rel=0.02)
    assert true["tokens per right response"] == pytest.approx(lengths.sum() / (right & ~cut).sum(), rel=0.02)
    found = coverage.cell("Beta(2, 2)", 30, 4, 40, seed=0)
    assert len(found) == 13 and all(0.8 <= share <= 1 for share in found.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_output_layer_keeps_its_promise_of_memory():
    """At vocabulary 151,936 and 4,096 tokens: not above TRL's fused head, an eighth of full logits, equal gradients."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.memory", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["ours"]["peak_mib"] <= result["TRL fused"]["peak_mib"]
    assert result["ours"]["of_full_logits"] <= 1 / 8 and result["ours"]["gradient_difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", ["update", "step"])
def test_the_commands_print_what_outside_checks_read(name):
    only = ["--only", "tiny"] if name == "update" else []
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", "--rounds", "1", *only]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)["tiny"]
    assert {"ratio", "low", "high", "threads", "stock", "ours"} <= set(result)
    assert result["stock"] > 0 and result["ratio"] == pytest.approx(result["stock"] / result["ours"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_coverage_is_printed():
    command = [sys.executable, "-m", "benchmarks.coverage", "--json", "--tables", "10"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["coverage"]["avg@k, over problems"]["cells"] == 72
    taken = result["seconds"]
    assert taken["avg@64, over problems"] < 0.1 and taken["scipy's bootstrap of avg@64, 10000 resamples"] < 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_judge_is_measured_in_all_formats():
    command = [sys.executable, "-m", "benchmarks.judge", "--json", "--rounds", "1", "--programs", "6"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    rates = result["per_second"]
    assert set(result["20_tests_to_1"]) == {"function", "assert"} < set(rates)
    for way, times in result["judge_to_bare"].items():
        assert times == pytest.approx(rates[way] / rates["judge"])
    assert result["layers"]["bubblewrap"] and len(result["load_before_and_after"]) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gpu_check_runs_on_a_cpu_what_it_can(tmp_path):
    file, names = tmp_path / "check.json", ("output layer", "update", "training float32", "sleep")
    only = [word for name in names for word in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--save", str(file), *only]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads(file.read_text())["results"]["checks"]
    assert [checks[name]["outcome"] for name in names] == ["pass", "pass", "pass", "skipped"]
    assert checks["update"]["numbers"]["ratio"] > 0
    assert checks["training float32"]["numbers"]["equal after resuming"] == 1


def test_every_benchmark_can_be_imported():
    names = [f"benchmarks.{path.stem}" for path in sorted(Path(gpu_check.__file__).parent.glob("*.py"))]
    done = subprocess.run([sys.executable, "-c", f"import {', '.join(names)}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_gpu_check_ends_when_its_time_is_up():
    left = gpu_check.run("output layer", ["0"], left=0.0)
    assert left["outcome"] == "fail" and "took all the time" in left["why"]
    cut = gpu_check.run("output layer", ["0"], left=0.5)
    assert cut["outcome"] == "fail" and cut["why"] == "not finished in 0 s, or killed" and cut["seconds"] < 30
