"""SLURM, by submitit: the jobs of a sweep are one array. A job whose time is up is queued again by submitit and goes on
from its checkpoint; one whose node fails is queued again by SLURM itself."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit import AutoExecutor
from submitit.core.core import Job
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import Checkpointable

from or1lab import notebook as notebooks
from or1lab.backends import STOPPED, Handle, Refused
from or1lab.backends.sbatch import check, minutes  # noqa: F401 (part of what a backend gives)
from or1lab.backends.task import Task
from or1lab.errors import Or1labError


class Slurm:
    """A job array. `options`: submitit's names, which are sbatch's, and `executor=local`: this machine, to try it out;
    such as `check` lets through.

    What submitit writes, and what SLURM itself says of a job, is in `folder`.

    Raises Or1labError where there is no SLURM."""

    queues = True

    def __init__(self, jobs: int, gpus: int, options: dict[str, Any], folder: Path) -> None:
        self.name, limit = options.pop("executor", "slurm"), minutes(options.pop("time"))
        if self.name == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise Or1labError("no sbatch or srun here: use a login node, or try it out with --cluster executor=local")
        self.room = jobs if self.name == "local" else 10**6  # the array holds back all but `jobs`
        self.folder, self.jobs = folder.absolute(), list[Job[str]]()
        patience = {f"{self.name}_max_num_timeout": options.pop("max_num_timeout", 3)}
        self.executor = AutoExecutor(self.folder, cluster=self.name, **patience)
        settings = {"slurm_job_name": "or1lab", "slurm_array_parallelism": jobs}
        settings |= {f"slurm_{name}": value for name, value in options.items()}
        self.executor.update_parameters(timeout_min=limit, gpus_per_node=gpus or None, **settings)

    @property
    def stopped(self) -> str:
        """What Ctrl-C leaves, for the user: jobs that are queued stay there, with how to see and cancel them."""
        if self.name == "local" or not self.jobs:
            return STOPPED
        ids = ",".join(sorted({job.job_id.partition("_")[0] for job in self.jobs}))
        return (
            f"the sweep no longer watches; its jobs stay in the queue: `squeue --jobs {ids}` shows them, "
            f"`scancel {ids}` cancels them. With --resume the same command takes up what is left"
        )

    def start(self, tasks: list[Task]) -> list[Handle]:
        """Submit the tasks as one array; a handle for each, of a job or of a refusal. Raises Or1labError if sbatch
        takes none."""
        handed: list[_Resumed] = []
        refused: dict[int, Handle] = {}
        for n, task in enumerate(tasks):
            try:
                handed.append(_Resumed(task.handed_to(f"SLURM (logs in {self.folder})")))
            except Or1labError as error:
                refused[n] = Refused(str(error))
        try:
            jobs = self.executor.submit_array(handed) if handed else []
        except (FailedJobError, FailedSubmissionError) as error:
            raise Or1labError(f"sbatch did not take the jobs: {error}") from None
        self.jobs += jobs
        queued = iter(jobs)
        return [refused.get(n) or _Queued(next(queued)) for n in range(len(tasks))]

    def close(self, left: Sequence[Handle]) -> None:
        """Cancel those of this machine; what a scheduler has stays queued."""
        for handle in left if self.name == "local" else ():
            if isinstance(handle, _Queued):
                handle.job.cancel()


class _Resumed(Checkpointable):
    """Before its time is up submitit queues it again, as it is: the run folder knows the rest."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self) -> str:
        return self.task()


class _Queued:
    def __init__(self, job: Job[str]) -> None:
        self.job = job

    def poll(self) -> str | None:
        if not self.job.done():
            return None
        if self.job.exception() is None:
            return self.job.result()
        out, errors = self.job.paths.stdout, self.job.paths.stderr
        if not out.exists():
            return (
                f"SLURM job {self.job.job_id} ended ({self.job.state}) without a log in {out.parent}: start the sweep "
                "with --out in a folder that all nodes mount under the same path"
            )
        said = notebooks.last_line(errors) or notebooks.last_line(out)
        return f"SLURM job {self.job.job_id} ended ({self.job.state}): {said} ({errors})"
