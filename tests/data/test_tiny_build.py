"""The base policy: demonstrations, tokenizer, the committed folder and its manifest."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from or1lab.data import tiny, tiny_build
from or1lab.data.tiny_build import Shares, demonstration
from or1lab.errors import Or1labError
from or1lab.sources import load_tokenizer, weights_hash

PERFECT = Shares(direct=0, hard=0, right_easy=1, wrong_sum=0)
PROMPTS = [problem.prompt for problem in tiny.problems("train", 200)]


def equations(response: str) -> list[str]:
    lines = response.partition("<think>")[2].partition("</think>")[0].splitlines()
    return [line.split(" ")[-1] for line in lines]


def true(equation: str) -> bool:
    sides = equation.split("=")
    return eval(sides[0]) % 23 == eval(sides[1]) % 23


def test_demonstrations_without_mistakes_are_right_in_every_step():
    rng = random.Random(0)
    for prompt in PROMPTS:
        response = demonstration(prompt, rng, PERFECT)
        assert f"\\boxed{{{tiny.answer(prompt)}}}" in response
        assert equations(response) and all(map(true, equations(response)))


def test_mistakes_come_as_often_as_they_should():
    rng = random.Random(1)
    shares = Shares(direct=0, long=0, thorough=0, recheck=0, hard=0, right_easy=0.6, wrong_sum=0.0)
    products = [demonstration("7*5=?", rng, shares) for _ in range(2000)]
    sums = [demonstration("7+5=?", rng, shares) for _ in range(200)]
    # Wrong ones are any number, so one in 23 of them is right after all.
    assert sum("\\boxed{12}" in r for r in products) / 2000 == pytest.approx(0.6 + 0.4 / 23, abs=0.04)
    assert all("\\boxed{12}" in r for r in sums)


def test_a_hard_product_is_mostly_believed_to_be_one_wrong_number():
    rng = random.Random(3)
    shares = Shares(direct=0, long=0, thorough=0, recheck=0, hard=1, right_hard=0.2, believed=0.5)
    answers = Counter(demonstration("7*5=?", rng, shares).partition("boxed")[2] for _ in range(2000))
    (wrong, often), (right, seldom) = answers.most_common(2)
    assert right == "{12}" != wrong
    assert often / 2000 == pytest.approx(0.5, abs=0.04) and seldom / 2000 == pytest.approx(0.2, abs=0.04)


def test_wait_repairs_wrong_steps():
    rng = random.Random(2)
    shares = Shares(direct=0, long=0, thorough=0, recheck=1.0, repaired=0.75, hard=1, right_hard=0, believed=1)
    responses = [demonstration("7*5=?", rng, shares) for _ in range(1000)]
    assert all(response.count("wait ") == 1 for response in responses)
    assert sum("\\boxed{12}" in r for r in responses) / 1000 == pytest.approx(0.75, abs=0.05)


def test_long_products_are_repeated_additions():
    response = demonstration("5*9=?", random.Random(0), Shares(direct=0, thorough=0, long=1.0, wrong_sum=0))
    assert "*" not in response and len(equations(response)) == 8
    assert "\\boxed{22}" in response


def test_a_direct_answer_has_no_steps():
    assert demonstration("5*9=?", random.Random(0), Shares(direct=1.0)) == "<think></think>\\boxed{22}"


def test_tokenizer_survives_saving_with_the_model(tmp_path):
    tokenizer = tiny_build.make_tokenizer()
    tiny_build.make_model(0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    rng = random.Random(0)
    for loaded in (load_tokenizer(str(tmp_path)), load_tokenizer(str(tiny.BASE))):
        assert len(loaded) == len(tiny_build.WORDS)
        for prompt in PROMPTS:
            text = prompt + demonstration(prompt, rng)
            ids = loaded(text)["input_ids"]
            assert ids == tokenizer(text)["input_ids"] and loaded.decode(ids) == text
            assert "".join(tiny_build.WORDS[i] for i in ids) == text


def test_the_committed_base_is_the_one_its_manifest_describes():
    manifest = json.loads((tiny.BASE / tiny_build.MANIFEST).read_text())
    assert manifest["hash"] == weights_hash(str(tiny.BASE))
    assert manifest["shares"] == tiny_build.asdict(Shares())
    assert sum(path.stat().st_size for path in tiny.BASE.iterdir()) < 4 * 2**20
    # The world protocol's numbers: room to learn, room to collapse, a long tail.
    assert 0.30 <= manifest["accuracy"] <= 0.45
    assert manifest["entropy"] >= 0.45
    assert manifest["length"]["max"] >= 3 * manifest["length"]["q50"]


def test_building_does_not_overwrite(tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(Or1labError, match="not empty"):
        tiny_build.build(tmp_path, steps=1, seed=0, threads=1)
