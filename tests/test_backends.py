"""Sweeps on several GPUs, on SLURM (by submitit's local executor) and on Ray (by its test cluster of several nodes).

The quick tests run the stub notebook of test_sweep.py; the others train."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from or1lab.backends import local, open_backend
from or1lab.backends import task as tasks
from or1lab.backends.task import Task
from or1lab.backends.work import _settle
from or1lab.errors import Or1labError, UsageError
from or1lab.experiment import Experiment, Outcome, expand
from or1lab.recipe import ROOT, split_override
from or1lab.store import Run
from or1lab.sweep import run_sweep
from tests.broken_runs import SMALL, steady, step_of, wait_for
from tests.test_sweep import experiment, notebook, starts, states, steps, sweep  # noqa: F401 (a fixture)

SUBMITIT = {"executor": "local", "time": 60}
ARMS = ("a", "b", "c", "d")
# Four arms of one recipe, so that two local runs are the reference of all eight.
TRAINS = {
    "name": "cluster", "title": "Cluster", "question": "Is anything lost, or done twice?", "recipe": str(SMALL),
    "set": {
        "rollout.backend": "transformers", "lr": 1e-3, "stages.0.steps": 20, "eval.every": 10, "checkpoint.every": 3,
        "save_rollouts": "none",
    },
    "seeds": [0, 1], "arms": {arm: {} for arm in ARMS}, "baseline": "a", "figure": "demo",
}  # fmt: skip


def trained(folder: Path, arms: dict, **options):
    plain = Experiment.model_validate(TRAINS | {"arms": arms})
    with (folder / "screen").open("w") as screen:
        return run_sweep(plain, out=folder / "runs", console=Console(file=screen, width=160), **options)


def reference(folder: Path) -> dict[int, str]:
    """Seed -> the records of a run on this machine that nothing happens to."""
    folder.mkdir()
    result = trained(folder, {"a": {}})
    assert result.exit_code == 0
    return {outcome.job.seed: steady(outcome.job.folder) for outcome in result.outcomes}


def nodes_of(job) -> int:
    """How often a node took the job up."""
    lines = job.log.read_text(errors="replace").splitlines()
    return sum(line.startswith(f"on {socket.gethostname()}, ") for line in lines)


# ------------------------------------------------------------------------------------------------------ GPUs, local


@pytest.mark.parametrize(
    ("told", "gpus"),
    [("", []), ("0,2", ["0", "2"]), (" GPU-5a , GPU-7b", ["GPU-5a", "GPU-7b"]), ("1,-1,2", ["1"]), ("-1", [])],
)
def test_cuda_visible_devices_is_the_pool(told, gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert local.visible_gpus() == gpus


def test_without_the_variable_all_gpus_are_the_pool(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    listed = ["GPU 0: H100 (UUID: GPU-5a)", "  MIG 1g.10gb Device 0: (UUID: MIG-1)", "GPU 1: H100 (UUID: GPU-7b)"]
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in listed))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local.visible_gpus() == ["0", "1"]
    tool.unlink()
    assert local.visible_gpus() == []


def test_each_job_has_gpus_of_its_own(tmp_path, monkeypatch):
    """Three GPUs, two for each of three jobs: one job at a time, however many are asked for."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    given = []

    def start(*_, variables, **__):
        given.append(variables)
        return subprocess.Popen(["true"])

    monkeypatch.setattr("or1lab.notebook.start", start)
    jobs = expand(experiment("a", "b", "c"), out=tmp_path)
    pool = open_backend("local", 3, 2, {}, tmp_path)
    assert pool.room == 1
    for job in jobs:
        (handle,) = pool.start([Task(job, tmp_path, tmp_path)])
        wait_for(lambda handle=handle: handle.poll() is not None, 20)
    assert [set(one["CUDA_VISIBLE_DEVICES"].split(",")) <= {"4", "5", "6"} for one in given] == [True] * 3
    assert [len(set(one["CUDA_VISIBLE_DEVICES"].split(","))) for one in given] == [2, 2, 2]

    pool = open_backend("local", 8, None, {}, tmp_path)  # by default one each
    assert pool.room == 3
    handles = pool.start([Task(job, tmp_path, tmp_path) for job in jobs])
    assert {one["CUDA_VISIBLE_DEVICES"] for one in given[3:]} == {"4", "5", "6"}
    pool.close(handles)
    shared = open_backend("local", 8, 0, {}, tmp_path)
    shared.close(shared.start([Task(jobs[0], tmp_path, tmp_path)]))
    assert shared.room == 8 and given[-1] is None


def test_without_gpus_nothing_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    pool = open_backend("local", 2, None, {}, tmp_path)
    assert (pool.room, pool.each) == (2, 0)
    with pytest.raises(Or1labError, match=r"--gpus 2, but this machine has 0 \(CUDA_VISIBLE_DEVICES=\)"):
        open_backend("local", 2, 2, {}, tmp_path)


def test_a_disk_too_full_to_write_down_a_jobs_end_leaves_the_sweep(tmp_path, monkeypatch):
    job = expand(experiment("a"), out=tmp_path)[0]
    Run.create(job.folder, recipe=job.recipe.resolved())

    def full(*_, **__):
        raise Or1labError("the disk is full")

    monkeypatch.setattr(Run, "update_manifest", full)
    outcome = Outcome(job, "training")
    _settle(outcome, "the kernel died", lag=0)
    assert job.state == "interrupted" and (outcome.state, outcome.error) == ("failed", "the kernel died")


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("backend", "cluster", "message"),
    [
        ("slum", {}, r"no backend 'slum' \(did you mean 'slurm'\?\)"),
        ("local", {"partition": "a"}, "goes with --backend slurm or ray"),
        ("slurm", {"partion": "a", "time": 9}, r"no --cluster key of slurm 'partion' \(did you mean 'partition'\?\)"),
        ("slurm", {"executor": "loca", "time": 9}, r"did you mean 'local'"),
        ("slurm", {"executor": "local"}, "--cluster time=1440"),
        ("slurm", {"executor": "local", "time": "1-00:00"}, "--cluster time=1440"),
        ("slurm", {"executor": "local", "time": "24:00"}, "minutes, as HH:MM:SS or as D-HH:MM:SS"),  # MM:SS
        ("slurm", {"executor": "local", "time": True}, "--cluster time=1440"),
        ("slurm", {"executor": "local", "time": "1-24:99:00"}, "--cluster time=1440"),
        ("slurm", {"executor": "local", "time": 9, "max_num_timeout": "x"}, "max_num_timeout=x: .*a whole number"),
        ("slurm", {"executor": "local", "time": 9}, "gives every job the same GPUs: --jobs 1"),
        ("slurm", {"time": 9}, "no sbatch or srun here.*login node.*executor=local"),
        ("slurm", {"time": 9, "setup": "module load cuda"}, "--cluster: .*list"),
        ("ray", {"num_cpu": 1}, r"no --cluster key of ray 'num_cpu' \(did you mean 'num_cpus'\?\)"),
        ("ray", {"num_cpus": "two"}, "--cluster: .*num_cpus"),
    ],
)
def test_wrong_options_start_nothing(backend, cluster, message, notebook, monkeypatch):  # noqa: F811
    """A dry run refuses what is wrong in itself in the same words, and asks nobody for a scheduler."""
    monkeypatch.setenv("PATH", "/nowhere")
    options = {"backend": backend, "cluster": cluster, "gpus": 1 if backend == "slurm" else None}
    with pytest.raises(Or1labError, match=message) as refused:
        sweep(experiment(), notebook, **options)
    if isinstance(refused.value, UsageError):
        with pytest.raises(UsageError) as also:
            sweep(experiment(), notebook, dry_run=True, **options)
        assert str(also.value) == str(refused.value)
    else:
        assert sweep(experiment(), notebook, dry_run=True, **options)[0].exit_code == 0
    assert not (notebook.parent / "runs").exists()


@pytest.mark.parametrize(
    ("backend", "cluster"), [("slurm", {"time": 60, "setup": ["module load cuda"]}), ("ray", {"address": "nowhere:1"})]
)
def test_a_dry_run_needs_no_scheduler(backend, cluster, notebook, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PATH", "/nowhere")
    result, text = sweep(experiment(), notebook, dry_run=True, backend=backend, cluster=cluster, gpus=2)
    assert result.exit_code == 0 and "2 jobs" in text and not (notebook.parent / "runs").exists()
    if backend == "ray":
        import ray

        assert not ray.is_initialized()


@pytest.mark.parametrize(("backend", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_package_is_named_with_the_mend(backend, package, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    with pytest.raises(UsageError, match=rf"needs the package {package}: pip install 'or1lab\[{backend}\]'"):
        open_backend(backend, 1, None, {}, tmp_path)


def test_schedulers_are_imported_only_when_used():
    code = "import sys, or1lab.cli, or1lab.sweep; print([m for m in ('ray', 'submitit') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------------- a job wherever it is handed to


def task_of(notebook: Path, arm: str = "good") -> Task:  # noqa: F811
    (job,) = expand(experiment(arm), out=notebook.parent / "runs")
    return Task(job, notebook, ROOT)


def test_a_node_that_sees_another_folder_says_so(notebook, tmp_path):  # noqa: F811
    task = task_of(notebook).handed_to("a node")
    log = task.job.log.read_text()
    task.job.log.write_text("")  # a folder of the same name on the node's own disk
    assert "does not see" in task() and "--out" in task() and "all nodes mount" in task()
    task.job.log.unlink()
    assert "does not see" in task() and not starts(notebook)
    assert "handed to a node by" in log


def test_a_finished_run_is_left_alone_and_a_running_one_too(notebook, monkeypatch):  # noqa: F811
    monkeypatch.setattr(tasks, "GRACE", 0.5)
    task = task_of(notebook).handed_to("a node")
    assert task() == "" and task() == "" and starts(notebook) == {"good": 1}
    other = task_of(notebook, "other").handed_to("a node")
    with tasks.notebooks.held(other.job.folder / tasks.notebooks.JOB_LOCK, "held"):
        assert "another process is executing" in other()
    assert starts(notebook) == {"good": 1}


# ------------------------------------------------------------------------------------------------ SLURM, by submitit


def test_submitit_runs_and_reports_like_the_local_backend(notebook):  # noqa: F811
    result, text = sweep(experiment("good", "fails"), notebook, backend="slurm", cluster=SUBMITIT)
    assert result.exit_code == 1 and states(result) == {"good": "finished", "fails": "failed"}
    assert "good seed 0: queued" in text
    good, fails = (outcome.job for outcome in result.outcomes)
    assert "ValueError: the reward is not a number" in text
    assert f"log: {fails.log}" in text and f"notebook: {fails.executed}" in text
    assert steps(good) == [1, 2, 3, 4, 5, 6] and starts(notebook) == {"good": 1, "fails": 1}
    (notebook.parent / "mended").touch()
    result, _ = sweep(experiment("good", "fails"), notebook, backend="slurm", cluster=SUBMITIT, resume=True)
    assert result.exit_code == 0 and starts(notebook) == {"good": 1, "fails": 2}
    assert steps(fails) == [1, 2, 3, 4, 5, 6]


SBATCH = """#!/bin/sh
cp "$1" "{here}/script.sh"
echo "Submitted batch job 41"
"""


@pytest.mark.parametrize(
    ("told", "minutes"),
    [("time=600", 600), ("time=24:00:00", 1440), ("time=00:00:30", 1), ("time=1-12:30:01", 2191)],
)
def test_the_array_that_sbatch_gets(told, minutes, notebook, monkeypatch):  # noqa: F811
    """With an sbatch that only keeps the script; Ctrl-C leaves the jobs in the queue."""
    here = notebook.parent
    for name, text in (("sbatch", SBATCH.format(here=here)), ("srun", "#!/bin/sh\n")):
        (here / name).write_text(text)
        (here / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}:/bin:/usr/bin")
    options = dict([split_override(told)]) | {"partition": "a100", "mem": "64GB", "max_num_timeout": 9}
    slurm = open_backend("slurm", 3, 2, options, here / "runs")
    jobs = expand(experiment("a", "b", "c", "d"), out=here / "runs")
    full, real = jobs.pop(1), Task.handed_to

    def handed_to(task, scheduler):
        if task.job is full:
            raise Or1labError("the disk is full")
        return real(task, scheduler)

    monkeypatch.setattr(Task, "handed_to", handed_to)
    handles = slurm.start([Task(job, notebook, ROOT) for job in (jobs[0], full, *jobs[1:])])
    assert handles[1].poll() == "the disk is full"
    script = (here / "script.sh").read_text()
    for line in ("array=0-2%3", "gpus-per-node=2", f"time={minutes}", "partition=a100", "mem=64GB", "signal=USR2@90"):
        assert f"#SBATCH --{line}\n" in script
    assert len(handles) == 4
    slurm.close(handles)
    assert "`squeue --jobs 41`" in slurm.stopped and "`scancel 41`" in slurm.stopped and "--resume" in slurm.stopped


def submissions(folder: Path) -> list[psutil.Process]:
    """The processes of submitit that train into a folder."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
            if "submitit.core._submit" in line and str(folder) in " ".join(
                part for child in process.children() for part in child.cmdline()
            ):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def meanwhile(condition, action) -> threading.Thread:
    """Does something once, as soon as a condition holds, while the sweep runs in this thread."""

    def wait() -> None:
        wait_for(condition, 900)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_job_whose_time_is_up_is_queued_again_and_loses_nothing(tmp_path):
    unbroken = reference(tmp_path / "local")
    hit = tmp_path / "runs" / "cluster" / "a" / "seed-0"

    def time_is_up() -> None:
        (process,) = submissions(hit)
        process.send_signal(signal.SIGUSR2)

    thread = meanwhile(lambda: step_of(hit) >= 8, time_is_up)
    result = trained(tmp_path, {"a": {}}, backend="slurm", cluster=SUBMITIT | {"time": 9})
    thread.join()
    assert result.exit_code == 0 and len(result.outcomes) == 2
    for outcome in result.outcomes:
        assert steady(outcome.job.folder) == unbroken[outcome.job.seed]
        assert nodes_of(outcome.job) == (2 if outcome.job.folder == hit else 1)
    logs = "".join(path.read_text() for path in (tmp_path / "runs" / ".slurm").glob("*_log.*"))
    assert "this job is timed-out" in logs and "(2 remaining timeouts)" in logs


# -------------------------------------------------------------------------------------------------------------- Ray


@pytest.mark.slow
def test_no_ray_at_the_address(tmp_path):
    with pytest.raises(Or1labError, match="no Ray cluster at 127.0.0.1:1: `ray start --head`"):
        open_backend("ray", 1, None, {"address": "127.0.0.1:1"}, tmp_path)


@pytest.fixture
def cluster(monkeypatch):
    """Starts a Ray cluster on this machine: a head that runs no job, and nodes of one processor each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    clusters = []

    def start(nodes: int, **resources):
        made = Cluster()
        clusters.append(made)
        made.add_node(num_cpus=0, include_dashboard=False)
        return made, [made.add_node(num_cpus=1, **resources) for _ in range(nodes)]

    yield start
    for made in clusters:
        made.shutdown()


@pytest.mark.slow
def test_ray_runs_and_reports_like_the_local_backend(notebook, cluster):  # noqa: F811
    """On a node that has two GPUs by its own word, reserved as a placement group for each job."""
    nodes, _ = cluster(1, num_gpus=2)
    options = {"backend": "ray", "gpus": 2, "cluster": {"address": nodes.address}}
    with pytest.raises(Or1labError, match="--gpus 3, but no node of the Ray cluster has more than 2"):
        sweep(experiment("good"), notebook, **options | {"gpus": 3})
    result, text = sweep(experiment("good", "fails"), notebook, **options)
    assert result.exit_code == 1 and states(result) == {"good": "finished", "fails": "failed"}
    good, fails = (outcome.job for outcome in result.outcomes)
    assert "ValueError: the reward is not a number" in text and f"log: {fails.log}" in text
    assert steps(good) == [1, 2, 3, 4, 5, 6] and starts(notebook) == {"good": 1, "fails": 1}
    assert nodes_of(good) == nodes_of(fails) == 1, "an error of the notebook is no lost node"


def on_node(node, folder: Path) -> list[psutil.Process]:
    """The processes below a Ray node that train into a folder."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [p for p in raylet.children(recursive=True) if p.is_running() and str(folder) in " ".join(p.cmdline())]


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_lost_node_loses_nothing_and_nothing_runs_twice(tmp_path, cluster):
    unbroken = reference(tmp_path / "local")
    nodes, workers = cluster(3)
    folders = [tmp_path / "runs" / "cluster" / arm / f"seed-{seed}" for seed in (0, 1) for arm in ARMS]
    hit = []

    def mid_way() -> bool:
        hit[:] = [folder for folder in folders if 8 <= step_of(folder) < 14 and on_node(workers[0], folder)]
        return bool(hit)

    thread = meanwhile(mid_way, lambda: nodes.remove_node(workers[0], allow_graceful=False))
    result = trained(tmp_path, TRAINS["arms"], jobs=3, backend="ray", cluster={"address": nodes.address})
    thread.join()
    assert result.exit_code == 0 and len(result.outcomes) == 8 and len(hit) == 1
    for outcome in result.outcomes:
        assert steady(outcome.job.folder) == unbroken[outcome.job.seed]
        assert nodes_of(outcome.job) == (2 if outcome.job.folder == hit[0] else 1)
