"""Thousands of verdicts, one in a hundred on an attack: no process, file, mount or memory is left.

    OR1LAB_LEAK_VERDICTS=10000 python -m pytest -s tests/rewards/test_leaks.py
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from or1lab.rewards.code import judge
from or1lab.rewards.sandbox import Limits
from tests.lacking import needs_bubblewrap

VERDICTS = int(os.environ.get("OR1LAB_LEAK_VERDICTS", 600))
LIMITS = Limits(seconds=1.0)
ADD = "def add(a, b): return a + b\n"
HONEST = [
    (ADD + "print(add(*map(int, input().split())))", {"inputs": ["1 2"], "outputs": ["3"]}),
    (ADD, {"inputs": [[1, 2], [3, 4]], "outputs": [3, 7], "fn_name": "add"}),
    (ADD, {"assert_case": ["assert add(1, 2) == 3"]}),
    (ADD, {"assert_case": ["assert add(1, 1 + 1) == 3"]}),
]
ATTACKS = [
    "while True: pass",
    "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "import subprocess\nsubprocess.Popen(['sleep', '99'], start_new_session=True)",
    "blocks = []\nwhile True: blocks.append(bytearray(1 << 24))",
    "import threading as t\nt.stack_size(1 << 15)\nwhile True: t.Thread(target=t.Event().wait).start()",
    "number = 0\nwhile True:\n    number += 1\n    open(f'/tmp/{number}', 'wb').write(bytes(1 << 20))",
    "import os\nkept = [os.pipe() for _ in range(1000)]",
    "while True: print('x' * 10000)",
    "import os\nfor i in range(1, 9):\n    try: os.write(i, bytes((0, 99, 0, 0)))\n    except OSError: 0\nwhile 1: 1",
    "import os, time\nos.closerange(0, 99)\ntime.sleep(99)",
]


def verdict(number: int) -> None:
    if number % 100 == 99:
        record = dict(HONEST[number // 100 % len(HONEST)][1])
        assert not judge(ATTACKS[number // 100 % len(ATTACKS)], record, limits=LIMITS).correct
    else:
        source, record = HONEST[number % len(HONEST)]
        found = judge(source, record)
        assert found.correct or found.reason == "timeout", found  # a busy machine


def held() -> dict[str, object]:
    """What must not grow."""
    commands = [(p.info["ppid"], " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["ppid", "cmdline"])]
    return {
        "orphans": sum(parent == 1 and "child.main()" in command for parent, command in commands),
        "open files": psutil.Process().num_fds(), "children": len(psutil.Process().children(recursive=True)),
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        "temporary files": sorted(os.listdir(tempfile.gettempdir())),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(0)
@needs_bubblewrap
def test_nothing_is_left_of_thousands_of_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number in [*range(4), *range(99, 100 * len(ATTACKS), 100)]:  # every kind; what is loaded once
        verdict(number)
    gc.collect()
    before, memory, start = held(), psutil.Process().memory_info().rss, time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        for number, _ in enumerate(threads.map(verdict, range(VERDICTS)), 1):
            if number % 1000 == 0:
                grown = (psutil.Process().memory_info().rss - memory) / 2**20
                print(f"{number} verdicts, {time.monotonic() - start:.0f} s, {grown:+.1f} MiB, {held()}", flush=True)
    gc.collect()
    assert held() == before
    assert psutil.Process().memory_info().rss - memory < 32 << 20
