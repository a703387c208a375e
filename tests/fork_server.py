"""A process that has imported everything and forks a child for each `or1lab` command it is told: a new Python takes ten
seconds to get there. Nothing has been computed before a fork, so a child is as good as a new process.

Each line on stdin is {"arguments": [...], "kill_at": name or "", "by": a signal's name or "", "output": file}; the
answer is the child's exit code. With `by` the child gets that signal at the kill point, and is not ended there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

answers = os.fdopen(os.dup(1), "w")  # of our own: what libraries say at import goes to stderr
os.dup2(2, 1)

import or1lab.magic.trainer  # noqa: E402
import or1lab.rollout.transformers_engine  # noqa: E402, F401
from or1lab import cli, kill_points  # noqa: E402

leave = os._exit


def child(arguments: list[str], kill_at: str, by: str, output: str) -> int:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    kill_points.arm(kill_at)
    if by:
        os._exit = lambda code: signal.raise_signal(signal.Signals[by])  # what a kill point ends the process with
    sys.argv = ["or1lab", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


for line in sys.stdin:
    command = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = child(**command)
        sys.stdout.flush()
        sys.stderr.flush()
        leave(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)
