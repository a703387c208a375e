"""The fallback where vLLM has no wheel: `generate` of transformers.

One random stream serves a whole batch, so samples are reproducible for the same batch only (the manifest says which
engine ran)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from or1lab.rollout.base import Request, Sample


class TransformersEngine:
    """A copy of the policy that samples with `generate`, `max_num_seqs` responses at a time."""

    name = "transformers"

    def __init__(self, folder: str, *, dtype: str, eos_ids: Sequence[int], pad_id: int, max_num_seqs: int) -> None:
        from transformers import AutoModelForCausalLM

        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        if torch.cuda.is_available():
            self.model.to("cuda")
        self.eos_ids, self.pad_id, self.max_num_seqs = list(eos_ids), pad_id, max_num_seqs

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], *, tau: float, T: int) -> list[list[Sample]]:
        rows = [(request.prompt_ids, seed) for request in requests for seed in request.seeds]
        samples: list[Sample] = []
        for start in range(0, len(rows), self.max_num_seqs):
            samples += self._batch(rows[start : start + self.max_num_seqs], tau, T)
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
                do_sample=True,
                temperature=tau,
                top_p=1.0,
                top_k=0,
                eos_token_id=self.eos_ids,
                pad_token_id=self.pad_id,
                output_scores=True,
                return_dict_in_generate=True,
            )
        logprobs = self.model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
        return [
            self._cut(tokens, scores, T)
            for tokens, scores in zip(out.sequences[:, width:].tolist(), logprobs.tolist(), strict=True)
        ]

    def _cut(self, tokens: list[int], logprobs: list[float], T: int) -> Sample:
        length = next((i + 1 for i, token in enumerate(tokens) if token in self.eos_ids), len(tokens))
        ended = tokens[length - 1] in self.eos_ids
        return Sample(tokens[:length], logprobs[:length], truncated=not ended and length == T)

    def sync(self, named_weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, weight in named_weights:
                own[name].copy_(weight)
