"""What `--cluster` may hold for SLURM: sbatch's options under submitit's names. Needs no SLURM to tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from submitit.core.plugins import get_executors
from submitit.slurm.slurm import _make_sbatch_string

from or1lab.errors import UsageError, check_names

OURS = {"array_parallelism", "gpus_per_node", "num_gpus", "nodes", "ntasks_per_node"}  # --jobs, --gpus, a task a job
TIME = re.compile(r"(?:(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)|(\d+))")  # of SLURM's forms those that read one way only


def minutes(time: Any) -> int:
    """Minutes of a time limit: so many, HH:MM:SS or D-HH:MM:SS, seconds rounded up as SLURM does.

    >>> minutes(600), minutes("24:00:00"), minutes("1-12:30:01")
    (600, 1440, 2191)

    Raises:
        UsageError: none is given, or in another form.
    """
    if not (found := TIME.fullmatch(str(time))):
        raise UsageError(
            "--backend slurm wants the time after which a job is queued again, in minutes, as HH:MM:SS or as "
            "D-HH:MM:SS: --cluster time=1440, time=24:00:00 or time=1-00:00:00"
        )
    days, hours, whole, seconds, alone = (int(part or 0) for part in found.groups())
    return alone + (days * 24 + hours) * 60 + whole + (seconds > 0)


def check(jobs: int, gpus: int, options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that neither submitit nor we know, for a value that submitit refuses, and where
    the time limit is missing."""
    known = sorted(get_executors()["slurm"]._valid_parameters() - OURS)
    check_names(options, ["executor", "max_num_timeout", *known], "--cluster key of slurm")
    executor = options.get("executor", "slurm")
    check_names([executor], ["slurm", "local"], "executor")
    values = {name: options[name] for name in options if name in known} | {"time": minutes(options.get("time"))}
    if not isinstance(times := options.get("max_num_timeout", 0), int):
        raise UsageError(f"--cluster max_num_timeout={times}: how often a job may run out of time, a whole number")
    if executor == "local" and gpus and jobs > 1:
        raise UsageError("executor=local gives every job the same GPUs: --jobs 1, or --backend local")
    try:
        _make_sbatch_string(command="", folder="", **values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--cluster: {error}") from None
