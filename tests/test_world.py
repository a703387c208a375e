"""The frozen world: the file says what is there, and each run in it is stamped."""

from __future__ import annotations

import pytest

from or1lab import sources, train, world
from or1lab.claims import study
from or1lab.data.tiny import BASE
from or1lab.experiment import expand
from or1lab.recipe import load_recipe, read_yaml, recipe_hash
from tests.test_stages import SMALL

V1 = read_yaml(world.WORLD)


def test_base_and_recipe_are_those_of_the_world():
    recipe = load_recipe("tiny", ["seed=0"])
    assert sources.weights_hash(str(BASE)) == V1["base"] and recipe.world == V1["world"]
    assert recipe_hash(recipe) == V1["recipe"]


@pytest.mark.parametrize(
    ("name", "split", "experiment", "arm"),
    [
        ("train", "train", "baseline", "baseline"),
        ("test", "test", "baseline", "baseline"),
        ("test", "test", "mixture", "narrow"),
        ("test", "test", "mixture", "noise"),
        ("narrow", "train", "mixture", "narrow"),
        ("narrow", "train", "data_sensitivity", "narrow"),
        ("wrong_golds", "train", "mixture", "noise"),
        ("offline_filter", "train", "filters", "offline"),
    ],
)
def test_problems_are_those_of_the_world(name, split, experiment, arm):
    (recipe,) = [job.recipe for job in expand(study(experiment), [100]) if job.arm == arm]
    tokenizer = sources.load_tokenizer(str(BASE))
    assert sources.problems_hash(sources.load_problems(recipe.data, split, tokenizer)) == V1["problems"][name]


def test_constants_are_those_of_the_recipe():
    recipe, constants = load_recipe("tiny"), V1["constants"]
    assert {name: getattr(recipe, name) for name in ("tgt_ent", "c_max", "delta")}.items() <= constants.items()
    alphas = {job.recipe.stage(1).alpha for job in expand(study("fixed_alpha"))}
    assert sorted(alphas) == constants["alpha"] == [pytest.approx(a * constants["factor"]) for a in PAPER_ALPHAS]
    assert {job.recipe.stage(0).beta for job in expand(study("kl"))} == {constants["beta"]}
    assert max(V1["pilot_seeds"]) == 909 and V1["first_study_seed"] == 100


PAPER_ALPHAS = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2)


def test_a_run_in_the_world_is_stamped(engine, tmp_run):
    recipe = load_recipe(SMALL, ["world=v1", "stages.0.steps=1", "eval.every=0"])
    run = train.run(recipe, tmp_run, engine=engine, progress=False, labels={"experiment": "x", "arm": "a"})
    stamped = {"world": "v1", "world_hash": world.content_hash(world.WORLD), "experiment": "x", "arm": "a"}
    stamped["claims_hash"] = world.content_hash(world.CLAIMS)
    stamped["follow_ups_hash"] = world.content_hash(world.FOLLOW_UPS)
    assert stamped.items() <= run.manifest.items()


def test_another_world_or_base_is_not_stamped_and_no_world_with_the_claims_alone():
    recipe = load_recipe("tiny")
    assert set(world.stamps(recipe, V1["base"])) == {"world_hash", "claims_hash", "follow_ups_hash"}
    assert world.stamps(recipe, "0" * 16) == {}
    assert world.stamps(load_recipe("tiny", ["world=v2"]), V1["base"]) == {}
    assert set(world.stamps(load_recipe("7b"), "m")) == {"claims_hash", "follow_ups_hash"}


def test_the_hash_is_of_what_a_file_says(tmp_path):
    path = tmp_path / "claims.yaml"
    hashes = []
    for text in ("a: 1\nb: [x]\n", "# a comment\nb:\n  - x\na: 1\n", "a: 2\nb: [x]\n"):
        path.write_text(text)
        hashes.append(world.content_hash(path))
    assert hashes[0] == hashes[1] != hashes[2]
