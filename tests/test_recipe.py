"""Recipes: values, overrides, and errors that say what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from or1lab import paper
from or1lab.errors import UsageError
from or1lab.recipe import RECIPES, Recipe, load_recipe, recipe_hash
from or1lab.recipe_errors import FOREIGN_NAMES
from or1lab.recipe_view import arithmetic, line_comments, rows
from tests.test_cli import call

# The paper's quadruples (N_SGD, D_R, D_T, N_reuse), sections 4.4 and 4.5.
QUADRUPLES = [
    (1, 64, 64, 1), (2, 64, 32, 1), (2, 64, 64, 2), (4, 64, 16, 1), (4, 64, 64, 4), (1, 32, 32, 1), (1, 16, 16, 1),
    (4, 256, 64, 1),
]  # fmt: skip


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid(path):
    assert load_recipe(path).total_steps >= 1


@pytest.mark.parametrize("n_sgd, D_R, D_T, N_reuse", QUADRUPLES)
def test_n_sgd_of_the_papers_quadruples(n_sgd, D_R, D_T, N_reuse):
    recipe = load_recipe("tiny", [f"D_R={D_R}", f"D_T={D_T}", f"N_reuse={N_reuse}"])
    assert n_sgd == recipe.N_SGD


@pytest.mark.parametrize(
    "override, message",
    [
        ("D_TT=3", "did you mean 'D_T'"),
        ("eval.evry=3", "did you mean 'eval.every'"),
        ("stages.0.stepz=3", "did you mean 'stages.0.steps'"),
        ("temperature=0.6", "it is called 'tau'"),
        ("num_generations=8", "it is called 'gs'"),
        ("max_completion_length=8", "it is called 'T'"),
        ("learning_rate=1", "it is called 'lr'"),
        ("epsilon_high=0.28", "it is called 'clip_high'"),
        ("D_T=5", "does not divide D_R"),
        ("stages.0.tau=0", "greater than 0"),
        ("stages.0.clip_low=3", "less than 1"),
        ("stages.0.beta=-1", "greater than or equal to 0"),
        ("alpha=1e-3", "wants entropy: constant"),
        ("c_max=-1", "above c_max"),
        ("adam_betas=[0.9, 1.0]", "from 0 to below 1"),
        ("lr=inf", "finite"),
        ("reward=mth", "no reward 'mth' .did you mean 'math'"),
        ("reward.maths=code", "single value"),
        ("reward={essay: my reward.py}", "no reward 'my reward.py'"),
        ("data.mix=[{source: tiny}]", "either data.source"),
        ("data.source=null", "neither data.source nor data.mix"),
        ("data={mix: [{source: tiny}], options: {operands: [2, 3]}}", "whose parts have their own options"),
        ("data={mix: [{source: tiny, wieght: 2}]}", "did you mean 'data.mix.0.weight'"),
        ("data={mix: [{source: tiny, weight: 0}]}", "greater than 0"),
        ("seed=5000000000", "less than 4294967296"),
        ("gs=1", "a group needs 2 responses"),
        ("top_p=0.9", "refused in training"),
        ("stages=[{steps: 1, T: 64}, {steps: 1, T: 32}]", "contexts only grow"),
        ("stages=[]", "at least one stage"),
        ("lr=quick", "lr: "),
        ("stages.0.until_converged.windw=4", "did you mean 'stages.0.until_converged.window'"),
        ("stages.0.until_convergd={}", "did you mean 'stages.0.until_converged'"),
        ("stages.0.until_converged.window=2", "greater than or equal to 3"),
        ("stages.0.until_converged.min_steps=0", "greater than or equal to 1"),
        ("stage_start=warm", "'carried' or 'fresh'"),
        ("stages.7.steps=3", "no element '7'"),
        ("lr.x=3", "single value"),
        ("lr", "not of the form key=value"),
    ],
)
def test_a_bad_override_is_an_error_that_names_the_mend(override, message):
    with pytest.raises(UsageError, match=message):
        load_recipe("tiny", [override])


@pytest.mark.parametrize("command", ["plan", "show", "train", "preview"])
def test_an_experiment_is_no_recipe_and_names_the_one_it_is_based_on(command, tmp_path, monkeypatch, capsys):
    """By its name, as a file, and as a recipe's base."""
    mine, above = tmp_path / "mine.yaml", tmp_path / "above.yaml"
    mine.write_text("name: mine\nrecipe: 7b\narms: {a: {}}\n")
    above.write_text("base: kl\n")
    for name, told in (("kl", "kl is an experiment, no recipe: its arms change the recipe 'tiny'. Give that"),
                       (str(mine), "mine is an experiment, no recipe: its arms change the recipe '7b'. Give that"),
                       (str(above), "kl is an experiment")):  # fmt: skip
        code, _, err = call(command, name, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 2 and told in err and len(err.splitlines()) == 1
    code, _, err = call(command, "k", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2 and "no recipe 'k'" in err


def test_foreign_names_point_at_real_keys():
    for name, ours in FOREIGN_NAMES.items():
        assert name not in Recipe.model_fields
        assert ours.partition(".")[0] in Recipe.model_fields


def test_numbers_without_a_dot_stay_numbers():
    recipe = load_recipe("tiny", ["lr=1e-4", "D_T=2", "delta=5e-4"])
    assert (recipe.lr, recipe.D_T, recipe.delta) == (1e-4, 2, 5e-4)


def test_off_is_a_word():
    assert load_recipe("tiny", ["wandb=off", "reject=off"]).wandb == "off"


def test_missing_recipe_and_broken_yaml(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        load_recipe("tini")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: 2")
    with pytest.raises(UsageError, match="broken.yaml is not readable YAML"):
        load_recipe(broken)
    broken.write_text("- 1")
    with pytest.raises(UsageError, match="mapping"):
        load_recipe(broken)


def test_stage_overrides_and_largest_context():
    recipe = load_recipe("tiny", ["stages=[{steps: 2, T: 64, gs: 4}, {steps: 3, T: 128, D_T: 4}]"])
    assert (recipe.stage(0).T, recipe.stage(0).gs, recipe.stage(0).D_T) == (64, 4, 16)
    assert (recipe.stage(1).T, recipe.stage(1).gs, recipe.stage(1).N_SGD) == (128, 8, 4)
    assert (recipe.total_steps, recipe.max_T) == (5, 128)


def test_a_stage_until_convergence_needs_evaluations():
    rule = "stages.0.until_converged={min_steps: 30}"
    with pytest.raises(UsageError, match="stage 0: until_converged decides by evaluations: none with eval.every = 0"):
        load_recipe("tiny", [rule, "eval.every=0"])
    recipe = load_recipe("tiny", [rule, "stages.0.T=128"])
    (stage,) = recipe.stage(0).stages
    assert (stage.steps, stage.until_converged.window, stage.until_converged.min_steps) == (120, 5, 30)
    assert recipe_hash(recipe) != recipe_hash(load_recipe("tiny", ["stages.0.T=128"]))


def test_show_tells_how_a_stage_ends():
    recipe, table = rows("tiny", ["stages.0.until_converged.window=7"])
    by = {row["key"]: row for row in table}
    assert by["stages.0.until_converged.window"]["value"] == 7
    assert by["stages.0.until_converged.window"]["set_by"] == "command line"
    assert by["stages.0.until_converged.min_steps"]["source"] == "ours" and by["stage_start"]["value"] == "carried"
    (line,) = arithmetic(recipe)
    assert "last 7 evaluations (one every 10 steps) show no rise of accuracy, at least 1 and at most 120 steps" in line
    assert not [row for row in rows("tiny", [])[1] if "until_converged" in row["key"]]
    assert "stage 0: 120 steps, T" in arithmetic(load_recipe("tiny"))[0]


def test_hash_ignores_what_changes_no_number_and_sees_what_does():
    base = recipe_hash(load_recipe("tiny"))
    assert recipe_hash(load_recipe("tiny", ["wandb=off", "checkpoint.every=3", "name=x"])) == base
    assert recipe_hash(load_recipe("tiny", ["seed=1"])) != base
    assert recipe_hash(load_recipe("tiny", ["stages.0.steps=3"])) != base


def test_later_knobs_leave_the_identity_of_kept_runs():
    """The hashes are those of before `data.wrong_golds` and the others of recipe.LATER came."""
    small = Path(__file__).parent / "small.yaml"
    assert recipe_hash(load_recipe(small)) == "e47dd9ce03fd2fa1"
    assert recipe_hash(load_recipe(small, ["stages=[{steps: 1}, {steps: 2, T: 100}]"])) == "c0b3b6be95624afb"
    for change in (
        "data.wrong_golds=0.1", "data.test_options={}", "data.offline_filter=tiny", "stages.0.entropy=paper",
    ):  # fmt: skip
        assert recipe_hash(load_recipe(small, [change])) != "e47dd9ce03fd2fa1"


def test_a_stage_may_have_its_own_entropy_control():
    stages = "stages=[{steps: 1}, {steps: 1, entropy: constant, alpha: 0.02}]"
    recipe = load_recipe("tiny", ["entropy=paper", stages])
    assert [(recipe.stage(i).entropy, recipe.stage(i).alpha) for i in (0, 1)] == [("paper", 0), ("constant", 0.02)]
    load_recipe("tiny", ["alpha=0.1", "stages=[{steps: 1}, {steps: 1, entropy: constant}]"])
    for wrong in (["stages.0.alpha=0.1"], ["entropy=constant", "stages=[{steps: 1, entropy: paper, alpha: 0.1}]"]):
        with pytest.raises(UsageError, match="alpha = 0.1 has no effect with entropy: (none|paper)"):
            load_recipe("tiny", wrong)


def test_show_gives_every_value_an_origin():
    recipe, table = rows("tiny", ["D_T=2"])
    origin = {row["key"]: row for row in table}
    assert origin["D_T"]["set_by"] == "command line"
    assert origin["D_R"]["set_by"].startswith("tiny.yaml:") and origin["D_R"]["source"].startswith("paper T5")
    assert origin["clip_low"]["set_by"] == "default" and origin["clip_low"]["source"].startswith("paper")
    assert all(row["source"] or row["set_by"] == "command line" for row in table if not row["key"].startswith("stages"))
    assert "N_SGD = (16 / 2) x 1 = 8 (off-policy)" in arithmetic(recipe)[0]


def test_line_comments_belong_to_their_value():
    text = "a: 1  # one\nb: {c: 2, d: 'x # y'}  # two\ns:\n  - {k: 3}  # three\n"
    assert line_comments(text)["a"] == (1, "one")
    assert line_comments(text)["b.c"] == line_comments(text)["b.d"] == (2, "two")
    assert line_comments(text)["s.0.k"] == (4, "three")


def test_an_override_of_a_whole_mapping_is_the_origin_of_what_it_holds():
    _, table = rows("tiny", ["eval={every: 3}"])
    by = {row["key"]: row["set_by"] for row in table}
    assert by["eval.every"] == by["eval.k"] == "command line" and by["D_R"].startswith("tiny.yaml:")


def test_options_of_a_generator_show_the_line_that_sets_them():
    _, table = rows("smol", [])
    (options,) = [row for row in table if row["key"] == "data.options"]
    assert options["set_by"].startswith("smol.yaml:") and options["source"]


def test_the_released_controller_comes_with_its_own_settings():
    small = Path(__file__).parent / "small.yaml"
    released = load_recipe(small, ["entropy=released"])
    assert (released.delta, released.c_max, released.entropy_source) == (0.0001, 0.005, "kept")
    changed = load_recipe(small, ["entropy=released", "delta=0.01"])
    assert (changed.delta, changed.c_max) == (0.01, 0.005)
    paper = load_recipe(small, ["entropy=paper"])
    assert (paper.delta, paper.c_max, paper.entropy_source) == (0.005, None, "sampler")
    world = load_recipe("tiny", ["entropy=released"])  # what a recipe sets itself stays
    assert (world.delta, world.c_max, world.entropy_source) == (0.002, 0.1, "kept")


def test_a_base_is_what_a_recipe_stands_on(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("base: 7b\neval.tau: 0.6  # mine\nstages: [{steps: 5}]\ndelta: 1.0e-4\n")
    recipe, table = rows(str(own), [])
    written_out = load_recipe("7b", ["eval.tau=0.6", "stages=[{steps: 5}]", "delta=1e-4"])
    assert recipe_hash(recipe) == recipe_hash(written_out) and (recipe.name, written_out.name) == ("mine", "7b")
    by = {row["key"]: (row["set_by"], row["source"]) for row in table}
    assert by["eval.tau"] == ("mine.yaml:2", "mine") and by["stages.0.steps"][0] == "mine.yaml:3"
    assert by["tgt_ent"][0].startswith("7b.yaml:") and by["tgt_ent"][1] == "paper §8.1"
    assert by["eval.k"][0].startswith("7b.yaml:")
    assert by["name"][0] == "default" and "base" not in by and "stages.1.steps" not in by
    above = tmp_path / "above.yaml"
    above.write_text(f"base: {own}\ndelta: 0.5\n")
    assert (load_recipe(above).delta, load_recipe(above).eval.tau) == (0.5, 0.6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: 7bb", "no recipe '7bb'.*did you mean '7b'"),
        ("base: {itself}", "a recipe that is its own base"),
        ("base: 7b\nevl.tau: 1.0", "unknown key 'evl'.*did you mean 'eval'"),
        ("base: 7b\nstages.7.steps: 1", "no element '7'"),
    ],
)
def test_a_base_that_is_none_is_told(tmp_path, text, message):
    path = tmp_path / "itself.yaml"
    path.write_text(text.format(itself=path))
    with pytest.raises(UsageError, match=message):
        load_recipe(path)


# What a -released recipe may differ in from the one it is named after, beside T, stages and micro_tokens.
RELEASED = {"name", "entropy", "entropy_source", "delta", "c_max", "loss", "partial", "stage_start", "online_filter"}


@pytest.mark.parametrize(("name", "tau"), [("7b", 0.6), ("math-7b", 0.6), ("32b", 1.0)])
def test_released_recipes_are_those_of_the_scripts(name, tau):
    told = paper.load("settings")["scripts"]
    printed, released = load_recipe(name), load_recipe(f"{name}-released")
    assert (released.clip_low, released.clip_high) == (told["all"]["clip"],) * 2
    for key in ("lr", "tgt_ent", "c_max", "c_min", "delta", "tau", "grad_clip", "weight_decay", "adv_eps"):
        assert getattr(released, key) == told["all"][key], key
    assert (released.eval.tau, released.eval.k, released.eval.every) == (tau, told["all"]["eval_k"], 20)
    assert sorted(released.eval.temperatures) == told["all"]["eval_tau"]
    assert list(released.adam_betas) == told["all"]["adam_betas"]
    scripts = [row for row in told["rows"] if row["script"].startswith(f"{name}_")]
    stages = [released.stage(i) for i in range(len(released.stages))]
    differ = {key for key in Recipe.model_fields if getattr(printed, key) != getattr(released, key)}
    if scripts:
        for stage, row in zip(stages, scripts, strict=True):
            assert {key: getattr(stage, key) for key in ("T", "D_R", "D_T", "gs")} == {
                key: row[key] for key in ("T", "D_R", "D_T", "gs")
            }
            assert stage.data.prompt_limit == row["prompt_limit"]
        assert differ - {"micro_tokens", "eval"} == RELEASED | {"T", "stages"}
    else:  # there is none of Math-7B: contexts and batches as printed
        assert differ == RELEASED | {"eval"}
    assert released.micro_tokens >= released.max_T + released.data.prompt_limit


def test_the_recipe_for_one_gpu_is_ours_and_says_so():
    recipe, table = rows("1.5b", [])
    own = {row["key"]: row["source"] for row in table if row["set_by"].startswith("1.5b.yaml")}
    assert recipe.model.endswith("Qwen-1.5B") and recipe.data.offline_filter == recipe.model.partition("/")[2]
    assert own.pop("data.offline_filter").startswith("paper §6.2")
    assert len(own) >= 7 and all(source.startswith("ours: ") for source in own.values())
    assert [recipe.stage(i).T for i in (0, 1)] == [8192, 16384] and recipe.N_SGD == 1


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_show_prints_the_arithmetic_of_every_recipe(path):
    recipe, table = rows(path.stem, [])
    lines = arithmetic(recipe)
    assert len(lines) == len(recipe.stages)
    for i, line in enumerate(lines):
        stage = recipe.stage(i)
        assert f"T = {stage.T}; {stage.D_R} prompts x {stage.gs} = {stage.D_R * stage.gs} responses a step" in line
        assert f"N_SGD = ({stage.D_R} / {stage.D_T}) x {stage.N_reuse} = {stage.N_SGD} (" in line
    assert all(row["source"] for row in table)
