"""A problem: what is asked, and what counts as its answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """One verifiable question.

    Attributes:
        id: unique within a data set; seeds of samples are derived from it.
        domain: which reward judges the answer ("tiny", "math", ...).
        prompt: the text of the question, before any chat template.
        gold: the accepted answer, or several of them.
        meta: whatever the source knows beyond that (number of operands, level, licence ...).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    domain: str
    prompt: str
    gold: str | list[str]
    meta: dict[str, Any] = {}
