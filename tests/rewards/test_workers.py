"""Worker pools: whatever a worker does, a question costs its limit and the next one is answered."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from or1lab.errors import Or1labError
from or1lab.recipe import ROOT
from or1lab.rewards import workers
from or1lab.rewards.workers import WorkerPool

SCRIPT = """
import json, os, subprocess, sys, time
from pathlib import Path

print("ready", flush=True)
for line in sys.stdin:
    question = json.loads(line)
    if question == "hang":
        time.sleep(60)
    elif question == "die":
        os._exit(3)
    elif question == "stop within a line":
        print("[1, ", end="", flush=True)
        time.sleep(60)
    elif question == "have a child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(child.pid, flush=True)
        continue
    elif isinstance(question, dict):  # meet the worker of the other question
        Path(question["me"]).touch()
        while not Path(question["other"]).exists():
            time.sleep(0.01)
    print(json.dumps([os.getpid(), hash("a text"), question]), flush=True)
"""
LIMIT = 0.3  # for what must not be answered
SOON = 20.0  # for what must be


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "worker.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def pool(script):
    pool = WorkerPool(script, 1)
    yield pool
    pool.close()


def alive(script: Path) -> list[psutil.Process]:
    """Our processes that run the script."""
    return [child for child in psutil.Process().children(recursive=True) if str(script) in child.cmdline()]


def pid(pool: WorkerPool) -> int:
    return pool.ask("who", SOON)[0]


@pytest.mark.parametrize(
    "question", [1.5, "two\nlines", "\ud800", ["é", None, {}], "x" * 1_000_000], ids=type
)
def test_questions_and_answers_of_any_size_come_through(pool, question):
    assert pool.ask(question, SOON)[2] == question


def test_one_worker_serves_one_question_after_the_other(pool, script):
    assert len({pid(pool) for _ in range(5)}) == 1
    assert len(alive(script)) == 1


@pytest.mark.parametrize("question", ["hang", "stop within a line"])
def test_a_worker_that_overruns_is_killed_at_its_limit_and_replaced(pool, script, question):
    first = pid(pool)
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        pool.ask(question, LIMIT)
    assert LIMIT <= time.monotonic() - begin < LIMIT + 3
    assert not psutil.pid_exists(first) and not alive(script)
    assert pid(pool) != first


def test_a_worker_that_never_reads_costs_its_limit_too(tmp_path):
    deaf = tmp_path / "deaf.py"
    deaf.write_text("import time; print('ready', flush=True); time.sleep(60)")
    pool = WorkerPool(deaf, 1)
    with pytest.raises(TimeoutError):
        pool.ask("x" * 1_000_000, LIMIT)  # more than a pipe holds
    assert not alive(deaf)


def test_a_worker_that_dies_is_an_eof_and_is_replaced(pool):
    first = pid(pool)
    with pytest.raises(EOFError):
        pool.ask("die", SOON)
    assert pid(pool) != first


def test_a_worker_that_died_while_idle_is_an_eof(pool):
    worker = psutil.Process(pid(pool))
    worker.kill()
    while worker.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with pytest.raises(EOFError):
        pool.ask("x" * 1_000_000, SOON)
    assert pool.ask("again", SOON)[2] == "again"


@pytest.mark.parametrize(
    "source", ["import sys; sys.exit(1)", "this is no Python", "import time; time.sleep(60)"]
)
def test_a_script_that_never_gets_ready_is_an_error_that_says_what_to_try(tmp_path, monkeypatch, source):
    monkeypatch.setattr(workers, "START_LIMIT", 1.0)
    broken = tmp_path / "broken.py"
    broken.write_text(source)
    pool = WorkerPool(broken, 1)
    for _ in range(2):  # the place of a failed start is free again
        with pytest.raises(Or1labError, match=r"broken\.py does not start; try: .*broken\.py"):
            pool.ask("who", SOON)
    assert not alive(broken)


def test_two_questions_run_side_by_side(script, tmp_path):
    pool = WorkerPool(script, 2)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    with ThreadPoolExecutor(2) as threads:
        answers = list(
            threads.map(lambda q: pool.ask(q, SOON), [{"me": a, "other": b}, {"me": b, "other": a}])
        )
    assert [answer[2]["me"] for answer in answers] == [a, b]
    assert answers[0][0] != answers[1][0]
    pool.close()


def test_more_questions_than_workers_wait_their_turn_and_get_their_own_answers(script):
    pool = WorkerPool(script, 2)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: pool.ask(i, SOON), range(200)))
    assert [answer[2] for answer in answers] == list(range(200))
    assert len({answer[0] for answer in answers}) <= 2 and len(alive(script)) <= 2
    pool.close()


def test_every_worker_hashes_alike(pool):
    first = pool.ask("x", SOON)
    with pytest.raises(EOFError):
        pool.ask("die", SOON)
    second = pool.ask("x", SOON)
    assert first[0] != second[0] and first[1] == second[1]


def test_neighbours_of_the_script_shadow_no_module(pool, script):
    (script.parent / "json.py").write_text("raise SystemExit('shadowed')")
    assert pool.ask("x", SOON)[2] == "x"


def test_an_interrupted_question_leaves_no_late_answer_to_the_next(pool):
    first = pid(pool)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        threading.Timer(LIMIT, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            pool.ask("hang", SOON)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert pool.ask("next", SOON)[2] == "next" and pid(pool) != first


def test_the_terminals_ctrl_c_is_not_for_workers(pool):
    assert os.getsid(pid(pool)) != os.getsid(0)


def test_close_leaves_no_process_and_a_later_question_starts_anew(script):
    pool = WorkerPool(script, 3)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda i: pool.ask(i, SOON), range(30)))
    left = alive(script)
    assert left
    pool.close()
    assert not any(process.is_running() for process in left) and not alive(script)
    pool.close()  # nothing to do
    assert pool.ask("x", SOON)[2] == "x"
    pool.close()
    assert not alive(script)


def test_what_a_worker_started_ends_with_it(pool):
    child = psutil.Process(pool.ask("have a child", SOON))
    assert child.is_running()
    pool.close()  # must not wait for the child, which holds the other end of the pipe
    with contextlib.suppress(psutil.NoSuchProcess):
        while child.status() != psutil.STATUS_ZOMBIE:  # not every container has somebody to reap it
            time.sleep(0.01)


def test_no_worker_outlives_its_caller_and_a_forked_child_leaves_it_alone(script):
    code = f"""
import os, sys
from pathlib import Path
from or1lab.rewards.workers import WorkerPool
pool = WorkerPool(Path({str(script)!r}), 1)
first = pool.ask("who", {SOON})[0]
if (child := os.fork()) == 0:
    sys.exit(7)  # with the copy of the pool registered to be closed at exit
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert pool.ask("who", {SOON})[0] == first
print(first)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not psutil.pid_exists(int(done.stdout))
