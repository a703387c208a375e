"""Engines out of memory: fewer sequences together, a warning with the numbers, and in the end a clear error."""

from __future__ import annotations

import pytest
import torch

from or1lab import train
from or1lab.errors import Or1labError
from or1lab.recipe import load_recipe
from or1lab.rollout.base import Request
from or1lab.rollout.transformers_engine import TransformersEngine
from or1lab.rollout.vllm_engine import VllmEngine
from or1lab.sources import model_folder
from tests.broken_runs import SMALL
from tests.lacking import needs_vllm

BASE = model_folder("tiny")
NO_ROOM = "CUDA out of memory. Tried to allocate 2.00 GiB"
NO_CACHE = "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"


def requests(n: int) -> list[Request]:
    return [Request([5, 6, 7 + i % 3], [100 * i, 100 * i + 1]) for i in range(n)]


class Started:
    """Stands for vLLM: there is room for `room` sequences."""

    room, tried, said = 0, [], NO_ROOM

    def __init__(self, *, max_num_seqs, **_):
        self.tried.append(max_num_seqs)
        if max_num_seqs > self.room:
            raise ValueError(self.said)


def start(monkeypatch, room: int, said: str = NO_ROOM) -> VllmEngine:
    monkeypatch.setattr(Started, "room", room)
    monkeypatch.setattr(Started, "tried", [])
    monkeypatch.setattr(Started, "said", said)
    monkeypatch.setattr("vllm.LLM", Started)
    return VllmEngine(BASE, dtype="float32", eos_ids=[1], prompt_limit=8, max_T=8, max_num_seqs=12)


@needs_vllm
def test_vllm_starts_with_as_many_sequences_as_there_is_memory_for(monkeypatch):
    with pytest.warns(UserWarning, match=r"out of memory with \d+ sequences together \(CUDA out .*goes on with"):
        engine = start(monkeypatch, room=4)
    assert Started.tried == [12, 6, 3] and engine.concurrency.now == 3
    assert [told.rpartition(" ")[2] for told in engine.alarms] == ["6", "3"]


@needs_vllm
@pytest.mark.filterwarnings("ignore:the engine ran out of memory")
def test_without_memory_for_one_sequence_the_mend_is_named(monkeypatch):
    mend = "rollout.gpu_memory_utilization.*lower T.*more GPUs"
    with pytest.raises(Or1labError, match=rf"no memory for one sequence \(CUDA out.*{mend}"):
        start(monkeypatch, room=0)
    assert Started.tried == [12, 6, 3, 1]
    with pytest.raises(Or1labError, match=rf"no memory for one sequence \(No available.*{mend}"):
        start(monkeypatch, room=0, said=NO_CACHE)
    assert Started.tried == [12]  # fewer sequences leave no more room for one


@needs_vllm
def test_of_several_processes_none_begins_again_alone(monkeypatch, engine):
    monkeypatch.setattr("or1lab.rollout.vllm_engine.processes", lambda: 2)
    mend = "lower rollout.max_num_seqs or rollout.gpu_memory_utilization, then --resume"
    with pytest.raises(Or1labError, match=rf"with 12 sequences together \(CUDA out.*{mend}"):
        start(monkeypatch, room=4)
    assert Started.tried == [12]
    with pytest.raises(Or1labError, match=rf"sequences together \(No available memory.*{mend}"):
        start(monkeypatch, room=4, said=NO_CACHE)
    with pytest.raises(ValueError, match="unknown architecture"):
        start(monkeypatch, room=4, said="unknown architecture")
    monkeypatch.setattr(engine, "tensor_parallel", 2)  # they share one engine while it samples, too
    with pytest.raises(Or1labError, match=mend):
        engine._back_off(torch.OutOfMemoryError("CUDA out of memory"), 4)
    assert engine.alarms == []


@needs_vllm
def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    with pytest.raises(ValueError, match="unknown architecture"):
        start(monkeypatch, room=0, said="unknown architecture")
    assert Started.tried == [12]


@needs_vllm
@pytest.mark.parametrize("where", ["execute_model", "sample_tokens"])
def test_vllm_out_of_memory_while_sampling_gives_the_same_samples(where, engine, monkeypatch):
    """The real engine, whose step fails as soon as more than nine sequences are in it."""
    scheduler = engine.llm.llm_engine.engine_core.engine_core.scheduler
    executor, before = engine.llm.llm_engine.model_executor, engine.concurrency.now
    whole, real = engine.generate(requests(10), tau=1.0, T=24), getattr(executor, where)

    def step(*arguments, **options):
        crowded = len(scheduler.running) > 9
        if crowded and where == "sample_tokens":  # which begins by taking what the forward pass left
            real(*arguments, **options)
        if crowded:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*arguments, **options)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(executor, where, step)
            with pytest.warns(UserWarning, match="with 20 sequences together .*goes on with 10"):
                assert engine.generate(requests(10), tau=1.0, T=24) == whole
            assert engine.concurrency.now == 5 and len(engine.alarms) == 2
            engine.concurrency.now = scheduler.max_num_running_reqs = scheduler.max_num_active_reqs = before
            with pytest.warns(UserWarning, match="goes on with 5"):
                streamed = {(i, j): sample.token_ids for i, j, sample in engine.stream(requests(10), tau=1.0, T=24)}
        assert streamed == {(i, j): s.token_ids for i, group in enumerate(whole) for j, s in enumerate(group)}
    finally:
        engine.concurrency.now = scheduler.max_num_running_reqs = scheduler.max_num_active_reqs = before
        engine.alarms.clear()
    assert engine.generate(requests(10), tau=1.0, T=24) == whole


@pytest.mark.filterwarnings("ignore:the engine ran out of memory")
def test_a_run_on_transformers_goes_on_with_smaller_batches_and_its_manifest_says_so(tmp_run, monkeypatch):
    real, sizes = TransformersEngine._batch, []

    def batch(self, rows, tau, T):
        sizes.append(len(rows))
        if len(rows) > 6:
            raise torch.OutOfMemoryError("MPS backend out of memory")
        return real(self, rows, tau, T)

    monkeypatch.setattr(TransformersEngine, "_batch", batch)
    recipe = load_recipe(SMALL, ["stages.0.steps=1", "eval.every=0", "rollout.backend=transformers"])
    run = train.run(recipe, tmp_run, progress=False)
    assert sizes[:6] == [16, 8, 4, 4, 4, 4] and max(sizes[2:]) == 4
    first, second = run.manifest["alarms"]
    assert "with 16 sequences together (MPS backend out of memory): it goes on with 8; samples here depend on" in first
    assert "with 8 sequences" in second and run.status == "finished"
