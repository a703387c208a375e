"""Rows of problems as many files have them: a question with its answer, or a function to complete with its tests.

    {"problem" or "question", "answer"}        mathematics; `answer` a text, a number, a list of accepted ones, or a
                                               solution that ends in `#### 42`; perhaps `id`, `solution`
    {"prompt", "entry_point", "test"}          a program, as in HumanEval; `test` defines `check(candidate)` or is a
                                               list of asserts; perhaps `id` or `task_id`, `canonical_solution`

Any other row is taken for a problem of ours (`problem.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from or1lab.data.published import function, text


def fields(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a problem. Raises ValueError, which says why the row is none."""
    question = next((name for name in ("problem", "question") if isinstance(row.get(name), str)), None)
    if question and "prompt" not in row:
        return _named(row, {"domain": "math", "prompt": row[question], **_answer(row)})
    if "entry_point" in row and "tests" not in row:
        return _named(row, function(row))
    return row


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    answer = row.get("answer")
    if answer in (None, "", []):
        raise ValueError("a question without an answer")
    if isinstance(answer, list):
        return {"gold": [text(one) for one in answer], "solution": row.get("solution") or None}
    worked, mark, last = text(answer).rpartition("####")
    return {"gold": last.strip(), "solution": (worked.strip() if mark else row.get("solution")) or None}


def _named(row: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """With an id (else the hash of the question), and what it says of its origin."""
    own = next((text(row[name]) for name in ("id", "task_id", "unique_id") if text(row.get(name))), None)
    found["id"] = own or hashlib.blake2b(found["prompt"].encode(), digest_size=8).hexdigest()
    origin = {name: row[name] for name in ("source", "licence") if isinstance(row.get(name), str)}
    meta = {name: row[name] for name in ("subject", "level", "difficulty", "url") if row.get(name) not in (None, "")}
    return found | origin | {"meta": meta}
