r"""Mathematics reward: what is found in a response, what counts as equal, and what hostile text costs."""

from __future__ import annotations

import threading
import time

import pytest

from or1lab.data.problem import Problem
from or1lab.errors import UsageError
from or1lab.rewards import Verdict, get_reward
from or1lab.rewards import math as reward
from or1lab.rewards.math import LONGEST, LONGEST_PROSE, TAIL, find_answer, score_batch, verify_math

SLOW = "9^{9^{9^{9}}}"  # Math-Verify computes it for longer than anybody waits


@pytest.fixture(autouse=True)
def cache(monkeypatch) -> dict:
    monkeypatch.setattr(reward, "_cache", {})
    return reward._cache


@pytest.fixture(scope="module", autouse=True)
def _no_workers_afterwards():
    yield
    reward._pool().close()


def box(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def verdict(answer: str, gold: str | list[str]) -> tuple[bool, str]:
    found = verify_math(box(answer), gold)
    return found.correct, found.reason


def blanks_between(head: str, tail: str) -> str:
    return head + " " * (TAIL - len(head) - len(tail)) + tail


def problem(gold: str | list[str]) -> Problem:
    return Problem(id="p", domain="math", prompt="?", gold=gold)


# ---------------------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    "response, answer",
    [
        (r"\boxed{\boxed{ \text{no} }}", r"\text{no}"),
        (r"so it is \boxed{5}.", "5"),
        (r"\boxed{4}, no: \boxed{5}", "5"),
        (r"\boxed{\frac{1}{\sqrt{2}}} since {a} is {b}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed {5}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        ("\\boxed{a\nb}", "a\nb"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{5} or even \boxed{6", "5"),
        (r"} \boxed{5}} {", "5"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed{$5$}", "5"),
        (r"\boxed{$$5$$}", "5"),
        (r"\boxed{\(5\)}", "5"),
        (r"\boxed{\[ 5 \]}", "5"),
        (r"\boxed{$1$ and $2$}", "$1$ and $2$"),
        (r"<think>\boxed{4}</think>\boxed{5}", "5"),
        (r"\boxed{4}</think>\boxed{5}", "5"),
        (r"<think>a</think>\boxed{5}</think>\boxed{6}", "5"),
        (r"$\boxed{28}\%$", r"28\%"),
        (r"$\boxed{28}$ %", r"28\%"),
        (r"\(\boxed{28}\) percent", r"28\%"),
        (r"\boxed{28} pct", r"28\%"),
        (r"\boxed{28} pcts", "28"),
        (r"\boxed{28} of 100%", "28"),
        (r"$\boxed{1}$ and $\boxed{2}$", r"$\boxed{1} and \boxed{2}$"),
        (r"\boxed{1},\, \boxed{2}\mbox{ or }\boxed{3}", r"$\boxed{1} and \boxed{2} and \boxed{3}$"),
        (r"\boxed{1}, \boxed{2} \text{ or } \boxed{3}", r"$\boxed{1} and \boxed{2} and \boxed{3}$"),
        (r"\boxed{1} and \boxed{\boxed{2}}", r"$\boxed{1} and \boxed{\boxed{2}}$"),
        (r"\boxed{1} then \boxed{2}, \boxed{3}", r"$\boxed{2} and \boxed{3}$"),
    ],
)
def test_the_last_box_after_the_thinking_is_the_answer(response, answer):
    found = find_answer(response)
    assert found is not None and (found.text, found.boxed) == (answer, True)


@pytest.mark.parametrize(
    "response",
    [
        "", " \n", r"<think>\boxed{5}", r"<think>\boxed{5}</think>", r"\boxed{5}</think> ", r"\boxed{}",
        r"\boxed{$ $}", r"a</think></think>\boxed{5}",
    ],
)  # fmt: skip
def test_nothing_after_the_thinking_is_no_answer(response):
    assert find_answer(response) is None
    assert verify_math(response, "5") == Verdict(False, "no answer")


def test_without_a_box_the_end_of_the_text_is_searched():
    assert find_answer("a</think> It is 5. ") == ("It is 5.", False)
    assert find_answer(r"\boxed{5" + " x" * LONGEST_PROSE) == ("x " * (LONGEST_PROSE // 2 - 1) + "x", False)
    assert verify_math("The answer is $\\frac{1}{2}$.", "0.5") == Verdict(True, "equivalent")
    assert verify_math("The answer is 3.", "0.5") == Verdict(False, "wrong")
    assert verify_math("I do not know.", "0.5") == Verdict(False, "no answer")


@pytest.mark.parametrize(
    "prose, right",
    [
        ("The answer is 5.", True), ("Answer: 5. I checked it twice.", True), ("Therefore, there are 5 of them.", True),
        ("$5$", True), ("It is 5.\n\nI hope it is correct.", True), ("So we get 5.<|im_end|>", True),
        ("Let x = 5. Then we get stuck.", False), ("Suppose that x = 5", False), ("The answer is not 5.", False),
        ("We know x = 5.\n\nThe rest is beyond me.", False), ("The answer can't be 5.", False), ("It is 6.", False),
    ],
)  # fmt: skip
def test_without_a_box_only_a_stated_answer_counts(prose, right):
    assert verify_math(prose, "5").correct == right


@pytest.mark.parametrize(
    "prose, gold, right",
    [
        ("Solve the multiplication: 3 * 6", "18", False),
        ("The answer is 22 + 73.", "95", False),
        ("What is 4.7 + 0.2?", "4.9", False),
        ("3 * 6 = 18", "18", True),
        ("The answer is 1 000.", "1000", True),
        ("It comes to 12,345.", "12345", True),
        ("So the answer is 5.0.", "5", True),
        ("The answer is 1/2.", "0.5", True),
        (r"Answer: \( (9+1) \)", "10", True),  # a formula is taken as one
        ("The answer is $2^{10}$", "1024", True),
    ],
)
def test_repeating_the_question_is_no_answer(prose, gold, right):
    assert verify_math(prose, gold).correct == right


def test_boxes_far_before_the_end_do_not_count():
    assert find_answer(box("5") + "." * (TAIL - len(box("5")))).boxed
    assert not find_answer(box("5") + "." * TAIL).boxed


# --------------------------------------------------------------------------------------- what counts as equal


@pytest.mark.parametrize(
    "answer, gold", [(r"\frac12", r"\frac12"), ("x + 1", "$x + 1$"), ("5", r"\(5\)"), ("a}{", "a}{")]
)
def test_the_same_string_is_a_match_and_asks_nobody(answer, gold, monkeypatch):
    monkeypatch.setattr(reward, "_ask", None)
    assert reward._judge((reward._golds(gold), reward.Answer(answer, True)), 5.0) == Verdict(True, "match")


HUGE = "1" + "0" * 40


@pytest.mark.parametrize(
    "answer, gold, same",
    [
        ("25", "025", True), ("025", "25", True), ("-07", "-7", True), ("-0", "0", True), ("000", "0", True),
        ("25", "-25", False), ("25", "250", False), (HUGE + "1", HUGE + "2", False), ("0" + HUGE, HUGE, True),
        ("1" * 90_000, "1" * 89_999 + "2", False),
    ],
    ids=range(10),
)  # fmt: skip
def test_integers_are_compared_exactly_and_ask_nobody(answer, gold, same, monkeypatch):
    monkeypatch.setattr(reward, "_ask", None)
    for golds in (gold, [gold], ["77", gold]):
        assert verdict(answer, golds) == (same, "equivalent" if same else "wrong")


@pytest.mark.parametrize(
    "answer, gold",
    [
        (r"\frac{2}{4}", r"\frac12"), ("0.5", r"\dfrac{1}{2}"), (r"\frac12", "1/2"), ("1 + x", "x + 1"),
        (r"2\sqrt{2}", r"\sqrt{8}"), (r"(x-1)^2", r"x^2 - 2x + 1"), ("pi/2", r"\frac{\pi}{2}"),
        (r"2\pi", "2pi"),
        (r"\{2, 1\}", r"\{1, 2\}"), (r"\left(1, 2\right)", "(1,2)"), ("1,000", "1000"), ("x = 7", "7"),
        ("45", r"45^\circ"), ("30\\%", "30%"), (r"\text{B}", "B"), (r"[0, 1)", "[0,1)"),
        ("1, 2", r"\{1, 2\}"),
    ],
)  # fmt: skip
def test_equal_values_are_equivalent_whichever_way_they_are_written(answer, gold):
    assert verdict(answer, gold) == (True, "equivalent")


@pytest.mark.parametrize(
    "answer, gold",
    [
        (r"\frac13", "0.3"), ("5", r"\frac{1}{5}"), (r"\{1, 2, 3\}", r"\{1, 2\}"), ("(2, 1)", "(1, 2)"),
        ("[0, 1]", "[0, 1)"), ("x + 1", "x - 1"), ("A", "B"), (r"\sqrt{2}", r"\sqrt{3}"), ("1, 2, 3", "2"),
        ("", "0.5 "), ("pie", r"\pi e"),
        (rf"\frac{{{HUGE}1}}{{3}}", rf"\frac{{{HUGE}2}}{{3}}"),
    ],
)  # fmt: skip
def test_different_values_are_not(answer, gold):
    correct, reason = verdict(answer, gold)
    assert not correct and reason in ("wrong", "no answer", "unparsable")


def test_guessing_in_several_boxes_does_not_pay():
    assert not verify_math(r"\boxed{1} or \boxed{2} or \boxed{3}", "2").correct
    assert not verify_math(r"\boxed{1}, \boxed{\frac12}", "0.5").correct
    assert verify_math(r"$\boxed{1}$ and $\boxed{\frac12}$", r"\{0.5, 1\}").correct


def test_one_of_several_golds_is_enough():
    assert verdict("0.5", ["7", r"\frac12"]) == (True, "equivalent")
    assert verdict(r"\frac12", [r"\frac12", "7"]) == (True, "match")
    assert verdict("07", [r"\frac12", "7"]) == (True, "equivalent")
    assert verdict("8", [r"\frac12", "7"]) == (False, "wrong")


def test_an_answer_of_absurd_length_is_not_parsed(monkeypatch):
    monkeypatch.setattr(reward, "_ask", None)
    assert verdict("x" * (LONGEST + 1), "7") == (False, "unparsable")


# ---------------------------------------------------------------------------------------------------- batches


def test_a_batch_keeps_its_order_and_asks_each_question_once(monkeypatch):
    asked = []
    ask = reward._ask
    monkeypatch.setattr(reward, "_ask", lambda *question: asked.append(question) or ask(*question))
    half = problem(r"\frac12")
    answers = ["0.5", "0.6", "0.5", r"\frac12", None, "0.5", "0.6"]
    found = score_batch([half] * 7, [box(a) if a else "<think>" for a in answers], [False] * 7)
    equal, wrong = Verdict(True, "equivalent"), Verdict(False, "wrong")
    assert found == [equal, wrong, equal, Verdict(True, "match"), Verdict(False, "no answer"), equal, wrong]
    assert len(asked) == 2


def test_a_truncated_response_is_never_right():
    answers = [box("7"), "<think>" + box("7"), ""]
    assert score_batch([problem("7")] * 3, answers, [True] * 3) == [Verdict(False, "truncated")] * 3


def test_the_released_behaviour_is_an_option_of_its_own():
    released = get_reward("math-released")
    answers = [box("7"), "<think>" + box("7"), "<think>" + box("8"), "<think>" + box("8") + "</think>" + box("7")]
    found = released([problem("7")] * 4, answers, [True, True, False, False])
    assert [one.reason for one in found] == ["match", "match", "wrong", "match"]
    ours = score_batch([problem("7")] * 4, answers, [True, True, False, False])
    assert [one.reason for one in ours] == ["truncated", "truncated", "no answer", "match"]


def test_a_response_of_a_hundred_megabytes_is_read_from_its_end():
    begin = time.monotonic()
    assert verify_math("x " * 50_000_000 + box("7"), "7").correct
    assert time.monotonic() - begin < 5


def test_a_batch_of_unequal_lists_is_an_error():
    with pytest.raises(ValueError):
        score_batch([problem("7")], [box("7")] * 2, [False] * 2)


def test_a_problem_without_a_gold_answer_has_no_verdict():
    program = Problem(id="p", domain="math", prompt="?", tests={"assert_case": ["f() == 1"]})
    found = score_batch([program, problem("7")], [box("7")] * 2, [False] * 2)
    assert [one.reason for one in found] == ["error: the problem has no gold answer", "match"]


def test_the_reward_has_a_name():
    assert get_reward("math") is score_batch
    with pytest.raises(UsageError, match="no reward 'maths' .did you mean 'math'"):
        get_reward("maths")


# -------------------------------------------------------------------------------------------------- the cache


def test_a_verdict_is_remembered_but_a_timeout_is_not(cache, monkeypatch):
    replies = iter([Verdict(False, "timeout"), Verdict(True, "equivalent")])
    monkeypatch.setattr(reward, "_ask", lambda *question: next(replies))
    asked = [verdict("0.5", r"\frac12") for _ in range(4)]
    assert asked == [(False, "timeout")] + [(True, "equivalent")] * 3 and len(cache) == 1


def test_the_cache_does_not_grow_without_end(cache, monkeypatch):
    monkeypatch.setattr(reward, "CACHED", 3)
    monkeypatch.setattr(
        reward, "_ask", lambda golds, answer, timeout: Verdict(golds[0] in answer.text, "stub")
    )
    for i in range(20):
        assert verify_math(box(f"x_{i}"), f"{i}").correct and len(cache) <= 3


def test_a_cache_emptied_by_another_thread_costs_no_verdict(monkeypatch):
    class Emptied(dict):
        def __setitem__(self, key, value):
            pass

    monkeypatch.setattr(reward, "_cache", Emptied())
    assert verdict("0.5", r"\frac12") == (True, "equivalent")


# ---------------------------------------------------------------------------------------------- hostile input


@pytest.mark.parametrize(
    "response",
    [
        box("9**9**9**9"),
        box(SLOW),
        f"The answer is ${SLOW}$.",
        box("99999999!"),
        box(r"\frac{" * 300 + "1" + "}{2}" * 300),
        "{" * 10**5,
        box("{" * 10**5 + "}" * 10**5),
        box("{" * 1500 + "}" * 1500),
        r"\boxed{" * 10**5 + "}" * 10**5,
        r"\boxed{1} and " * 10**5,
        r"\frac{1}{2} + \sqrt{3} " * 45_000,
        box(r"\frac{1}{2} + \sqrt{3} " * 45_000),
        blanks_between(box("5"), "x"),
        blanks_between(box("5") + r"\text", box("6")),
        box("\0\ud800\u202e"),
    ],
    ids=[
        "python-tower", "tower", "tower-in-prose", "factorial", "fractions", "open-braces", "braces-in-box",
        "deep-box", "boxes-in-boxes", "many-boxes", "megabyte", "megabyte-in-box", "blanks", "text-blanks",
        "odd-characters",
    ],
)  # fmt: skip
def test_hostile_text_costs_its_limit_and_never_the_pool(response, cache):
    assert verify_math(box("0.25"), r"\frac14").correct  # the worker is up
    begin = time.monotonic()
    assert not verify_math(response, r"\frac37", timeout=0.5).correct
    assert time.monotonic() - begin < 0.5 + 2
    cache.clear()
    assert verdict("0.25", r"\frac14") == (True, "equivalent")


def test_a_batch_with_a_hanging_question_has_the_other_verdicts(monkeypatch):
    monkeypatch.setattr(reward, "TIMEOUT", 1.0)
    golds = ["0.5"] * 6
    answers = [r"\frac12", SLOW, r"\frac24", r"\frac36", r"\frac13", "0.5"]
    found = score_batch([problem(gold) for gold in golds], [box(answer) for answer in answers], [False] * 6)
    assert [v.reason for v in found] == [
        "equivalent",
        "timeout",
        "equivalent",
        "equivalent",
        "wrong",
        "match",
    ]


def test_it_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(verify_math(box("0.5"), r"\frac{5}{10}")))
    thread.start()
    thread.join()
    assert found == [Verdict(True, "equivalent")]
