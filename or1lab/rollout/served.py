"""Responses from an OpenAI-compatible server (`vllm serve`, SGLang, a provider): one request a response, so that each
has its own seed and token count, and what has come is kept whatever happens to the rest."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from or1lab.endpoint import WORKERS, complete, connect, gather
from or1lab.errors import Or1labError
from or1lab.rollout.sampler import Asked, Place, Response

UNFINISHED = (None, "abort", "error")  # the server stopped, not the model: neither an end nor the limit
PATIENCE = 3600.0  # seconds a response may take: nothing is heard of a long one before it is finished


class Served:
    """Asks the model `model` of the server at `address`, which applies its own chat template.

    A server is busy only with many requests at a time: `workers` of them."""

    name = "endpoint"

    def __init__(
        self, address: str, model: str, *, temperature: float, top_p: float, limit: int, workers: int = WORKERS
    ) -> None:
        self.client = connect(address, "responses", timeout=PATIENCE)
        self.workers = workers
        self.request = {"model": model, "temperature": temperature, "top_p": top_p, "max_tokens": limit, "n": 1}

    def sample(self, asked: Sequence[Asked], stored: Container[Place]) -> Iterator[list[Response]]:
        """One request a response, yielded as it comes. Raises Or1labError once a request has failed for good."""
        for response in gather(self._ask, [one for one in asked if one.place not in stored], self.workers):
            yield [response]

    def _ask(self, asked: Asked) -> Response:
        whose = f"problem {asked.problem.id}, sample {asked.sample}"
        messages = [{"role": "user", "content": asked.problem.prompt}]
        reply = complete(self.client, whose, "the responses", messages=messages, seed=asked.seed, **self.request)
        choice = reply.choices[0]
        length = getattr(reply.usage, "completion_tokens", None)
        if length is None:
            raise Or1labError(
                f"{self.client.base_url}: the answer to {whose} says nothing of its tokens (usage.completion_tokens), "
                "without which no limit can be judged; use a server that counts them"
            )
        if choice.finish_reason in UNFINISHED or not isinstance(getattr(choice.message, "content", ...), str | None):
            raise Or1labError(
                f"{self.client.base_url}: the answer to {whose} is no whole text (finish_reason "
                f"{choice.finish_reason}), so it is not judged; the responses so far are kept: go on with --resume"
            )
        return Response(asked.place, text_of(choice.message), int(length), choice.finish_reason == "length")


def text_of(message: Any) -> str:
    """The whole response; a server that parses the thinking out of it gives it apart."""
    text = message.content or ""
    thinking = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    return f"<think>{thinking}</think>{text}" if isinstance(thinking, str) and thinking else text
