"""Eq. 3.1 and its variants against plain loops (values and gradients), by hand, and against TRL's own loss.

B rows (responses), L token positions, V vocabulary.
"""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from or1lab.magic.advantages import group_advantages
from or1lab.magic.batching import micro_batches
from or1lab.magic.entropy import EntropyController
from or1lab.magic.loss import LossOutput, policy_loss, token_weights, total

CLIP = {"clip_low": 0.2, "clip_high": 0.28}


def batch(seed: int, B: int = 5, L: int = 7) -> dict[str, Tensor]:
    """Random float64 tensors with ratios well on both sides of the clip range; row lengths from 1 to L."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    logp = normal(B, L) - 2
    lengths = torch.randint(1, L + 1, (B,), generator=g)
    return {
        "logp": logp,
        "old_logp": logp + 0.3 * normal(B, L),
        "advantages": normal(B),
        "mask": torch.arange(L) < lengths[:, None],
        "entropy": normal(B, L).abs(),
        "ref_logp": logp + 0.5 * normal(B, L),
    }


def differentiable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: t.detach().clone().requires_grad_() if name in ("logp", "entropy") else t for name, t in tensors.items()
    }


def loss_and_gradients(tensors: dict[str, Tensor], **knobs) -> tuple[LossOutput, Tensor, Tensor]:
    """The output, d loss / d logp and d loss / d entropy."""
    tensors = differentiable(tensors)
    out = policy_loss(**tensors, **knobs)
    out.loss.backward()
    gradient = tensors["entropy"].grad  # None when alpha is 0: no backward pass through the entropy
    return out, tensors["logp"].grad, torch.zeros_like(tensors["logp"]) if gradient is None else gradient


def reference(b: dict[str, Tensor], weight: Tensor, clip_low: float, clip_high: float, alpha: float, beta: float):
    """Eq. 3.1 token by token, derivatives written out: loss, d/dlogp, d/dentropy, clipped low and high."""
    B, L = b["logp"].shape
    loss, low, high = 0.0, 0, 0
    d_logp, d_entropy = [[0.0] * L for _ in range(B)], [[0.0] * L for _ in range(B)]
    for i in range(B):
        A = b["advantages"][i].item()
        for t in range(L):
            if not b["mask"][i, t]:
                continue
            w, logp = weight[i, t].item(), b["logp"][i, t].item()
            rho = math.exp(logp - b["old_logp"][i, t].item())
            rho_ref = math.exp(b["ref_logp"][i, t].item() - logp)
            clipped = min(max(rho, 1 - clip_low), 1 + clip_high)
            loss -= w * min(rho * A, clipped * A)
            loss -= w * alpha * b["entropy"][i, t].item()
            loss += w * beta * (rho_ref - math.log(rho_ref) - 1)
            held_low, held_high = rho < 1 - clip_low and A < 0, rho > 1 + clip_high and A > 0
            low, high = low + held_low, high + held_high
            d_logp[i][t] = -w * (0.0 if held_low or held_high else rho * A) + w * beta * (1 - rho_ref)
            d_entropy[i][t] = -w * alpha
    return loss, torch.tensor(d_logp).double(), torch.tensor(d_entropy).double(), low, high


def reference_weights(kind: str, mask: Tensor) -> Tensor:
    lengths = [sum(row) for row in mask.tolist()]
    weights = torch.zeros(mask.shape, dtype=torch.float64)
    for i, length in enumerate(lengths):
        for t in range(mask.shape[1]):
            if mask[i, t]:
                weights[i, t] = {
                    "paper": 1 / sum(lengths),
                    "trl_dapo": 1 / 100,
                    "grpo": 1 / length / 8,
                    "released": (1 / sum(lengths)) * len(lengths) / 8,
                }[kind]
    return weights


TOTALS = {"paper": {}, "trl_dapo": {"total_tokens": 100}, "grpo": {"total_sequences": 8},
          "released": {"total_sequences": 8}}  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", TOTALS)
@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_loss_and_gradients_equal_the_plain_reference(seed, kind, alpha, beta):
    b = batch(seed)
    expected_weights = reference_weights(kind, b["mask"])
    weights = token_weights(kind, b["mask"], **TOTALS[kind], dtype=torch.float64)
    assert_close(weights, expected_weights)
    loss, d_logp, d_entropy, low, high = reference(b, expected_weights, **CLIP, alpha=alpha, beta=beta)
    out, logp_gradient, entropy_gradient = loss_and_gradients(b, **CLIP, alpha=alpha, beta=beta, weights=weights)
    assert_close(out.loss.item(), loss)
    assert_close(logp_gradient, d_logp, rtol=1e-6, atol=1e-8)
    assert_close(entropy_gradient, d_entropy, rtol=1e-6, atol=1e-8)
    assert (out.clip_low.item(), out.clip_high.item()) == (low, high)


def test_default_weights_are_the_papers():
    b = batch(0)
    tokens = b["mask"].sum().item()
    own = policy_loss(**b, **CLIP).loss
    assert_close(own, policy_loss(**b, **CLIP, weights=token_weights("paper", b["mask"], dtype=torch.float64)).loss)
    assert_close(own, policy_loss(**b, **CLIP, total_tokens=tokens).loss)
    assert_close(own, policy_loss(**b, **CLIP, total_tokens=torch.tensor(10 * tokens)).loss * 10)


def test_clip_fractions_by_hand():
    # ratios             0.5  0.9  1.2  1.4 | 0.5  0.9  1.2  1.4 | padding
    ratio = torch.tensor([[0.5, 0.9, 1.2, 1.4], [0.5, 0.9, 1.2, 1.4], [0.1, 9.0, 9.0, 0.1]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    out = policy_loss(ratio.log(), torch.zeros(3, 4), torch.tensor([1.0, -1.0, 1.0]), mask, **CLIP)
    assert out.tokens == 8
    assert out.clip_high == 1 and out.clip_low == 1  # only 1.4 with A > 0, only 0.5 with A < 0
    assert out.clip_high_frac.item() == out.clip_low_frac.item() == 0.125
    assert out.ratio_max.item() == pytest.approx(1.4)
    # -(0.5 + 0.9 + 1.2 + 1.28) + (0.8 + 0.9 + 1.2 + 1.4), over 8 tokens
    assert out.loss.item() == pytest.approx((4.3 - 3.88) / 8)


def test_per_token_advantages_and_one_per_response_are_the_same():
    b = batch(1)
    wide = {**b, "advantages": b["advantages"][:, None].expand_as(b["logp"])}
    assert_close(policy_loss(**wide, **CLIP).loss, policy_loss(**b, **CLIP).loss, rtol=0, atol=0)


def test_without_old_logp_the_ratio_is_one_and_the_gradient_that_of_logp():
    b = batch(2) | {"old_logp": None}
    out, gradient, _ = loss_and_gradients(b, **CLIP)
    w = token_weights("paper", b["mask"], dtype=torch.float64)
    assert_close(out.loss, -(w * b["advantages"][:, None]).sum())
    assert_close(gradient, -w * b["advantages"][:, None])
    assert out.ratio_max == 1 and out.clip_low == out.clip_high == 0
    _, explicit, _ = loss_and_gradients(b | {"old_logp": b["logp"]}, **CLIP)
    assert_close(gradient, explicit)


def test_padding_may_hold_anything():
    b = batch(3)
    for garbage in (math.inf, -math.inf, math.nan, 1e4):
        for entropy_and_kl in ({}, {"alpha": 0.3, "beta": 0.2}):
            dirty = {
                name: t if t.dim() == 1 or name == "mask" else t.where(b["mask"], garbage) for name, t in b.items()
            }
            dirty["advantages"] = b["advantages"][:, None].where(b["mask"], garbage)
            weights = token_weights("paper", b["mask"], dtype=torch.float64)
            clean = loss_and_gradients(b, **CLIP, **entropy_and_kl)
            got = loss_and_gradients(dirty, **CLIP, **entropy_and_kl, weights=weights.where(b["mask"], garbage))
            for name in LossOutput.__dataclass_fields__:
                assert_close(getattr(got[0], name), getattr(clean[0], name), rtol=1e-12, atol=0)
            assert_close(got[1:], clean[1:], rtol=1e-12, atol=0)
            assert (got[1][~b["mask"]] == 0).all()


def test_a_batch_without_tokens_is_zero_with_a_zero_gradient():
    b = batch(4)
    b["mask"] = torch.zeros_like(b["mask"])
    for kind in TOTALS:
        weights = token_weights(kind, b["mask"], dtype=torch.float64)
        out, gradient, _ = loss_and_gradients(b, **CLIP, alpha=0.3, beta=0.2, weights=weights)
        assert out.loss == 0 and (gradient == 0).all()
    for nothing in (b, {name: t if t.dim() == 1 else t[:, :0] for name, t in b.items()}):
        out = policy_loss(**nothing, **CLIP)
        assert out.loss == out.tokens == out.ratio_max == out.clip_low_frac == out.kl == 0


def test_entropy_bonus_gradient_through_real_logits():
    """d H / d z = -p (log p + H), so the bonus moves every logit by +alpha / T_k times that."""
    logits = torch.randn(2, 3, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))  # (B, L, V)
    logits.requires_grad_()
    all_logp = logits.log_softmax(-1)
    entropy = -(all_logp.exp() * all_logp).sum(-1)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    out = policy_loss(all_logp[..., 0], None, torch.zeros(2), mask, **CLIP, entropy=entropy, alpha=0.7)
    out.loss.backward()
    p, logp = all_logp.detach().exp(), all_logp.detach()
    expected = 0.7 / 3 * p * (logp + entropy.detach()[..., None]) * mask[..., None]
    assert_close(logits.grad, expected)
    assert_close(out.entropy, entropy[mask.bool()].mean().detach())


def test_zero_coefficients_log_their_term_but_cost_no_backward_pass():
    tensors = differentiable(batch(0))
    out = policy_loss(**tensors, **CLIP)
    out.loss.backward()
    assert tensors["entropy"].grad is None
    assert out.entropy > 0 and out.kl > 0


def trimmed(tensors: dict[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    """Rows as the trainer cuts them: padded to their own longest response only."""
    width = int(tensors["mask"][rows].sum(1).max())
    return {name: t[rows] if t.dim() == 1 else t[rows, :width] for name, t in tensors.items()}


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(1, 40),
    st.sampled_from(["paper", "grpo", "trl_dapo"]),
)
def test_micro_batches_add_up_to_the_mini_batch_whatever_the_cut(seed, B, budget, kind):
    b = batch(seed, B=B)
    knobs = {**CLIP, "alpha": 0.3, "beta": 0.2}
    totals = {"total_tokens": b["mask"].sum(), "total_sequences": B}
    weights = token_weights(kind, b["mask"], **totals, dtype=torch.float64)
    whole, *gradients = loss_and_gradients(b, **knobs, weights=weights)
    leaf = differentiable(b)
    parts = []
    for rows in micro_batches(b["mask"].sum(1).tolist(), budget):
        part = trimmed(leaf, rows)
        parts.append(
            policy_loss(**part, **knobs, weights=token_weights(kind, part["mask"], **totals, dtype=torch.float64))
        )
        parts[-1].loss.backward()
    summed = total(parts)
    for name in LossOutput.__dataclass_fields__:
        assert_close(getattr(summed, name), getattr(whole, name).detach(), rtol=1e-10, atol=1e-12)
    for name in ("clip_low_frac", "clip_high_frac", "entropy", "kl"):
        assert_close(getattr(summed, name), getattr(whole, name), rtol=1e-10, atol=1e-12)
    assert_close([leaf["logp"].grad, leaf["entropy"].grad], gradients, rtol=1e-10, atol=1e-12)
    assert not summed.loss.requires_grad


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 3))
def test_an_all_equal_group_changes_nothing(seed, reward, where):
    """Rejection end to end, rewards -> kept groups -> T_k -> loss, with and without one more equal group."""
    M, rng = 4, random.Random(seed)
    rewards = [[rng.choice([0.0, 1.0]) for _ in range(M)] for _ in range(3)]
    b = batch(seed, B=4 * M)
    extra = list(range(3 * M, 4 * M))

    def step(groups: list[list[float]], rows: list[int]) -> LossOutput:
        advantages, kept = group_advantages(torch.tensor(groups, dtype=torch.float64))
        keep = kept.repeat_interleave(M)
        tensors = {name: t[rows][keep] for name, t in b.items()} | {"advantages": advantages.flatten()[keep]}
        return policy_loss(**tensors, **CLIP, alpha=0.3, beta=0.2)

    rows = list(range(3 * M))
    without = step(rewards, rows)
    with_it = step([*rewards[:where], [reward] * M, *rewards[where:]], rows[: where * M] + extra + rows[where * M :])
    for name in LossOutput.__dataclass_fields__:
        assert_close(getattr(with_it, name), getattr(without, name), rtol=0, atol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.permutations(range(6)))
def test_order_of_responses_does_not_matter(seed, order):
    b = batch(seed, B=6)
    one, gradient, _ = loss_and_gradients(b, **CLIP, alpha=0.3, beta=0.2)
    other, permuted, _ = loss_and_gradients({k: t[list(order)] for k, t in b.items()}, **CLIP, alpha=0.3, beta=0.2)
    assert_close(other.loss, one.loss, rtol=1e-12, atol=1e-12)
    assert_close(permuted, gradient[list(order)], rtol=1e-12, atol=1e-12)


def test_bad_input():
    b = batch(0)
    with pytest.raises(ValueError, match="entropy"):
        policy_loss(**b | {"entropy": None}, **CLIP, alpha=0.1)
    with pytest.raises(ValueError, match="ref_logp"):
        policy_loss(**b | {"ref_logp": None}, **CLIP, beta=0.1)
    for name in ("old_logp", "mask", "entropy", "ref_logp"):
        with pytest.raises(ValueError, match=name):
            policy_loss(**b | {name: b[name][:1]}, **CLIP)
    with pytest.raises(ValueError, match="advantages"):
        policy_loss(**b | {"advantages": b["advantages"][:1]}, **CLIP)
    with pytest.raises(ValueError, match="kind"):
        token_weights("bnpo", b["mask"])


# ---------------------------------------------------------------------------------- TRL as third opinion


class StockTRL:
    """TRL's `GRPOTrainer._compute_loss` on given tensors: a trainer's state without a trainer or a model."""

    def __init__(self, loss_type: str, *, beta: float = 0.0, entropy_coef: float = 0.0, adaptive: bool = False) -> None:
        self.trainer_class = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
        accelerator = SimpleNamespace(
            gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1, sync_gradients=True
        )
        metrics = {"train": _Ignore()}
        args = SimpleNamespace(
            delta=None, use_bias_correction_kl=False, steps_per_generation=1, entropy_target=0.25,
            entropy_coef_delta=0.005, entropy_coef_min=0.0, entropy_coef_max=1.0,
        )  # fmt: skip
        self.state = SimpleNamespace(
            loss_type=loss_type, beta=beta, epsilon_low=0.2, epsilon_high=0.28,
            args=args, accelerator=accelerator,
            entropy_coef=entropy_coef, use_adaptive_entropy=adaptive, _last_world_entropy=math.inf,
            _entropy_bonus_enabled=adaptive or entropy_coef != 0, _entropy_window_stats=None,
            model=SimpleNamespace(training=True), current_gradient_accumulation_steps=1, _metrics=metrics,
            aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
            importance_sampling_level="token", use_vllm=False,
        )  # fmt: skip

    def loss(self, b: dict[str, Tensor]) -> Tensor:
        self.state._get_per_token_logps_and_entropies = lambda *args, **kwargs: (
            b["logp"],
            b["entropy"],
            None,
        )
        tokens = torch.ones_like(b["mask"], dtype=torch.long)
        inputs = {
            "prompt_ids": tokens[:, :1], "prompt_mask": tokens[:, :1], "completion_ids": tokens,
            "completion_mask": b["mask"].long(), "advantages": b["advantages"],
            "old_per_token_logps": b["old_logp"],
            "ref_per_token_logps": b["ref_logp"], "num_items_in_batch": b["mask"].sum(),
        }  # fmt: skip
        return self.trainer_class._compute_loss(self.state, None, inputs)


class _Ignore(dict):
    """Metrics that nobody reads."""

    def __missing__(self, key: str) -> list:
        return []


@pytest.mark.parametrize("kind", ["trl_dapo", "grpo"])
@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_agrees_with_trl(kind, on_policy, beta):
    for seed in range(5):
        b = batch(seed)
        if on_policy:
            b["old_logp"] = None
        alpha = 0.3 if kind == "trl_dapo" else 0.0  # TRL's bonus is a token mean under every loss type
        weights = token_weights(kind, b["mask"], dtype=torch.float64)
        ours, gradient, entropy_gradient = loss_and_gradients(b, **CLIP, alpha=alpha, beta=beta, weights=weights)
        theirs = differentiable(b)
        loss = StockTRL(kind.removeprefix("trl_"), beta=beta, entropy_coef=alpha).loss(theirs)
        loss.backward()
        assert_close(ours.loss, loss)
        assert_close(gradient, theirs["logp"].grad)
        if alpha:
            assert_close(entropy_gradient, theirs["entropy"].grad)


def test_trl_controller_moves_as_trls_own():
    """The same e_k through TRL's loss and ours: the same coefficient and the same state at each step."""
    stock, ours = StockTRL("dapo", adaptive=True), EntropyController("trl", 0.25, 0.005, 0.0, 1.0)
    for e_k in [0.5, 0.125, 0.25, 0.125, 0.5, 0.5, 0.5, 0.5, 0.125]:  # exact in binary, so is their mean
        b = batch(0) | {"advantages": torch.zeros(5).double(), "entropy": torch.full((5, 7), e_k).double()}
        applied = -stock.loss(b).item() / e_k
        assert ours.alpha(e_k) == pytest.approx(applied, abs=1e-9)
        ours.update(e_k)
        assert ours.c == stock.state.entropy_coef
