"""The mini-batches of one training step, as a whole: against eq. 3.1 in plain loops, with a real optimizer between."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from or1lab.magic.batching import deal, released_cut
from or1lab.magic.loss import token_weights
from or1lab.magic.sgd import sgd_steps
from or1lab.magic.update import Row, accumulate, weights_of
from or1lab.recipe import load_recipe
from tests.magic.models import policy_of, small_model

ALPHA = 0.02


def groups_of(seed: int, N: int, M: int) -> list[list[Row | None]]:
    g = torch.Generator().manual_seed(seed)

    def tokens(n: int) -> list[int]:
        return torch.randint(2, 30, (n,), generator=g).tolist()

    groups: list[list[Row | None]] = []
    for _ in range(N):
        prompt = tokens(3)
        groups.append([])
        for _ in range(M):
            response = tokens(int(torch.randint(1, 9, (1,), generator=g)))
            sampled = (-3 + torch.randn(len(response), generator=g)).tolist()
            groups[-1].append(Row(prompt, response, torch.randn(1, generator=g).item(), sampled))
    return groups


def plain_logp(model, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies of one response from full logits."""
    logp = model(torch.tensor([row.prompt_ids + row.token_ids])).logits[0].log_softmax(-1)
    logp = logp[len(row.prompt_ids) - 1 : -1]
    return logp[range(len(row.token_ids)), row.token_ids], -(logp.exp() * logp).sum(-1)


def plain_weight(row: Row, rows: list[Row], groups, recipe) -> float:
    """What each token of a row counts: 1 over the tokens of the mini-batch (eq. 3.1), of its own response over their
    number (eq. 2.4), or of all that was sampled over the mini-batches of a pass (TRL)."""
    if recipe.loss == "grpo":
        return 1 / len(row.token_ids) / len(rows)
    if recipe.loss == "trl_dapo":
        sampled_tokens = sum(len(one.token_ids) for group in groups for one in group if one is not None)
        return recipe.D_R / recipe.D_T / sampled_tokens
    return 1 / sum(len(one.token_ids) for one in rows)


def plain_step(model, batches, groups, old, recipe) -> None:
    """Mini-batches by the book: ratio to old(n, row), clip, eq. 3.1, AdamW between and after."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for n, rows in enumerate(batches):
        loss = torch.zeros((), dtype=torch.float64)
        for row in rows:
            logp, entropy = plain_logp(model, row)
            ratio = (logp - old(n, row)).exp()
            clipped = ratio.clamp(1 - recipe.clip_low, 1 + recipe.clip_high)
            surrogate = torch.minimum(ratio * row.advantage, clipped * row.advantage)
            if recipe.correction == "truncated":
                surrogate = surrogate * (old(n, row) - sampled(row)).exp().clamp(max=recipe.correction_cap)
            if recipe.correction == "sequence_mask":
                weight = (old(n, row) - sampled(row)).sum().exp()
                surrogate = surrogate * (weight if weight <= recipe.correction_cap else 0)
            loss = loss - (surrogate + ALPHA * entropy).sum() * plain_weight(row, rows, groups, recipe)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def sampled(row: Row) -> torch.Tensor:
    return torch.tensor(row.sampler_logp, dtype=torch.float64)


def our_step(model, groups, kept, recipe) -> list[list[Row]]:
    """The rows of each mini-batch, in order."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seen = []

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    generator = torch.Generator().manual_seed(0)
    for batch in sgd_steps(
        groups, kept, policy_of(model), recipe, alpha=ALPHA, generator=generator, optimizer_step=step
    ):
        seen.append(list(batch.rows))
    step()
    return seen


def test_what_is_shuffled_comes_from_the_steps_generator_alone():
    recipe = load_recipe("tiny", ["D_R=6", "D_T=2", "gs=3", "old_logp=sampler"])
    dealt = []
    for seed in (1, 2):
        model = small_model()
        torch.manual_seed(seed)  # not what is shuffled by
        batches = our_step(model, groups_of(1, 6, 3), [True] * 6, recipe)
        dealt.append([[row.token_ids for row in batch] for batch in batches])
    assert dealt[0] == dealt[1]


@pytest.mark.parametrize(
    ("changes", "mini_batches"),
    [
        ([], 1),
        (["D_T=2"], 3),
        (["D_T=2", "N_reuse=2"], 6),
        (["D_T=2", "correction=truncated", "correction_cap=1.5"], 3),
        (["D_T=2", "correction=sequence_mask", "correction_cap=1.5"], 3),
        (["D_T=2", "N_reuse=2", "old_logp=sampler"], 6),
        (["D_T=2", "loss=grpo"], 3),
        (["D_T=2", "loss=trl_dapo"], 3),
    ],
)
def test_a_training_step_by_the_book(changes, mini_batches):
    """pi_k is the policy before the first mini-batch in all of them, also in a second pass over the buffer."""
    recipe = load_recipe("tiny", ["D_R=6", "D_T=6", "gs=3", "clip_low=0.05", "old_logp=trainer", *changes])
    groups, kept = groups_of(1, 6, 3), [True, False, True, True, True, False]
    groups[2][1] = None
    ours, book, start = small_model(), small_model(), small_model()
    batches = our_step(ours, groups, kept, recipe)
    assert len(batches) == mini_batches
    with torch.no_grad():
        at_start = {str(row.token_ids): plain_logp(start, row)[0] for rows in batches for row in rows}

    def old(n: int, row: Row) -> torch.Tensor:
        """On-policy by construction in the first mini-batch, whatever the sampler says."""
        return at_start[str(row.token_ids)] if n == 0 or recipe.old_logp == "trainer" else sampled(row)

    plain_step(book, batches, groups, old, recipe)
    assert max((a - b).abs().max() for a, b in zip(book.parameters(), start.parameters(), strict=True)) > 5e-4
    for a, b in zip(ours.parameters(), book.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_pass_uses_each_kept_response_once_and_none_other():
    recipe = load_recipe("tiny", ["D_R=8", "D_T=4", "N_reuse=3", "gs=2"])
    groups, kept = groups_of(2, 8, 2), [True] * 5 + [False] * 3
    expected = sorted(str(row.token_ids) for group in groups[:5] for row in group)
    batches = our_step(small_model(), groups, kept, recipe)
    assert len(batches) == 6
    for first in (0, 2, 4):
        assert sorted(str(r.token_ids) for rows in batches[first : first + 2] for r in rows) == expected
    recipe = load_recipe("tiny", ["D_R=8", "D_T=4", "gs=2", "reject=off"])
    assert sum(map(len, our_step(small_model(), groups, kept, recipe))) == 16


def test_nothing_kept_is_no_mini_batch():
    recipe = load_recipe("tiny", ["D_R=4", "D_T=2", "gs=2"])
    assert our_step(small_model(), groups_of(3, 4, 2), [False] * 4, recipe) == []


def test_chunks_of_half_rejected_groups_turn_on_policy():
    """(N_SGD, D_R, D_T, N_reuse) = (2, 64, 32, 1), half of the groups rejected: the released code's pieces of D_T come
    to one SGD step, whose ratio is 1 everywhere; split keeps two, and the second is off-policy."""
    groups, kept = groups_of(4, 64, 2), [n % 2 == 0 for n in range(64)]
    for partial, expected in (("chunk", 1), ("split", 2)):
        recipe = load_recipe("tiny", ["D_R=64", "D_T=32", "gs=2", "old_logp=trainer", f"partial={partial}"])
        batches = our_step(small_model(), groups, kept, recipe)
        assert len(batches) == expected
        assert [any(row.old_logp is not None for row in rows) for rows in batches] == [False, True][:expected]


# ------------------------------------------------------------------------------------------- weights, empty responses


def test_released_weights_are_those_of_its_own_micro_batches():
    """Whatever micro-batches we compute in: cut by tokens, each a token mean, weighed by its responses over D_T M."""
    recipe = load_recipe("tiny", ["loss=released", "micro_tokens=20", "D_R=4", "D_T=4", "gs=4"])
    rows = [row for group in groups_of(5, 3, 4) for row in group if row is not None]  # a group of the four is rejected
    weights = weights_of(rows, recipe, None)
    cuts = released_cut(list(map(len, rows)), 20)
    assert len(cuts) > 2 and sorted(i for cut in cuts for i in cut) == list(range(12))
    for cut in cuts:
        width = max(len(rows[i].token_ids) for i in cut)
        mask = torch.tensor([[t < len(rows[i].token_ids) for t in range(width)] for i in cut])
        expected = token_weights("released", mask, total_sequences=16, dtype=torch.float64)[:, 0]
        torch.testing.assert_close(weights[cut], expected, rtol=1e-12, atol=0)
    assert math.isclose(sum(w * len(r.token_ids) for w, r in zip(weights.tolist(), rows, strict=True)), 12 / 16)


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 5))
def test_shares_hold_each_row_once_and_are_about_equal(lengths, hands):
    shares = deal(lengths, hands)
    assert len(shares) == hands and sorted(i for share in shares for i in share) == list(range(len(lengths)))
    tokens = [sum(lengths[i] for i in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 200))
def test_the_released_cut_is_as_few_as_the_budget_allows(lengths, budget):
    cuts = released_cut(lengths, budget)
    assert sorted(i for cut in cuts for i in cut) == list(range(len(lengths)))
    assert len(cuts) <= max(1, math.ceil(sum(lengths) / budget)) and all(cuts)
    with pytest.raises(ValueError, match="budget"):
        released_cut([1], 0)


def test_an_empty_response_changes_nothing_and_alone_has_a_gradient_of_zero():
    recipe = load_recipe("tiny", [])
    rows = [row for row in groups_of(6, 1, 4)[0] if row is not None]
    empty = Row([3, 4], [], 1.5)
    gradients = []
    for given_rows in (rows, [*rows[:2], empty, *rows[2:]], [empty]):
        model = small_model()
        result = accumulate(given_rows, policy_of(model), recipe, alpha=ALPHA, details=True)
        assert len(result.logp) == len(given_rows)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-9)
    assert gradients[0].norm() > 0 and (gradients[2] == 0).all()
