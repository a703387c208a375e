"""`or1lab evaluate` and `or1lab suites`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from or1lab.errors import Or1labError, UsageError
from or1lab.terminal import RUNS, Json, answer, console, print_json


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL|RUN[@STEP]|DIR",
            help="tiny, smol, a model of the registry (skywork-or1-7b), a folder, a Hub name; a run folder (its final "
            "model, or @20, @best); or an evaluation folder, to print it again.",
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Of the suite, such as suffix=released or file=DIR."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Suite, suite file, or a file of problems (.jsonl, .parquet).")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Samples a problem; default the suite's.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="Default the suite's.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Default the suite's.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a response. Of an evaluation folder: score it under this shorter limit."),
    ] = None,
    problems: Annotated[int | None, typer.Option(min=1, help="Only so many, spread evenly over the suite.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder; default runs/evaluations/<model>/<suite>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the evaluation in that folder.")] = False,
    rescore: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Judge its responses by the verifier of today; generate nothing.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="DIR DIR", help="Two evaluations of the same problems: difference, interval, p."),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="OpenAI-compatible server that serves MODEL, as http://localhost:8000/v1.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, vllm or transformers.")] = "auto",
    tensor_parallel: Annotated[
        int,
        typer.Option(min=1, help="GPUs for one model. Several copies: vllm serve --data-parallel-size, --endpoint."),
    ] = 1,
    json: Json = False,
) -> None:
    """Sample k responses to each problem of a suite, judge them, and print what that says with intervals.

    Every response is kept as it comes: what was killed goes on with --resume and ends with the same numbers."""
    screen = Console(stderr=True) if json else console
    engine = {"--backend": backend != "auto", "--tensor-parallel": tensor_parallel > 1}
    sampling = {
        "KEY=VALUE": options, "--temperature": temperature is not None, "--top-p": top_p is not None, "--seed": seed,
        "--problems": problems, "--out": out, "--resume": resume, "--endpoint": endpoint, **engine,
    }  # fmt: skip
    if rescore is not None or compare is not None:
        if model or suite or (rescore and compare):
            raise UsageError("--rescore DIR and --compare DIR DIR stand alone")
        _none_of("--rescore" if rescore else "--compare", {"-k": k, "--limit": limit, **sampling})
        if rescore:
            _rescore(rescore, screen, json)
        if compare:
            _compare(compare[0], compare[1], json)
        return
    if not model:
        raise UsageError("which model? or1lab evaluate MODEL --suite NAME (or --rescore DIR, --compare DIR DIR)")
    from or1lab.evaluation import Evaluation, is_evaluation

    if is_evaluation(Path(model)) and not suite:
        _none_of(f"{model} is an evaluation, which is only printed again: it", sampling)
        found = Evaluation.open(model)
        _print(found.limited(limit) if limit else found, json, k)
        return
    if not suite:
        from or1lab.suites import names

        raise UsageError(f"on what? --suite {' | '.join(names())} | FILE")
    if backend not in ("auto", "vllm", "transformers"):
        raise UsageError(f"--backend {backend}: auto, vllm or transformers")
    if endpoint:
        _none_of("--endpoint asks a server, with an engine of its own: it", engine)
    from or1lab.recipe import split_override

    named = {"k": k, "temperature": temperature, "top_p": top_p, "limit": limit}
    chosen = {name: value for name, value in named.items() if value is not None}
    chosen |= dict(map(split_override, options or []))
    _evaluate(
        model, suite, chosen, out, screen, json, problems=problems, seed=seed, resume=resume,
        endpoint=endpoint, backend=backend, tensor_parallel=tensor_parallel,
    )  # fmt: skip


def _none_of(what: str, given: dict[str, Any]) -> None:
    if names := [name for name, value in given.items() if value]:
        raise UsageError(f"{what} takes no {', '.join(names)}")


def _evaluate(
    name: str, suite_name: str, options: dict[str, Any], out: Path | None, screen: Console, json: bool, **how: Any
) -> None:
    from or1lab.evaluate import evaluate as run
    from or1lab.evaluate import named
    from or1lab.evaluation_view import Bar
    from or1lab.suites import load_suite

    suite, model = load_suite(suite_name, options), named(name, how["endpoint"])
    folder, bar = out or RUNS / "evaluations" / model.label / suite.name, Bar(screen)
    screen.out(f"{name} on {suite.title}: k = {suite.k}, into {folder}", highlight=False)
    try:
        done = run(model, suite, out=folder, watch=bar, **how)
    except KeyboardInterrupt:
        raise Or1labError(f"stopped; what has come is kept: go on with --resume (folder {folder})") from None
    finally:
        bar.close()
    _print(done, json)


def _rescore(folder: Path, screen: Console, json: bool) -> None:
    from or1lab.evaluation import Evaluation
    from or1lab.evaluation_view import show_rescored
    from or1lab.scoring import rescore

    found = Evaluation.open(folder)
    show_rescored(rescore(found), screen)
    _print(found, json)


def _compare(one: Path, two: Path, json: bool) -> None:
    from dataclasses import asdict

    from or1lab.evaluation import Evaluation
    from or1lab.evaluation_summary import compared, differences
    from or1lab.evaluation_view import show_compared

    a, b = Evaluation.open(one), Evaluation.open(two)
    found, unlike = compared(a, b), differences(a, b)
    plain = {"one": str(one), "two": str(two), **asdict(found), "differences": unlike}
    answer(plain, json, lambda: show_compared(a, b, found, unlike, console))


def _print(evaluation: Any, json: bool, k: int | None = None) -> None:
    summary = evaluation.summary(k)
    if json:
        print_json(summary)
        return
    from or1lab.evaluation_view import show

    show(summary, console)
    console.print(f"{evaluation.folder} holds every response and verdict", highlight=False, markup=False)


def suites(
    models: Annotated[bool, typer.Option("--models", help="The released models and what is reported of them.")] = False,
    json: Json = False,
) -> None:
    """What can be evaluated: the suites with their settings, or the models that have a name here."""
    from or1lab import suites_view

    if json:
        print_json(suites_view.registry() if models else suites_view.suites())
    elif models:
        suites_view.show_models(console)
    else:
        suites_view.show_suites(console)
