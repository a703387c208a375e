"""Work divided among processes: everyone has everything, in order; a failure is everyone's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from or1lab.data.problem import Problem
from or1lab.recipe import ROOT
from or1lab.rewards import Verdict
from or1lab.rollout.together import Processes, divided, shared_reward

PROCESSES = 4
SCRIPT = """
import json, os, sys
import torch.distributed as dist
from or1lab.errors import Or1labError
from or1lab.rollout.together import Processes, Shared, divided

rank, count = int(sys.argv[1]), int(sys.argv[2])
worked = []

def square(own):
    worked.append(list(own))
    return [n * n for n in own]

def failing(own):
    if rank == 2:
        raise ValueError("no disk")
    return own

class Engine:
    name = "made up"
    def __init__(self):
        self.alarms = ["ran out"] * (rank == 2)
    def generate(self, requests, *, tau, T):
        return [[tau * request] * T for request in requests]

found = {}
for _ in range(count - 1):  # forks: importing takes longer than the work
    if rank == 0 and os.fork() == 0:
        rank = _ + 1
dist.init_process_group("gloo", rank=rank, world_size=count, init_method=f"tcp://localhost:{sys.argv[3]}")
found["one each"] = divided(square, range(7))
found["two together"] = divided(square, range(7), unit=2)
found["all together"] = divided(square, range(7), unit=count)
found["fewer than processes"] = divided(square, range(2))
found["worked"] = worked
shared = Shared(Engine(), unit=1)
found["samples"], found["alarms"] = shared.generate([1, 2, 3, 4, 5], tau=2, T=1), shared.alarms
try:
    divided(failing, range(7))
except Or1labError as error:
    found["error"] = str(error)
found["agreed"] = Processes(rank, count).agreed(lambda: f"by {rank}")
with open(f"{sys.argv[4]}/{rank}.json", "w") as file:
    json.dump(found, file)
dist.barrier()
if rank == 0:
    for _ in range(count - 1):
        assert os.wait()[1] == 0
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SCRIPT, "0", str(PROCESSES), str(port), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


def test_everyone_has_everything_in_order(found):
    squares = [n * n for n in range(7)]
    for process in found:
        assert process["one each"] == process["two together"] == process["all together"] == squares
        assert process["fewer than processes"] == [0, 1]


def test_each_does_its_share(found):
    shares = [process["worked"] for process in found]
    assert [share[0] for share in shares] == [[0, 4], [1, 5], [2, 6], [3]]
    assert [share[1] for share in shares] == [[0, 2, 4, 6], [0, 2, 4, 6], [1, 3, 5], [1, 3, 5]]
    assert [share[2] for share in shares] == [list(range(7))] * PROCESSES


def test_engines_are_one_and_each_ones_alarms_are_known(found):
    for process in found:
        assert process["samples"] == [[2], [4], [6], [8], [10]] and process["alarms"] == ["process 2: ran out"]


def test_a_failure_of_one_is_told_by_all(found):
    assert {process["error"] for process in found} == {"process 2: ValueError: no disk"}


def test_what_the_first_makes_is_agreed(found):
    assert {process["agreed"] for process in found} == {"by 0"}


def test_alone():
    assert divided(lambda own: [n + 1 for n in own], range(3)) == [1, 2, 3]
    assert Processes().agreed(lambda: 5) == 5 and Processes().first


def test_a_shared_reward_gives_the_reward_verdicts():
    def reward(problems, texts, truncated):
        if "bad" in texts:
            raise ValueError("no")
        return [Verdict(text == problem.gold, "judged") for problem, text in zip(problems, texts, strict=True)]

    problems = [Problem(id=str(n), prompt="?", gold=str(n), domain="tiny") for n in range(3)]
    shared = shared_reward(reward)
    assert [v.correct for v in shared(problems, ["0", "x", "2"], [False] * 3)] == [True, False, True]
    # One response at which it fails costs no other one.
    assert [v.reason for v in shared(problems, ["0", "bad", "2"], [False] * 3)] == [
        "judged", "error: ValueError: no", "judged",
    ]  # fmt: skip
    assert shared([], [], []) == []
