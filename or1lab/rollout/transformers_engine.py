"""The fallback where vLLM has no wheel: `generate` of transformers.

One random stream serves a whole batch, so samples are reproducible for the same batch only (the manifest says which
engine ran)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from or1lab.magic.batching import micro_batches
from or1lab.magic.head import add_response_head
from or1lab.magic.update import Row, pack
from or1lab.rollout.base import Request, Sample
from or1lab.rollout.concurrency import Concurrency

SCORED_TOKENS = 4096  # padded tokens whose log-probs are computed at a time


class TransformersEngine:
    """A copy of the policy that samples with `generate`, up to `max_num_seqs` responses at a time."""

    name = "transformers"

    def __init__(
        self,
        folder: str,
        *,
        dtype: str,
        eos_ids: Sequence[int],
        pad_id: int,
        max_num_seqs: int,
        top_p: float = 1.0,
    ) -> None:
        from transformers import AutoModelForCausalLM, GenerationConfig

        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self.model.generation_config = GenerationConfig()  # the folder's own may bend the distribution we score
        add_response_head(self.model)
        if torch.cuda.is_available():
            self.model.to("cuda")
        self.eos_ids, self.pad_id, self.top_p = list(eos_ids), pad_id, top_p
        self.concurrency = Concurrency(max_num_seqs)
        self.alarms = self.concurrency.alarms

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], *, tau: float, T: int) -> list[list[Sample]]:
        """`max_num_seqs` rows at a time, one random stream a batch: what is sampled together belongs to the draw."""
        rows = [(request.prompt_ids, seed) for request in requests for seed in request.seeds]
        samples: list[Sample] = []
        while batch := rows[len(samples) : len(samples) + self.concurrency.now]:
            try:
                samples += self._batch(batch, tau, T)
            except Exception as error:
                self.concurrency.halve(error, len(batch), "; samples here depend on what is sampled with them")
            else:
                continue
            torch.cuda.empty_cache()  # here, where the error holds no tensor any more
        flat = iter(samples)
        return [[next(flat) for _ in request.seeds] for request in requests]

    def _batch(self, rows: list[tuple[list[int], int]], tau: float, T: int) -> list[Sample]:
        device = self.model.device
        width = max(len(prompt) for prompt, _ in rows)
        ids = torch.tensor([[self.pad_id] * (width - len(p)) + list(p) for p, _ in rows], device=device)
        attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p, _ in rows], device=device)
        stream = int.from_bytes(hashlib.blake2b(repr([seed for _, seed in rows]).encode(), digest_size=7).digest())
        with torch.random.fork_rng():
            torch.manual_seed(stream)
            out = self.model.generate(
                input_ids=ids,
                attention_mask=attention,
                max_new_tokens=T,
                do_sample=tau > 0,
                temperature=tau or 1.0,
                top_p=self.top_p,
                top_k=0,
                eos_token_id=self.eos_ids,
                pad_token_id=self.pad_id,
            )
        responses = [self._cut(tokens) for tokens in out[:, width:].tolist()]

        # A pass of its own: keeping every step's scores while sampling costs gigabytes at a real vocabulary.
        pairs = [Row(prompt, tokens) for (prompt, _), tokens in zip(rows, responses, strict=True)]
        logprobs = self._logprobs(pairs, tau or 1.0)
        return [
            Sample(tokens, values, truncated=not tokens or tokens[-1] not in self.eos_ids)
            for tokens, values in zip(responses, logprobs, strict=True)
        ]

    def _logprobs(self, rows: Sequence[Row], tau: float) -> list[list[float]]:
        known: dict[int, list[float]] = {}
        for picked in micro_batches(list(map(len, rows)), SCORED_TOKENS):
            micro = pack([rows[i] for i in picked], self.model.device)
            logp, _ = self.model(input_ids=micro.ids, labels=micro.labels, response_tau=tau)
            known |= {i: values.tolist() for i, (values,) in zip(picked, micro.each(logp), strict=True)}
        return [known[i] for i in range(len(rows))]

    def _cut(self, tokens: list[int]) -> list[int]:
        """A response up to its end token; without one it has reached the limit T."""
        return tokens[: next((i + 1 for i, token in enumerate(tokens) if token in self.eos_ids), len(tokens))]

    def sync(self, named_weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Copy by name into the parameters of its own model."""
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, weight in named_weights:
                own[name].copy_(weight)

    def sleep(self) -> None:
        """Its weights are all that it holds."""
