"""Engines against plain logits: log-probs of their own samples, weight sync, seeds, the batch budget."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from or1lab.errors import Or1labError
from or1lab.magic.diagnostics import check_mismatch
from or1lab.rollout import vllm_engine
from or1lab.rollout.base import Request
from or1lab.rollout.transformers_engine import TransformersEngine
from or1lab.rollout.vllm_engine import VllmEngine, kv_cache_bytes
from tests.lacking import needs_vllm

EXPECTED = 5e-5  # fp32 rounding between two implementations, nats


def random_model(folder, *, tied: bool) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=48, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=tied, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    return model


def requests(n: int = 6, group: int = 3) -> list[Request]:
    return [Request([3 + i, 5, 7, 4], [1000 * i + j for j in range(group)]) for i in range(n)]


def logprob_pairs(model, engine, wanted, T: int = 24, tau: float = 1.0):
    """(plain logits' log-probs, the engine's) of the engine's own samples."""
    ours, theirs = [], []
    for request, group in zip(wanted, engine.generate(wanted, tau=tau, T=T), strict=True):
        for sample in group:
            ids = torch.tensor([request.prompt_ids + sample.token_ids])
            with torch.no_grad():
                logp = (model(ids).logits / tau).log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
            ours.append(logp[len(request.prompt_ids) - 1 :])
            theirs.append(torch.tensor(sample.logprobs))
    return torch.cat(ours), torch.cat(theirs)


def shaken(model):
    """The model after something like an optimizer step: every weight moved."""
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return moved


@pytest.fixture(scope="session")  # vLLM's clean-up at the end of one engine takes the other's process groups along
def tied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tied")
    model = random_model(folder, tied=True)
    engine = VllmEngine(str(folder), dtype="float32", eos_ids=[1], prompt_limit=8, max_T=32, max_num_seqs=16)
    return model, engine


@pytest.fixture
def untied(engine, small_recipe):
    """The session's engine, given the base's weights back afterwards."""
    from or1lab.sources import model_folder

    model = AutoModelForCausalLM.from_pretrained(model_folder(small_recipe.model), dtype=torch.float32)
    engine.sync(model.named_parameters())
    yield model, engine
    engine.sync(model.named_parameters())


@needs_vllm
def test_a_stream_gives_the_samples_of_a_batch_and_may_be_left(untied):
    _, engine = untied
    wanted = requests()
    batch = engine.generate(wanted, tau=0.8, T=24)
    streamed = {(i, j): sample for i, j, sample in engine.stream(wanted, tau=0.8, T=24)}
    assert len(streamed) == 18
    for (i, j), sample in streamed.items():
        assert (sample.token_ids, sample.truncated) == (batch[i][j].token_ids, batch[i][j].truncated)
    left = engine.stream(wanted, tau=0.8, T=24)
    next(left)
    left.close()
    assert not engine.llm.llm_engine.has_unfinished_requests()
    again = engine.generate(wanted, tau=0.8, T=24)
    assert [[s.token_ids for s in group] for group in again] == [[s.token_ids for s in group] for group in batch]


def test_sync_reaches_an_untied_engine(untied):
    model, engine = untied
    ours, theirs = logprob_pairs(model, engine, requests(), tau=0.8)
    assert (ours - theirs).abs().max() < EXPECTED
    moved = shaken(model)
    with pytest.raises(Or1labError, match="disagree"):  # what happens when the sync is left out
        check_mismatch(*logprob_pairs(moved, engine, requests()), "float32", engine.name)
    engine.sync(moved.named_parameters())
    ours, theirs = logprob_pairs(moved, engine, requests())
    assert (ours - theirs).abs().max() < EXPECTED
    assert check_mismatch(ours, theirs, "float32", engine.name)["kl/rollout_trainer_max"] < EXPECTED


@needs_vllm
def test_sync_reaches_the_tied_head(tied, monkeypatch):
    model, engine = tied
    moved = shaken(model)
    with monkeypatch.context() as patch:  # the trap: without the repacking the head keeps its old weights
        patch.setattr(vllm_engine, "_repack_tied_head", lambda model: None)
        engine.sync(moved.named_parameters())
        ours, theirs = logprob_pairs(moved, engine, requests())
        assert (ours - theirs).abs().max() > 1e-2
    engine.sync(moved.named_parameters())
    ours, theirs = logprob_pairs(moved, engine, requests())
    assert (ours - theirs).abs().max() < EXPECTED


@needs_vllm
def test_samples_do_not_depend_on_the_batch(tied):
    _, engine = tied
    whole = engine.generate(requests(), tau=1.0, T=24)
    half = engine.generate(requests()[::2], tau=1.0, T=24)
    assert [g for i, g in enumerate(whole) if i % 2 == 0] == half
    assert whole[0][0] != whole[0][1]  # members of a group differ


@needs_vllm
def test_more_prompt_tokens_than_the_batch_budget(tied):
    """Seeded requests survive a queue: 40 x 8 prompt tokens against a budget of 16 sequences x 8."""
    _, engine = tied
    many = [Request([2 + (i + n) % 40 for n in range(8)], [7 * i, 7 * i + 1]) for i in range(40)]
    budget = engine.llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens
    assert sum(len(r.prompt_ids) * len(r.seeds) for r in many) > budget
    together = engine.generate(many, tau=1.0, T=32)
    assert together[33:35] == engine.generate(many[33:35], tau=1.0, T=32)


@needs_vllm
def test_limits_and_ends(tied):
    _, engine = tied
    for group in engine.generate(requests(), tau=1.0, T=12):
        for sample in group:
            assert len(sample.token_ids) == len(sample.logprobs) <= 12
            assert sample.truncated == (1 not in sample.token_ids)
            assert sample.truncated <= (len(sample.token_ids) == 12)


def test_kv_cache_holds_every_sequence_whole():
    config = Qwen2Config(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3)
    tokens = kv_cache_bytes(config, "float32", max_num_seqs=5, limit=300) / (2 * 3 * 2 * 16 * 4)
    assert tokens >= 5 * 300


def test_transformers_backend_samples_the_same_policy(tmp_path):
    model = random_model(tmp_path, tied=False)
    engine = TransformersEngine(str(tmp_path), dtype="float32", eos_ids=[1], pad_id=0, max_num_seqs=7)
    ragged = [Request([3, 5], [1, 2]), Request([4, 6, 8, 9], [3]), Request([7], [4, 5])]
    ours, theirs = logprob_pairs(model, engine, ragged, tau=0.7)
    assert (ours - theirs).abs().max() < EXPECTED
    assert engine.generate(ragged, tau=1.0, T=24) == engine.generate(ragged, tau=1.0, T=24)
    moved = shaken(model)
    engine.sync(moved.named_parameters())
    ours, theirs = logprob_pairs(moved, engine, ragged)
    assert (ours - theirs).abs().max() < EXPECTED
    for group in engine.generate(ragged, tau=1.0, T=6):
        assert all(s.truncated == (1 not in s.token_ids) for s in group)
    one, other = (engine.generate([Request([3, 5], [seed])], tau=0.0, T=6)[0][0].token_ids for seed in (1, 2))
    assert one == other  # at temperature 0 no seed matters
