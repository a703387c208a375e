"""One notebook, executed by papermill in a process of its own: `python -m or1lab.notebook SOURCE OUTPUT PARAMETERS`.

A process per notebook, because kernels started side by side from one process have raced for ports and kept their
memory; here every kernel talks over sockets in a private folder, so there is no port to race for. The process ends
when the one that started it dies, and takes its kernel along. Its output is the notebook's; the last line of a failure
says which cell failed and why.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import TypeAdapter, ValidationError

from or1lab.environment import environment
from or1lab.errors import Or1labError, UsageError, check_names, did_you_mean
from or1lab.manifest import full_disk_explained, held

if TYPE_CHECKING:
    from ipywidgets import Widget
    from matplotlib.figure import Figure

KERNEL = "python3"  # of the running interpreter, see `start`
JOB_LOCK = ".job.lock"
INJECTED = "# Parameters\n"  # how papermill's own cell begins
PATIENCE = 10.0  # seconds for papermill to save a notebook whose kernel was ended


def parameters_of(notebook: Path) -> list[str]:
    """The names in a notebook's parameters cell. Raises UsageError if there is no such notebook."""
    from papermill import inspect_notebook

    if not notebook.is_file():
        raise UsageError(f"there is no notebook {notebook}")
    try:
        return list(inspect_notebook(str(notebook)))
    except ValueError as error:  # no kernel or language in its metadata
        raise UsageError(f"{notebook}: {error}") from None


def check_parameters(notebook: Path, names: Iterable[str]) -> None:
    """Every name must be in the notebook's parameters cell; papermill itself would only log a warning.

    Raises:
        UsageError: no such notebook, or an unknown parameter (names the nearest right one).
    """
    known = parameters_of(notebook)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UsageError(f"{notebook.name} has no parameter '{name}'{hint}; it has: {', '.join(known) or 'none'}")


def opened() -> None:
    """Called by a notebook after its parameters: check what papermill or a person has put there, print the versions.

    Types are those of the parameters cell; papermill writes whatever it is given below it, unknown names included.

    Raises:
        UsageError: a parameter of another type, or one that the notebook does not have (names the nearest right one).
    """
    from IPython import get_ipython

    shell = get_ipython()
    cells = list(map(_assignments, shell.user_ns["In"])) if shell else []
    types = {name: kind for cell in cells for name, kind in cell.items() if kind}
    sources = shell.user_ns["In"] if shell else []
    injected = [cell for cell, source in zip(cells, sources, strict=True) if source.startswith(INJECTED)]
    check_names(injected[-1] if injected else [], types, "parameter")  # the last: it may have been mended by hand
    for name, kind in types.items():
        try:
            TypeAdapter(eval(kind)).validate_python(shell.user_ns[name], strict=True)
        except (NameError, KeyError):  # no parameter: in a cell of the reader's own
            continue
        except ValidationError:
            wrong = f"the parameter {name} is to be of the type {kind}, and is {shell.user_ns[name]!r}"
            raise UsageError(f"{wrong}; papermill has types where it is given -y '{name}: ...'") from None
    told = environment()
    versions = " ".join(f"{package} {version}," for package, version in told["packages"].items())
    print(f"or1lab {told['code']['version']}; {versions.rstrip(',')}")


def slide(show: Callable[..., tuple[Figure, str]], *sliders: Widget) -> None:
    """Show sliders, and below them what `show` gives for their values, by their descriptions: a figure and a sentence,
    replaced as a slider moves.

    Not ipywidgets' `interact`: its output widget now and then keeps a notebook that nobody looks at waiting for ever.
    """
    from IPython.display import Pretty, display

    def parts() -> tuple[Figure, Pretty]:
        figure, text = show(**{slider.description: slider.value for slider in sliders})
        return figure, Pretty(text)

    def redraw(_: Any) -> None:
        for place, part in zip(places, parts(), strict=True):
            place.update(part)

    display(*sliders)
    places = [display(part, display_id=True) for part in parts()]
    for slider in sliders:
        slider.observe(redraw, "value")


def _assignments(source: str) -> dict[str, str]:
    """The names that a cell gives values to at its top level, with their types as written, if they are."""
    try:
        lines = ast.parse(source).body
    except SyntaxError:  # a magic, or what could not run
        return {}
    typed = [line for line in lines if isinstance(line, ast.AnnAssign)]
    plain = (target for line in lines if isinstance(line, ast.Assign) for target in line.targets)
    kinds = {ast.unparse(line.target): ast.unparse(line.annotation) for line in typed}
    return dict.fromkeys(map(ast.unparse, plain), "") | kinds


def start(
    notebook: Path, output: Path, parameters: dict[str, Any], *, log: Path, threads: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Execute a notebook in a new process; `output` and `log` lie in the folder that the process locks.

    The kernel is that of the running interpreter and works in the caller's folder. `threads` limits the numerical
    libraries; `variables` are added to its environment. Raises Or1labError if there is no room for the log.
    """
    # A kernel that the user registered elsewhere under the same name must not win over this environment's.
    env = os.environ | {"JUPYTER_PREFER_ENV_PATH": "1"} | dict(variables or {})
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    arguments = [str(notebook.resolve()), str(output.resolve()), json.dumps(parameters), str(os.getpid())]
    with full_disk_explained(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "or1lab.notebook", *arguments],
                env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C in a terminal is for the sweep, which ends its jobs in order
            )  # fmt: skip


def end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End processes made by `start` with their kernels; the notebooks are saved as far as they got."""
    left = list(processes)
    deadline = time.monotonic() + PATIENCE
    while left := [process for process in left if process.poll() is None]:
        for process in left:
            _kill_descendants(process.pid)
            if time.monotonic() > deadline:
                process.kill()
        time.sleep(0.2)


def execution_failed(output: Path) -> bool:
    """Whether an executed notebook ended with an error or never came to its end."""
    try:
        about = json.loads(output.read_text(encoding="utf-8"))["metadata"].get("papermill", {})
    except (ValueError, KeyError):  # killed while it was saved
        return True
    return bool(about.get("exception")) or not about.get("end_time")


def last_line(log: Path) -> str:
    """The last thing a log says, or an empty string."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def execute(source: str, output: str, parameters: dict[str, Any]) -> None:
    """Execute a notebook here; what its cells print is printed.

    Raises:
        Or1labError: a cell failed or the kernel died; names the cell. The notebook is saved up to there.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="or1lab-") as sockets:
        try:
            papermill.execute_notebook(
                source, output, parameters,
                kernel_name=KERNEL, cwd=os.getcwd(), progress_bar=False, stdout_file=sys.stdout, stderr_file=sys.stderr,
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/k"}}),
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            print(error, flush=True)
            reason = " ".join(f"{error.ename}: {error.evalue}".split())
            raise Or1labError(f"cell In [{error.exec_count}]: {reason}") from None
        except DeadKernelError:
            cell = _mark_failed(Path(output))
            raise Or1labError(f"cell In [{cell}]: the kernel died (killed, or out of memory)") from None
        except RuntimeError as error:  # jupyter_client's word for a kernel that never came up
            raise Or1labError(f"the kernel did not start ({error}): try `or1lab doctor`") from None


def _mark_failed(output: Path) -> int:
    """Note a kernel's death in the notebook, where papermill saved 'completed'; which code cell was running."""
    notebook = json.loads(output.read_text(encoding="utf-8"))
    notebook["metadata"]["papermill"]["exception"] = True
    output.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    return sum(bool(cell["metadata"]["papermill"]["start_time"]) for cell in code)


def _end_with(parent: int) -> None:
    """End the kernel, and so this process, when the process that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:  # papermill sees its kernel dead, saves the notebook and ends
        _kill_descendants(os.getpid())
        time.sleep(0.2)
    os._exit(1)


def _kill_descendants(pid: int) -> None:
    # Killed, not asked: a kernel inside a long call of C code answers nothing, and run folders survive it by design.
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def main(source: str, output: str, parameters: str, parent: str) -> int:
    """Execute `source` as `output` in this process; 0, or 1 with the error printed. The kernel ends with process
    `parent`."""
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    try:
        with held(Path(output).parent / JOB_LOCK, f"another process is executing {output}"):
            execute(source, output, json.loads(parameters))
    except Or1labError as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
