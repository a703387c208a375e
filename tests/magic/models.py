"""A model small enough to differentiate in plain loops, for the tests of this folder."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from transformers import Qwen2Config, Qwen2ForCausalLM

from or1lab.magic.head import add_response_head
from or1lab.magic.policy import Policy


def small_model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=30, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=False,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).double()


def policy_of(model, tau: float = 1.0, reference=None) -> Policy:
    for each in (model, reference):
        if each is not None:
            add_response_head(each)
    return Policy(model, Accelerator(cpu=True), reference=reference, tau=tau)
