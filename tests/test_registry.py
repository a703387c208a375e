"""The models that have a name here, and our scores beside the reported ones."""

from __future__ import annotations

import pytest
import yaml

from or1lab import paper, registry
from or1lab.errors import UsageError
from or1lab.recipe import ROOT
from or1lab.registry import MODELS, compare, models, resolve_model
from or1lab.suites import load_suite, names

PAPER = paper.load("results")
REPORTED = ROOT.parent / "shared" / "paper_reported.yaml"  # not part of the repository


def rows(source: str) -> dict[str, dict]:
    return {row["model"]: row for row in PAPER["results"] if row["source"] == source}


def test_every_model_of_the_table_and_of_the_readme_has_a_name():
    assert set(models()) == {row["model"] for row in PAPER["results"]}
    assert len({entry.hub for entry in models().values()}) == len(models())
    for key, entry in models().items():
        assert entry.hub.split("/")[1] == entry.name and entry.name.lower() == key


@pytest.mark.parametrize("key", list(models()))
def test_the_numbers_are_those_of_the_paper_file(key):
    row = rows("table-13").get(key) or rows("readme")[key]
    expected = {suite: row[suite] for suite in PAPER["suites"] if row[suite] is not None}
    assert {suite: one.value for suite, one in models()[key].reported.items()} == expected
    assert {one.k for suite, one in models()[key].reported.items() if suite.startswith("aime")} == {32}
    assert (models()[key].temperature, models()[key].top_p, models()[key].limit) == (1.0, 1.0, 32768)


def test_models_yaml_repeats_no_number_of_the_report():
    for entry in yaml.safe_load(MODELS.read_text(encoding="utf-8")).values():
        assert set(entry) <= {"hub", "kind", "size", "script"}


def test_the_released_scripts_of_the_small_models_are_cooler():
    assert {key for key, entry in models().items() if entry.script} == {
        "skywork-or1-7b", "skywork-or1-math-7b", "skywork-or1-7b-preview",
    }  # fmt: skip
    assert all(entry.script in ({}, {"temperature": 0.6}) for entry in models().values())


def test_every_contradiction_is_named_and_none_is_made_up():
    named = {(one["model"], one["suite"]) for one in PAPER["contradictions"] if one["suite"] != "mean"}
    found = set()
    for model in models():
        for suite in PAPER["suites"]:
            printed = {row[suite] for row in PAPER["results"] if row["model"] == model} - {None}
            if len(printed) > 1:
                found.add((model, suite))
    assert found == named
    for one in PAPER["contradictions"]:
        for source in {"table-13", "figure-2"} & set(one):
            if one["suite"] != "mean":
                assert rows(source)[one["model"]][one["suite"]] == one[source]


def test_the_averages_of_the_abstract_against_the_table():
    table = rows("table-13")

    def mean(model: str) -> float:
        return sum(table[model][suite] for suite in PAPER["suites"]) / 3

    for row in PAPER["averages"]["rows"]:
        assert mean(row["after"]["model"]) == pytest.approx(row["after"]["value"], abs=0.05)
        assert abs(mean(row["before"]["model"]) - row["before"]["value"]) > 0.4
        assert row["gain"] == pytest.approx(row["after"]["value"] - row["before"]["value"])
        (named,) = (one for one in PAPER["contradictions"] if one["model"] == row["before"]["model"])
        assert named["table-13"] == pytest.approx(mean(named["model"]), abs=0.05)
        assert named["abstract"] == row["before"]["value"]


@pytest.mark.skipif(not REPORTED.exists(), reason="no shared data here")
def test_the_paper_file_against_the_transcript():
    transcript = yaml.safe_load(REPORTED.read_text(encoding="utf-8"))
    places = {"table-13": "table_13_results", "figure-2": "figure_2_bars", "figure-3": "figure_3_bars"}
    for source, place in (places | {"readme": "preview_models"}).items():
        theirs = {row["model"].lower(): (row["aime24"], row["aime25"], row["lcb"]) for row in transcript[place]["rows"]}
        ours = {model: tuple(row[suite] for suite in PAPER["suites"]) for model, row in rows(source).items()}
        assert ours == theirs and list(ours) == list(theirs) or source == "readme" and ours == theirs


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("name", ["skywork-or1-7b", "Skywork-OR1-7B", "SKYWORK-or1-7B", "skywork/skywork-or1-7b"])
def test_a_model_by_any_of_its_names(name):
    assert resolve_model(name).hub == "Skywork/Skywork-OR1-7B"


def test_what_is_no_name_of_the_registry_is_left_to_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwq-32b").mkdir()  # a model that was downloaded here
    for name in ("tiny", "smol", "Qwen/Qwen3-8B", "runs/demo/on-policy/seed-0@20", "./qwen3-32", "qwq-32b", "zzz"):
        assert resolve_model(name) is None


@pytest.mark.parametrize(("name", "near"), [("skywork-or1-7", "skywork-or1-7b"), ("qwen-32b", "qwen3-32b")])
def test_a_near_miss_is_asked_about(name, near):
    with pytest.raises(UsageError, match=f"no model '{name}' .did you mean '{near}'.*suites --models"):
        resolve_model(name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nobody: {hub: a/b, kind: peer, size: 7}", "nothing is reported of 'nobody'"),
        ("qwq-32b: {hub: QwQ-32B, kind: peer, size: 32}", "qwq-32b: hub: String should match pattern"),
        ("qwq-32b: {hub: Qwen/QwQ-32B, kind: pear, size: 32}", "qwq-32b: kind: "),
        ("qwq-32b: {hub: Qwen/QwQ-32B, kind: peer, size: 32, hubb: x}", "unknown key 'hubb' .did you mean 'hub'"),
    ],
)
def test_a_bad_registry_is_refused_in_words(text, words, tmp_path, monkeypatch):
    path = tmp_path / "models.yaml"
    path.write_text(text)
    monkeypatch.setattr(registry, "MODELS", path)
    models.cache_clear()
    try:
        with pytest.raises(UsageError, match=words):
            models()
    finally:
        models.cache_clear()


# ------------------------------------------------------------------------------------------------ a cell again


def again(model: str, suite: str, low: float, high: float, **changes: object):
    return compare(resolve_model(model), load_suite(suite).record() | changes, (low + high) / 2, low, high)


def test_a_cell_of_the_table_again():
    same = again("skywork-or1-32b", "aime24", 0.80, 0.84, problems=30)
    assert same.inside and same.reported.value == 82.2 and same.differences == () == same.notes
    assert str(same) == (
        "reported 82.2 (Table 13, section 8.2, avg@32); ours 82.0 [80.0, 84.0]: "
        "the reported value lies within our interval"
    )
    for low, high in ((0.83, 0.9), (0.7, 0.82)):
        other = again("skywork-or1-32b", "aime24", low, high)
        assert not other.inside and "lies outside our interval" in str(other) and other.as_json()["inside"] is False
    assert again("skywork-or1-32b", "aime24", 0.8, 0.822).inside  # the ends belong to it


@pytest.mark.parametrize(
    ("suite", "changes", "words"),
    [
        ("aime24", {"k": 8}, "k 8 instead of 32"), ("aime24", {"temperature": 0.6}, "temperature 0.6 instead of 1.0"),
        ("aime24", {"limit": 8192}, "limit 8192 instead of 32768"), ("aime24", {"top_p": 0.95}, "top_p 0.95"),
        ("aime24", {"problems": 3}, "problems 3 instead of 30"), ("aime24", {"prompt_suffix": ""}, "prompt_suffix ''"),
        ("livecodebench", {"options": {"window": "2024-01..2025-02"}}, "window '2024-01..2025-02' instead of"),
    ],
)  # fmt: skip
def test_other_settings_are_said(suite, changes, words):
    (said,) = again("skywork-or1-32b", suite, 0.5, 0.9, **changes).differences
    assert said.startswith(words)


def test_notes_come_along():
    assert "temperature 0.6" in again("skywork-or1-7b", "aime24", 0.5, 0.9).notes[0]
    assert "Figure 2 prints 69.0" in str(again("qwq-32b", "aime25", 0.5, 0.9))
    assert again("qwq-32b", "aime24", 0.5, 0.9).notes == ()
    assert any("not known" in note for note in again("skywork-or1-32b-preview", "aime24", 0.5, 0.9).notes)


def test_nothing_reported_nothing_compared():
    assert again("light-r1-32b", "livecodebench", 0.5, 0.9) is None  # printed as "-"
    assert again("qwq-32b", "gsm8k", 0.5, 0.9) is None
    assert set(PAPER["suites"]) <= set(names())
