"""An engine for tests that answers by the book, and wrongly when told to."""

from __future__ import annotations

from or1lab import sources
from or1lab.data import tiny
from or1lab.recipe import load_recipe
from or1lab.rollout.base import Sample, decode_response


class Book:
    """Gives the right answer in the first `right[prompt]` of the responses to a prompt; counts the prompts asked."""

    name = "book"

    def __init__(self, right: dict[str, int]) -> None:
        self.tokenizer = sources.load_tokenizer(sources.model_folder("tiny"))
        self.right, self.asked = right, []

    def generate(self, requests, *, tau, T):
        assert (tau, T) == (1.0, load_recipe("tiny").T)
        return [[self._sample(request.prompt_ids, j) for j in range(len(request.seeds))] for request in requests]

    def _sample(self, prompt_ids, j):
        prompt = decode_response(self.tokenizer, prompt_ids)
        self.asked += [prompt] if j == 0 else []
        answer = (tiny.answer(prompt) + (j >= self.right[prompt])) % tiny.MODULUS
        ids = self.tokenizer(f"<think></think>\\boxed{{{answer}}}", add_special_tokens=False)["input_ids"]
        return Sample(ids, [0.0] * len(ids), truncated=False)

    def sync(self, named_weights):
        raise AssertionError("nothing is trained here")
