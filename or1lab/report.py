"""`or1lab report`: the whole study on one page, from its notebooks executed on a folder of results.

The ledger comes first, then the chapters with their figures, then methods and limits (docs/methods.md). What has no
runs yet is named with the command that makes it; a notebook that fails is quoted, and the rest is built.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import nbformat
from rich.console import Console
from rich.progress import track

from or1lab import claims, claims_view, paper, report_page, studies
from or1lab import notebook as notebooks
from or1lab.environment import environment
from or1lab.errors import UsageError
from or1lab.ledger import ledger
from or1lab.manifest import write_atomic
from or1lab.recipe import ROOT
from or1lab.results import Shelf
from or1lab.store import Run
from or1lab.tiers import option
from or1lab.tracking import duration
from or1lab.world import CLAIMS, FOLLOW_UPS, WORLD, content_hash

CHAPTERS = (  # notebooks, the ledger first
    "claims", "data_mixture", "multi_stage", "advantage_mask", "temperature", "kl", "entropy_dynamics", "resources",
    "beyond", "benchmarks",
)  # fmt: skip
METHODS = ROOT / "docs" / "methods.md"
# Pictures with two dots a pixel (report_page.DOTS), whatever the user's own IPython is set to.
SETTINGS = "c.InlineBackend.figure_formats = {'retina'}\n"


@dataclass(frozen=True)
class Report:
    """What was written, of what, and what is missing from it."""

    path: Path
    figures: int
    runs: int
    missing: dict[str, tuple[int, int]]  # study -> runs that are there, runs planned
    failed: dict[str, str]  # notebook -> why


def build(results: Path, out: Path, *, tier: str = "tiny", jobs: int = 2, console: Console) -> Report:
    """Execute the notebooks on the runs of a tier below `results`, `jobs` at a time, and write the page.

    Raises:
        UsageError: there is no such folder of results, or no such tier; `out` is a folder.
    """
    if not results.is_dir():
        raise UsageError(f"there is no folder {results}: `make study` makes runs, in experiments/results")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file, such as {out / 'report.html'}")
    whole = results.resolve()
    shown = whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole  # the page need not say where ROOT lies
    verdicts = claims_view.tally(ledger(results, tier=tier))  # the first to refuse an unknown tier
    manifests, missing = found(Shelf(results, tier=tier))
    out.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=out.parent).close()  # first: what cannot be written should not cost minutes
    with tempfile.TemporaryDirectory(prefix="or1lab-report-") as aside:
        sources = [ROOT / "notebooks" / f"{name}.ipynb" for name in CHAPTERS]
        parameters = {"results": str(shown), "tier": tier}
        failed: dict[str, str] = {}
        work = executed(sources, parameters, Path(aside), jobs)
        bar = track(work, "notebooks", len(sources), console=console, disable=not console.is_terminal, transient=True)
        for name, seconds, error in bar:
            failed |= {name: error} if error else {}
            said = f"failed: {error}" if error else duration(seconds)
            console.out(f"{name}: {said}", highlight=False)
        chapters = [report_page.chapter(name, _read(Path(aside), name), failed.get(name)) for name in CHAPTERS]
    page = report_page.page(
        chapters,
        METHODS.read_text(encoding="utf-8"),
        facts={"Verdicts": verdicts, **facts(manifests)},
        headings=claims_view.HEADINGS,
        tier=tier,
        missing=missing,
        command=f"or1lab sweep study{option(tier)} --resume --pack {shown}",
        contradictions=contradictions(),
    )
    write_atomic(out, page.encode(), "manifest")
    return Report(out, sum(len(chapter.figures) for chapter in chapters), len(manifests), missing, failed)


def show(made: Report, console: Console) -> None:
    """What was written, and what is missing from it."""
    size = made.path.stat().st_size / 1e6
    lines = [f"wrote {made.path} ({made.figures} figures, {made.runs} runs, {size:.1f} MB)"]
    if made.missing:
        lines.append(f"runs are missing in {len(made.missing)} studies: {', '.join(made.missing)}")
    if made.failed:
        lines.append(f"failed, and told so on the page: {', '.join(made.failed)}")
    for line in lines:
        console.out(line, highlight=False)


def executed(
    sources: Sequence[Path], parameters: dict[str, Any], folder: Path, jobs: int
) -> Iterator[tuple[str, float, str | None]]:
    """Execute notebooks, each with those of the parameters that it has, into folder/NAME/NAME.ipynb; as each ends, its
    name, its seconds, and why it failed, if it did. However this is left, no process stays."""
    settings = folder / "profile_default" / "ipython_kernel_config.py"
    settings.parent.mkdir(parents=True)
    settings.write_text(SETTINGS, encoding="utf-8")
    waiting, active = list(sources), dict[Path, tuple[Popen[bytes], float]]()
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                source = waiting.pop(0)
                own = folder / source.stem
                try:
                    known = notebooks.parameters_of(source)
                except UsageError as error:
                    yield source.stem, 0.0, str(error)
                    continue
                process = notebooks.start(
                    source, own / source.name, {name: parameters[name] for name in parameters if name in known},
                    log=own / "log", threads=1, variables={"IPYTHONDIR": str(folder)},
                )  # fmt: skip
                active[source] = process, time.monotonic()
            for source, (process, begin) in list(active.items()):
                if process.poll() is not None:
                    del active[source]
                    why = notebooks.last_line(folder / source.stem / "log") or f"it ended with {process.returncode}"
                    yield source.stem, time.monotonic() - begin, why if process.returncode else None
            time.sleep(0.2)
    finally:
        notebooks.end(process for process, _ in active.values())


def found(shelf: Shelf) -> tuple[list[dict[str, Any]], dict[str, tuple[int, int]]]:
    """The manifests of the study's finished runs; of each study that misses some, how many there are, and how many
    there should be."""
    runs, missing = dict[Path, Run](), {}
    for experiment in studies.studies():
        own = [run for arm in shelf.arms(experiment.name).values() for run in arm.values()]
        runs |= {run.folder: run for run in own}
        there = claims.study(experiment.name, shelf.tier)
        planned = len(there.arms) * len(there.seeds)
        if len(own) < planned:
            missing[experiment.name] = len(own), planned
    return [run.manifest for run in runs.values()], missing


def facts(manifests: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What the head of the page says of the runs: when, with which code, in which world, on what."""
    days = sorted({(manifest["finished"] or manifest["created"])[:10] for manifest in manifests})
    commits = Counter(_commit(manifest["code"]) for manifest in manifests)
    machines = Counter(_machine(manifest["hardware"]) for manifest in manifests)
    about = {"Runs": str(len(manifests))}
    if manifests:
        about["Made on"] = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        about["Code of the runs"] = _listed(commits)
        about["Machines"] = _listed(machines)
    return about | {
        "Code of this page": _commit(environment()["code"]),
        "Hash of the world": content_hash(WORLD),
        "Hash of the claims": content_hash(CLAIMS),
        "Hash of the follow-ups": content_hash(FOLLOW_UPS),
    }


def contradictions() -> list[tuple[str, str]]:
    """Where the paper says two things: the tables and figures that it concerns, and what they are."""
    return [(_place(row["at"]), row["note"].format(**row["values"])) for row in paper.load("contradictions")["rows"]]


def _place(at: list[str]) -> str:
    """`["table12", "figure1"]` -> Table 12, Figure 1; `["table1", "table2"]` -> Tables 1, 2."""
    parts = [re.sub(r"(table|figure)(\d+)", lambda named: f"{named[1].title()} {named[2]}", name) for name in at]
    if len(at) > 1 and all(name.startswith("table") for name in at):
        return f"Tables {', '.join(part.removeprefix('Table ') for part in parts)}"
    return ", ".join(parts)


def _commit(code: dict[str, Any]) -> str:
    commit = code["commit"]
    return f"{commit[:10]}{', changed' if code['dirty'] else ''}" if commit else f"version {code['version']}"


def _machine(hardware: dict[str, Any]) -> str:
    gpus = [f"{n} x {name}" for name, n in Counter(hardware["gpus"]).items()]
    return ", ".join([hardware["cpu"], f"{hardware['cores']} cores", *gpus])


def _listed(counts: Counter[str]) -> str:
    """Kinds, of several how often each occurs."""
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{kind} ({n} of the runs)" for kind, n in counts.most_common())


def _read(folder: Path, name: str) -> nbformat.NotebookNode | None:
    path = folder / name / f"{name}.ipynb"
    return nbformat.read(path, as_version=4) if path.is_file() else None
