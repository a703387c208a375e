"""Script of a verifier process: Math-Verify on untrusted LaTeX. Started by `workers.WorkerPool`, never imported.

Each line on stdin is `{"golds": [...], "answer": text, "limit": seconds}`; the answer to it is one of the JSON strings
"equivalent", "wrong" and "unparsable". The caller kills the process when it overruns, so Math-Verify's own alarm
is off; ours is the second belt, for the case that the caller died first.
"""

import contextlib
import json
import math
import os
import resource
import signal
import sys

MEMORY = 2 << 30  # bytes of address space; the imports need about a tenth


def judge(golds: list[str], answer: str) -> str:
    from math_verify import parse, verify

    parsed = parse(answer, parsing_timeout=None)
    if not parsed:
        return "unparsable"
    for gold in golds:
        if verify(parse(gold, parsing_timeout=None), parsed, timeout_seconds=None):
            return "equivalent"
    return "wrong"


def main() -> None:
    # The reply channel is a descriptor of its own, so that nothing a library prints can look like a verdict.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    judge(["\\boxed{1}"], "\\boxed{1}")  # imports, and whatever is built at the first call
    with contextlib.suppress(ValueError, OSError):  # not every system lets itself be limited (macOS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print('"ready"', file=replies)
    for line in sys.stdin:
        question = json.loads(line)
        signal.alarm(math.ceil(question["limit"]) + 1)
        try:
            reply = judge(question["golds"], question["answer"])
        except Exception:  # any failure on hostile input, RecursionError and MemoryError included, is a finding
            reply = "unparsable"
        signal.alarm(0)
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main()
