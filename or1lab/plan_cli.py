"""`or1lab plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from or1lab.terminal import Json, answer, console


def plan(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of one under experiments/recipes.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides such as micro_tokens=20000.")
    ] = None,
    gpus: Annotated[str, typer.Option(help="How many of which, as 8xH100; cpu: this machine.")] = "cpu",
    nodes: Annotated[int | None, typer.Option(help="Nodes; --gpus then counts those of one.")] = None,
    tp: Annotated[int | None, typer.Option(min=1, help="GPUs of an engine; default the fewest that fit.")] = None,
    sleep: Annotated[
        bool | None,
        typer.Option("--sleep/--no-sleep", help="The engine frees its memory in the update; default if needed."),
    ] = None,
    offload: Annotated[bool, typer.Option("--offload/--no-offload", help="Training state in host memory.")] = False,
    server: Annotated[int, typer.Option(min=0, help="GPUs that only sample; the others only train.")] = 0,
    lengths: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Take response lengths and kept groups from a run.")
    ] = None,
    json: Json = False,
) -> None:
    """Memory, time and GPU-hours of a recipe on a machine, and what would fit or be faster. Loads no weights.

    Exit code 1: it does not fit."""
    from or1lab.planner import plan as planner
    from or1lab.planner import view
    from or1lab.planner.architecture import architecture
    from or1lab.planner.hardware import cluster
    from or1lab.planner.lengths import law, measured
    from or1lab.planner.memory import Layout
    from or1lab.planner.suggest import suggestions
    from or1lab.recipe import load_recipe

    loaded, machine = load_recipe(recipe, overrides or []), cluster(gpus, nodes)
    a, sampled = architecture(loaded.model), law(loaded.model)
    if lengths:
        sampled = measured(lengths, sampled.prompt)
    own = loaded.rollout
    tp = tp or (own.tensor_parallel if own.tensor_parallel > 1 else None)
    sleep = True if sleep is None and own.sleep and not server else sleep
    layout = Layout(tp or 1, bool(sleep), offload, server)
    found = planner.plan(loaded, a, machine, sampled, layout, any_tp=tp is None, any_sleep=sleep is None)
    better = suggestions(found)
    plain = found.plain() | {"suggestions": [one.plain() for one in better]}
    answer(plain, json, lambda: view.show(found, better, console))
    raise typer.Exit(0 if found.fits else 1)
