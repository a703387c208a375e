"""Evaluations whose server or own process dies: what has come is kept, and the rest is asked for again."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from or1lab.errors import Or1labError
from or1lab.evaluation import Evaluation
from or1lab.recipe import ROOT
from or1lab.rollout.base import Request
from or1lab.rollout.server_engine import ServerEngine
from tests.broken_runs import ENV
from tests.servers import DROP, answers, chat_server, hurry
from tests.test_evaluation import same
from tests.test_evaluation_samplers import ask_server


@pytest.mark.parametrize("fault", [429, 500, DROP])
def test_a_server_that_fails_for_a_while_is_asked_again(fault, tmp_path, monkeypatch):
    hurry(monkeypatch)
    asks = itertools.count()  # threads share it

    def shaky_server(asked):
        return fault if next(asks) < 3 else answers(asked)

    with chat_server(shaky_server) as (address, _):
        found = ask_server(address, tmp_path / "served")
    assert found.correct()[:5].all() and found.status == "finished"


def test_a_server_that_fails_for_good_costs_nothing_that_came(tmp_path, monkeypatch):
    hurry(monkeypatch)
    asks = itertools.count()

    def dying(asked):
        return answers(asked) if next(asks) < 10 else 500

    out = tmp_path / "served"
    with chat_server(dying) as (address, _), pytest.raises(Or1labError, match=r"failed on problem p\d.*--resume"):
        ask_server(address, out)
    assert len(Evaluation.open(out).stored()) == 10
    with chat_server(answers) as (address, got):  # at another port: the same server all the same
        found = ask_server(address, out, resume=True)
        assert len(got) == 14
        assert same(found, ask_server(address, tmp_path / "unbroken"))


def test_a_server_that_is_not_there_is_told_with_the_cause(tmp_path, monkeypatch):
    hurry(monkeypatch)
    with pytest.raises(Or1labError, match=r"Connection error\. .*protocol"):
        ask_server("localhost:9/v1", tmp_path / "nowhere")


DYING = """
import itertools, os, signal, time
from tests.servers import answers, chat_server
asks = itertools.count()
def answer(asked):
    if next(asks) < 10:
        return answers(asked)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
with chat_server(answer) as (address, _):
    print(address, flush=True)
    time.sleep(300)
"""


def test_a_server_killed_in_the_middle_costs_only_what_it_was_working_on(tmp_path, monkeypatch):
    """A process of its own, as `vllm serve` is, with SIGKILL."""
    hurry(monkeypatch)
    server = subprocess.Popen([sys.executable, "-c", DYING], stdout=subprocess.PIPE, text=True, env=ENV, cwd=ROOT)
    out = tmp_path / "served"
    with pytest.raises(Or1labError, match=r"failed on problem p\d.*once the server answers again.*--resume"):
        ask_server(server.stdout.readline().strip(), out)
    server.communicate()
    kept = len(Evaluation.open(out).stored())
    assert 0 < kept <= 10
    with chat_server(answers) as (address, got):
        found = ask_server(address, out, resume=True)
        assert len(got) == 24 - kept and same(found, ask_server(address, tmp_path / "unbroken"))


def test_ctrl_c_waits_for_no_server(tmp_path):
    """Requests may take an hour each; what has come is kept."""
    asks, over, stopped = itertools.count(), threading.Event(), []

    def ctrl_c():
        stopped.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def slow(asked):
        if (number := next(asks)) == 23:
            threading.Timer(1.0, ctrl_c).start()
        if number >= 10:
            over.wait(120)
        return answers(asked)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        with chat_server(slow) as (address, _):
            with pytest.raises(KeyboardInterrupt):
                ask_server(address, tmp_path / "served")
            assert time.monotonic() - stopped[0] < 60
            over.set()
    finally:
        signal.signal(signal.SIGINT, usual)
    assert 0 < len(Evaluation.open(tmp_path / "served").stored()) <= 10


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(600)
def test_killed_for_real_it_ends_with_the_same_table(tmp_path):
    """vLLM, SIGKILL once some responses are there, twice."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(folder: Path, *more: str) -> subprocess.Popen:
        asked = ["evaluate", "tiny", "--suite", "tiny", "-k", "8", "--problems", "120", "--out", str(folder), *more]
        return subprocess.Popen([sys.executable, "-m", "or1lab.cli", *asked], env=env, cwd=ROOT)

    assert start(tmp_path / "unbroken").wait() == 0
    killed, more = tmp_path / "killed", []
    for parts in (2, 5):
        child = start(killed, *more)
        while len(list((killed / "samples").glob("part-*.parquet"))) < parts:
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert Evaluation.open(killed).status == "interrupted"
        more = ["--resume"]
    assert start(killed, "--resume").wait() == 0
    one, two = (Evaluation.open(tmp_path / name) for name in ("unbroken", "killed"))
    assert one.samples.equals(two.samples)
    assert {**one.summary(), "folder": ""} == {**two.summary(), "folder": ""}


class Gone:
    """TRL's client of a server that answered once."""

    communicator = None

    def _get(self, url):
        return {"data": [{"id": "policy", "max_model_len": 100}]}

    def _post(self, url, json):
        raise ConnectionError("connection refused")

    def init_communicator(self, device):
        raise ConnectionError("connection refused")


def test_a_rollout_server_that_is_gone_is_named_with_the_mend(monkeypatch):
    monkeypatch.setattr(ServerEngine, "client", Gone())
    engine = ServerEngine("http://node-1:8000", dtype="float32", eos_ids=[1], context=100, first=True)
    with pytest.raises(Or1labError, match="http://node-1:8000 failed .connection refused.: start it again.*--resume"):
        engine.generate([Request([1, 2], [7, 8])], tau=1.0, T=4)
    with pytest.raises(Or1labError, match="does not take the weights .connection refused.: start"):
        engine.sync(iter([]))
