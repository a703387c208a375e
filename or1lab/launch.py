"""A run on several GPUs or nodes: accelerate starts a process for each GPU, this module starts accelerate.

    train()                     here: one process trains as it is; several are started, followed and waited for
    python -m or1lab.launch agent JOB    on each node: accelerate's launcher, quiet
    python -m or1lab.launch worker JOB   on each GPU: train.run

A job is a JSON file; what a worker fails of is written beside it, so that the one who asked gets the reason.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from or1lab import errors, process
from or1lab.errors import Or1labError, UsageError
from or1lab.following import Follower
from or1lab.recipe import ROOT, Recipe
from or1lab.store import Run
from or1lab.tracking import Progress

FSDP2 = ROOT / "experiments" / "fsdp2.yaml"
LOOK = 1.0  # seconds between looks into the run folder
MEET = 900.0  # seconds in which the first node must be there
LATER = 3.0  # seconds by which the first process is ahead in telling why all of them fail


@dataclass(frozen=True)
class Place:
    """Where a run's processes are: `processes` on this node, one a GPU, and which of how many nodes it is.

    main: host:port of the first node, where all of them meet. offload: weights and Adam moments in host memory."""

    processes: int = 1
    nodes: int = 1
    node_rank: int = 0
    main: str = ""
    offload: bool = False

    @property
    def several(self) -> bool:
        """Whether accelerate has to start processes, on this node or others."""
        return self.processes * self.nodes > 1


def visible() -> int:
    """GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    labels: dict[str, str] | None = None,
    on_record: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = True,
    place: Place | None = None,
) -> Run:
    """`train.run` on all visible GPUs, or at `place`.

    Raises:
        UsageError: more processes than GPUs, an address that is none, or what `train.run` raises.
        Or1labError: a port that is taken, a first node that does not answer, or what `train.run` raises.
    """
    gpus = visible()
    place = place or Place(max(1, gpus))
    if place.offload and not (gpus and place.several):
        raise UsageError("--offload is for weights that several GPUs share")
    if not place.several:
        from or1lab.train import run

        return run(recipe, out, resume=resume, labels=labels, on_record=on_record, progress=progress)
    if 0 < gpus < place.processes:
        raise UsageError(f"--processes {place.processes}, but only {gpus} GPUs are visible here (CUDA_VISIBLE_DEVICES)")
    _meet(place)
    told = {"recipe": recipe.resolved(), "out": str(Path(out).absolute()), "resume": resume, "labels": labels}
    with tempfile.TemporaryDirectory(prefix="or1lab-") as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({**told, "place": asdict(place)}), encoding="utf-8")
        follower = Follower(Run(out), recipe.total_steps)
        follower.look()  # what is there already is told to nobody
        command = [sys.executable, "-m", "or1lab.launch", "agent", str(job)]
        # Without a GPU accelerate wants to be told; its own flag for CPUs starts no second process.
        env = os.environ | ({} if gpus else {"ACCELERATE_USE_CPU": "true"})
        # A session of its own: Ctrl-C is for this process, which ends the others in order.
        started = subprocess.Popen(command, env=env, start_new_session=True)
        try:
            _follow(started, follower, recipe, on_record, progress)
        finally:
            if started.poll() is None:
                started.terminate()  # accelerate's launcher ends its workers
                started.wait()
        if started.returncode:
            raise _failure(job, started.returncode, Path(out))
    return Run.open(out)


def commands(arguments: list[str], nodes: int) -> list[str]:
    """What to type on each node: `or1lab train` with these arguments and its number."""
    return [shlex.join(["or1lab", "train", *arguments, "--node-rank", str(n)]) for n in range(nodes)]


def kept(out: Path) -> str:
    """What a stopped run does not lose, for the user: the steps up to its newest checkpoint, or none."""
    from or1lab.magic.checkpoints import SEAL, checkpoints, step_of

    # Not hashed: that takes minutes with a large model, and a scheduler kills half a minute after its signal.
    if sealed := [step_of(path) for path in checkpoints(out / "checkpoints") if (path / SEAL).exists()]:
        return f"kept up to step {sealed[-1]}, its newest checkpoint: go on from there with --resume"
    return "nothing is kept, for there is no checkpoint yet: --resume starts at the first step again"


def _meet(place: Place) -> None:
    """See that the processes can meet: a free port on the first node, an answer from it on the others."""
    if place.nodes == 1:
        return
    host, _, port = place.main.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--main '{place.main}': host:port of the first node is wanted, as node-0:29500")
    if place.node_rank == 0:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(port)))
            except OSError as error:
                raise Or1labError(f"port {port} is not free here ({error.strerror}): another one with --main") from None
        return
    deadline = time.monotonic() + MEET
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise Or1labError(
                    f"the first node does not answer at {place.main} ({error}): is it started with --node-rank 0, and "
                    "the port open between the nodes?"
                ) from None
        time.sleep(2)


def _follow(
    started: subprocess.Popen[bytes],
    follower: Follower,
    recipe: Recipe,
    on_record: Callable[[dict[str, Any]], None] | None,
    progress: bool,
) -> None:
    """Until the process has ended: what it writes into the run folder goes to the progress line and to `on_record`."""
    bar = Progress(recipe.total_steps, title=recipe.name) if progress else None
    watchers = [watch for watch in (bar.update if bar else None, on_record) if watch]
    told = list(follower.records)
    try:
        while True:
            ended = started.poll() is not None
            if watchers and follower.look():
                same = list(takewhile(lambda pair: pair[0] == pair[1], zip(told, follower.records, strict=False)))
                told = list(follower.records)
                for record in told[len(same) :]:  # a resumed run cuts off what it does again
                    for watch in watchers:
                        watch(record)
            if ended:
                return
            time.sleep(LOOK)
    finally:
        if bar:
            bar.close()


def _failure(job: Path, code: int, out: Path) -> Or1labError:
    """What a worker of the run in `out` has told, as the error that it was."""
    told = job.with_suffix(".error")
    if not told.exists():
        return Or1labError(
            f"a process of the run ended (exit code {code}) without a word, killed or out of memory; {kept(out)}"
        )
    about = json.loads(told.read_text(encoding="utf-8"))
    return getattr(errors, about["kind"], Or1labError)(about["text"])


def agent(job: Path) -> int:
    """Start this node's workers by accelerate and wait for them."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    told = json.loads(job.read_text(encoding="utf-8"))
    place = Place(**told["place"])
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the reason is told otherwise
    host, _, port = place.main.rpartition(":")
    if "ACCELERATE_USE_CPU" in os.environ:
        options = ["--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"]
    else:
        precision = "bf16" if told["recipe"]["dtype"] == "bfloat16" else "no"  # as the engine's
        options = ["--config_file", str(FSDP2), "--mixed_precision", precision, "--dynamo_backend", "no"]
        options += ["--fsdp_offload_params", "true"] * place.offload
        options += ["--num_cpu_threads_per_process", str(max(1, process.cores() // place.processes))]
    options += ["--num_machines", str(place.nodes), "--num_processes", str(place.nodes * place.processes)]
    options += ["--machine_rank", str(place.node_rank), "--main_process_port", port or "0"]
    options += ["--main_process_ip", host] * (place.nodes > 1)
    arguments = launch_command_parser().parse_args([*options, "-m", "or1lab.launch", "worker", str(job)])
    try:
        launch_command(arguments)
    except SignalException:
        return 130
    except ChildFailedError as failed:
        return next(iter(failed.failures.values())).exitcode & 255 or 1
    except Exception as error:
        _tell(job, error)
        return 1
    return 0


def worker(job: Path) -> int:
    """One process of the run."""
    from or1lab.train import run

    told = json.loads(job.read_text(encoding="utf-8"))
    recipe = Recipe.model_validate(told["recipe"])
    try:
        with process.stopped_by_signals():
            run(recipe, told["out"], resume=told["resume"], labels=told["labels"], progress=False)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if int(os.environ["RANK"]) or not isinstance(error, Or1labError):
            time.sleep(LATER)  # where another process has died, that is the reason, and ends this one meanwhile
        _tell(job, error)
        return 1
    return 0


def _tell(job: Path, error: Exception) -> None:
    """Leave the reason beside the job, if nobody has."""
    known = isinstance(error, Or1labError)
    text = str(error) if known else f"unexpected {type(error).__name__}: {error}"
    try:
        with job.with_suffix(".error").open("x", encoding="utf-8") as file:
            json.dump({"kind": type(error).__name__, "text": text}, file)
    except FileExistsError:
        return
    if not known:
        traceback.print_exception(error)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    sys.exit({"agent": agent, "worker": worker}[sys.argv[1]](Path(sys.argv[2])))
