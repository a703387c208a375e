"""Where the responses of an evaluation come from, known before anything heavy is started: an engine of ours on a model
folder, or a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from or1lab import process, sources
from or1lab.data.problem import Problem
from or1lab.environment import version
from or1lab.errors import UsageError
from or1lab.models import Model
from or1lab.rollout import VLLM, build_engine, choose_backend
from or1lab.rollout.base import encode_prompt
from or1lab.rollout.sampler import Offline, Sampler
from or1lab.suites import Suite, template_hash

MEMORY = 0.9  # share of a GPU for the engine: nothing else is there


@dataclass(frozen=True)
class Source:
    """What a result depends on besides suite and seed, and how sampling is begun."""

    facts: dict[str, Any]
    start: Callable[[], Sampler]


def offline(
    model: Model,
    suite: Suite,
    problems: Sequence[Problem],
    *,
    backend: str = "auto",
    dtype: str | None = None,
    tensor_parallel: int = 1,
) -> Source:
    """An engine in this process.

    Raises:
        UsageError: prompt and limit together exceed the model's context; several GPUs without vLLM.
        Or1labError: no such model or tokenizer.
    """
    from transformers import AutoConfig

    process.set_up(model.recipe.threads if model.recipe else None)
    kind = choose_backend(backend)
    if kind != "vllm" and tensor_parallel > 1:
        raise UsageError(f"--tensor-parallel {tensor_parallel} wants vLLM; the engine here is {kind}")
    tokenizer = sources.load_tokenizer(model.folder)
    dtype = dtype or model.dtype()
    longest = max(len(encode_prompt(tokenizer, problem.prompt)) for problem in problems)
    context = getattr(AutoConfig.from_pretrained(model.folder), "max_position_embeddings", None)
    if context and longest + suite.limit > context:
        raise UsageError(
            f"the longest prompt has {longest} tokens, so a limit of {suite.limit} makes {longest + suite.limit}, but "
            f"{model.name} has a context of {context}: --limit {context - longest} at most"
        )
    package = next((p for p in VLLM if version(p)), "vllm") if kind == "vllm" else kind
    facts = {
        "model_hash": sources.weights_hash(model.folder),
        "chat_template": bool(tokenizer.chat_template),
        "template_hash": template_hash(tokenizer, suite.prompt_suffix),
        "engine": kind,
        "engine_version": version(package),
        "dtype": dtype,
        "tensor_parallel": tensor_parallel,
    }

    def start() -> Sampler:
        engine = build_engine(
            model.folder,
            tokenizer,
            backend=kind,
            dtype=dtype,
            prompt_limit=longest,
            T=suite.limit,
            max_num_seqs=model.max_num_seqs,
            gpu_memory_utilization=MEMORY,
            top_p=suite.top_p,
            tensor_parallel=tensor_parallel,
        )
        return Offline(
            engine, tokenizer, temperature=suite.temperature, limit=suite.limit, batch=model.max_num_seqs
        )

    return Source(facts, start)


def served(name: str, suite: Suite, address: str) -> Source:
    """The model `name` of an OpenAI-compatible server, which applies the chat template that it was started with."""
    from or1lab.rollout.served import Served

    server = Served(address, name, temperature=suite.temperature, top_p=suite.top_p, limit=suite.limit)
    facts: dict[str, Any] = {"model_hash": name, "engine": server.name, "endpoint": address}
    facts |= {"template_hash": "the server's", "chat_template": True}
    return Source(facts, lambda: server)
