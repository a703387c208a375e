"""One job of a sweep as a machine receives it: picklable, and called there by a scheduler."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from or1lab import notebook as notebooks
from or1lab.experiment import Job
from or1lab.manifest import full_disk_explained, now
from or1lab.process import wait_until

GRACE = 120.0  # seconds after which the locks of a lost node are surely free (NFS keeps them for 90)


@dataclass(frozen=True)
class Task:
    """A job and what executing it takes."""

    job: Job
    notebook: Path  # absolute
    home: Path  # the sweep's folder, which relative paths start from
    ticket: str = ""  # a line in the job's log that no other folder of the same name has

    def handed_to(self, scheduler: str) -> Task:
        """The task with its ticket. Raises Or1labError if there is no room for the log."""
        log = self.job.log
        ticket = f"handed to {scheduler} by {socket.gethostname()}, {now()}, {secrets.token_hex(4)}"
        with full_disk_explained(log.parent):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:
                file.write(ticket + "\n")
        return replace(self, ticket=ticket)

    def start(self, threads: int | None = None, variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Execute the notebook here, in a new process, which goes on with the run where one has begun."""
        parameters = self.job.parameters
        threads = self.job.recipe.threads or threads
        return notebooks.start(
            self.notebook, self.job.executed, parameters, log=self.job.log, threads=threads, variables=variables
        )

    def __call__(self) -> str:
        """Execute the notebook here and wait for it: "" if it ended well, else what went wrong.

        A scheduler calls it again for a job whose node was lost or whose time was up: a finished run is left alone."""
        job, host = self.job, socket.gethostname()
        try:
            os.chdir(self.home)
            with job.log.open("r+", encoding="utf-8", errors="replace") as file:
                seen = self.ticket in file.read()
                if seen:
                    file.write(f"on {host}, {now()}\n")
        except OSError:
            seen = False
        if not seen:
            return (
                f"node {host} does not see {self.home / job.folder} as the sweep does: start the sweep in a folder, "
                "and with --out in one, that all nodes mount under the same path"
            )
        wait_until(lambda: job.state != "running", GRACE)
        if job.state == "finished":
            return ""
        process = self.start()
        try:
            return error_of(job, process.wait())
        finally:
            notebooks.end([process])


def error_of(job: Job, code: int) -> str:
    """What the exit code of a job's process means; "" for a good end."""
    if code < 0:
        return f"the papermill process was killed by signal {-code}"
    return notebooks.last_line(job.log) if code else ""
