"""vLLM in our own process, on CPU and GPU by the same code.

What is done here on purpose (each was a trap):
- the engine stays in this process, so that weights can be handed over directly;
- prefills are kept whole and the KV cache is sized so that nothing is ever pre-empted: on a CPU a seeded request
  whose prefill is split or repeated would have to rewind its generator, which fails;
- after a reload on a CPU the packed copy of a tied head is rebuilt, else it silently keeps the old weights;
- the prefix cache is emptied at every sync: its entries belong to the old weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from or1lab import process
from or1lab.rollout.base import Request, Sample

BLOCK = 128  # upper bound of vLLM's KV block size in tokens, for sizing the cache


class VllmEngine:
    """One vLLM engine built for the largest context of a run."""

    name = "vllm"

    def __init__(
        self,
        folder: str,
        *,
        dtype: str,
        eos_ids: Sequence[int],
        prompt_limit: int,
        max_T: int,
        max_num_seqs: int,
        gpu_memory_utilization: float = 0.35,
        top_p: float = 1.0,
        tensor_parallel: int = 1,
        sleep: bool = False,
    ) -> None:
        """`sleep`: between rollouts it gives the GPU's memory back, weights and all. Of several processes of a run each
        holds an engine, or `tensor_parallel` of them hold one."""
        from transformers import AutoConfig
        from vllm import LLM

        limit = prompt_limit + max_T
        self.eos_ids, self.top_p = list(eos_ids), top_p
        self.on_cpu = not torch.cuda.is_available()
        self.sleeps, self.asleep = sleep, False
        options: dict[str, Any] = {"dtype": dtype, "gpu_memory_utilization": gpu_memory_utilization}
        if self.on_cpu:
            config = AutoConfig.from_pretrained(folder)
            # enforce_eager: compiling takes 8-40 s at start and gains nothing at CPU sizes.
            options = {
                "dtype": dtype,
                "kv_cache_memory_bytes": kv_cache_bytes(config, dtype, max_num_seqs, limit),
                "enforce_eager": True,
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(limit, max_num_seqs * prompt_limit),
            }
        if dist.is_initialized() and dist.get_world_size() > 1:  # vLLM joins them, and starts none of its own
            options["distributed_executor_backend"] = "external_launcher"
        with process.stdout_with_descriptor():
            self.llm = LLM(
                model=folder,
                max_model_len=limit,
                max_num_seqs=max_num_seqs,
                skip_tokenizer_init=True,
                logprobs_mode="processed_logprobs",
                disable_log_stats=True,
                use_tqdm_on_load=False,
                tensor_parallel_size=tensor_parallel,
                enable_sleep_mode=sleep,
                **options,
            )

    def generate(self, requests: Sequence[Request], *, tau: float, T: int) -> list[list[Sample]]:
        outputs = iter(self.llm.generate(*self._asked(requests, tau, T, logprobs=0), use_tqdm=False))
        return [[_sample(next(outputs).outputs[0]) for _ in request.seeds] for request in requests]

    def stream(self, requests: Sequence[Request], *, tau: float, T: int) -> Iterator[tuple[int, int, Sample]]:
        """Samples as they are finished, without log-probs: (i, j, the sample of requests[i].seeds[j])."""
        ids = self.llm.enqueue(*self._asked(requests, tau, T, logprobs=None), use_tqdm=False)
        ids = [name.partition("-")[0] for name in ids]  # without what vLLM adds inside: outputs come under these
        places = dict(zip(ids, ((i, j) for i, r in enumerate(requests) for j in range(len(r.seeds))), strict=True))
        engine: Any = self.llm.llm_engine
        try:
            while engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished:
                        yield *places.pop(output.request_id), _sample(output.outputs[0])
        finally:  # where the caller stops early, the engine must not go on with what nobody takes
            engine.abort_request(list(places))

    def _asked(
        self, requests: Sequence[Request], tau: float, T: int, *, logprobs: int | None
    ) -> tuple[list[Any], list[Any]]:
        """Prompts and sampling parameters, one a seed."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in requests for _ in request.seeds]
        params = [
            SamplingParams(
                seed=seed,
                temperature=tau,
                top_p=self.top_p,
                top_k=0,
                max_tokens=T,
                logprobs=logprobs,
                stop_token_ids=self.eos_ids,
                detokenize=False,
            )
            for request in requests
            for seed in request.seeds
        ]
        return prompts, params

    def sync(self, named_weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        runner = self.llm.llm_engine.model_executor.driver_worker.model_runner
        if self.asleep:
            torch.cuda.empty_cache()  # what the update has freed is torch's, not vLLM's, until then
            self.llm.wake_up(tags=["weights"])
        with torch.no_grad():
            runner.reload_weights(weights_iterator=((name, weight.detach()) for name, weight in named_weights))
            if self.on_cpu:
                _repack_tied_head(runner.get_model())
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        self.llm.reset_prefix_cache()

    def sleep(self) -> None:
        if self.sleeps:
            self.llm.sleep(level=2)  # drops the weights: the next ones are other weights anyway
            self.asleep = True


def _sample(output: Any) -> Sample:
    ids = list(output.token_ids)
    logprobs = [entry[token].logprob for entry, token in zip(output.logprobs or (), ids, strict=bool(output.logprobs))]
    return Sample(ids, logprobs, truncated=output.finish_reason == "length")


def _repack_tied_head(model: torch.nn.Module) -> None:
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    head = getattr(model, "lm_head", None)
    if getattr(model.config, "tie_word_embeddings", False) and head is not None:
        dispatch_cpu_unquantized_gemm(head, remove_weight=False)


def kv_cache_bytes(config: Any, dtype: str, max_num_seqs: int, limit: int) -> int:
    """Bytes of a KV cache that holds `max_num_seqs` sequences of `limit` tokens, rounded up to blocks.

    2 (keys and values) x layers x KV heads x head size x bytes, for every token of every block."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * size * (4 if dtype == "float32" else 2)
    blocks = -(-limit // BLOCK) + 1
    return per_token * blocks * BLOCK * max_num_seqs

