"""The update through a real model against eq. 3.1 written out on plain logits, whatever the micro-batches."""

from __future__ import annotations

import dataclasses
import inspect
import math
import textwrap
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from trl import GRPOConfig, GRPOTrainer

from or1lab.errors import Or1labError
from or1lab.magic.head import add_response_head
from or1lab.magic.update import Row, accumulate, importance, measure, pack
from or1lab.recipe import load_recipe
from tests.magic.models import policy_of, small_model

CPU = torch.device("cpu")


def some_rows(off_policy: bool) -> list[Row]:
    generator = torch.Generator().manual_seed(3)

    def tokens(n: int) -> list[int]:
        return torch.randint(2, 30, (n,), generator=generator).tolist()

    lengths = [(3, 5), (4, 1), (2, 17), (6, 9), (3, 12), (5, 2)]
    rows = []
    for n, (prompt, response) in enumerate(lengths):
        old = -3.4 + 0.5 * torch.randn(response, generator=generator, dtype=torch.float64) if off_policy else None
        rows.append(Row(tokens(prompt), tokens(response), (-1.0) ** n * (0.5 + n / 4), old_logp=old))
    return rows


def reference_loss(model, rows, recipe, alpha: float, tau: float) -> torch.Tensor:
    """Eq. 3.1, one response and one token at a time, on plain logits."""
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.token_ids])
        logits = model(ids).logits[0] / tau
        for t, token in enumerate(row.token_ids):
            log_p = logits[len(row.prompt_ids) + t - 1].log_softmax(-1)
            old = log_p[token].detach() if row.old_logp is None else row.old_logp[t]
            rho = (log_p[token] - old).exp()
            clipped = rho.clamp(1 - recipe.clip_low, 1 + recipe.clip_high)
            entropy = -(log_p.exp() * log_p).sum()
            total = total + torch.minimum(rho * row.advantage, clipped * row.advantage) + alpha * entropy
            tokens += 1
    return -total / tokens


@pytest.mark.parametrize("budget", [8, 40, 10_000])
@pytest.mark.parametrize("off_policy, tau", [(False, 1.0), (True, 0.6)])
def test_gradients_are_those_of_eq_3_1(budget, off_policy, tau):
    recipe = load_recipe("tiny", [f"micro_tokens={budget}", "clip_high=0.3"])
    rows = some_rows(off_policy)
    plain, ours = small_model(), small_model()
    expected = reference_loss(plain, rows, recipe, 0.01, tau)
    expected.backward()
    result = accumulate(rows, policy_of(ours, tau), recipe, alpha=0.01)
    torch.testing.assert_close(result.output.loss.double(), expected.detach(), rtol=1e-5, atol=1e-6)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)  # the fused head works in fp32


def test_log_probs_and_entropies_of_rows_come_back_in_order():
    recipe = load_recipe("tiny", ["micro_tokens=24"])
    model, rows = small_model(), some_rows(False)
    policy = policy_of(model)
    result = accumulate(rows, policy, recipe, alpha=0.0, details=True)
    logp, entropies = measure(rows, policy, 50)
    for row, a, b, h in zip(rows, result.logp, logp, entropies, strict=True):
        ids = torch.tensor([row.prompt_ids + row.token_ids])
        every = model(ids).logits.log_softmax(-1)[0, :-1]
        plain = every.gather(-1, ids[0, 1:, None])[:, 0]
        entropy = -(every.exp() * every).sum(-1)[len(row.prompt_ids) - 1 :].detach()
        torch.testing.assert_close(h.double(), entropy, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(a.double(), plain[len(row.prompt_ids) - 1 :].detach(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(b, a)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("vocabulary", [4096, 4097, 9001])
def test_the_head_over_several_tiles_is_that_of_full_logits(vocabulary, tied):
    """The vocabulary is cut into tiles of 4,096; log-probs and entropies, both with gradient, at a temperature."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied, initializer_range=0.5,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    ids = torch.randint(0, vocabulary, (3, 7))
    labels = ids.masked_fill(torch.tensor([[0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0, 0], [0] * 7]) == 0, -100)
    weights = torch.randn(2, 3, 6)
    results = []
    for tau in (None, 0.7):
        model.zero_grad()
        if tau is None:
            every = (model(ids).logits[:, :-1] / 0.7).log_softmax(-1)
            logp, entropy = every.gather(-1, ids[:, 1:, None])[..., 0], -(every.exp() * every).sum(-1)
            logp, entropy = (values.where(labels[:, 1:] != -100, 0) for values in (logp, entropy))
            add_response_head(model)
        else:
            logp, entropy = model(input_ids=ids, labels=labels, response_tau=tau)
        (weights[0] * logp + weights[1] * entropy).sum().backward()
        results.append([logp.detach(), entropy.detach(), *(p.grad.clone() for p in model.parameters())])
    for ours, plain in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["soft cap", "bias"])
def test_a_soft_cap_and_a_bias_of_the_head_count(kind):
    shape = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.5}  # fmt: skip
    torch.manual_seed(0)
    if kind == "soft cap":
        model = Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=8, final_logit_softcapping=1.5))
    else:
        model = PhiForCausalLM(PhiConfig(**shape))
        torch.nn.init.normal_(model.lm_head.bias)
    model.eval()
    ids = torch.randint(3, 40, (2, 6))
    with torch.no_grad():
        every = (model(ids).logits[:, :-1] / 0.7).log_softmax(-1)
        add_response_head(model)
        logp, entropy = model(input_ids=ids, labels=ids, response_tau=0.7)
        torch.testing.assert_close((model(ids).logits[:, :-1] / 0.7).log_softmax(-1), every)  # as before, without tau
    torch.testing.assert_close(logp, every.gather(-1, ids[:, 1:, None])[..., 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(entropy, -(every.exp() * every).sum(-1), rtol=1e-4, atol=1e-5)


def test_a_model_that_scales_its_logits_is_refused():
    model = small_model()
    model.config.logit_scale = 0.25
    with pytest.raises(Or1labError, match="scales its logits"):
        add_response_head(model)


def test_pack_aligns_labels_mask_and_values():
    micro = pack([Row([7, 8], [9, 10, 11]), Row([5], [6])], CPU)
    assert micro.ids.tolist() == [[7, 8, 9, 10, 11], [5, 6, 0, 0, 0]]
    assert micro.labels.tolist() == [[-100, -100, 9, 10, 11], [-100, 6, -100, -100, -100]]
    assert micro.mask.int().tolist() == [[0, 1, 1, 1], [1, 0, 0, 0]]
    values = micro.at_response([torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-4.0])])
    assert values.tolist() == [[0, -1, -2, -3], [-4, 0, 0, 0]]
    assert [[v.tolist() for v in row] for row in micro.each(values)] == [[[-1, -2, -3]], [[-4]]]


def test_kl_to_a_reference_pulls_towards_it():
    recipe = load_recipe("tiny", ["beta=0.5"])
    rows = [Row(r.prompt_ids, r.token_ids) for r in some_rows(False)]
    model = small_model()
    torch.manual_seed(5)
    other = small_model()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1 * torch.randn_like(p))
    policy = policy_of(model, reference=other)
    before = accumulate(rows, policy, recipe, alpha=0.0)
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(0.05 * p.grad)
    after = accumulate(rows, policy, recipe, alpha=0.0)
    assert 0 < after.output.kl < before.output.kl
    recipe = load_recipe("tiny", ["beta=0"])  # a stage without the term: no pass of the reference, nothing logged
    policy.reference = None
    assert accumulate(rows, policy, recipe, alpha=0.0).output.kl == 0


def test_the_mask_of_whole_responses_is_trls_default():
    """Against the lines of TRL's own source that weigh responses, run on the same log-probs."""
    generator = torch.Generator().manual_seed(7)
    mask = torch.arange(9) < torch.tensor([[1], [4], [9], [9], [6], [0]])
    ours, theirs = (torch.randn(6, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    theirs[2] = ours[2] - 0.12  # 9 x 0.12 nats: just below a factor of 3
    theirs[3] = ours[3] - 0.13  # just above
    lines = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    start = lines.index("                mask = completion_mask if tool_mask")
    block = lines[start : lines.index("            # Compute the per-token log probabilities for")]
    defaults = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    cap = defaults["vllm_importance_sampling_clip_max"]
    trainer = SimpleNamespace(**{name: value for name, value in defaults.items() if name.startswith("vllm_importance")})
    known = {
        "self": trainer, "completion_mask": mask, "tool_mask": None, "math": math, "torch": torch,
        "old_per_token_logps": ours, "sampling_per_token_logps": theirs,
    }  # fmt: skip
    exec(textwrap.dedent(block), known)
    recipe = load_recipe("tiny", ["old_logp=trainer", "correction=sequence_mask", f"correction_cap={cap}"])
    weights = importance(ours - theirs, mask, recipe)
    torch.testing.assert_close(weights, known["vllm_importance_sampling_ratio"].expand_as(weights), rtol=0, atol=0)
    assert weights[2, 0] == pytest.approx(math.exp(1.08)) and (weights[3] == 0).all()
