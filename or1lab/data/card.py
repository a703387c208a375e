"""What a curation leaves: problems, what was removed and why, the funnel as numbers and picture, a data set card."""

from __future__ import annotations

import hashlib
import heapq
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from or1lab.data import load
from or1lab.environment import environment
from or1lab.manifest import file_hash, write_atomic

if TYPE_CHECKING:
    from or1lab.data.curate import Files

SAMPLE = 3  # removed problems shown a stage
WORDS = {
    "read": "Rows that hold no problem are left out; ids are made unique.",
    "dedupe": "Equal texts within a source, whatever their layout; the first stays.",
    "answers": "The answer that our verifier finds in the solution must be the gold one. Without a solution nothing is "
    "checked.",
    "figures": "Statements with an address, or that point to a figure which is not there.",
    "tests": "Tests that are empty, incomplete or corrupted, or that the reference solution does not all pass in the "
    "sandbox. Without a solution only the tests are looked at.",
    "near": "Near-duplicates across sources: the same numbers and symbols, much the same words (MinHash), answers not "
    "certainly different. This stands in place of the paper's embedding model, which it does not name; problems that "
    "differ in numbers only are kept, paraphrases are not found.",
    "leaks": "Items of benchmarks, by shared n-grams and the same numbers in order, without embeddings. An item put in "
    "other words is not found.",
    "difficulty": "Problems that the model never or always solves.",
    "votes": "Problems with too few valid votes of the judges. The question asked is ours; the paper's is unknown.",
}


def finish(out: Path, reports: Sequence[dict[str, Any]], files: Sequence[Files]) -> dict[str, Any]:
    """Write problems.jsonl, removed.jsonl, funnel.json, .png and .pdf, README.md; what funnel.json holds."""
    from or1lab.data.curate import read_lines
    from or1lab.plots import data, style

    counted: Counter[tuple[str, str]] = Counter()

    def count() -> Any:
        for problem in read_lines(files[-1].kept):
            counted[problem.source, problem.licence] += 1
            yield problem

    load.write(count(), out / "problems.jsonl")
    with (out / "removed.jsonl").open("wb") as together:
        for _, removed, _ in files:
            with removed.open("rb") as one:
                shutil.copyfileobj(one, together)
    funnel = {
        "stages": [{**report, "sample": _sample(stage.removed)} for report, stage in zip(reports, files, strict=True)],
        "sources": [{"source": s, "licence": of, "problems": n} for (s, of), n in sorted(counted.items())],
        "outputs": {name: file_hash(out / name) for name in ("problems.jsonl", "removed.jsonl")},
        "code": environment()["code"],
        "packages": {name: metadata.version(name) for name in ("datasketch", "math-verify", "numpy", "pydantic")},
    }
    style.save(data.funnel(data.stages_frame(funnel["stages"])), out / "funnel")
    write_atomic(out / "funnel.json", json.dumps(funnel, indent=1).encode(), "manifest")
    write_atomic(out / "README.md", _card(funnel, out.resolve().name).encode(), "manifest")
    return funnel


def _sample(removed: Path) -> list[dict[str, str]]:
    """A few removed rows, the same ones each time: those whose line has the smallest hash."""
    with removed.open("rb") as lines:
        few = heapq.nsmallest(SAMPLE, lines, key=lambda line: hashlib.sha256(line).digest())
    return [json.loads(line) for line in few]


def _card(funnel: Mapping[str, Any], name: str) -> str:
    licences = sorted({row["licence"] for row in funnel["sources"]} - {""})
    head = {
        "pretty_name": name,
        "license": licences[0] if len(licences) == 1 and all(row["licence"] for row in funnel["sources"]) else "other",
        "configs": [{"config_name": "default", "data_files": "problems.jsonl"}],
    }
    stages = funnel["stages"]
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
        f"# {name}\n",
        f"{_total(stages[-1]['out']):,} of {_total(stages[0]['in']):,} problems, curated by `or1lab data curate` after "
        "section 6 of the Skywork-OR1 report (arXiv 2505.22312).\n",
        "![what each stage removed](funnel.png)\n",
        "## Stages\n",
        "| stage | in | removed | out | unchecked | why removed |",
        "|---|---|---|---|---|---|",
    ]
    for stage in stages:
        gone = sum(map(_total, stage["removed"].values()))
        numbers = [f"{n:,}" for n in (_total(stage["in"]), gone, _total(stage["out"]), _total(stage["unchecked"]))]
        lines.append(f"| {stage['stage']} | {' | '.join(numbers)} | {_why(stage)} |")
    for stage in stages:
        lines += [f"\n### {stage['stage']}\n", WORDS[stage["stage"]]]
        settings = {key: value for key, value in stage["settings"].items() if key not in ("inputs", "against", "saved")}
        if settings:
            lines.append("Settings: " + ", ".join(f"{key} = {value}" for key, value in settings.items()) + ".")
        if stage["sample"]:
            lines += ["", "| removed | reason | text |", "|---|---|---|"]
        for row in stage["sample"]:
            lines.append(f"| {_cell(row['id'])} | {_cell(row['reason'])} | {_cell(row.get('prompt', ''))} |")
    lines += ["\n## Sources and licences\n", "| source | licence | problems |", "|---|---|---|"]
    for row in funnel["sources"]:
        lines.append(f"| {_cell(row['source'])} | {_cell(row['licence']) or 'unknown'} | {row['problems']:,} |")
    lines += ["\n## Files\n", "| file | what | SHA-256 |", "|---|---|---|"]
    for stage in stages:
        for role, what in (("inputs", "input"), ("against", "benchmark"), ("saved", "votes")):
            found = stage["settings"].get(role, {})
            lines += [f"| {_cell(file)} | {what} | {value} |" for file, value in found.items()]
    lines += [f"| {file} | output | {value} |" for file, value in funnel["outputs"].items()]
    versions = {"or1lab": funnel["code"]["version"], "commit": funnel["code"]["commit"], **funnel["packages"]}
    lines.append("\nMade with " + ", ".join(f"{key} {value}" for key, value in versions.items() if value) + ".")
    return "\n".join(lines) + "\n"


def show(funnel: Mapping[str, Any], out: Path, console: Console) -> None:
    """Print the counts of each stage."""
    for stage in funnel["stages"]:
        line = f"{stage['stage']:<11}{_total(stage['in']):>9,} -> {_total(stage['out']):>9,}  {_why(stage)}"
        console.out(line, highlight=False)
    console.out(f"curated into {out}; what was removed and why: {out / 'README.md'}", highlight=False)


def _why(stage: Mapping[str, Any]) -> str:
    return ", ".join(f"{kind} {_total(by)}" for kind, by in stage["removed"].items())


def _total(counts: Mapping[str, int]) -> int:
    return sum(counts.values())


def _cell(text: str, longest: int = 80) -> str:
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("$", "\\$")
    return text if len(text) <= longest else text[: longest - 1] + "…"
