"""What an evaluation samples with: engines that cannot stream, and servers with all that they answer."""

from __future__ import annotations

import weakref

import pytest

from or1lab import evaluate as evaluating
from or1lab.endpoint import gather
from or1lab.errors import Or1labError
from or1lab.evaluate import evaluate
from or1lab.evaluation import Evaluation
from or1lab.rollout.sampler import Offline
from tests.servers import answers, chat_server, completion
from tests.test_evaluation import K, suite


class Batches:
    """An engine that cannot stream, whose samples depend on the whole batch."""

    name = "batches"

    def __init__(self, ids) -> None:
        self.ids, self.batches = ids, []

    def generate(self, requests, *, tau, T):
        from or1lab.rollout.base import Sample

        seeds = [seed for request in requests for seed in request.seeds]
        self.batches.append(len(seeds))
        return [[Sample([self.ids[sum(seeds) % len(self.ids)], 1], [0.0] * 2, False)] for _ in requests]


def test_an_engine_that_cannot_stream_gets_the_same_batches_after_a_death(tmp_path):
    from or1lab import sources

    tokenizer = sources.load_tokenizer(sources.model_folder("tiny"))
    ids = tokenizer("0123456789", add_special_tokens=False)["input_ids"]
    asked = evaluating._asked(suite().problems(), K, 0)
    whole = Offline(Batches(ids), tokenizer, temperature=1.0, limit=9, batch=10)
    parts = list(whole.sample(asked, set()))
    assert [len(part) for part in parts] == whole.engine.batches == [10, 10, 4]
    rest = Offline(Batches(ids), tokenizer, temperature=1.0, limit=9, batch=10)
    stored = {one.place for one in parts[0]} | {parts[2][0].place}  # of the last batch one is there
    assert list(rest.sample(asked, stored)) == [parts[1], parts[2][1:]] and rest.engine.batches == [10, 4]


class Text(str):
    """One that can be looked after."""

    __slots__ = ("__weakref__",)


def test_results_of_a_server_are_not_kept_once_given():
    given, alive = [], []
    for result in gather(Text, range(50), workers=1):
        alive.append(sum(one() is not None for one in given))
        given.append(weakref.ref(result))
        del result
    assert len(given) == 50 and max(alive) <= 1


def ask_server(address, out, resume=False, chosen=None):
    return evaluate("served-model", chosen or suite(), out=out, endpoint=address, resume=resume)


def test_a_server_is_asked_once_for_each_sample_with_its_seed(tmp_path):
    with chat_server(answers) as (address, got):
        found = ask_server(address, tmp_path / "served", chosen=suite(temperature=0.6, top_p=0.9))
    assert len(got) == 24 and {ask["path"] for ask in got} == {"/v1/chat/completions"}
    keys = ("model", "temperature", "top_p", "max_tokens", "n")
    assert {tuple(ask[key] for key in keys) for ask in got} == {("served-model", 0.6, 0.9, 100, 1)}
    seeds = {one.seed for one in evaluating._asked(suite().problems(), K, 0)}
    assert {ask["seed"] for ask in got} == seeds and len(seeds) == 24
    assert (found.table("length") == 7).all() and found.table("truncated")[5].all()
    assert found.correct()[:5].all() and not found.correct()[5].any()
    assert found.manifest["engine"] == "endpoint" and found.manifest["endpoint"] == address


@pytest.mark.parametrize("change", [
    {"finish_reason": "abort"}, {"finish_reason": None}, {"message": None},
    {"message": {"role": "assistant", "content": [{"type": "text", "text": "1"}]}},
])  # fmt: skip
def test_what_is_no_whole_answer_is_not_judged(change, tmp_path):
    def broken(asked):
        body = completion(asked, answers(asked))
        body["choices"][0] |= change
        return body

    with chat_server(broken) as (address, _), pytest.raises(Or1labError, match=r"p0, sample 0 is no whole text"):
        ask_server(address, tmp_path / "broken", chosen=suite(1, k=1))
    assert not Evaluation.open(tmp_path / "broken").stored()


def test_an_error_with_status_200_is_told(tmp_path):
    told = pytest.raises(Or1labError, match="no answer to problem .*model overloaded.*--resume")
    with chat_server(lambda asked: {"error": {"message": "model overloaded"}}) as (address, _), told:
        ask_server(address, tmp_path / "busy")


def test_a_server_that_counts_no_tokens_is_refused_and_thinking_given_apart_is_put_back(tmp_path):
    def silent(asked):
        return {**completion(asked, answers(asked)), "usage": None}

    with chat_server(silent) as (address, _), pytest.raises(Or1labError, match="says nothing of its tokens"):
        ask_server(address, tmp_path / "silent")

    def apart(asked):
        body = completion(asked, answers(asked))
        body["choices"][0]["message"] = {"role": "assistant", "content": "\\boxed{1}", "reasoning_content": "hm"}
        return body

    with chat_server(apart) as (address, _):
        found = ask_server(address, tmp_path / "apart", chosen=suite(1))
    assert set(found.samples["response"]) == {"<think>hm</think>\\boxed{1}"} and found.correct().all()
