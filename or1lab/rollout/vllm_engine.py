"""vLLM in our own process, on CPU and GPU by the same code.

What is done here on purpose (each was a trap):
- the engine stays in this process, so that weights can be handed over directly;
- prefills are kept whole and the KV cache is sized so that nothing is ever pre-empted: on a CPU a seeded request
  whose prefill is split or repeated would have to rewind its generator, which fails;
- after a reload on a CPU the packed copy of a tied head is rebuilt, else it silently keeps the old weights;
- the prefix cache is emptied at every sync: its entries belong to the old weights.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch

from or1lab import process
from or1lab.rollout.base import Request, Sample
from or1lab.rollout.concurrency import Concurrency
from or1lab.rollout.together import processes

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
        self.eos_ids, self.top_p = list(eos_ids), top_p
        self.on_cpu = not torch.cuda.is_available()
        self.sleeps, self.asleep = sleep, False
        self.tensor_parallel = tensor_parallel
        self.concurrency = Concurrency(max_num_seqs)
        self.alarms = self.concurrency.alarms
        self.llm = self._start(folder, dtype, prompt_limit, max_T, gpu_memory_utilization)

    def _start(self, folder: str, dtype: str, prompt_limit: int, max_T: int, share: float) -> Any:
        """vLLM with as many sequences together as there is memory for."""
        from transformers import AutoConfig
        from vllm import LLM

        limit, precision = prompt_limit + max_T, cast(Any, dtype)
        while True:
            options: dict[str, Any] = {"gpu_memory_utilization": share}
            if self.on_cpu:
                config = AutoConfig.from_pretrained(folder)
                # enforce_eager: compiling takes 8-40 s at start and gains nothing at CPU sizes.
                options = {
                    "kv_cache_memory_bytes": kv_cache_bytes(config, dtype, self.concurrency.now, limit),
                    "enforce_eager": True,
                    "enable_chunked_prefill": False,
                    "max_num_batched_tokens": max(limit, self.concurrency.now * prompt_limit),
                }
            if processes() > 1:  # vLLM joins them, and starts none of its own
                options["distributed_executor_backend"] = "external_launcher"
            try:
                with process.stdout_with_descriptor():
                    return LLM(
                        model=folder,
                        dtype=precision,
                        max_model_len=limit,
                        max_num_seqs=self.concurrency.now,
                        skip_tokenizer_init=True,
                        logprobs_mode="processed_logprobs",
                        disable_log_stats=True,
                        use_tqdm_on_load=False,
                        tensor_parallel_size=self.tensor_parallel,
                        enable_sleep_mode=self.sleeps,
                        **options,
                    )
            except Exception as error:
                if processes() > 1:  # they size their caches together
                    self.concurrency.refuse(error)
                self.concurrency.halve(error)
            gc.collect()  # what the failed start holds; here, where the error does not hold it any more
            torch.cuda.empty_cache()

    def generate(self, requests: Sequence[Request], *, tau: float, T: int) -> list[list[Sample]]:
        """Each response has its own seed: which are sampled together does not matter. Half as many where memory
        runs out."""
        asked = self._asked(requests, tau, T, logprobs=0)
        while True:
            try:
                outputs = iter(self.llm.generate(*asked, use_tqdm=False))
                return [[_sample(next(outputs).outputs[0]) for _ in request.seeds] for request in requests]
            except Exception as error:
                self._back_off(error, len(asked[0]))

    def stream(self, requests: Sequence[Request], *, tau: float, T: int) -> Iterator[tuple[int, int, Sample]]:
        """Samples as they are finished, without log-probs: (i, j, the sample of requests[i].seeds[j])."""
        seeds = [(i, j, seed) for i, request in enumerate(requests) for j, seed in enumerate(request.seeds)]
        left = {(i, j): Request(requests[i].prompt_ids, [seed]) for i, j, seed in seeds}
        engine: Any = self.llm.llm_engine
        while left:
            ids = self.llm.enqueue(*self._asked(list(left.values()), tau, T, logprobs=None), use_tqdm=False)
            ids = [name.partition("-")[0] for name in ids]  # without what vLLM adds inside: outputs come under these
            places = dict(zip(ids, left, strict=True))
            try:
                while engine.has_unfinished_requests():
                    for output in engine.step():
                        if output.finished:
                            place = places.pop(output.request_id)
                            del left[place]
                            yield *place, _sample(output.outputs[0])
            except Exception as error:
                self._back_off(error, len(left))
            finally:  # where the caller stops early, the engine must not go on with what nobody takes
                engine.abort_request(list(places))

    def _back_off(self, error: Exception, asked: int) -> None:
        """After an error while sampling: where memory ran out, the engine is ready to begin again with half as many
        sequences together, which changes no sample."""
        if self.tensor_parallel > 1 and processes() > 1:
            self.concurrency.refuse(error)
        self.concurrency.halve(error, min(asked, self.concurrency.now))
        engine: Any = self.llm.llm_engine
        engine.abort_request(list(engine.output_processor.request_states), internal=True)
        if not self.llm.reset_prefix_cache():  # it names blocks of the step that failed, which were never computed
            raise error
        scheduler = engine.engine_core.engine_core.scheduler
        scheduler.max_num_running_reqs = scheduler.max_num_active_reqs = self.concurrency.now
        torch.cuda.empty_cache()

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
        """As `Engine.sync`; wakes the engine, weights first and cache last, for both need memory."""
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
        """As `Engine.sleep`, where the recipe has it sleep."""
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

