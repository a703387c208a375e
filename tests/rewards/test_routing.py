"""Each problem to its domain's reward, and rewards of one's own."""

from __future__ import annotations

import itertools
import re

import pytest

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.recipe import ROOT, load_recipe
from or1lab.rewards import ROUTES, CodeVerdict, Verdict, check_domains, get_reward
from or1lab.rewards.math import score_batch
from or1lab.rollout.buffer import judge
from tests.lacking import needs_bubblewrap

MATH = Problem(id="m", domain="math", prompt="?", gold="7")
TINY = Problem(id="t", domain="tiny", prompt="3+4=?", gold="7")
CODE = Problem(id="c", domain="code", prompt="?", tests={"inputs": [[1], [2]], "outputs": [1, 4], "fn_name": "f"})
SQUARE, SAME = "```python\ndef f(x): return x * x\n```", "```python\ndef f(x): return x\n```"
numbers = itertools.count()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module into the current folder; the import path of its function `reward`."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        name = f"rewards_of_a_test_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(f"from or1lab.rewards import Verdict\n{text}\n")
        return f"{name}.reward"

    return write


@needs_bubblewrap
def test_a_mixed_batch_comes_back_in_order():
    problems = [CODE, MATH, TINY, CODE, MATH]
    texts = [SQUARE, r"\boxed{8}", r"</think>\boxed{7}", SAME, r"\boxed{7.0}"]
    found = get_reward(ROUTES)(problems, texts, [False] * 5)
    assert [one.reason for one in found] == ["passed", "wrong", "match", "wrong answer", "equivalent"]
    assert found[3] == CodeVerdict(False, "wrong answer", 1, 2)
    cut = get_reward(ROUTES)(problems, texts, [True] * 5)
    assert [(one.correct, one.reason) for one in cut] == [(False, "truncated")] * 5


def test_each_domain_s_reward_is_asked_once_with_all_that_is_its_own(own):
    path = own("calls = []\ndef reward(problems, texts, cut):\n    calls.append((list(texts), list(cut)))\n"
               "    return [Verdict(True, text) for text in texts]")  # fmt: skip
    reward = get_reward({"math": path, "tiny": path})
    found = reward([MATH, TINY, MATH], ["a", "b", "c"], [False, True, True])
    assert [one.reason for one in found] == ["a", "b", "c"]
    module = __import__(path.partition(".")[0])
    assert module.calls == [(["a", "c"], [False, True]), (["b"], [True])]


def test_one_name_judges_all_and_names_of_ours_still_do():
    assert get_reward("math") is score_batch
    assert load_recipe("tiny").reward == "tiny" and load_recipe("smol", ["reward=math"]).reward == "math"
    assert load_recipe("tiny", ["reward={math: math-released}"]).reward == {**ROUTES, "math": "math-released"}
    assert load_recipe("mixed").reward == ROUTES
    assert load_recipe("mixed", ["reward.essay=a.b"]).reward == {**ROUTES, "essay": "a.b"}


def test_a_domain_without_a_reward_is_named():
    assert check_domains(ROUTES, [MATH, TINY, MATH]) == {"math", "tiny"}
    assert check_domains("math-released", [MATH]) == {"math-released"}
    assert check_domains("pkg.anything", [MATH, CODE]) == {"pkg.anything"}
    with pytest.raises(UsageError, match="the problem m is of the domain 'math', but the recipe's reward is 'code'"):
        check_domains("code", [MATH])
    with pytest.raises(UsageError, match=r"'cod', but no problem is of it .did you mean 'code'.*there are: code, math"):
        check_domains({**ROUTES, "cod": "pkg.mine"}, [MATH, CODE])
    with pytest.raises(UsageError, match="reward: a name is wanted, or a mapping domain -> name"):
        load_recipe("mixed", ["reward=[code]"])
    essay = MATH.model_copy(update={"domain": "maths"})
    with pytest.raises(UsageError, match=r"domain 'maths', .* no reward .did you mean 'math'.*reward: {maths: "):
        check_domains(ROUTES, [essay])
    with pytest.warns(UserWarning, match="1 of 2 responses have no verdict"):
        found = judge(get_reward(ROUTES), [MATH, essay], [r"\boxed{7}"] * 2, [False] * 2)
    assert found[0].correct and found[1].reason == "error: UsageError: no reward for the domain 'maths'"


@pytest.mark.parametrize(
    "text, message",
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("1 / 0", "ZeroDivisionError"), ("def rewards(*_): return []", "AttributeError: .*'reward'"),
        ("reward = 3", "TypeError: 3 is not a callable"), ("def reward(text): return []", "TypeError: too many"),
        ("def reward(problems, texts, cut, more): return []", "TypeError: missing a required argument: 'more'"),
        ("syntax error", "SyntaxError"),
    ],
)  # fmt: skip
def test_an_own_reward_that_cannot_be_called_is_an_error_at_once(own, text, message):
    path = own(text)
    with pytest.raises(UsageError, match=f"the reward '{path}' is no function .*{message}"):
        get_reward({"math": path})


@pytest.mark.parametrize("name", ["maths", "", ".", "a.", ".b", "a..b", "a b.c", "../evil.py", "os.path/x"])
def test_a_name_that_is_no_import_path_is_refused(name):
    with pytest.raises(UsageError, match="no reward '"):
        get_reward(name)


@pytest.mark.filterwarnings("ignore:.*have no verdict")
@pytest.mark.parametrize(
    "body, reasons",
    [
        ("    if 'b' in texts: raise ValueError('b!')\n    return [Verdict(True, 'fine') for _ in texts]",
         ["fine", "error: ValueError: b!", "fine"]),
        ("    return [0.5 if text == 'b' else Verdict(True, 'fine') for text in texts]",
         ["fine", "error: float in place of a Verdict", "fine"]),
        ("    return None", ["error: TypeError: 'NoneType' object is not subscriptable"] * 3),
        ("    return [Verdict(float('nan'), 'odd') for _ in texts]", ["error: reward nan"] * 3),
        ("    return [Verdict(None, 'odd') for _ in texts]", ["error: reward None"] * 3),
        ("    return [Verdict(True, None) for _ in texts]", ["error: a NoneType in place of a reason"] * 3),
        ("    return (Verdict(True, 'fine') for _ in texts)", ["fine"] * 3),
    ],
)  # fmt: skip
def test_an_own_reward_that_fails_costs_its_own_samples(own, body, reasons):
    path = own(f"def reward(problems, texts, cut):\n{body}")
    found = judge(get_reward({"math": path, "tiny": "tiny"}), [MATH, TINY, MATH, MATH], [*"axbc"], [False] * 4)
    assert found[1] == Verdict(False, "no answer")
    assert [found[i].reason for i in (0, 2, 3)] == reasons


def test_an_own_reward_that_miscounts_stops(own):
    path = own("def reward(problems, texts, cut): return [Verdict(True, '')]")
    for reward in (path, {"math": path, "tiny": "tiny"}):
        with pytest.raises(Or1labError, match="1 verdicts on 2 responses"):
            judge(get_reward(reward), [MATH, MATH], ["a", "b"], [False] * 2)


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The example of docs/rewards.md as the file that its first line names, in the current folder."""
    block = re.search(r"^```python\n# (\S+)\n.*?^```$", (ROOT / "docs" / "rewards.md").read_text(), re.DOTALL | re.M)
    (tmp_path / block[1]).write_text("\n".join(block[0].splitlines()[1:-1]))
    monkeypatch.chdir(tmp_path)
    return {"code": "my_rewards.share_of_tests"}


@needs_bubblewrap
def test_the_example_of_the_docs_pays_by_test(documented):
    broken = CODE.model_construct(id="b", domain="code", prompt="?", tests=None, gold=None)
    texts = [SAME, SQUARE, "no", SQUARE, SQUARE]
    with pytest.warns(UserWarning, match="1 of 5"):
        found = judge(get_reward(documented), [CODE] * 4 + [broken], texts, [False] * 3 + [True, False])
    assert [one.correct for one in found] == [0.5, 1.0, 0.0, 0.0, False]
    assert [one.reason[:12] for one in found] == ["wrong answer", "passed", "no code", "truncated", "error: bad t"]
