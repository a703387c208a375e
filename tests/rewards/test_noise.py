from __future__ import annotations

import pytest

from or1lab.data.problem import Problem
from or1lab.rewards import Miscounted, Verdict, verdicts
from or1lab.rewards.noise import weaken

PROBLEM = Problem(id="p", domain="math", prompt="?", gold="1")


def reward(problems, texts, truncated):
    return [Verdict(text.startswith("right"), "match" if text.startswith("right") else "wrong") for text in texts]


def judged(kind: str, n: int = 4000, cut: bool = False, **rates):
    return weaken(reward, **rates)([PROBLEM] * n, [f"{kind} {i}" for i in range(n)], [cut] * n)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_it_misses_and_pays_the_shares_it_is_told(share):
    missed = [v for v in judged("right", misses=share, pays=0.0) if not v.correct]
    paid = [v for v in judged("wrong", misses=0.0, pays=share) if v.correct]
    for turned, reason in ((missed, "missed"), (paid, "paid")):
        assert abs(len(turned) / 4000 - share) <= 0.03
        assert {v.reason for v in turned} <= {reason}


def test_either_error_leaves_the_other_kind_alone():
    assert all(v == Verdict(True, "match") for v in judged("right", misses=0.0, pays=1.0))
    assert all(v == Verdict(False, "wrong") for v in judged("wrong", misses=1.0, pays=0.0))


def test_the_same_response_gets_the_same_verdict_and_another_problem_another():
    assert judged("right", misses=0.5, pays=0.5) == judged("right", misses=0.5, pays=0.5)
    other = PROBLEM.model_copy(update={"id": "q"})
    texts = [f"right {i}" for i in range(100)]
    weak = weaken(reward, misses=0.5, pays=0.5)
    assert weak([other] * 100, texts, [False] * 100) != weak([PROBLEM] * 100, texts, [False] * 100)


def test_truncated_responses_and_failed_verdicts_are_left_alone():
    assert not any(v.correct for v in judged("wrong", cut=True, misses=0.0, pays=1.0))
    failing = weaken(lambda p, texts, t: [Verdict(False, "error: no sandbox") for _ in texts], misses=1.0, pays=1.0)
    assert failing([PROBLEM], ["x"], [False]) == [Verdict(False, "error: no sandbox")]


def test_an_odd_response_is_judged_too():
    assert len(weaken(reward, misses=0.5, pays=0.5)([PROBLEM], ["wrong \ud800\0"], [False])) == 1


def test_a_reward_that_miscounts_or_gives_no_verdict_is_found_out_behind_it():
    weak = weaken(lambda p, texts, t: [Verdict(True, "")], misses=0.0, pays=0.0)
    with pytest.raises(Miscounted, match="1 verdicts on 2 responses"):
        verdicts(weak, [PROBLEM] * 2, ["a", "b"], [False] * 2)
    odd = weaken(lambda p, texts, t: [0.5 for _ in texts], misses=0.0, pays=0.0)
    assert odd([PROBLEM], ["a"], [False])[0].reason == "error: float in place of a Verdict"
