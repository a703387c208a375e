"""Several processes of a run: started by accelerate, they give the numbers of one; what they fail of is told."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from or1lab import doctor, launch, preflight, train
from or1lab.errors import Or1labError, UsageError
from or1lab.following import Follower
from or1lab.launch import Place
from or1lab.magic.checkpoints import SEAL
from or1lab.recipe import ROOT, load_recipe
from or1lab.store import Run

SMALL = ROOT / "tests" / "small.yaml"
TWO = Place(processes=2)


def values(run: Run) -> tuple[list[tuple[str, int]], dict[str, np.ndarray]]:
    """The order of a run's records, and every number that no clock decides."""
    frame = run.metrics
    clock = [name for name in frame if name.startswith(("time/", "tokens_per_s", "memory/"))]
    numbers = frame.drop(columns=clock).select_dtypes("number")
    return list(zip(frame["kind"], frame["step"], strict=True)), {name: numbers[name].to_numpy() for name in numbers}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_give_the_numbers_of_one(engine, tmp_path):
    """Also resumed from their checkpoint, and by one process from the checkpoint of two."""
    moving = ["entropy=paper", "tgt_ent=2.0", "delta=0.01"]
    recipe = load_recipe(SMALL, ["D_T=2", "old_logp=trainer", "checkpoint.keep=2", *moving])
    alone = train.run(recipe, tmp_path / "alone", engine=engine, progress=False)
    seen: list[dict] = []
    both = launch.train(recipe, tmp_path / "both", place=TWO, progress=False, on_record=seen.append)
    assert both.status == "finished" and both.manifest["hardware"]["processes"] == 2
    assert json.dumps(seen) == json.dumps(both.records())  # the launcher follows the run folder
    compare(alone, both)

    cut(both)
    compare(alone, launch.train(recipe, both.folder, place=TWO, resume=True, progress=False))
    cut(both)
    with pytest.warns(UserWarning, match="begun with 2 processes and goes on with 1"):
        compare(alone, train.run(recipe, both.folder, resume=True, engine=engine, progress=False))


def cut(run: Run) -> None:
    """Back to how a run looks that failed after its checkpoint of step 2: two of its four steps are done again."""
    run.update_manifest(status="failed")
    assert (run.folder / "checkpoints" / "checkpoint-2").is_dir()
    for later in ("checkpoint-4", "final"):
        shutil.rmtree(run.folder / "checkpoints" / later)


def compare(one: Run, other: Run) -> None:
    order, numbers = values(one)
    others_order, others = values(other)
    assert order == others_order and numbers.keys() == others.keys()
    for name, column in numbers.items():
        np.testing.assert_allclose(others[name], column, rtol=1e-4, atol=1e-5, err_msg=name)
    responses = [run.rollouts(step)["response"].tolist() for run in (one, other) for step in run.rollout_steps]
    half = len(responses) // 2
    assert half and responses[:half] == responses[half:]


def test_steps_that_are_done_again_between_two_looks_are_told(monkeypatch, tmp_path):
    recipe, looks, told = load_recipe("tiny"), iter(range(3)), []
    run = Run.create(tmp_path, recipe=recipe.resolved())
    follower = Follower(run, recipe.total_steps)

    def sleep(_: float) -> None:
        look = next(looks)
        if look == 1:  # back to step 5, and on to step 12
            run.truncate_after(5)
        for step in (range(1, 11), range(6, 13), ())[look]:
            run.log("step", step=step, loss=float("nan"), seconds=look)

    monkeypatch.setattr(launch.time, "sleep", sleep)
    process = SimpleNamespace(poll=lambda: 0 if len(told) > 10 else None)
    launch._follow(process, follower, recipe, lambda record: told.append(record["step"]), False)
    assert told == [*range(1, 11), *range(6, 13)]


@pytest.mark.slow
def test_what_the_processes_fail_of_is_told_by_the_one_who_asked(tmp_path):
    recipe = load_recipe(SMALL, ["eval.final_problems=1000"])
    with pytest.raises(UsageError, match="an evaluation wants 1000 problems"):
        launch.train(recipe, tmp_path / "run", place=TWO, progress=False)
    assert not (tmp_path / "run").exists()
    recipe = load_recipe(SMALL, ["rollout.tensor_parallel=3"])
    with pytest.raises(UsageError, match="tensor_parallel = 3 does not divide the 2 processes"):
        launch.train(recipe, tmp_path / "run", place=TWO, progress=False)


def test_a_single_process_is_trained_here(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(train, "run", lambda *args, **how: asked.update(args=args, **how))
    launch.train(load_recipe(SMALL), tmp_path, resume=True, progress=False)
    assert asked["args"][1] == tmp_path and asked["resume"] and not asked["progress"]


def test_more_processes_than_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "visible", lambda: 4)
    with pytest.raises(UsageError, match="--processes 8, but only 4 GPUs"):
        launch.train(load_recipe(SMALL), tmp_path, place=Place(8))


@pytest.mark.parametrize(("gpus", "processes"), [(0, 2), (1, 1)])
def test_offload_without_several_gpus(monkeypatch, tmp_path, gpus, processes):
    monkeypatch.setattr(launch, "visible", lambda: gpus)
    with pytest.raises(UsageError, match="--offload"):
        launch.train(load_recipe(SMALL), tmp_path, place=Place(processes, offload=True))


@pytest.mark.parametrize("main", ["", "node-0", "node-0:", ":29500", "node-0:http", "node-0:0", "node-0:295000"])
def test_an_address_that_is_none(tmp_path, main):
    with pytest.raises(UsageError, match="host:port"):
        launch.train(load_recipe(SMALL), tmp_path, place=Place(1, nodes=2, main=main))


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Or1labError, match=f"port {port} is not free"):
            launch.train(load_recipe(SMALL), tmp_path, place=Place(1, nodes=2, main=f"localhost:{port}"))


def test_a_first_node_that_does_not_answer(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "MEET", 0.0)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.raises(Or1labError, match="first node does not answer"):
        launch.train(load_recipe(SMALL), tmp_path, place=Place(1, nodes=2, node_rank=1, main=f"localhost:{port}"))


def test_the_commands_of_several_nodes():
    done = subprocess.run(
        [sys.executable, "-m", "or1lab.cli", "train", "7b", "lr=2e-6", "--nodes", "2", "--main", "a:29500"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()[1:]
    assert lines == [f"or1lab train 7b lr=2e-6 --nodes 2 --main a:29500 --node-rank {n}" for n in (0, 1)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--nodes", "2"], "--nodes wants --main"),
        (["--nodes", "2", "--main", "a:1", "--node-rank", "2"], "the 2 nodes are 0 to 1"),
    ],
)
def test_wrong_use(arguments, why):
    command = [sys.executable, "-m", "or1lab.cli", "train", "tiny", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and why in done.stderr


def test_a_process_that_died_without_a_word(tmp_path):
    error = launch._failure(tmp_path / "job.json", 247, tmp_path / "run")
    assert "without a word" in str(error) and "nothing is kept" in str(error) and "--resume" in str(error)


def test_what_a_stopped_run_keeps_is_its_newest_checkpoint(tmp_path):
    """One without a seal was not written to its end, and what lies elsewhere in the folder is no checkpoint."""
    assert "nothing is kept" in launch.kept(tmp_path) and "first step" in launch.kept(tmp_path)
    for name in ("checkpoint-8", "checkpoint-20", "checkpoint-100", "writing/checkpoint-200"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert "nothing is kept" in launch.kept(tmp_path)
    for name in ("checkpoint-8", "checkpoint-20"):
        (tmp_path / "checkpoints" / name / SEAL).write_text("{}")
    assert "kept up to step 20," in launch.kept(tmp_path) and "go on from there with --resume" in launch.kept(tmp_path)


def test_the_first_reason_counts(tmp_path):
    job = tmp_path / "job.json"
    launch._tell(job, UsageError("the first"))
    launch._tell(job, Or1labError("the second"))
    error = launch._failure(job, 1, tmp_path / "run")
    assert isinstance(error, UsageError) and str(error) == "the first"


def test_several_gpus_and_one_process(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="one process, but 2 GPUs"):
        train.run(load_recipe(SMALL), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_sleep_without_a_gpu(tmp_path):
    with pytest.raises(UsageError, match="rollout.sleep"):
        train.run(load_recipe(SMALL, ["rollout.sleep=true"]), tmp_path / "run", progress=False)


def test_what_only_vllm_has(tmp_path):
    for key in ("sleep=true", "tensor_parallel=2"):
        recipe = load_recipe(SMALL, [f"rollout.{key}", "rollout.backend=transformers"])
        with pytest.raises(UsageError, match="are vLLM's"):
            train.run(recipe, tmp_path / "run", progress=False)


# ------------------------------------------------------------------------------------------------------- preflight


@pytest.fixture
def gpus(monkeypatch):
    """Make this machine one with such GPUs, as nvidia-smi tells them."""
    plain = doctor.output

    def pretend(told: str) -> None:
        monkeypatch.setattr(doctor, "output", lambda *c: told if c[0] == "nvidia-smi" else plain(*c))
        monkeypatch.setattr(doctor, "nvidia_gpus", lambda: told)  # the real one remembers
        monkeypatch.setattr(doctor, "torch_build", lambda: "CUDA 13.0")
        monkeypatch.setattr(preflight, "visible", lambda: len(told.splitlines()))
        monkeypatch.setattr(doctor, "examine", lambda quick: [])

    return pretend


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("NVIDIA H100 80GB HBM3, 81559", "H100"),
        ("NVIDIA H800, 81559", "H800"),
        ("NVIDIA A100-SXM4-40GB, 40960\nNVIDIA A100-SXM4-40GB, 40960", "A100-40"),
        ("NVIDIA A100-SXM4-80GB, 81920", "A100-80"),
        ("NVIDIA GeForce RTX 4090, 24564", "RTX4090"),
    ],
)
def test_gpus_by_the_name_the_driver_gives(gpus, told, name):
    gpus(told)
    assert preflight._gpu() == name


def test_what_does_not_fit_is_told_before_anything_is_loaded(gpus, monkeypatch):
    gpus("NVIDIA H100 80GB HBM3, 81559")
    with pytest.raises(Or1labError, match=r"does not fit, by [\d.,]+ GiB: .*--force"):
        preflight.check(load_recipe("32b"), Place(1))
    monkeypatch.setattr(preflight, "memory_gib", lambda: 64.0)  # 8 processes x 7.1 GB of weights in float32
    assert preflight.check(load_recipe("1.5b", ["rollout.sleep=true"]), Place(8)) == []
    monkeypatch.setattr(preflight, "memory_gib", lambda: 48.0)
    (note,) = preflight.check(load_recipe("1.5b", ["rollout.sleep=true"]), Place(8))
    assert "has 48 GiB of memory, 5 less than starting takes" in note and "more nodes" in note


def test_a_gpu_that_the_planner_does_not_know_is_no_reason_to_refuse(gpus):
    gpus("NVIDIA Z1, 999999")
    assert ["Z1" in note for note in preflight.check(load_recipe("7b"), Place(1))] == [True]


def test_gpus_that_torch_does_not_see(gpus, monkeypatch):
    gpus("NVIDIA H100 80GB HBM3, 81559")
    monkeypatch.setattr(preflight, "visible", lambda: 0)
    with pytest.raises(Or1labError, match="torch sees none of NVIDIA H100.*CUDA_VISIBLE_DEVICES.*--force"):
        preflight.check(load_recipe("7b"), Place(1))


def test_what_the_recipe_does_not_use_may_be_broken(monkeypatch):
    broken = [doctor.Check(name, "wrong", "", "") for name in ("rollout backend", "tiny base policy", "devices")]
    monkeypatch.setattr(doctor, "examine", lambda quick: broken)
    assert preflight.check(load_recipe("smol", ["rollout.backend=transformers"]), Place()) == []
    with pytest.raises(Or1labError, match="rollout backend: .*; tiny base policy: "):
        preflight.check(load_recipe("tiny"), Place())


def test_an_installation_that_is_broken_starts_nothing(monkeypatch):
    broken = [doctor.Check("torch", "wrong", "missing", "make setup")]
    monkeypatch.setattr(doctor, "examine", lambda quick: broken)
    with pytest.raises(Or1labError, match="torch: missing .mend: make setup.*--force"):
        preflight.check(load_recipe(SMALL), Place())


def test_the_tiny_recipe_fits_here():
    assert preflight.check(load_recipe("tiny"), Place()) == []


def test_a_folder_that_this_node_does_not_see(monkeypatch, tmp_path):
    from or1lab.rollout.together import Processes

    monkeypatch.setattr(train, "SEEN", 0.0)
    with pytest.raises(Or1labError, match="a file system that all nodes share"):
        train._of_the_first(tmp_path / "run", Processes(3, 4))


def test_processes_that_do_not_find_each_other():
    """The address of nobody: told with the mend, not by a traceback."""
    code = (
        "import or1lab, datetime; from or1lab.rollout import together;"
        "together.PATIENCE = datetime.timedelta(seconds=1);"
        "from or1lab.errors import Or1labError\n"
        "try: together.join()\nexcept Or1labError as error: print('told:', error)"
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    env |= {"MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert "told: process 1 does not find the others" in done.stdout and port in done.stdout, done.stderr[-2000:]
