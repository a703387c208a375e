"""An OpenAI-compatible server: its client, its retries, and what is said when it fails for good.

The client tries again by itself, with back-off, where the server is busy (429), fails (5xx) or drops the line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any, TypeVar

from or1lab.errors import Or1labError

RETRIES = 5
WORKERS = 16  # requests at a time
TIMEOUT = 120.0  # seconds without a word from the server

Task = TypeVar("Task")
Result = TypeVar("Result")


def connect(address: str, what: str, *, timeout: float = TIMEOUT) -> Any:
    """The client of a server's base address, as http://localhost:8000/v1. `what` needs it, in the error's words.

    Raises Or1labError where the package openai is not installed."""
    try:
        import openai
    except ImportError:
        raise Or1labError(f"{what} from an endpoint need the package openai: pip install openai") from None
    # A local server asks for no key; the client insists on one.
    key = os.environ.get("OPENAI_API_KEY") or "none"
    return openai.OpenAI(base_url=address, api_key=key, max_retries=RETRIES, timeout=timeout)


def complete(client: Any, whose: str, kept: str, **request: Any) -> Any:
    """One chat completion with at least one choice. `whose` names the request in the error, `kept` what is not lost.

    Raises:
        Or1labError: the server fails beyond the client's retries, refuses, or gives no answer.
    """
    import openai

    try:
        reply = client.chat.completions.create(**request)
    except (openai.OpenAIError, ValueError) as error:  # ValueError: an answer that is not JSON
        raise Or1labError(
            f"{client.base_url}: {request['model']} failed on {whose} ({_said(error)}); {kept} so far are kept: once "
            "the server answers again, go on with --resume"
        ) from None
    if not getattr(reply, "choices", None):
        told = getattr(reply, "error", None) or "no choices"  # some servers say so with status 200
        raise Or1labError(
            f"{client.base_url}: {request['model']} gave no answer to {whose} ({told}); {kept} so far are kept: go on "
            "with --resume"
        )
    return reply


def _said(error: Exception) -> str:
    """What an error says, and of a connection that failed also why, which the client keeps to itself."""
    return f"{error} {error.__cause__}" if error.__cause__ and str(error).startswith("Connection") else str(error)


def gather(ask: Callable[[Task], Result], tasks: Sequence[Task], workers: int = WORKERS) -> Iterator[Result]:
    """Results as they come, of so many requests at a time; after a failure no more are asked for, those under way are
    still given, and then the failure is raised. Whoever stops early, by Ctrl-C as well, does not wait for them."""
    failures: list[Exception] = []

    def one(task: Task) -> list[Result]:
        try:
            return [] if failures else [ask(task)]
        except Exception as error:
            failures.append(error)
            return []

    with ThreadPool(workers) as threads:  # its threads die with the process
        for found in threads.imap_unordered(one, tasks):
            yield from found
    if failures:
        raise failures[0]
