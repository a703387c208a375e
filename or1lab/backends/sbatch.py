"""A time limit as sbatch takes it."""

from __future__ import annotations

import re
from typing import Any

from or1lab.errors import UsageError

TIME = re.compile(r"(?:(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+))")  # of SLURM's forms those that read one way only


def minutes(time: Any) -> int:
    """Minutes of a time limit: so many, HH:MM:SS or D-HH:MM:SS, seconds rounded up as SLURM does.

    >>> minutes(600), minutes("24:00:00"), minutes("1-12:30:01")
    (600, 1440, 2191)

    Raises:
        UsageError: none is given, or in another form.
    """
    if not (found := TIME.fullmatch(str(time))):
        raise UsageError(
            "--backend slurm wants the time after which a job is queued again, in minutes or as HH:MM:SS or "
            "D-HH:MM:SS: --cluster time=1440, time=24:00:00 or time=1-00:00:00"
            + ("" if time is None else f", not time={time}")
        )
    days, hours, whole, seconds, alone = (int(part or 0) for part in found.groups())
    return alone + (days * 24 + hours) * 60 + whole + (seconds > 0)
