"""A problem: what is asked, and what counts as its answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Difficulty(BaseModel):
    """How often a model solved a problem: `solved` of `samples` responses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    solved: int = Field(ge=0)
    samples: int = Field(ge=1)

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Difficulty:
        if self.solved > self.samples:
            raise ValueError(f"solved = {self.solved} of only {self.samples} samples")
        return self


class Problem(BaseModel):
    """One verifiable question: it has a gold answer or tests.

    Attributes:
        id: unique within a data set; seeds of samples are derived from it.
        domain: which reward judges the answer ("tiny", "math", "code", ...).
        prompt: the text of the question, before any chat template.
        gold: the accepted answer, or several of them.
        tests: of a program, a record of one of the kinds in `rewards/code.py`.
        solution: a reference solution: worked out (mathematics), or a program. Never shown to a model.
        source: the data set it comes from.
        licence: of the data set, as an SPDX name where there is one; empty where unknown.
        difficulty: model name -> how often it solved the problem.
        meta: whatever the source knows beyond that (number of operands, level, topic ...).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    domain: str = Field(min_length=1)
    prompt: str
    gold: str | list[str] | None = None
    tests: dict[str, Any] | list[dict[str, Any]] | None = None
    solution: str | None = None
    source: str = ""
    licence: str = ""
    difficulty: dict[str, Difficulty] = {}
    meta: dict[str, Any] = {}

    @property
    def golds(self) -> list[str]:
        """The accepted answers; none where there are tests."""
        return [self.gold] if isinstance(self.gold, str) else self.gold or []

    @model_validator(mode="after")
    def _can_be_judged(self) -> Problem:
        if not self.prompt.strip():
            raise ValueError("the prompt is empty")
        if not all(gold.strip() for gold in self.golds):
            raise ValueError("an empty gold answer")
        if bool(self.golds) == bool(self.tests):
            raise ValueError("both gold and tests" if self.golds else "neither gold nor tests")
        return self
