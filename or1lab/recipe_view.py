"""`or1lab show`: a resolved recipe with its arithmetic and the origin of each value.

A value's origin is the trailing comment of its line in the recipe file, else the source given with the knob's default.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from rich.console import Console
from rich.table import Column, Table

from or1lab.recipe import RELEASED_CONTROLLER, Recipe, find_recipe, load_recipe, read_yaml, split_override


def line_comments(text: str) -> dict[str, tuple[int, str]]:
    """Dotted key -> (line number, trailing comment of that line) of every value in a YAML text."""
    lines = text.splitlines()
    where: dict[str, int] = {}
    end_of_values: dict[int, int] = {}  # a '#' inside a quoted value is no comment: look behind the line's last value

    def walk(node: yaml.Node, key: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                walk(value, f"{key}.{name.value}" if key else name.value)
        elif isinstance(node, yaml.SequenceNode) and any(isinstance(n, yaml.MappingNode) for n in node.value):
            for i, item in enumerate(node.value):
                walk(item, f"{key}.{i}")
        else:
            where[key] = node.start_mark.line
            end = node.end_mark
            end_of_values[end.line] = max(end.column, end_of_values.get(end.line, 0))

    root = yaml.compose(text)
    if root is not None:
        walk(root, "")
    comment = {line: lines[line][end:].partition("#")[2].strip() for line, end in end_of_values.items()}
    return {key: (line + 1, comment.get(line, "")) for key, line in where.items()}


def origins(path: Path) -> dict[str, tuple[str, str]]:
    """Dotted key -> ("file:line", trailing comment) of every value that a recipe file, or the base of it, sets."""
    text, plain = path.read_text(encoding="utf-8"), read_yaml(path)
    own = {key: (f"{path.name}:{line}", comment) for key, (line, comment) in line_comments(text).items()}
    if "base" not in plain:
        return own
    below = origins(find_recipe(str(plain["base"])))
    return {key: told for key, told in below.items() if not _covers({"name", *plain}, key)} | own


def _covers(set_keys: Iterable[str], key: str) -> bool:
    """Whether one of those dotted keys is that key or a whole that holds it."""
    return any(key == name or key.startswith(f"{name}.") for name in set_keys)


def leaves(model: BaseModel, prefix: str = "") -> list[tuple[str, Any, str, str]]:
    """(dotted key, value, default's source, description) of every knob, in the order of the model."""
    rows: list[tuple[str, Any, str, str]] = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        extra = field.json_schema_extra
        source = str(extra.get("source", "")) if isinstance(extra, dict) else ""
        if isinstance(value, BaseModel):
            rows += leaves(value, f"{prefix}{name}.")
        elif name == "stages":
            for i, stage in enumerate(value):
                rows += [row for row in leaves(stage, f"stages.{i}.") if row[1] is not None]
        else:
            if name == "mix":
                value = [part.model_dump(exclude_unset=True) for part in value]
            rows.append((f"{prefix}{name}", value, source, field.description or ""))
    return rows


def rows(name: str, overrides: list[str]) -> tuple[Recipe, list[dict[str, Any]]]:
    """The recipe, and one row per knob: key, value, set_by, source, what."""
    path = find_recipe(name)
    recipe = load_recipe(name, overrides)
    comments = origins(path)
    overridden = {split_override(text)[0] for text in overrides}
    for knob in ("data.options", "data.mix", "reward"):  # of free form is one knob: its first line speaks for it
        for key in list(comments):
            if key.startswith(f"{knob}."):
                comments.setdefault(knob, comments[key])
    table = []
    for key, value, source, what in leaves(recipe):
        if _covers(overridden, key):
            set_by, why = "command line", ""
        elif key in comments:
            set_by, comment = comments[key]
            why = comment or "this recipe"
        else:
            released = recipe.entropy == "released" and key in RELEASED_CONTROLLER
            set_by, why = "default", "released code" if released else source
        table.append({"key": key, "value": value, "set_by": set_by, "source": why, "what": what})
    return recipe, table


def arithmetic(recipe: Recipe) -> list[str]:
    """Length and N_SGD of each stage in words (paper eq. 4.1)."""
    lines = []
    for i, s in enumerate(recipe.by_stage):
        policy = "on-policy" if s.N_SGD == 1 else "off-policy"
        steps, rule = f"{s.total_steps} steps", s.stages[0].until_converged
        if rule:
            steps = (
                f"until the last {rule.window} evaluations (one every {s.eval.every} steps) show no rise of accuracy, "
                f"at least {rule.min_steps} and at most {steps}"
            )
        lines.append(
            f"stage {i}: {steps}, T = {s.T}; {s.D_R} prompts x {s.gs} = {s.D_R * s.gs} responses a step; "
            f"N_SGD = ({s.D_R} / {s.D_T}) x {s.N_reuse} = {s.N_SGD} ({policy})"
        )
    return lines


def as_json(name: str, overrides: list[str]) -> dict[str, Any]:
    """The resolved recipe, N_SGD of each stage, and of every key who set it and by what source."""
    recipe, table = rows(name, overrides)
    return {
        "recipe": recipe.resolved(),
        "N_SGD": [stage.N_SGD for stage in recipe.by_stage],
        "total_steps": recipe.total_steps,
        "origin": {row["key"]: {"set_by": row["set_by"], "source": row["source"]} for row in table},
    }


def show(name: str, overrides: list[str], console: Console) -> None:
    """Print the same as a table, dim where a key stands at its default, and the arithmetic of the stages."""
    recipe, table = rows(name, overrides)
    columns = (Column(name, overflow="fold") for name in ("knob", "value", "set by", "source"))
    view = Table(*columns, title=recipe.name, title_justify="left")
    for row in table:
        style = "" if row["set_by"] != "default" else "dim"
        view.add_row(row["key"], str(row["value"]), row["set_by"], row["source"], style=style)
    console.print(view)
    for line in arithmetic(recipe):
        console.out(line, highlight=False)
