"""Quality votes: what counts as one, what suffices, an endpoint that speaks like OpenAI's, and saved votes."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from or1lab.data import votes
from or1lab.data.problem import Problem
from or1lab.data.votes import Panel, decide, read_vote
from or1lab.errors import Or1labError
from tests.servers import chat_server, hurry

GOOD, BAD = (Problem(id=name, domain="math", prompt=f"{name} {{problem}}?", gold="1") for name in ("good", "bad"))
JUDGES = ("llama", "qwen")


@contextmanager
def endpoint(answer, most: int = 99):
    """A server whose judges answer: `answer(judge, text)` -> the answers to come, at most `most` of them a request, or
    a status. Yields its address and the requests it got."""

    def choices(asked):
        found = answer(asked["model"], asked["messages"][0]["content"])
        return found if isinstance(found, int) else [(found, 1, "stop")] * min(asked["n"], most)

    with chat_server(choices) as (address, got):
        yield address, got


def good_only(judge: str, text: str) -> str:
    return "It can be read. Valid." if "good {problem}" in text else "Not valid? The text is cut: **invalid**"


@pytest.mark.parametrize(
    ("answer", "vote"),
    [
        ("valid", True), ("**Valid**.", True), ("INVALID", False), ("It looks valid, but is invalid.", False),
        ("Not invalid: valid", True), ("I cannot say", None), ("", None), ("validity", None),
    ],
)  # fmt: skip
def test_the_last_word_is_the_vote(answer, vote):
    assert read_vote(answer) is vote


@pytest.mark.parametrize(
    ("cast", "reason"),
    [
        ([True] * 9 + [False] * 23, ""),
        ([True] * 8 + [False] * 24, "voted out: 8 of 32 valid"),
        ([True] * 8 + [None] * 24, "voted out: 8 of 32 valid"),  # no vote is no valid vote
        ([True] * 9, ""),  # the others cannot change it
        ([False] * 24, "voted out: 0 of 32 valid"),
        ([False] * 23, "unchecked: 23 of 32 votes"),
        ([], "unchecked: 0 of 32 votes"),
    ],
)
def test_nine_valid_votes_of_thirty_two(cast, reason):
    assert decide(cast, Panel(JUDGES)) == reason


def test_votes_are_dealt_evenly():
    assert [Panel(JUDGES).share(judge) for judge in JUDGES] == [16, 16]
    assert [Panel(("a", "b", "c")).share(judge) for judge in "abc"] == [11, 11, 10]


def test_an_endpoint_is_asked_once_and_its_votes_serve_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")
    saved = tmp_path / "votes.jsonl"
    with endpoint(good_only) as (address, got):
        found = list(votes.votes([GOOD, BAD], Panel(JUDGES, address), saved))
        assert [reason for _, reason in found] == ["", "voted out: 0 of 32 valid"]
        assert sorted(ask["model"] for ask in got) == ["llama", "llama", "qwen", "qwen"]
        assert all((ask["n"], ask["temperature"], ask["path"]) == (16, 1.0, "/v1/chat/completions") for ask in got)
        assert any("good {problem}?" in ask["messages"][0]["content"] for ask in got)
        assert list(votes.votes([GOOD, BAD], Panel(JUDGES, address), saved)) == found and len(got) == 4
    assert list(votes.votes([GOOD, BAD], Panel(), saved)) == found  # offline
    other = GOOD.model_copy(update={"prompt": "Another text under the same id?"})
    assert list(votes.votes([other], Panel(), saved)) == [(other, "unchecked: 0 of 32 votes")]
    assert [reason for _, reason in votes.votes([BAD], Panel(("llama",)), saved)] == ["unchecked: 16 of 32 votes"]


def test_of_each_judge_its_share_counts_and_what_is_missing_is_asked_for(tmp_path):
    saved = tmp_path / "votes.jsonl"
    with endpoint(good_only) as (address, got):
        list(votes.votes([BAD], Panel(("llama",), address), saved))
        assert [ask["n"] for ask in got] == [32]
    with endpoint(lambda judge, text: "valid") as (address, got):  # another one, who finds it valid
        ((_, reason),) = votes.votes([BAD], Panel(JUDGES, address), saved)
        assert [(ask["model"], ask["n"]) for ask in got] == [("qwen", 16)] and reason == ""
        ((_, reason),) = votes.votes([BAD], Panel(("qwen",), address, threshold=32), saved)  # 16 of 32 are there
        assert [(ask["model"], ask["n"]) for ask in got[1:]] == [("qwen", 16)] and reason == ""
    ((_, reason),) = votes.votes([BAD], Panel(JUDGES, threshold=17), saved)  # offline: 16 of each
    assert reason == "voted out: 16 of 32 valid"


def test_a_server_that_answers_once_whatever_n_is(tmp_path):
    with endpoint(good_only, most=1) as (address, got):
        ((_, reason),) = votes.votes([GOOD], Panel(JUDGES, address, votes=4, threshold=4), tmp_path / "v.jsonl")
    assert reason == "" and len(got) == 4


def test_a_passing_fault_is_retried_and_a_lasting_one_keeps_what_there_is(tmp_path, monkeypatch):
    hurry(monkeypatch)
    saved, failing = tmp_path / "votes.jsonl", [3]

    def shaky(judge, text):
        failing[0] -= 1
        return 503 if failing[0] >= 0 else good_only(judge, text)

    with endpoint(shaky) as (address, _):
        assert [reason for _, reason in votes.votes([GOOD], Panel(JUDGES, address), saved)] == [""]
    with endpoint(lambda judge, text: 400 if judge == "qwen" else good_only(judge, text)) as (address, got):
        with pytest.raises(Or1labError, match=r"qwen failed on problem bad .*--resume"):
            list(votes.votes([GOOD, BAD], Panel(JUDGES, address), saved))
        assert sorted(ask["model"] for ask in got) == ["llama", "qwen"]  # nothing of the good one was missing
    with endpoint(good_only) as (address, got):
        found = list(votes.votes([GOOD, BAD], Panel(JUDGES, address), saved))
        assert [reason for _, reason in found] == ["", "voted out: 0 of 32 valid"]
        assert [ask["model"] for ask in got] == ["qwen"]


def test_after_a_failure_no_more_are_asked_for(tmp_path):
    many = [GOOD.model_copy(update={"id": f"p{n}", "prompt": f"{n}?"}) for n in range(200)]
    with endpoint(lambda judge, text: 400) as (address, got), pytest.raises(Or1labError, match="failed on problem"):
        list(votes.votes(many, Panel(JUDGES, address), tmp_path / "votes.jsonl"))
    assert len(got) < 200  # of 400


def test_without_the_client_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(Or1labError, match="pip install openai"):
        list(votes.votes([GOOD], Panel(JUDGES, "http://127.0.0.1:9/v1"), tmp_path / "v.jsonl"))
