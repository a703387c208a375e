"""Peak memory of one GPU (or of the CPU machine), by its parts, in bytes.

Training, as `train.py` and `magic.update` keep it: float32 weights, gradients and two Adam moments, all sharded over
the training GPUs (FSDP2) where there are several; activations of the largest micro-batch, on GPUs with gradient
checkpointing; the output layer in tiles. Sampling: the engine's bfloat16 copy, sharded by tensor parallelism, and its
KV cache. Both live on the same GPUs, or the engine has GPUs of its own (a server).
"""

from __future__ import annotations

from dataclasses import dataclass

from or1lab.planner.architecture import Architecture
from or1lab.planner.hardware import Cluster
from or1lab.recipe import Recipe

Parts = dict[str, float]  # what -> bytes

GIB = 2.0**30
RESERVE = 2 * GIB  # ours: CUDA context, communication buffers, fragmentation
ENGINE_RESERVE = 1.5 * GIB  # ours: the engine's activations and CUDA graphs
ERROR = 0.1  # by which a predicted peak may be off: updates on a CPU are within it (benchmarks.planner)
SERVER_SHARE = 0.9  # of GPU memory, of an engine alone on its GPUs: vLLM's own default
ROWS, TILE, TILE_CPU = 4096, 32_768, 4096  # tokens and columns of a tile of the output layer: magic/head.py
TILES_CPU = 9  # float32 copies of a tile in its backward pass on a CPU (benchmarks.memory); one with Triton
BLOCK = 128  # tokens of a KV block on a CPU, at most: rollout/vllm_engine.py


@dataclass(frozen=True)
class Layout:
    """How trainer and engine share the GPUs.

    tp: GPUs of one engine. sleep: the engine frees its memory during the update. offload: the trainer keeps weights and
    Adam moments in its host's memory. server: GPUs that only sample; 0: every GPU does both in turn."""

    tp: int = 1
    sleep: bool = False
    offload: bool = False
    server: int = 0

    def __str__(self) -> str:
        where = f"{self.server} GPUs sample, the others train" if self.server else "every GPU trains and samples"
        words = (
            [f"tensor parallel {self.tp}"] * (self.tp > 1) + ["sleep mode"] * self.sleep + ["offload"] * self.offload
        )
        return ", ".join([where, *words])

    def training(self, cluster: Cluster) -> int:
        """GPUs that train."""
        return cluster.gpus - self.server

    def replicas(self, cluster: Cluster) -> int:
        """Engines."""
        return (self.server or cluster.gpus) // self.tp


def width(recipe: Recipe) -> int:
    """Bytes of a number in the engine, and in the trainer's matrix products."""
    return 4 if recipe.dtype == "float32" else 2


def longest(recipe: Recipe) -> int:
    """Tokens of the longest prompt and response there can be: the engine's limit."""
    return recipe.data.prompt_limit + max(recipe.max_T, recipe.eval.T or 0)


def micro_tokens(recipe: Recipe) -> int:
    """Tokens of the largest micro-batch: a response that is longer than the budget makes one of its own."""
    return max(recipe.micro_tokens, recipe.data.prompt_limit + recipe.max_T)


def state(a: Architecture, cluster: Cluster, layout: Layout) -> Parts:
    """What the trainer keeps between updates."""
    share = 0 if layout.offload else a.parameters / layout.training(cluster)
    return {"weights, float32": 4 * share, "Adam moments": 8 * share}


def update(a: Architecture, recipe: Recipe, cluster: Cluster, layout: Layout, tokens: int | None = None) -> Parts:
    """At the peak of the update. `tokens` of the largest micro-batch, else the most there can be."""
    tokens, shards = tokens or micro_tokens(recipe), layout.training(cluster)
    gpu, size = cluster.device.is_gpu, width(recipe)
    parts = state(a, cluster, layout)
    parts["gradients"] = 0 if layout.offload else 4 * a.parameters / shards
    if any(stage.beta for stage in recipe.by_stage):
        parts["reference policy"] = 4 * a.parameters / shards
    whole = a.head * (1 if a.tied else 2)
    if shards > 1:  # two layers and the embeddings in compute precision, gradients to be reduced
        parts["gathered weights"] = size * (2 * a.layer + whole) + 4 * (a.layer + whole)
        if "reference policy" in parts:  # TRL shards it as one piece: a forward pass gathers all of it
            parts["gathered weights"] = max(parts["gathered weights"], size * a.parameters)
    elif size == 2:  # autocast's copies
        parts["weights, bfloat16"] = 2.0 * (a.layers * a.layer + a.head)
    parts["activations"] = tokens * activations(a, size, checkpointed=gpu)
    parts["output layer"] = output_layer(a, tokens, size, gpu)
    if layout.server == 0 and not layout.sleep and gpu:
        parts["engine"] = recipe.rollout.gpu_memory_utilization * cluster.device.gib * GIB
    return parts | ({"reserve": RESERVE} if gpu else {})


def activations(a: Architecture, size: int, *, checkpointed: bool) -> float:
    """Bytes a token. Without checkpointing the peak is the end of the forward pass: what all layers and the last norm
    keep. With it each layer keeps its input, and one layer at a time everything, beside the gradients of its widest."""
    layer = size * a.saved_token
    if not checkpointed:
        return a.layers * layer + 4 * 3 * a.hidden
    return a.layers * 4 * a.hidden + layer + size * (3 * a.intermediate + 2 * a.hidden)


def output_layer(a: Architecture, tokens: int, size: int, gpu: bool) -> float:
    """Bytes of `magic.head`: tiles of logits, the gradients of its inputs, that of its weight before it is added."""
    columns = min(a.vocabulary, TILE if gpu else TILE_CPU)
    tiles = min(tokens, ROWS) * columns * (size if gpu else 4 * TILES_CPU)
    return tiles + 2 * 4 * tokens * a.hidden + 4 * a.head


def engine(a: Architecture, recipe: Recipe, cluster: Cluster, layout: Layout) -> Parts:
    """Of an engine on each of its GPUs: weights, cache (what its share of the memory leaves), reserve."""
    weights = width(recipe) * a.parameters / layout.tp
    if not cluster.device.is_gpu:  # its cache holds every sequence at its longest
        blocks = -(-longest(recipe) // BLOCK) + 1
        cache = recipe.rollout.max_num_seqs * blocks * BLOCK * kv_token(a, recipe, layout)
        return {"engine: weights": weights, "engine: KV cache": cache}
    share = SERVER_SHARE if layout.server else recipe.rollout.gpu_memory_utilization
    cache = max(0.0, share * cluster.device.gib * GIB - weights - ENGINE_RESERVE)
    return {"engine: weights": weights, "engine: KV cache": cache, "engine: reserve": ENGINE_RESERVE}


def kv_token(a: Architecture, recipe: Recipe, layout: Layout) -> float:
    """Bytes of cache a token, on each GPU of an engine; heads that cannot be split further are copied."""
    return width(recipe) * a.kv_token / min(layout.tp, a.kv_heads)


def rollout(a: Architecture, recipe: Recipe, cluster: Cluster, layout: Layout) -> Parts:
    """At the peak of the rollout, on a GPU that samples."""
    parts = engine(a, recipe, cluster, layout)
    if layout.server == 0:
        parts = state(a, cluster, layout) | parts
    return parts | ({"reserve": RESERVE} if cluster.device.is_gpu else {})
