"""`or1lab data`: look at problems, prepare them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from or1lab.terminal import Json, answer, console, print_json

app = typer.Typer(no_args_is_help=True, help="Look at problems and prepare them.", rich_markup_mode="rich")

ProblemsArg = Annotated[
    str, typer.Argument(metavar="FILE|SET", help="JSONL or parquet file of problems, or a published set (math500 ...).")
]
SetOptions = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Of a published set: file=DIR, split=test, and its own options."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at a row that is no problem instead of skipping it.")]


@app.command(
    "curate", epilog="Example: or1lab data curate mine.jsonl --out curated --against aime24.jsonl --model smol"
)
def data_curate(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help="Problem files or published sets.")],
    out: Annotated[Path, typer.Option(help="Folder of the curated set and its card.")],
    against: Annotated[list[str] | None, typer.Option(help="Benchmark to keep out; give it again for more.")] = None,
    stages: Annotated[str, typer.Option(help="Comma-separated; default: all that are given what they need.")] = "",
    model: Annotated[str | None, typer.Option(help="Recipe or model: drop what it always or never solves.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Responses a problem; half as many for programs.")] = 16,
    votes: Annotated[Path | None, typer.Option(help="Saved votes; with --endpoint, new ones are added.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible server, as http://localhost:8000/v1.")] = None,
    judge: Annotated[list[str] | None, typer.Option(help="A model it serves; again for more: 32 votes in all.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the curation in that folder.")] = False,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Curate problems as in section 6 of the paper: duplicates, wrong answers, figures, broken tests, leaks,
    difficulty, votes. Writes problems, what was removed and why, a funnel and a data set card."""
    from or1lab.data import card
    from or1lab.data.curate import Wanted, curate

    chosen = tuple(name.strip() for name in stages.split(",") if name.strip())
    judges = tuple(judge or ())
    wanted = Wanted(tuple(inputs), tuple(against or ()), chosen, model, samples, votes, endpoint, judges, strict)
    funnel = curate(wanted, out, resume=resume)
    answer(funnel, json, lambda: card.show(funnel, out, console))


@app.command("stats", epilog="Example: or1lab data stats livecodebench window=2024-08..2025-02")
def data_stats(source: ProblemsArg, options: SetOptions = None, strict: Strict = False, json: Json = False) -> None:
    """Domains, sources, licences, lengths, tests, difficulty, and the rows that are no problems."""
    from or1lab import data_view

    found = data_view.report(data_view.opened(source, options or [], strict=strict))
    answer(found, json, lambda: data_view.show_stats(found, console))


@app.command("show", epilog="Example: or1lab data show problems.jsonl -n 1")
def data_show(
    source: ProblemsArg,
    options: SetOptions = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many problems.")] = 3,
    id: Annotated[str | None, typer.Option(help="The problem with this id instead of the first ones.")] = None,
    json: Json = False,
) -> None:
    """Print problems; long texts are cut (not with --json)."""
    from or1lab import data_view

    problems = data_view.pick(data_view.opened(source, options or []), n, id)
    if json:
        print_json([problem.model_dump(exclude_defaults=True) for problem in problems])
        return
    for problem in problems:
        data_view.show_problem(problem, console)


@app.command("convert", epilog="Example: or1lab data convert numinamath subsets=paper --out numina.parquet")
def data_convert(
    source: ProblemsArg,
    out: Annotated[Path, typer.Option(help="File to write: .jsonl or .parquet.")],
    options: SetOptions = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Write the problems of a file or a published set to a file of ours."""
    from or1lab import data_view
    from or1lab.data.load import write

    loaded = data_view.opened(source, options or [], strict=strict)
    count, skipped = write(data_view.some(loaded), out), data_view.skipped_json(loaded)
    if json:
        print_json({"written": str(out), "problems": count, "skipped": skipped})
        return
    data_view.show_skipped(skipped, console)
    console.print(f"wrote {out} (problems: {count})", highlight=False, markup=False)
