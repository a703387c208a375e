"""The `or1lab` command. Thin: each command parses its arguments and calls the library.

Nothing heavy is imported at the top, so that `--help` answers at once. Exit codes: 0 done, 1 failed, 2 wrong use.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from or1lab import claims_view, data_cli, process, runs_cli
from or1lab.errors import Or1labError, UsageError
from or1lab.evaluate_cli import evaluate, suites
from or1lab.figures_cli import figures
from or1lab.plan_cli import plan
from or1lab.process import without_collection
from or1lab.terminal import RUNS, Json, OfStudy, Results, Tier, answer, console, print_json, printable_anywhere, runs_at

app = typer.Typer(
    name="or1lab",
    help="The open laboratory for reinforcement learning of long chain-of-thought reasoners.",
    epilog="First steps: [bold]or1lab preview tiny[/], then [bold]or1lab train tiny --out runs/mine[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
tiny_app = typer.Typer(no_args_is_help=True, help="The tiny world and its base policy.", rich_markup_mode="rich")
verify_app = typer.Typer(no_args_is_help=True, help="Judge answers by the rewards' rules.", rich_markup_mode="rich")
app.add_typer(tiny_app, name="tiny")
app.add_typer(data_cli.app, name="data")
app.add_typer(verify_app, name="verify")
app.add_typer(runs_cli.app, name="runs")

RecipeArg = Annotated[str, typer.Argument(help="Recipe file, or the name of one under experiments/recipes.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides such as D_T=2 or stages.0.steps=3.")
]


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Options of every command."""


@app.command(epilog="Example: or1lab doctor --json")
def doctor(
    json: Json = False, quick: Annotated[bool, typer.Option(help="Skip the slow checks (no torch import).")] = False
) -> None:
    """What is installed, what will be used, what is wrong and how to mend it."""
    from or1lab import doctor as checks

    raise typer.Exit(checks.report(as_json=json, quick=quick))


@app.command(epilog="Example: or1lab show tiny D_T=2")
def show(recipe: RecipeArg, overrides: Overrides = None, json: Json = False) -> None:
    """The resolved recipe, with the N_SGD arithmetic and where each value comes from."""
    from or1lab import recipe_view

    if json:
        print_json(recipe_view.as_json(recipe, overrides or []))
    else:
        recipe_view.show(recipe, overrides or [], console)


@app.command(epilog="Example: or1lab train tiny seed=1 stages.0.steps=40 --out runs/mine/seed-1")
def train(
    recipe: RecipeArg,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<recipe>/seed-<seed>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes on this node; default one for each visible GPU.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes. Without --node-rank: print what to type on each.")] = 1,
    node_rank: Annotated[int | None, typer.Option(min=0, help="Which of the nodes this is, from 0.")] = None,
    main: Annotated[str, typer.Option(metavar="HOST:PORT", help="Of node 0, where the nodes meet.")] = "",
    offload: Annotated[bool, typer.Option("--offload", help="Weights and Adam moments in host memory.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Start what `doctor` or `plan` warns of.")] = False,
) -> None:
    """Train one recipe into a run folder, on all GPUs of this machine, or of several.

    Says beforehand what is wrong with the installation (doctor), and by how much the recipe does not fit (plan)."""
    from or1lab.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    folder = out or RUNS / (loaded.name or "run") / f"seed-{loaded.seed}"
    from or1lab import launch, preflight

    if nodes > 1 and not main:
        raise UsageError("--nodes wants --main HOST:PORT: an address of node 0 that all nodes reach, as node-0:29500")
    if node_rank is not None and node_rank >= nodes:
        raise UsageError(f"--node-rank {node_rank}: the {nodes} nodes are 0 to {nodes - 1}")
    if nodes > 1 and node_rank is None:
        console.print("on each node, in the same folder of a shared file system:", highlight=False)
        for line in launch.commands(sys.argv[2:], nodes):
            console.out(line, highlight=False)
        return
    place = launch.Place(processes or max(1, launch.visible()), nodes, node_rank or 0, main, offload)
    if not force:
        for note in preflight.check(loaded, place):
            console.out(f"note: {note}", highlight=False)
    try:
        finished = launch.train(loaded, folder, resume=resume, place=place)
    except KeyboardInterrupt as stop:
        by = f" by {stop}" if str(stop) else ""
        raise Or1labError(f"stopped{by}; {launch.kept(folder)} (run folder {folder})") from None
    look = f" {finished.folder}; look at it: or1lab runs show {shlex.quote(str(finished.folder))}"
    console.print(Text.assemble(("finished", "green"), look), soft_wrap=True)


@app.command(epilog="Example: or1lab preview tiny -n 3")
def preview(
    recipe: RecipeArg,
    overrides: Overrides = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many problems.")] = 3,
    json: Json = False,
) -> None:
    """Sample, judge and print responses with the verdicts' reasons; trains nothing."""
    from or1lab.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from or1lab.train import preview as sample

    rows = sample(loaded, n)
    if json:
        print_json(rows)
        return
    from or1lab.data_view import safe

    for row in rows:
        told = _verdict(row["correct"], row["reason"])
        console.rule(Text.assemble(safe(row["problem_id"]), ": ", told, f", {row['length']} tokens"))
        console.print(safe(row["prompt"]), style="bold", markup=False, highlight=False)
        console.print(safe(row["response"]), markup=False, highlight=False)
        if row["gold"]:
            console.print(safe(f"gold: {row['gold']}"), style="dim", markup=False)
        if row.get("total"):
            console.print(f"{row['passed']} of {row['total']} tests passed", style="dim", highlight=False)


app.command(epilog="Example: or1lab evaluate tiny --suite tiny -k 4 --problems 32")(evaluate)
app.command(epilog="Example: or1lab suites --models")(suites)
app.command(epilog="Example: or1lab plan 7b --gpus 8xH100")(plan)


@app.command(epilog="Example: or1lab sweep demo --seeds 0,1,2 --jobs 2 --resume")
def sweep(
    experiment: Annotated[
        str, typer.Argument(help="File, name in experiments/ablations, or a folder of them; 'study': all of ours.")
    ],
    tier: Tier = "tiny",
    seeds: Annotated[str | None, typer.Option(help="Comma-separated seeds instead of the file's.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs side by side.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Skip finished runs, go on with broken ones.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the grid and start nothing.")] = False,
    out: Annotated[Path, typer.Option(help="Where run folders go.")] = RUNS,
    pack: Annotated[Path | None, typer.Option(help="Of 'study' or a folder: pack runs here, skip those there.")] = None,
    backend: Annotated[str, typer.Option(help="Where jobs run: local (this machine), slurm or ray.")] = "local",
    gpus: Annotated[
        int | None,
        typer.Option(min=0, help="GPUs of each job. local: 1 if there is any, 0 shares all; slurm, ray: 0 unless set."),
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="For the scheduler, in its own words, such as partition=a100; repeat it."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run arms x seeds of an experiment, each as a papermill job executing notebooks/train.ipynb. Of a folder, a run
    that several experiments share is made once. With --tier the same question is asked of a real model.

    --backend slurm submits one array of jobs, --jobs at a time; --cluster takes sbatch's options and needs
    time=MINUTES (or HH:MM:SS, D-HH:MM:SS), after which a job is queued again and goes on from its checkpoint. Ctrl-C
    leaves jobs in the queue.

    --backend ray starts tasks; --cluster takes address, num_cpus, resources and max_retries. Ctrl-C ends the
    jobs, as it does on this machine. docs/scale.md has more.
    """
    from or1lab import sweep as sweeps
    from or1lab.recipe import split_override

    chosen = sweeps.parse_seeds(seeds) if seeds else None
    screen = Console(stderr=json, emoji=False)
    result = sweeps.run_sweep(
        experiment, tier=tier, seeds=chosen, jobs=jobs, resume=resume, dry_run=dry_run, out=out, packed=pack,
        backend=backend, gpus=gpus, cluster=dict(map(split_override, cluster or [])), console=screen,
    )  # fmt: skip
    if json:
        print_json(
            [{"run": o.job.folder, "state": o.state, "seconds": o.seconds, "error": o.error} for o in result.outcomes]
        )
    raise typer.Exit(result.exit_code)


app.command(epilog="Example: or1lab figures demo --out figures")(figures)


@app.command(epilog="Example: or1lab tables demo --out figures")
@without_collection()
def tables(
    names: Annotated[list[str] | None, typer.Argument(help="Tables to make; default all.")] = None,
    results: Results = None,
    out: Annotated[Path, typer.Option(help="Where tables go.")] = Path("figures"),
    tier: Tier = "tiny",
    json: Json = False,
) -> None:
    """Tables of experiments and of the paper, with our numbers beside its own: markdown (printed), HTML and LaTeX."""
    from or1lab import tables as making

    folder = runs_at(results, tier, named=names or ())
    written = making.make_tables(names or [], folder, out, tier)
    if json:
        print_json({str(path): text for path, text in written.items()})
        return
    making.show(written, console)
    console.print(f"runs read from {folder}", highlight=False, markup=False)


app.command("claims", epilog="Example: or1lab claims sgd-end --results experiments/results")(claims_view.claims)


@app.command(epilog="Example: or1lab report --results experiments/results --out report.html")
def report(
    results: OfStudy = None,
    tier: Tier = "tiny",
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks executed side by side.")] = 2,
    json: Json = False,
) -> None:
    """The whole study on one page (HTML), from its notebooks executed on the runs: the ledger, every figure, methods
    and limits. It opens without a network and prints well; what has no runs yet is named on it."""
    from or1lab import report as reports

    folder = runs_at(results, tier, of_study=True)
    made = reports.build(folder, out, tier=tier, jobs=jobs, console=Console(stderr=json))
    answer(asdict(made), json, lambda: reports.show(made, console))
    raise typer.Exit(int(bool(made.failed)))


@verify_app.command("math", epilog="Example: or1lab verify math --gold '\\frac12' --pred 0.5")
def verify_math(
    gold: Annotated[list[str] | None, typer.Option(help="Right answer; give it again for each further one.")] = None,
    pred: Annotated[str | None, typer.Option(help="Answer, or a response with its answer in a box.")] = None,
    batch: Annotated[Path | None, typer.Option(help="JSONL file of cases: gold, pred, expected, category.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at an invalid line instead of skipping it.")] = False,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds a comparison may take.")] = 5.0,
    markdown: Annotated[Path | None, typer.Option(help="Write the batch's report to this file, too.")] = None,
    json: Json = False,
) -> None:
    """Judge a mathematical answer, or a file of them with a report by category."""
    from or1lab import verify

    if batch is not None and not gold and pred is None:
        report = verify.run_batch(batch, strict=strict, timeout=timeout)
        _report(report, verify.markdown(report, batch.name), markdown, json)
        return
    if batch is not None or not gold or pred is None or strict or markdown:
        raise UsageError("give --gold and --pred, or --batch FILE (with --strict, --markdown FILE)")
    from or1lab.rewards.math import verify_math as judge

    verdict = judge(verify.as_response(pred), gold, timeout=timeout)
    told = _verdict(verdict.correct, verdict.reason)
    answer({"correct": verdict.correct, "reason": verdict.reason}, json, lambda: console.print(told))


@verify_app.command("code", epilog="Example: or1lab verify code --problem problem.json --solution answer.py")
def verify_code(
    problem: Annotated[Path | None, typer.Option(help="JSON file: a problem, or a record of tests alone.")] = None,
    solution: Annotated[Path | None, typer.Option(help="File with a program, or a response that holds one.")] = None,
    batch: Annotated[Path | None, typer.Option(help="JSONL file of cases: tests, response or solution, ...")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at an invalid line instead of skipping it.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the batch's report to this file, too.")] = None,
    json: Json = False,
) -> None:
    """Judge a program by its problem's tests, in the sandbox; or a file of them with a report by category."""
    from or1lab import verify_code as verify
    from or1lab.rewards import is_error, sandbox

    sandbox.require()
    if batch is not None and problem is None and solution is None:
        report = verify.run_batch(batch, strict=strict)
        _report(report, verify.markdown(report, batch.name), markdown, json)
        return
    if batch is not None or problem is None or solution is None or strict or markdown:
        raise UsageError("give --problem and --solution, or --batch FILE (with --strict, --markdown FILE)")
    verdict, layers = verify.judge_files(problem, solution), sandbox.active()
    if json:
        print_json({**asdict(verdict), "sandbox": layers})
    elif not is_error(verdict):
        console.print(_verdict(verdict.correct, verdict.reason))
        console.print(f"{verdict.passed} of {verdict.total} tests passed", highlight=False)
        console.print(f"sandbox: {', '.join(name for name, on in layers.items() if on)}", highlight=False)
    if is_error(verdict):
        raise Or1labError(f"no verdict on {solution}: {verdict.reason.removeprefix('error: ')}")


def _verdict(correct: bool, reason: str) -> Text:
    """In colour; a reason can hold what a model wrote, which is no markup."""
    from or1lab.data_view import safe

    return Text.assemble(("right", "green") if correct else ("wrong", "red"), safe(f" ({reason})"))


def _report(report: Any, page: str, markdown: Path | None, json: bool) -> None:
    from or1lab import verify_report

    answer(verify_report.as_json(report), json, lambda: verify_report.show(report, console))
    if markdown:  # last: a folder that is not there must not cost the report
        markdown.write_text(page, encoding="utf-8")


@tiny_app.command("build", epilog="Example: or1lab tiny build --out /some/folder")
def tiny_build(
    out: Annotated[Path, typer.Option(help="Folder of the new base policy.")],
    steps: Annotated[int, typer.Option(min=1, help="Supervised steps of 64 demonstrations.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of weights and demonstrations.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Rebuild the tiny world's base policy from scratch (about twelve minutes on one core)."""
    from or1lab.data import tiny_build as builder

    builder.build(out, steps=steps, seed=seed, threads=threads)


def main() -> None:
    """Entry point: errors of ours end with one message; the traceback only with --debug."""
    printable_anywhere()
    debug = "--debug" in sys.argv
    if debug:  # accepted anywhere on the line
        sys.argv.remove("--debug")
    else:
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        with process.stopped_by_signals():
            app()
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, (Or1labError, OSError))
        text = str(error) if known else f"unexpected {type(error).__name__}: {error}; again with --debug shows where"
        Console(stderr=True).out(f"error: {text}", style="red", highlight=False)
        sys.exit(error.exit_code if isinstance(error, Or1labError) else 1)


if __name__ == "__main__":
    main()
