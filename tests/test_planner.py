"""The planner against torch's own counts, the report's tables, and its own promises."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import planner as bench
from benchmarks.flops import update_flops
from or1lab.errors import UsageError
from or1lab.planner import memory, times
from or1lab.planner.architecture import FILE, Architecture, architecture, of_config
from or1lab.planner.hardware import Cluster, cluster, device, known
from or1lab.planner.lengths import Law, law, measured
from or1lab.planner.memory import GIB, Layout
from or1lab.planner.plan import Plan, plan
from or1lab.planner.suggest import suggestions
from or1lab.recipe import ROOT, load_recipe, read_yaml
from tests.made_up import write_study

R1 = "deepseek-ai/DeepSeek-R1-Distill-Qwen-"
SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


def on_meta(config: dict):
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32)


def planned(recipe: str, gpus: str, *changes: str, sampled: Law | None = None, **layout) -> Plan:
    loaded = load_recipe(recipe, changes)
    return plan(
        loaded, architecture(loaded.model), cluster(gpus), sampled or law(loaded.model), Layout(**layout),
        any_tp="tp" not in layout, any_sleep="sleep" not in layout,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- counted


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "qwen2", **SMALL},
        {"model_type": "qwen2", **SMALL, "tie_word_embeddings": True},
        {"model_type": "qwen3", **SMALL, "head_dim": 16},
        {"model_type": "llama", **SMALL, "attention_bias": True, "mlp_bias": True},
        {"model_type": "mistral", **SMALL, "head_dim": 8},
        *(entry for entry in read_yaml(FILE).values() if "as" not in entry),
    ],
    ids=lambda config: f"{config['model_type']}-{config['hidden_size']}",
)
def test_parameters_are_those_that_torch_makes(config):
    model = on_meta(config)
    a = of_config(config, "x")
    assert a.parameters == sum(p.numel() for p in model.parameters())
    assert a.layers * a.layer + a.head == sum(
        m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)
    )


def test_base_models_have_the_published_sizes():
    sizes = {name: architecture(R1 + name).parameters for name in ("1.5B", "7B", "32B")}
    assert sizes == {"1.5B": 1_777_088_000, "7B": 7_615_616_512, "32B": 32_763_876_352}
    assert architecture("Skywork/Skywork-OR1-7B").parameters == sizes["7B"]
    assert architecture("tiny").parameters == 815_232 and architecture("smol").parameters == 134_515_008


def test_flops_are_those_of_the_benchmark():
    config = {"model_type": "qwen2", **SMALL}
    a = of_config(config, "x")
    lengths = [5, 9]
    pairs = sum(n * (n + 1) // 2 for n in lengths)
    assert 3 * a.forward_flops(sum(lengths), pairs, 7) == update_flops(on_meta(config), lengths, 7)


def test_the_cache_is_the_one_that_the_engine_asks_for():
    from or1lab.rollout.vllm_engine import kv_cache_bytes

    recipe, a = load_recipe("tiny"), architecture("tiny")
    asked = kv_cache_bytes(on_meta(json.loads(_config("tiny"))).config, "float32", 256, 24 + 128)
    assert memory.engine(a, recipe, cluster("cpu"), Layout())["engine: KV cache"] == asked


def _config(name: str) -> str:
    from or1lab.sources import model_folder

    return (ROOT / model_folder(name) / "config.json").read_text()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_layer_keeps_what_autograd_keeps(kind):
    """The tensors that the backward pass will ask for, parameters aside: those of two layers less those of one."""
    kept = []
    for layers in (1, 2):
        config = {"model_type": kind, **SMALL, "num_hidden_layers": layers}
        kept.append(_saved(config, rows=2, length=16) / 4 / 32)
    found = kept[1] - kept[0]
    assert found == of_config({"model_type": kind, **SMALL}, "x").saved_token


def _saved(config: dict, *, rows: int, length: int) -> int:
    from transformers import AutoConfig, AutoModelForCausalLM

    from or1lab.magic.head import add_response_head

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32).train()
    add_response_head(model)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def see(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.zeros(rows, length, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        model(input_ids=ids, labels=ids, response_tau=1.0)
    return sum(size for size, _ in storages.values())


# ------------------------------------------------------------------------------------------------- the report


def test_the_efficiency_in_the_file_is_the_one_that_is_fitted():
    assert known()["efficiency"] == pytest.approx(bench.fitted(), rel=2e-3)


def test_predictions_of_the_report():
    """Table 9, the other rows: within 3%. Table 8's rollouts: within 20%. Table 7's: 61% too long. t_T counts every
    group and is above what was reported, t_O counts no reward and is below."""
    rows = {row["what"]: row["error"] for row in bench.against_paper()}
    for gpus in (64, 128, 256):
        assert abs(rows[f"Table 9, {gpus} H800: t_R, s"]) < 0.03
    for what, error in rows.items():
        if "t_T" in what:
            assert 0 < error < 1.25
        elif "t_O" in what:
            assert -0.75 < error < 0
        elif "Table 8" in what:
            assert 0.1 < error < 0.2
        elif "Table 7" in what:
            assert 0.5 < error < 0.65


def test_the_law_of_lengths_has_the_means_that_it_is_made_from():
    """Figure 5a at step 0, read by eye: curves.yaml."""
    curves = read_yaml(ROOT / "experiments" / "paper" / "curves.yaml")["figure_5a"]["length"]
    for arm, T in (("multi-stage", 8192), ("from-scratch", 16384)):
        assert law("default").drawn(10_000, 1, T).mean() == pytest.approx(curves[arm][0][1], rel=0.005)


def test_lengths_that_do_not_go_by_problem_would_miss_table_9():
    """What docs/scale.md says of the choice."""
    rng, a = np.random.default_rng(0), architecture(R1 + "7B")
    groups = np.exp(np.log(8000) + 0.945 * rng.standard_normal((64, 16))).astype(np.int64).clip(1, 16384)
    apart = Law(250, groups=groups)
    seconds = []
    for gpus in (32, 256):
        job = replace(bench.section_4(gpus), law=apart)
        r = job.recipe.stage(0)
        seconds.append(times.rollout(times.Job(a, r, job.cluster, job.layout, apart), groups).seconds)
    assert seconds[1] / seconds[0] * 375 == pytest.approx(261, rel=0.01)  # reported: 205


def test_the_page_shows_what_the_benchmark_prints():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for row in bench.against_paper():
        assert f"| {row['what']} | {row['told']:.3g} | {row['predicted']:.3g} | {row['error']:+.0%} |" in page


# ------------------------------------------------------------------------------------------------- plans


def test_memory_of_training_state_is_sixteen_bytes_a_parameter():
    p = planned("7b", "8xH100", "rollout.gpu_memory_utilization=0.35")
    state = sum(p.update[part] for part in ("weights, float32", "Adam moments", "gradients"))
    assert state == pytest.approx(16 * 7_615_616_512 / 8)
    assert p.update["engine"] == pytest.approx(0.35 * 79 * GIB)
    assert planned("7b", "8xH100", sleep=True).update.get("engine") is None
    plain, with_reference = planned("7b", "8xH100"), planned("7b", "8xH100", "beta=0.1")
    assert with_reference.update["reference policy"] == pytest.approx(4 * 7_615_616_512 / 8)
    assert with_reference.update["gathered weights"] == 2 * 7_615_616_512 > plain.update["gathered weights"]
    assert plain.host_gib == pytest.approx(8 * 4 * 7_615_616_512 / GIB) == with_reference.host_gib / 2
    assert planned("7b", "8xH100", offload=True).update["Adam moments"] == 0
    apart = planned("7b", "8xH100", server=4, tp=2)
    assert "weights, float32" not in apart.rollout and apart.update["Adam moments"] == 8 * 7_615_616_512 / 4


def test_activations_follow_the_longest_row_or_the_budget():
    small, large = (planned("7b", "8xH100", f"micro_tokens={n}").update["activations"] for n in (1000, 34816))
    assert small == large  # a row longer than the budget makes a micro-batch of its own
    assert planned("7b", "8xH100", "micro_tokens=69632").update["activations"] == 2 * large


@pytest.mark.parametrize("recipe", ["7b", "32b"])
def test_more_gpus_shorten_a_step_down_to_its_longest_response(recipe):
    plans = [
        planned(recipe, f"{n}xH800", "rollout.gpu_memory_utilization=0.7", tp=4, sleep=True) for n in (64, 256, 1024)
    ]
    seconds = [p.stages[0].t_R for p in plans]
    assert seconds[0] > seconds[1] > seconds[2] >= plans[2].stages[0].floor == plans[0].stages[0].floor
    assert plans[0].gpu_hours < plans[2].gpu_hours
    assert [p.fits for p in plans] == [True] * 3


def test_what_is_kept_and_how_often_it_is_stepped_on_sets_the_update():
    whole = planned("7b", "32xH800").stages[0]
    half = planned("7b", "32xH800", sampled=replace(law(R1 + "7B"), kept=0.5)).stages[0]
    assert 0.4 < half.t_T / whole.t_T < 0.6 and half.t_R == whole.t_R
    # Two mini-batches a step: the second one's old log-probs cost a forward pass more.
    assert planned("7b", "32xH800", "D_T=128").stages[0].t_T > whole.t_T
    assert (
        planned("7b", "32xH800", "D_T=128", "old_logp=sampler").stages[0].t_T
        < planned("7b", "32xH800", "D_T=128").stages[0].t_T
    )


def test_hours_add_up():
    p = planned("math-7b", "64xH100")
    steps = sum(s.steps * (s.t_R + s.t_T + s.t_O) for s in p.stages) / 3600
    assert [s.steps for s in p.stages] == [740, 1000, 340, 80] and p.hours == pytest.approx(steps, rel=0.01)
    assert p.hours > steps and p.gpu_hours == 64 * p.hours


def test_the_report_is_predicted_by_the_recipes_as_they_are():
    own = bench.table_7().recipe
    assert own.rollout == load_recipe("32b").rollout and own.rollout.tensor_parallel == 2 and own.rollout.sleep
    assert bench.section_4(32).recipe.rollout == load_recipe("7b").rollout


def test_what_fits_is_shown_what_gpus_and_rollouts_are_worth():
    p = planned("7b", "128xH800", "rollout.gpu_memory_utilization=0.6", sleep=True, tp=4)
    found = {s.change: s for s in suggestions(p)}
    twice = found["--gpus 256xH800 rollout.tensor_parallel=4 rollout.sleep=true"]
    assert twice.why.startswith("twice the GPUs: 0.")
    more = found["D_R=512 D_T=512 stages.1.D_R=320 stages.1.D_T=320"]
    assert twice.plan.hours < p.hours and twice.plan.gpu_hours > p.gpu_hours
    assert more.plan.recipe.stage(1).D_R == 320 and more.plan.hours < 2 * p.hours
    alone = ("stages.1.D_R=512", "stages.1.D_T=null")  # the stage sets one of the two
    p = planned("7b", "128xH800", "rollout.gpu_memory_utilization=0.6", *alone, sleep=True)
    assert "D_R=512 D_T=512 stages.1.D_R=1024" in {s.change for s in suggestions(p)}


def test_more_gpus_that_make_a_run_slower_are_called_so():
    """The tiny world's weights are quicker gathered within a node than between two."""
    for gpus, slower in (("8xH100", True), ("2xH100", False)):
        p = planned("tiny", gpus)
        (twice,) = (s for s in suggestions(p) if s.why.startswith("twice the GPUs"))
        assert (twice.plan.hours > p.hours, twice.why.endswith("of the hours, slower")) == (slower, slower)


def test_lengths_come_from_the_law_or_from_a_run(tmp_path):
    drawn = law("tiny").drawn(101, 8, 128)
    assert drawn.shape == (101, 8) and (drawn == drawn[:, :1]).all()  # one problem, one length
    assert np.median(drawn) == 29 and drawn.max() <= 128
    write_study(tmp_path, "demo", seeds=[0])
    run = next(tmp_path.rglob("metrics.jsonl")).parent
    found = measured(run, prompt=12)
    recipe = json.loads((run / "manifest.json").read_text())["recipe"]
    assert found.groups.shape == (recipe["stages"][0]["steps"] * recipe["D_R"], recipe["gs"])
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if '"kind": "step"' in line]
    assert found.groups.sum() == sum(sum(step["length/all"]) for step in steps)
    assert found.kept == pytest.approx(np.mean([step["groups/kept_frac"] for step in steps]))
    assert found.drawn(5, 3, 20).shape == (5, 3) and found.drawn(5, 3, 20).max() <= 20


# ------------------------------------------------------------------------------------------------- machines and models


def test_only_models_it_can_count(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(UsageError, match="mamba.*llama"):
        architecture(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **SMALL}))
    assert isinstance(architecture(str(tmp_path)), Architecture)  # a folder without weights will do


def test_a_cpu_machine_is_its_own_constants():
    here = device("CPU")
    assert not here.is_gpu and here.gib > 0 and here.step == known()["cpu"]["step"]
    twice = Cluster(replace(here, step=2 * here.step), 1, 1)
    recipe, a = load_recipe("tiny"), architecture("tiny")
    slow, quick = (
        times.rollout(times.Job(a, recipe, machine, Layout(), law("tiny")), np.full((16, 8), 50)).seconds
        for machine in (twice, cluster("cpu"))
    )
    assert slow - quick == pytest.approx(50 * here.step)


def test_what_was_measured_is_predicted_again():
    """Times within a quarter, memory within a tenth, by the constants of hardware.yaml, which are of an earlier day."""
    kept = json.loads((ROOT / "benchmarks" / "results" / "planner.json").read_text(encoding="utf-8"))["results"]
    cases = [bench.Case(**row["case"]) for row in kept["machine"]["rows"]]
    assert len(cases) == 16 and {case.model for case in cases} == set(bench.MODELS)
    for case in cases:
        assert case.predict(device("cpu")) == pytest.approx(case.seconds, rel=0.25), case.what
    assert len(kept["memory"]) == len(bench.MEMORY)
    for (name, _, budget), row in zip(bench.MEMORY, kept["memory"], strict=True):
        recipe = load_recipe("tiny", [f"micro_tokens={budget}"])
        parts = memory.update(bench.counted(name), recipe, cluster("cpu"), Layout())
        assert sum(parts.values()) / 2**20 == pytest.approx(row["told"], rel=0.1), row["what"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_peak_memory_is_predicted_within_a_tenth():
    command = [sys.executable, "-m", "benchmarks.planner", "--only", "memory", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)["memory"]
    assert len(rows) == len(bench.MEMORY) and all(abs(row["error"]) < 0.1 for row in rows), rows


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_times_of_this_machine_are_predicted():
    """On a quiet machine within a quarter, see benchmarks.planner; here it may be busy."""
    command = [sys.executable, "-m", "benchmarks.planner", "--only", "machine", "--models", "tiny", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)["machine"]
    predicted = [row for row in found["rows"] if not row["case"]["fitted"]]
    assert len(predicted) == 4 and all(abs(row["error"]) < 0.5 for row in predicted), found
    assert set(found["constants"]) == set(known()["cpu"])
