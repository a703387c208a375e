"""What a backend adds to the time of a sweep: python -m benchmarks.scheduling [--json]

The same runs through the local backend, through SLURM's adapter on submitit's local executor, and through Ray's on a
cluster of this machine. A run only sleeps, so it takes the same time wherever it is; two at a time. What a real SLURM
takes to find a node is the cluster's affair and not in it; nor is the start of Ray's, which is told beside it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from ray.cluster_utils import Cluster
from rich.console import Console

from benchmarks.timing import add_output_options, deliver
from or1lab.experiment import Experiment
from or1lab.sweep import run_sweep

PARAMETERS = """\
recipe: str = "tiny"
overrides: list[str] = []
seed: int = 0
out: str = "run"
resume: bool = False
experiment: str = ""
arm: str = ""
"""
SLEEP = """\
import time
from or1lab.recipe import load_recipe
from or1lab.store import Run
run = Run.create(out, recipe=load_recipe(recipe, [*overrides, f"seed={{seed}}"]).resolved())
with run.lock():
    time.sleep({seconds})
    run.update_manifest(status="finished", seconds={seconds})
"""


def notebook(folder: Path, seconds: float) -> Path:
    """A notebook whose run sleeps for so many seconds."""
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(SLEEP.format(seconds=seconds)),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "sleep.ipynb")
    return folder / "sleep.ipynb"


def wall_time(backend: str, runs: int, seconds: float, options: dict[str, Any]) -> float:
    """Seconds of a sweep, from the command to the last run's end."""
    experiment = Experiment(
        name="sleep", title="Sleep", question="How long?", recipe="tiny", arms={"only": {}}, seeds=list(range(runs)),
        baseline="only", figure="demo",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        begin = time.monotonic()
        result = run_sweep(
            experiment, jobs=2, out=folder, backend=backend, cluster=options, console=Console(file=nothing),
            notebook=notebook(Path(folder), seconds),
        )  # fmt: skip
        taken = time.monotonic() - begin
    assert result.exit_code == 0, result
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a run sleeps")
    add_output_options(parser)
    options = parser.parse_args()
    taken = {"local": wall_time("local", options.runs, options.seconds, {})}
    taken["slurm"] = wall_time("slurm", options.runs, options.seconds, {"executor": "local", "time": 60})
    begin = time.monotonic()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    start = time.monotonic() - begin
    try:
        taken["ray"] = wall_time("ray", options.runs, options.seconds, {"address": cluster.address})
    finally:
        cluster.shutdown()
    results = {"runs": options.runs, "seconds of a run": options.seconds, "wall": taken, "start of the cluster": start}
    results["overhead"] = {name: seconds / taken["local"] - 1 for name, seconds in taken.items() if name != "local"}

    def show() -> None:
        print(f"{options.runs} runs of {options.seconds:g} s, 2 at a time: local {taken['local']:.1f} s")
        for name, share in results["overhead"].items():
            print(f"  {name}: {taken[name]:.1f} s, {share:+.1%}")
        print(f"  (start of Ray's cluster, once: {start:.1f} s)")

    deliver("scheduling", results, options, show)


if __name__ == "__main__":
    main()
