"""One, two and four processes, replicated and sharded parameters: the same losses, gradients and weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
import torch

from or1lab.magic.loss import LossOutput
from tests.magic.several_processes import model

SCRIPT = Path(__file__).parent / "several_processes.py"
CASES = [
    f"{kind} {case}"
    for kind in ("replicated", "sharded")
    for case in ("float64", "float32", "float64 few", "float32 few", "float32 tied", "float64 released")
]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results by number of processes."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return {processes: torch.load(folder / f"{processes}.pt") for processes in (1, 2, 4)}


def distance(one, other) -> float:
    """Relative to the size of the whole list of tensors."""
    one, other = (torch.cat([torch.as_tensor(t).flatten().double() for t in tensors]) for tensors in (one, other))
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("case", CASES)
def test_processes_do_not_matter(results, processes, case):
    limit = 1e-9 if "float64" in case else 1e-5
    got = results[processes][case]
    alone = results[1][case.replace("sharded", "replicated")]
    assert len(got["loss"]) == len(alone["loss"]) >= 3
    for name in ("loss", "norm", "output", "logp", "entropy", "gradient", "weights"):
        assert distance(got[name], alone[name]) < limit, name
    start = list(model(0, torch.float64, tied="tied" in case).parameters())
    moved, expected = ([a.double() - b for a, b in zip(r["weights"], start, strict=True)] for r in (got, alone))
    assert distance(moved, expected) < 100 * limit  # Adam divides by the gradient's size: small ones carry their noise


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("case", CASES)
def test_an_engine_is_given_whole_weights(results, processes, case):
    got = results[processes][case]
    assert [*got["handed over"]] == [name for name, _ in model(0, torch.float64, "tied" in case).named_parameters()]
    for weight, given in zip(got["weights"], got["handed over"].values(), strict=True):
        assert torch.equal(weight, given)


def test_the_comparison_means_something(results):
    """Gradients of ordinary size, weights that move, tokens clipped on both sides, entropy and KL in the loss."""
    start = model(0, torch.float64, tied=False)
    run = results[1]["replicated float64"]
    assert min(run["norm"]) > 0.01
    assert distance(run["weights"], list(start.parameters())) > 1e-3
    outputs = pd.DataFrame(run["output"], columns=[field.name for field in fields(LossOutput)])
    assert (outputs[["tokens", "entropy_sum", "kl_sum"]] > 0).all(axis=None)
    assert (outputs[["clip_low", "clip_high"]].sum() > 0).all()
    released = results[1]["replicated float64 released"]
    assert distance(released["gradient"], run["gradient"]) > 0.01


@pytest.mark.parametrize("processes", [2, 4])
def test_replicated_gradients_are_exchanged_once_per_mini_batch(results, processes):
    """However many micro-batches it has."""
    run = results[processes]["replicated float32"]
    assert run["reductions"] == len(run["norm"]) > 3


@pytest.mark.parametrize("processes", [2, 4])
def test_sharded_gradients_are_reduced_after_every_micro_batch(results, processes):
    """Two layers and the rest: no process ever keeps whole gradients."""
    run = results[processes]["sharded float32"]
    assert run["reductions"] % 3 == 0 and run["reductions"] > 3 * len(run["norm"])
