"""The paper's numbers as data: each is compared with a digest of the report, where that lies beside the repository."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from or1lab import paper
from or1lab.figures import PAPER as FIGURES
from or1lab.paper_tables import COMMON, SHEETS
from or1lab.recipe import ROOT, load_recipe
from or1lab.recipe_view import rows

REPORTED = ROOT.parent / "shared" / "paper_reported.yaml"  # not part of the repository
TOPICS = ("settings", "stages", "times", "results", "curves", "text", "data", "contradictions")
TIMES = {"total": "total", "rollout": "t_R", "policy_update": "t_T", "other": "t_O", "rollout_share": "share_R",
         "update_share": "share_T"}  # fmt: skip

# Curves and end values: key in the digest -> place in curves.yaml.
CURVES: dict[str, dict[str, str]] = {
    "figure_1": {name: f"accuracy/{name}" for name in ("aime24", "aime25")},
    "figure_4": {"a_deepscaler": "accuracy/deepscaler", "a_ours": "accuracy/skywork",
                 "b_default_plus_extra": "accuracy/skywork-extra"},
    "figure_5a": {f"a_{theirs}_{arm.replace('-', '_')}": f"{ours}/{arm}" for arm in ("from-scratch", "multi-stage")
                  for theirs, ours in (("aime24_avg8", "accuracy"), ("length", "length"), ("hours", "hours"))},
    "figure_6": {"accuracy": "accuracy/all", "accuracy_nontruncated": "accuracy/nontruncated",
                 "clip_ratio": "truncated/all"},
    "figure_8": {"DeepSeek-R1-Distill-Qwen-7B": "accuracy/DeepSeek-R1-Distill-Qwen-7B", "stage1": "accuracy/stage 1",
                 "stage1_adv_mask_before": "accuracy/stage 1, mask: before", "stage2": "accuracy/stage 2",
                 "stage1_adv_mask_after": "accuracy/stage 1, mask: after"},
    "figure_9": {f"{theirs}_tau_{tau.replace('.', '_')}": f"{ours}/tau-{tau}" for tau in ("1.0", "0.6")
                 for theirs, ours in (("aime25_avg8", "accuracy"), ("entropy", "entropy"))},
    "figure_10": {"entropy": "entropy/math-7b", "aime24_avg8": "accuracy/math-7b"},
    "figure_11": {"kl_beta_1e-3": "kl/beta-1e-3", "kl_stage2_beta_0": "kl/beta-0",
                  "aime24_avg8_beta_1e-3": "accuracy/beta-1e-3", "aime24_avg8_stage2_beta_0": "accuracy/beta-0"},
    "figure_13": {f"{what}_alpha_{alpha}": f"{what}/alpha-{alpha}" for what in ("accuracy", "entropy")
                  for alpha in ("1e-3", "5e-3")},
    "figure_16": {"entropy_1_64_64_1": "entropy/1-64-64-1"} | {
        f"test_{arm.replace('-', '_')}": f"accuracy/{arm}"
        for arm in ("1-64-64-1", "2-64-32-1", "2-64-64-2", "4-64-16-1", "4-64-64-4")},
    "figure_17": {f"test_{arm.replace('-', '_')}": f"accuracy/{arm}" for arm in ("1-32-32-1", "1-16-16-1")},
    "figure_18": {f"entropy_{arm.replace('-', '_')}": f"entropy/{arm}" for arm in ("4-256-64-1", "4-64-16-1")},
    "figure_19": {f"{theirs}_alpha_{alpha}": f"{ours}/alpha-{alpha}" for alpha in
                  ("1e-2", "5e-3", "1e-3", "5e-4", "1e-4")
                  for theirs, ours in (("aime24_avg8", "accuracy"), ("entropy", "entropy"))},
    "figure_20": {"entropy_data1": "entropy/data-1", "entropy_data2": "entropy/data-2"},
    "figure_21": {"test_target_0_2": "accuracy/tgt_ent-0.2", "test_no_entropy_loss": "accuracy/none",
                  "entropy_target_0_2": "entropy/tgt_ent-0.2", "entropy_no_entropy_loss": "entropy/none"},
    "figure_22": {f"{theirs}_{clip.replace('.', '_')}": f"{ours}/clip_high-{clip}"
                  for clip in ("0.20", "0.25", "0.265", "0.28")
                  for theirs, ours in (("test", "accuracy"), ("entropy", "entropy"))},
}  # fmt: skip


@pytest.fixture(scope="module")
def reported() -> dict[str, Any]:
    if not REPORTED.exists():
        pytest.skip("no ../shared/paper_reported.yaml")
    return yaml.safe_load(REPORTED.read_text(encoding="utf-8"))


def test_the_papers_numbers_are_read_in_one_place():
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "or1lab").rglob("*.py")}
    assert [name for name, text in texts.items() if '"experiments" / "paper"' in text] == ["paper.py"]


@pytest.mark.parametrize("figure", CURVES)
def test_every_point_read_by_eye_is_that_of_the_digest(figure, reported):
    name = "figure_5_points" if figure == "figure_5a" else f"{figure}_curves"
    told, ours = reported[name], paper.load("curves")[figure]
    assert ours["read"] == "eye" == told["kind"]
    curves = {
        key
        for key, value in told.items()
        if isinstance(value, list) and key not in ("context", "b_aime24_avg32_vs_mean_length")
    }
    assert curves == set(CURVES[figure])
    for theirs, place in CURVES[figure].items():
        group, _, arm = place.partition("/")
        assert ours[group][arm] == told[theirs], place
    arms = (
        sum(len(set(group) - {"unit"}) for group in ours.values() if isinstance(group, dict))
        - (figure == "figure_16") * 3
    )
    assert arms == len(CURVES[figure])  # and there is none that the digest does not have


def test_single_points_read_by_eye(reported):
    curves = paper.load("curves")
    points = curves["figure_5b"]["points"]
    assert [[p["aime24"], p["length"]] for p in points] == [
        p[1:] for p in reported["figure_5_points"]["b_aime24_avg32_vs_mean_length"]
    ]
    assert curves["figure_8"]["T"] == [int(name[:-1]) * 1024 for name in reported["figure_8_curves"]["context"]]
    seven, told = curves["figure_7"], reported["figure_7_end_values"]
    keys = {"clip_ratio": "truncated", "accuracy": "accuracy", "accuracy_nontruncated": "nontruncated"}
    for ours, theirs in (("none", "no_adv_mask"), ("before", "adv_mask_before"), ("after", "adv_mask_after")):
        assert seven["end"][ours] == {keys.get(k, "step"): v for k, v in told[theirs].items()}
    assert seven["start"] == {keys[k]: v for k, v in told["start"].items()}
    fourteen, told = curves["figure_14"], reported["figure_14_end_values"]
    assert fourteen["start"] == told["entropy_start"]
    ends = {f"{key}_{n}": v for key, arms in fourteen["step_2000"].items() for n, v in arms.items()}
    assert ends == told["entropy_near_step_2000"]
    words = curves["figure_16"]["off_policy_entropy"]
    for number in ("{below:g}", "step {steps[0]} and {steps[1]}", "{last[0]}-{last[1]}"):
        assert number.format(**words) in reported["figure_16_curves"]["entropy_off_policy"]
    assert str(curves["figure_10"]["stage_lines"])[1:-1].replace(",", " and") in reported["figure_10_curves"]["source"]


def test_results_of_finished_models(reported):
    for source, key in (("table-13", "table_13_results"), ("figure-2", "figure_2_bars"),
                        ("figure-3", "figure_3_bars"), ("readme", "preview_models")):  # fmt: skip
        ours = [
            [paper.names()[r["model"]], r["aime24"], r["aime25"], r["livecodebench"]] for r in paper.results(source)
        ]
        assert ours == [[r["model"], r["aime24"], r["aime25"], r["lcb"]] for r in reported[key]["rows"]], source
    told, protocol = reported["table_13_results"], paper.load("results")["protocol"]
    assert [row["group"] for row in paper.results("table-13")] == [row["group"] for row in told["rows"]]
    assert protocol == {"temperature": told["protocol"]["temperature"], "top_p": told["protocol"]["top_p"],
                        "limit": told["protocol"]["max_tokens"]}  # fmt: skip
    averages = paper.load("results")["averages"]["rows"]
    flat = [
        {"size": r["size"], "before": r["before"]["value"], "after": r["after"]["value"], "gain": r["gain"]}
        for r in averages
    ]
    assert flat == reported["abstract_averages"]["rows"]
    baseline, told = paper.load("results")["baseline_of_section_4"], reported["section4_baseline_result"]
    assert (baseline["aime24"], baseline["aime25"], baseline["livecodebench"]) == (
        told["aime24_avg8"], told["aime25_avg8"], told["lcb_pass1"],
    )  # fmt: skip
    assert paper.load("settings")["baseline"]["steps"] == told["steps"]
    assert paper.load("settings")["baseline"]["gpus"] == told["gpus"]


def test_means_that_the_digest_derives_are_what_the_rows_give(reported):
    means = {
        row["model"]: (row["aime24"] + row["aime25"] + (row["livecodebench"] or 0)) / 3
        for row in paper.results("table-13")
    }
    for ours, told in zip(paper.load("results")["averages"]["rows"], reported["table_13_means"]["rows"], strict=True):
        before, after = means[ours["before"]["model"]], means[ours["after"]["model"]]
        found = (round(before, 2), round(after, 2), round(after - before, 2))
        assert found == (told["before"], told["after"], told["gain"])
    baseline = paper.load("results")["baseline_of_section_4"]
    mean = sum(baseline[suite] for suite in ("aime24", "aime25", "livecodebench")) / 3
    assert round(mean, 2) == reported["section4_baseline_result"]["mean_derived"]


def test_settings(reported):
    told, ours = reported["training_common"], paper.load("settings")["common"]
    names = {"lr": "learning_rate", "lr_schedule": "lr_schedule", "clip": "clip_ratio", "tgt_ent": "target_entropy",
             "delta": "entropy_step_delta", "tau": "temperature", "beta": "kl_coef",
             "rejection": "rejection_sampling"}  # fmt: skip
    assert {names[key]: ours[key] for key in names} == {
        k: told[k] for k in told if k not in ("source", "kind", "released_checkpoints")
    }
    released = {row["name"]: row["released"] for row in paper.load("stages")["tables"].values()}
    assert released == told["released_checkpoints"]
    for row in reported["ablation_settings"]["rows"]:
        table = paper.load("settings")["tables"][row["table"]]
        assert table["base"] == row["base"] or row["table"] in (3, 4)  # those two are in words
        assert (table["D_R"], table["D_T"], table["gs"], table["lr"]) == (
            row["batch"],
            row["mini_batch"],
            row["group"],
            row["lr"],
        )
        assert table["beta"] == row["kl"] and table.get("tau") == row.get("temperature")
        assert table.get("N_reuse") == row.get("n_reuse") and table.get("alpha") == row.get("alphas")
        assert str(table.get("tgt_ent")).replace("None", "") in str(row.get("entropy", ""))
        limits = [table["T"]] if not isinstance(table["T"], list) else [table["T"][0], *table["T"][1]]
        assert all(paper.tokens(T) in row["context"] for T in limits)
        assert str(table.get("switch", "")) in row["context"]
    studies, told = paper.load("settings")["studies"], reported["ae6_ae7_ae9_ae10_arms"]
    assert studies["AE6"]["quadruples"] == told["ae6"] and studies["AE7"]["quadruples"] == told["ae7_on_policy"]
    assert studies["figure_18"]["quadruples"] == [told["figure18_extra"]]
    assert studies["AE9"] == {"quadruples": [told["ae9"]["quadruple"]], "tgt_ent": told["ae9"]["target_entropy"]}
    ten = told["ae10"]
    assert studies["AE10"] == {
        "quadruples": [ten["quadruple"]],
        "clip_low": ten["clip_low"],
        "clip_high": ten["clip_high"],
    }
    assert studies["figure_13"]["alpha"] == told["preliminary_alpha_figure13"]
    assert studies["figure_20"]["alpha"] == [told["preliminary_alpha_figure20"]]
    assert (studies["figure_14"]["D_R"], studies["figure_14"]["gs"]) == tuple(told["rollout_diversity"].values())


def test_released_scripts_and_sandbox(reported):
    told, ours = reported["released_scripts"], paper.load("settings")["scripts"]
    names = {"script": "script", "T": "response", "prompt_limit": "prompt", "D_R": "batch", "D_T": "mini_batch",
             "gs": "group", "tensor_parallel": "tp", "sequence_parallel": "sp"}  # fmt: skip
    assert [{names[k]: v for k, v in row.items()} for row in ours["rows"]] == told["rows"]
    names = {"lr": "lr", "c_0": "entropy_coeff_init", "tgt_ent": "target_entropy", "c_max": "max_ent_coef",
             "c_min": "min_ent_coef", "delta": "delta_ent_coef", "tau": "temperature", "eval_tau": "val_temperatures",
             "eval_k": "n_val", "eval_every": "test_freq", "checkpoint_every": "save_freq",
             "rejection": "rejection_sample",
             "rejection_multiplier": "rejection_sample_multiplier", "epochs": "total_epochs", "clip": "clip_ratio",
             "grad_clip": "grad_clip", "adam_betas": "adamw_betas", "weight_decay": "weight_decay",
             "adv_eps": "advantage_epsilon"}  # fmt: skip
    assert {names[k]: v for k, v in ours["all"].items()} == told["shared"]
    box, told = paper.load("settings")["sandbox"], reported["sandbox"]
    program = box["seconds"]["a_program"]
    assert box["memory_gb"] == told["memory_limit_gb"] and box["seconds"]["a_test"] == told["per_test_timeout_s"]
    assert told["total_timeout_s"] == "min({a_test} * tests + {more}, {most})".format(**program)
    assert box["seconds"]["leetcode_and_assert"] == told["leetcode_and_assert_alarm_s"]


def test_stages_and_times(reported):
    tables = {row["name"]: number for number, row in paper.load("stages")["tables"].items()}
    found = [
        {"table": tables[row["model"]], "stage": row["stage"], "steps": row["steps"],
         "T": int(row["context"][:-1]) * 1024, "D_R": row["batch"], "D_T": row["mini_batch"], "gs": row["group"]}
        for row in reported["tables_10_11_12_stages"]["rows"]
    ]  # fmt: skip
    assert found == paper.load("stages")["rows"]
    times = paper.load("times")
    (seven,) = times["table_7"]["rows"]
    told = reported["table_7_time_32b"]
    assert all(seven[ours] == told[theirs] for theirs, ours in TIMES.items())
    for seven, told in zip(times["table_8"]["rows"], reported["table_8_time_sgd"]["rows"], strict=True):
        assert seven["quadruple"] == told["quadruple"] and all(
            seven[ours] == told[theirs] for theirs, ours in TIMES.items()
        )
    assert times["table_8"]["gpus"] == reported["table_8_time_sgd"]["gpus"]
    assert {times["table_7"]["steps"], times["table_8"]["steps"]} == {told_["steps"] for told_ in
            (reported["table_7_time_32b"], reported["table_8_time_sgd"])}  # fmt: skip
    nine = [{"h800": r["h800"], "seconds": r["seconds"], "reduction": r["change"]} for r in times["table_9"]["rows"]]
    assert nine == reported["table_9_rollout_seconds"]["rows"]
    assert times["table_9"]["responses"] == reported["table_9_rollout_seconds"]["responses_per_step"]
    told = reported["ae11_ae12_resources"]
    assert times["AE11"]["rows"] == told["ae11"]
    assert times["AE12"]["rows"] == [{"gs": row["group"], "h800": row["h800"]} for row in told["ae12"]]


def test_text_and_data(reported):
    ours = sorted((row["source"], str(row["value"]), row["unit"]) for row in paper.load("text")["rows"])
    assert ours == sorted(
        (f"section {r['section']}", str(r["value"]), r["unit"]) for r in reported["text_numbers"]["rows"]
    )
    data, counts = paper.load("data"), reported["data_counts"]
    sizes = data["sizes"]
    assert (sizes["numinamath_1_5"], sizes["math"], sizes["code"], sizes["code_leetcode"], sizes["code_taco"]) == (
        counts["numinamath_1_5_total"], counts["math_after_preprocessing"], counts["code_total"],
        counts["code_leetcode"], counts["code_taco"],
    )  # fmt: skip
    assert all(data["card"][domain] == counts["dataset_card"][domain] for domain in ("math", "code"))
    told, found = reported["difficulty_filter"], data["difficulty_filter"]
    assert (found["samples"], found["tau"], found["T"]) == (told["rollouts"], told["temperature"], told["max_tokens"])
    for row, other in zip(found["rows"], told["rows"], strict=True):
        assert other["model"].endswith(row["model"])
        assert (row["never"], row["always"], row["kept"]) == (other["all_wrong"], other["all_right"], other["kept"])
    votes, told = data["votes"], reported["quality_judge"]
    assert votes["judges"] == told["judges"] and votes["votes_a_judge"] == told["votes_per_judge"]
    assert votes["kept_from"] == told["keep_if_valid_votes_at_least"] and votes["removed_math"] == told["removed_math"]


def test_nothing_of_the_digest_is_left_out(reported):
    compared = {"table_13_results", "figure_2_bars", "figure_3_bars", "abstract_averages", "table_13_means",
                "preview_models", "training_common", "tables_10_11_12_stages", "released_scripts", "ablation_settings",
                "section4_baseline_result", "ae6_ae7_ae9_ae10_arms", "text_numbers", "table_7_time_32b",
                "table_8_time_sgd", "table_9_rollout_seconds", "ae11_ae12_resources", "data_counts",
                "difficulty_filter", "quality_judge", "sandbox", "figure_5_points", "figure_7_end_values",
                "figure_14_end_values", *(f"{name}_curves" for name in CURVES if name != "figure_5a")}  # fmt: skip
    assert set(reported) == compared | {"meta", "not_available"}


def test_every_number_says_where_it_is_from():
    for topic in TOPICS:
        held = paper.load(topic)
        parts = [held] if "read" in held else [part for part in held.values() if isinstance(part, dict)]
        for part in parts:
            if "read" in part:
                assert part["read"] in ("printed", "eye", "code"), topic
    assert all(part["read"] == "eye" and part["source"] for part in paper.load("curves").values())


def test_contradictions_belong_to_what_is_made_and_name_their_values():
    for row in paper.load("contradictions")["rows"]:
        assert set(row["at"]) <= {*SHEETS, *FIGURES}
        for name in row["values"]:
            assert "{" + name + "}" in row["note"], row
    values = {row["at"][0] + str(sorted(row["values"])): row["values"] for row in paper.load("contradictions")["rows"]}
    settings, results = paper.load("settings"), {row["model"]: row for row in paper.results("table-13")}
    assert {"report": settings["common"]["delta"], "scripts": settings["scripts"]["all"]["delta"],
            "c_max": settings["scripts"]["all"]["c_max"]} in values.values()  # fmt: skip
    assert {"released": 1000, "last": paper.load("stages")["rows"][-1]["steps"][1]} in values.values()
    (figure,) = [row for row in paper.results("figure-2") if row["model"] == "qwq-32b"]
    table = results["qwq-32b"]
    assert {"table_aime25": table["aime25"], "table_lcb": table["livecodebench"], "aime25": figure["aime25"],
            "lcb": figure["livecodebench"]} in values.values()  # fmt: skip
    peak = max(y for _, y in paper.load("curves")["figure_16"]["accuracy"]["1-64-64-1"])
    assert {"printed": 57.7, "eye": round(100 * peak, 1)} in values.values()
    sizes = paper.load("data")
    assert {"report": sizes["sizes"]["code"], "card": sizes["card"]["code"]} in values.values()
    (step,) = [c for c in paper.contradictions("table10") if c.cell]
    assert step.cell == (1, "steps") and "740" in step.text and "780" in step.text


@pytest.mark.parametrize("table", (10, 11, 12))
def test_the_recipes_are_as_published_and_every_line_says_so(table):
    told = paper.load("stages")
    model = told["tables"][table]
    recipe, origins = rows(model["recipe"], [])
    stages = [row for row in told["rows"] if row["table"] == table]
    assert [recipe.stage(i).total_steps for i in range(len(recipe.stages))] == [
        b - a for a, b in (s["steps"] for s in stages)
    ]
    for i, row in enumerate(stages):
        stage = recipe.stage(i)
        assert (stage.T, stage.D_R, stage.D_T, stage.gs) == (row["T"], row["D_R"], row["D_T"], row["gs"])
        assert row["D_R"] // row["D_T"] == (2 if table == 10 else 1) == stage.N_SGD
    common = paper.load("settings")["common"]
    assert all(getattr(recipe, ours) == common[theirs] for ours, theirs in COMMON.items())
    assert (recipe.entropy, recipe.online_filter, recipe.mask, recipe.dtype) == ("paper", "last", "none", "bfloat16")
    silent = [
        r["key"] for r in origins if r["set_by"].startswith(f"{model['recipe']}.yaml") and r["source"] == "this recipe"
    ]
    assert set(silent) <= {"name"} | {key for key in silent if key.startswith("data.mix")}
    assert load_recipe(model["recipe"]).model.startswith("deepseek-ai/DeepSeek-R1-Distill-Qwen-")
