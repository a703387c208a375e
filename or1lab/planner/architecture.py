"""What follows from a model's config.json alone: parameters, FLOPs, cache and activations.

Counted for decoders of the Llama kind: grouped-query attention, a gated MLP, RMS norms.
Symbols: H hidden size, W width of the queries (heads x head size), K width of the keys, I of the MLP, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from or1lab.errors import UsageError, did_you_mean
from or1lab.recipe import ROOT, read_yaml

FILE = ROOT / "experiments" / "architectures.yaml"
TINY = Path(__file__).resolve().parent.parent / "data" / "tiny_base"
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Architecture:
    """The sizes of a decoder by its `config.json`; letters as in docs/scale.md. Everything the planner knows of a
    model."""

    name: str
    layers: int
    hidden: int  # H
    queries: int  # W
    keys: int  # K; the values are as wide
    heads: int
    kv_heads: int
    intermediate: int  # I
    vocabulary: int  # V
    tied: bool
    vectors: int  # parameters of a layer's biases and norms
    context: int | None

    @property
    def layer(self) -> int:
        """Weights of a layer's matrices."""
        H = self.hidden
        return H * (self.queries + 2 * self.keys) + self.queries * H + 3 * H * self.intermediate

    @property
    def head(self) -> int:
        """Weights of the output layer, and as many of the embedding where the two are not tied."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All of them: embeddings (twice where the head is not tied), layers, the last norm."""
        return self.head * (1 if self.tied else 2) + self.layers * (self.layer + self.vectors) + self.hidden

    @property
    def read(self) -> int:
        """Parameters that a decoding step reads: all but an embedding of its own, of which it looks up rows."""
        return self.parameters - (0 if self.tied else self.head)

    @property
    def kv_token(self) -> int:
        """Numbers that the cache holds for a token: keys and values of every layer."""
        return 2 * self.layers * self.keys

    @property
    def saved_token(self) -> int:
        """Numbers that a layer keeps of a token for its backward pass: the residual stream twice, what the norms make
        of it before and after their weights; queries, keys, values, what attention makes of them; the MLP's gate, its
        activation, the other half, their product; the scales of softmax and norms."""
        return 6 * self.hidden + 2 * (self.queries + self.keys) + 4 * self.intermediate + self.heads + 2

    def forward_flops(self, tokens: float, pairs: float, scored: float) -> float:
        """FLOPs of a forward pass over so many tokens, of which `scored` meet the output layer; `pairs` of tokens that
        attention lets see each other."""
        return 2.0 * (self.layers * (self.layer * tokens + 2 * self.queries * pairs) + self.head * scored)


def of_config(config: Mapping[str, Any], name: str) -> Architecture:
    """From the keys of a config.json.

    Raises:
        UsageError: another kind of model, or a key is missing.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UsageError(f"{name}: a model of type '{kind}'; the planner counts {', '.join(FAMILIES)}")
    try:
        H, heads = config["hidden_size"], config["num_attention_heads"]
        layers, I, V = config["num_hidden_layers"], config["intermediate_size"], config["vocab_size"]  # noqa: E741
    except KeyError as error:
        raise UsageError(f"{name}: its config has no {error}") from None
    kv_heads, size = config.get("num_key_value_heads") or heads, config.get("head_dim") or H // heads
    W, K = heads * size, kv_heads * size
    biased = config.get("attention_bias", False) and kind != "mistral"
    vectors = 2 * H  # two norms
    vectors += (W + 2 * K) * (biased or kind == "qwen2") + H * biased + (2 * I + H) * config.get("mlp_bias", False)
    vectors += 2 * size * (kind == "qwen3")
    return Architecture(
        name, layers, H, W, K, heads, kv_heads, I, V,
        tied=config.get("tie_word_embeddings", False), vectors=int(vectors),
        context=config.get("max_position_embeddings"),
    )  # fmt: skip


def architecture(model: str) -> Architecture:
    """Of what a recipe calls its model: 'tiny', 'smol', a folder, or a name in experiments/architectures.yaml.

    Raises:
        UsageError: no config is known for it.
    """
    folder = TINY if model == "tiny" else Path(model).expanduser()
    if (folder / "config.json").is_file():
        return of_config(json.loads((folder / "config.json").read_text(encoding="utf-8")), model)
    table = read_yaml(FILE)
    if model not in table:
        raise UsageError(
            f"no architecture is known for '{model}'{did_you_mean(model, table)}; give a folder that holds its "
            f"config.json (no weights are needed), or add its numbers to {FILE.relative_to(ROOT)}"
        )
    return of_config(table[table[model].get("as", model)], model)
