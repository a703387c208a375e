"""Quality votes: language models judge whether a problem is fit to be asked (paper section 6.3).

The paper asks two models sixteen times each and keeps problems with at least 9 of 32 votes; its prompt is unknown, so
this one is ours, made of the criteria it names. Votes are appended to a file as they come; a later run, with or without
an endpoint, takes them from there. A vote is bound to the problem's text, the judge and the question asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from or1lab.data.checks import chunks
from or1lab.data.dedupe import Decisions, digest
from or1lab.data.difficulty import Lines
from or1lab.data.problem import Problem
from or1lab.endpoint import complete, connect, gather

VOTES = 32
THRESHOLD = 9
CHUNK = 256  # problems whose votes are asked for together
QUESTION = """\
You check problems before they are given to students. A problem is valid if its wording is clear, everything needed to \
solve it is in the text, it asks for one definite answer, its formatting can be read, and nothing in it distracts from \
the question. Do not solve it.

The problem, between the lines:
---
{problem}
---

Is it valid? Think briefly if you must, and end with one word: valid or invalid."""
WORD = re.compile(r"\b(in)?valid\b", re.IGNORECASE)


@dataclass(frozen=True)
class Panel:
    """Who votes, and what suffices. Without an endpoint only saved votes count."""

    judges: tuple[str, ...] = ()
    endpoint: str | None = None  # base address of an OpenAI-compatible server, as http://localhost:8000/v1
    votes: int = VOTES  # of all judges together, dealt evenly
    threshold: int = THRESHOLD  # valid votes of them to stay
    max_tokens: int = 512

    def share(self, judge: str) -> int:
        """Votes of one judge."""
        place = self.judges.index(judge)
        return self.votes // len(self.judges) + (place < self.votes % len(self.judges))


def read_vote(answer: str) -> bool | None:
    """True for valid, False for invalid, by the last such word; None for an answer with neither."""
    words = WORD.findall(answer)
    return not words[-1] if words else None


def decide(votes: Sequence[bool | None], panel: Panel) -> str:
    """Why a problem goes: too few valid votes; an answer that is no vote is none. "unchecked: ..." where votes are
    still missing that could decide otherwise."""
    valid = sum(vote is True for vote in votes)
    if valid >= panel.threshold:
        return ""
    if valid + panel.votes - len(votes) >= panel.threshold:
        return f"unchecked: {len(votes)} of {panel.votes} votes"
    return f"voted out: {valid} of {panel.votes} valid"


def votes(problems: Iterable[Problem], panel: Panel, saved: Path) -> Decisions:
    """The problems and the verdict of the panel; `saved` is the JSONL file of votes.

    Raises:
        Or1labError: the endpoint fails beyond the client's retries (votes so far are kept), or no client is installed.
    """
    lines = Lines(saved)
    cast: dict[str, dict[str, list[bool | None]]] = {}  # problem -> judge -> votes
    for saved_row in lines.known.values():
        cast.setdefault(saved_row["problem"], {})[saved_row["judge"]] = saved_row["votes"]

    def of(problem: Problem) -> list[bool | None]:
        """The votes that count: of each judge its share; all that were saved where no judge is named."""
        by_judge = cast.get(_bound(problem), {})
        shares = {judge: panel.share(judge) for judge in panel.judges} or dict.fromkeys(by_judge, panel.votes)
        return [vote for judge, share in shares.items() for vote in by_judge.get(judge, [])[:share]][: panel.votes]

    client = connect(panel.endpoint, "votes") if panel.endpoint else None
    for chunk in chunks(problems, CHUNK):
        if client:
            asked = [(p, j, cast.get(_bound(p), {}).get(j, [])) for p in chunk for j in panel.judges]
            wanted = [(p, j, known) for p, j, known in asked if len(known) < panel.share(j)]
            for new in gather(lambda one: _ask(client, panel, *one), wanted):
                lines.add(new)
                cast.setdefault(new["problem"], {})[new["judge"]] = new["votes"]
        for problem in chunk:
            yield problem, decide(of(problem), panel)


def _bound(problem: Problem) -> str:
    return digest(QUESTION + problem.prompt).hex()


def _key(problem: Problem, judge: str) -> str:
    return digest(f"{judge}\0{_bound(problem)}").hex()


def row(problem: Problem, judge: str, cast: list[bool | None]) -> dict[str, Any]:
    """A line of the file of votes."""
    return {"key": _key(problem, judge), "id": problem.id, "problem": _bound(problem), "judge": judge, "votes": cast}


def _ask(client: Any, panel: Panel, problem: Problem, judge: str, known: list[bool | None]) -> dict[str, Any]:
    """A judge's votes, those that are known and those that were missing."""
    message = {"role": "user", "content": QUESTION.format(problem=problem.prompt)}
    cast = [*known]
    while (left := panel.share(judge) - len(cast)) > 0:  # some servers answer once, whatever n is
        reply = complete(
            client, f"problem {problem.id}", "the votes",
            model=judge, messages=[message], n=left, temperature=1.0, max_tokens=panel.max_tokens,
        )  # fmt: skip
        cast += [read_vote(choice.message.content or "") for choice in reply.choices[:left]]
    return row(problem, judge, cast)
