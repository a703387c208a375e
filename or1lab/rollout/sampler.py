"""Samplers of an evaluation: they give responses as they come, so that what is sampled can be kept at once.

`Offline` samples with an engine in this process, `Served` (served.py) asks a server. What they are asked for is a list
in a fixed order; what is already stored is not asked for again. With vLLM and with servers that honour seeds a sample
depends on its own seed alone; the transformers engine draws a batch from one stream, so its batches are always cut from
the whole list alike.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from or1lab.data.problem import Problem
from or1lab.rollout.base import Engine, Request, decode_response, encode_prompt

Place = tuple[str, int]  # (problem id, index of the sample)


@dataclass(frozen=True)
class Asked:
    """One response wanted: to which problem, its index among that problem's samples, its seed."""

    problem: Problem
    sample: int
    seed: int

    @property
    def place(self) -> Place:
        """By this a stored response is known."""
        return self.problem.id, self.sample


@dataclass(frozen=True)
class Response:
    """One response: its text, its length in tokens (the end token included), and whether the limit cut it off."""

    place: Place
    text: str
    length: int
    truncated: bool


class Sampler(Protocol):
    """What answers an evaluation's questions: an engine of ours, or a server."""

    name: str

    def sample(self, asked: Sequence[Asked], stored: Container[Place]) -> Iterator[list[Response]]:
        """The responses that are not stored, each exactly once, in batches as they are finished. A batch is kept as a
        whole or not at all."""
        ...


class Offline:
    """Samples with an engine of ours."""

    def __init__(self, engine: Engine, tokenizer: Any, *, temperature: float, limit: int, batch: int = 256) -> None:
        """`batch` responses are sampled together by an engine that cannot stream."""
        self.engine, self.tokenizer, self.name = engine, tokenizer, engine.name
        self.temperature, self.limit, self.batch = temperature, limit, batch

    def sample(self, asked: Sequence[Asked], stored: Container[Place]) -> Iterator[list[Response]]:
        """One by one where the engine streams. Else `batch` together, those stored included, so that the same are
        drawn."""
        streams = hasattr(self.engine, "stream")
        size = len(asked) if streams else self.batch
        for start in range(0, len(asked), size):
            batch = asked[start : start + size]
            missing = [one for one in batch if one.place not in stored]
            if streams and missing:
                yield from self._stream(missing)
            elif missing:
                yield [one for one in self._together(batch) if one.place not in stored]

    def _stream(self, asked: list[Asked]) -> Iterator[list[Response]]:
        for i, _, sample in self.engine.stream(self._requests(asked), tau=self.temperature, T=self.limit):  # type: ignore[attr-defined]
            yield [self._response(asked[i], sample)]

    def _together(self, asked: Sequence[Asked]) -> list[Response]:
        groups = self.engine.generate(self._requests(asked), tau=self.temperature, T=self.limit)
        return [self._response(one, sample) for one, (sample,) in zip(asked, groups, strict=True)]

    def _requests(self, asked: Sequence[Asked]) -> list[Request]:
        ids = {one.problem.id: one.problem.prompt for one in asked}
        prompts = {name: encode_prompt(self.tokenizer, prompt) for name, prompt in ids.items()}
        return [Request(prompts[one.problem.id], [one.seed]) for one in asked]

    def _response(self, asked: Asked, sample: Any) -> Response:
        text = decode_response(self.tokenizer, sample.token_ids)
        return Response(asked.place, text, len(sample.token_ids), sample.truncated)
