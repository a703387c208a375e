"""Data curation (paper section 6): stages that drop problems, in the paper's order, each with its counts and reasons.

    read         the inputs become one set: rows that are no problem go, ids become unique
    dedupe       equal texts within a source
    answers      mathematics: the solution must reach the gold answer
    figures      mathematics: no addresses, no figures that are not there
    tests        programs: sound tests, passed by the reference solution in the sandbox
    near         near-duplicates across sources
    leaks        items of benchmarks
    difficulty   what a model always or never solves
    votes        what judges vote out

A stage reads the problems of the one before as a stream and writes its own aside; its report, written last, says that
it is done. So a killed curation goes on with the stage it was in, and difficulty and votes within it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from or1lab.data import checks, dedupe, leaks, load
from or1lab.data.dedupe import Decisions
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError, check_names
from or1lab.manifest import file_hash, full_disk_explained, held, write_atomic

STAGES = ("dedupe", "answers", "figures", "tests", "near", "leaks", "difficulty", "votes")
KEPT_THOUGH = "unchecked"  # how the reason of a problem begins that stays, since nothing could be checked
EXCERPT = 200  # characters of a removed problem in removed.jsonl


@dataclass(frozen=True)
class Stage:
    """One step: its settings (what a result depends on besides the problems), and what it does."""

    name: str
    settings: dict[str, Any]
    run: Callable[[Iterable[Problem]], Decisions]


@dataclass(frozen=True)
class Wanted:
    """What a curation is asked for; see `or1lab data curate --help`."""

    inputs: tuple[str, ...]
    against: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()  # none: all that their inputs are given for
    model: str | None = None
    samples: int = 16
    votes: Path | None = None
    endpoint: str | None = None
    judges: tuple[str, ...] = ()
    strict: bool = False  # stop at a row of the inputs that is no problem

    def chosen(self) -> tuple[str, ...]:
        """The stages to run, in the paper's order.

        Raises:
            UsageError: an unknown stage, or one without what it needs."""
        check_names(self.stages, STAGES, "stage")
        if bool(self.endpoint) != bool(self.judges):
            raise UsageError("an endpoint needs the judges it serves, and judges an endpoint: give --endpoint, --judge")
        given = {"leaks": self.against, "difficulty": self.model, "votes": self.votes or self.endpoint}
        needs = {"leaks": "--against", "difficulty": "--model", "votes": "--votes or --endpoint"}
        if lacking := next((name for name in self.stages if name in given and not given[name]), None):
            raise UsageError(f"the stage '{lacking}' needs {needs[lacking]}")
        if self.stages and (idle := next((name for name in given if given[name] and name not in self.stages), None)):
            raise UsageError(f"{needs[idle]} is for the stage '{idle}', which --stages leaves out")
        return tuple(n for n in STAGES if (n in self.stages if self.stages else given.get(n, True)))


def curate(wanted: Wanted, out: str | Path, *, resume: bool = False, engine: Any = None) -> dict[str, Any]:
    """Run the stages over the inputs (files or published sets, see `load.read`) into the folder `out`: problems.jsonl,
    removed.jsonl, funnel.json (which is returned), funnel.png and a data set card, README.md.

    Raises:
        UsageError: impossible wishes; a folder that holds a curation, without `resume`, or one of another kind.
        Or1labError: the inputs or a benchmark hold no problem.
    """
    from or1lab.data import card

    out = Path(out)
    stages = _plan(wanted, out, engine)
    with full_disk_explained(out):
        (out / "stages").mkdir(parents=True, exist_ok=True)
    with held(out / ".lock", f"{out} is being curated by another process"):
        if not resume and any((out / "stages").glob("*.json")):
            raise UsageError(f"{out} already holds a curation: go on with --resume, or write elsewhere with --out")
        files = [Files.of(out, number, stage.name) for number, stage in enumerate(stages)]
        reports = _done(stages, files) if resume else []
        with full_disk_explained(out):
            for number in range(len(reports), len(stages)):
                reports.append(_run(stages[: number + 1], files, strict=wanted.strict))
            return card.finish(out, reports, files)


def _plan(wanted: Wanted, out: Path, engine: Any) -> list[Stage]:
    # Opened here, so that a wrong name costs no stage; strict, since an item that is skipped would not be kept out.
    benchmarks = [load.read(name, strict=True) for name in wanted.against]
    made: dict[str, Callable[[], Stage]] = {
        "dedupe": lambda: Stage("dedupe", {}, dedupe.equal),
        "answers": lambda: Stage("answers", {}, checks.answers),
        "figures": lambda: Stage("figures", {}, checks.figures),
        "tests": lambda: Stage("tests", {}, checks.tests),
        "near": lambda: Stage("near", {"alike": [dedupe.ALIKE, dedupe.ALIKE_ALONE]}, dedupe.near),
        "leaks": lambda: Stage(
            "leaks",
            {"n": leaks.N, "share": leaks.SHARE, "common": leaks.COMMON, "against": fingerprints(wanted.against)},
            lambda problems: leaks.leaks(problems, _items(benchmarks)),
        ),
        "difficulty": lambda: _difficulty(wanted, out, engine),
        "votes": lambda: _votes(wanted, out),
    }  # fmt: skip
    read = Stage("read", {"inputs": fingerprints(wanted.inputs)}, _unique)
    return [read, *(made[name]() for name in wanted.chosen())]


def _difficulty(wanted: Wanted, out: Path, engine: Any) -> Stage:
    from or1lab.data import difficulty

    rollouts = difficulty.Rollouts(difficulty.recipe_for(wanted.model or ""), wanted.samples)
    return Stage(
        "difficulty", rollouts.settings,
        lambda problems: difficulty.difficulty(problems, rollouts, out / "rollouts.jsonl", engine),
    )  # fmt: skip


def _votes(wanted: Wanted, out: Path) -> Stage:
    from or1lab.data import votes

    if wanted.votes and not wanted.votes.is_file() and not wanted.endpoint:
        raise UsageError(f"no file of votes {wanted.votes}; an endpoint would make it (--endpoint, --judge)")
    panel = votes.Panel(wanted.judges, wanted.endpoint)
    settings = asdict(panel) | ({} if wanted.endpoint else {"saved": fingerprints([str(wanted.votes)])})
    return Stage("votes", settings, lambda problems: votes.votes(problems, panel, wanted.votes or out / "votes.jsonl"))


# ------------------------------------------------------------------------------------------------- one stage


class Files(NamedTuple):
    """What a stage writes."""

    kept: Path
    removed: Path
    report: Path

    @classmethod
    def of(cls, out: Path, number: int, name: str) -> Files:
        """Paths of stage `number`, counted from 0 with reading, below `out`/stages."""
        return cls(*(out / "stages" / f"{number}-{name}.{kind}" for kind in ("jsonl", "removed", "json")))


def _run(stages: Sequence[Stage], files: Sequence[Files], *, strict: bool) -> dict[str, Any]:
    """Run the last of the stages; its report."""
    number, stage, begin = len(stages) - 1, stages[-1], time.monotonic()
    kept, removed, report = files[number]
    came, stayed, unchecked = Counter[str](), Counter[str](), Counter[str]()
    gone: dict[str, Counter[str]] = {}
    inputs = [] if number else [load.read(name, strict=strict) for name in stage.settings["inputs"]]
    problems = read_lines(files[number - 1].kept) if number else _read_all(inputs)

    def drop(reason: str, domain: str, **row: str) -> None:
        gone.setdefault(reason.partition(":")[0], Counter())[domain] += 1
        file.write(json.dumps({"stage": stage.name, "reason": reason, **row}).encode() + b"\n")

    def sift() -> Iterator[Problem]:
        for problem, reason in stage.run(problems):
            domain = "code" if checks.is_code(problem) else "math"  # as the paper counts
            came[domain] += 1
            if reason and not reason.startswith(KEPT_THOUGH):
                drop(reason, domain, id=problem.id, source=problem.source, prompt=problem.prompt[:EXCERPT])
                continue
            unchecked.update([reason] if reason else [])
            stayed[domain] += 1
            yield problem

    with removed.open("wb") as file:
        load.write(sift(), kept)
        for loaded in inputs:
            came["unknown"] += len(loaded.skipped)
            for skipped in loaded.skipped:
                drop(f"no problem: {skipped.reason}", "unknown", id=f"{loaded.name}, {loaded.unit} {skipped.number}")
    written = {
        "stage": stage.name, "key": _key(stages), "settings": stage.settings, "in": +came, "out": stayed,
        "removed": gone, "unchecked": unchecked, "seconds": round(time.monotonic() - begin, 2),
    }  # fmt: skip
    if not number and not stayed:
        first = next((f", {loaded.unit} {s.number}: {s.reason}" for loaded in inputs for s in loaded.skipped), "")
        raise Or1labError(f"there is no problem in {', '.join(stage.settings['inputs'])}{first}")
    write_atomic(report, json.dumps(written, indent=1).encode(), "manifest")
    if number:
        files[number - 1].kept.unlink()  # one can go on from what this stage has kept
    return written


def _done(stages: Sequence[Stage], files: Sequence[Files]) -> list[dict[str, Any]]:
    """Reports of the stages that are done with these settings.

    Raises:
        UsageError: the settings of a stage have changed, and what it started from is no longer there."""
    reports: list[dict[str, Any]] = []
    for number, (_, _, report) in enumerate(files):
        found = json.loads(report.read_bytes()) if report.exists() else {}
        if found.get("key") != _key(stages[: number + 1]):
            break
        reports.append(found)
    done = len(reports)
    if not (done and files[done - 1].kept.exists()) and any(files[0].report.parent.glob("*.json")):
        raise UsageError(
            f"{files[0].report.parent.parent} was made with other inputs or settings (from the stage "
            f"'{stages[min(done, len(stages) - 1)].name}' on): name them as they were, or begin anew in another folder"
        )
    return reports


def _key(stages: Sequence[Stage]) -> str:
    """What a stage's result depends on: its settings and those before it."""
    return hashlib.sha256(json.dumps([[s.name, s.settings] for s in stages]).encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------------- inputs


def fingerprints(names: Iterable[str]) -> dict[str, str]:
    """Name of a file or published set -> SHA-256 of the file; a published set is known by its name."""
    return {name: file_hash(Path(name)) if Path(name).is_file() else "published" for name in names}


def _read_all(inputs: Iterable[load.Loaded]) -> Iterator[Problem]:
    for loaded in inputs:
        for problem in loaded:
            yield problem if problem.source else problem.model_copy(update={"source": Path(loaded.name).stem})


def _items(benchmarks: Iterable[load.Loaded]) -> Iterator[Problem]:
    for loaded in benchmarks:
        first = next(loaded, None)
        if first is None:
            raise Or1labError(f"the benchmark {loaded.name} holds no problem")
        yield first
        yield from loaded


def _unique(problems: Iterable[Problem]) -> Decisions:
    """Each id once: one that another input has taken gets a number."""
    seen: Counter[str] = Counter()
    for problem in problems:
        name = problem.id
        while seen[name]:
            seen[problem.id] += 1
            name = f"{problem.id}#{seen[problem.id]}"
        seen[name] += 1
        yield problem if name == problem.id else problem.model_copy(update={"id": name}), ""


def read_lines(path: Path) -> Iterator[Problem]:
    """Problems that a stage has written."""
    with path.open("rb") as lines:
        for line in lines:
            yield Problem.model_validate_json(line)
