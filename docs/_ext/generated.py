"""Directives that write pages from the code and its data: recipe keys, recipes, commands, studies, contradictions,
licences.

Each is a function that returns Markdown; nothing of what they say is written twice.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.cli import get_docs_for_click

from or1lab import claims_view, cli, paper, recipe_view, study_figures
from or1lab.claims import load_claims, load_follow_ups
from or1lab.experiment import Experiment, load_experiment
from or1lab.figures import PAPER
from or1lab.ledger import ledger
from or1lab.paper_tables import SHEETS
from or1lab.plots.study import places
from or1lab.recipe import RECIPES, ROOT, Recipe, load_recipe, read_yaml
from or1lab.recipe_parts import Convergence, Part, Stage
from or1lab.run_statistics import STATISTICS
from or1lab.studies import studies
from or1lab.terminal import KEPT

SYMBOLS = Path(__file__).with_name("symbols.yaml")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    cells = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows)
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {row} |" for row in cells)])


# ------------------------------------------------------------------------------------------------------- recipe keys


def knobs(model: type[BaseModel], prefix: str = "") -> list[tuple[str, FieldInfo]]:
    """(dotted key, field) of each knob of a recipe, the models inside it first where they stand."""
    found: list[tuple[str, FieldInfo]] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += knobs(inner, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", field))
    return found


def every_knob() -> dict[str, FieldInfo]:
    """Dotted key -> field of all knobs, those of a stage and of a part of a mix included."""
    lists: dict[str, type[BaseModel]] = {
        "data.mix[].": Part,
        "stages[].": Stage,
        "stages[].until_converged.": Convergence,
    }
    return dict(knobs(Recipe)) | {key: field for at, model in lists.items() for key, field in knobs(model, at)}


def choices(annotation: Any) -> list[str]:
    """The words that a knob takes; none if it takes others."""
    if get_origin(annotation) is Literal:
        return [f"`{value}`" for value in get_args(annotation)]
    if get_origin(annotation) in (Union, types.UnionType):
        return [word for part in get_args(annotation) for word in choices(part)]
    return []


def recipe_keys() -> str:
    """Every key of a recipe: symbol of the paper, unit, default, meaning, source of the default."""
    told, sections = read_yaml(SYMBOLS), dict[str, list[tuple[str, ...]]]()
    for key, field in every_knob().items():
        group, dot, _ = key.rpartition(".")
        extra = field.json_schema_extra
        source = str(extra.get("source", "")) if isinstance(extra, dict) else ""
        symbol, unit = told.get(key, told.get(key.removeprefix("stages[]."), ["", ""]))
        default = (
            "needed" if field.is_required() else "" if field.default in (None, (), {}, "") else f"`{field.default}`"
        )
        default = default.replace("'", "")
        words = choices(field.annotation)
        meaning = (field.description or "as in the recipe") + (f"; one of {', '.join(words)}" if words else "")
        shown = f"`{key}`" if group != "data.mix[]" else f"`{key.replace('[]', '.0')}`"
        row = (shown.replace("stages[]", "stages.0"), symbol, unit, default, meaning, source)
        sections.setdefault(group if dot else "The recipe", []).append(row)
    head = ("key", "paper", "unit", "default", "what it is", "source of the default")
    names = {"data.mix[]": "A part of data.mix", "stages[]": "A stage", "stages[].until_converged": "until_converged"}
    return "\n\n".join(f"## {names.get(name, name)}\n\n{table(head, rows)}" for name, rows in sections.items())


def recipes() -> str:
    """The recipes that come with the repository, with the arithmetic of their stages."""
    rows = []
    for path in sorted(RECIPES.glob("*.yaml")):
        recipe = load_recipe(path)
        lines = recipe_view.arithmetic(recipe)
        rows.append((f"`{path.stem}`", f"`{recipe.model}`", "<br>".join(lines)))
    return table(("recipe", "model", "stages"), rows)


def released(name: str = "7b") -> str:
    """What the recipe of the released scripts sets otherwise than the one of the paper."""
    theirs, rows = recipe_view.rows(f"{name}-released", [])
    flat = {key: value for key, value, *_ in recipe_view.leaves(load_recipe(name))}
    shown = [
        (f"`{row['key']}`", f"`{flat.get(row['key'])}`", f"`{row['value']}`", row["source"])
        for row in rows
        if row["key"] != "name" and flat.get(row["key"]) != row["value"]
    ]
    return table(("key", f"`{name}`, as printed", f"`{theirs.name}`, as released", "source"), shown)


# ---------------------------------------------------------------------------------------------------------- commands


def commands() -> str:
    """Every command of the command line, as its own help has it."""
    command: Any = typer.main.get_command(cli.app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="or1lab")
    text = re.sub(r"\[/?bold\]|\[/\]", "", text.partition("\n")[2])
    return re.sub(r"^Example: (.+)$", r"Example: `\1`", text, flags=re.MULTILINE)


# -------------------------------------------------------------------------------------------- the study and the paper


def study_table() -> str:
    """Every study with its question, its size and the claims that it decides."""
    claims = [claim.experiment for claim in load_claims() + load_follow_ups()]

    def row(study: Experiment) -> tuple[str, ...]:
        place = study.paper.place if study.paper else "ours"
        size = f"{len(study.arms)} x {len(study.seeds)}"
        return (f"`{study.name}`", study.question, place, size, str(claims.count(study.name)))

    return table(("study", "question", "place in the paper", "arms x seeds", "claims"), map(row, studies()))


# What the paper draws without data, and where its curves were not seen: our own counterparts.
WITHOUT_CURVES = {
    "Figure 12": "drawn in [the study](study.md)", "Figure 15": "drawn in [off-policy updates](off_policy.md)",
    "Figures 23 and 24": "drawn in [resources](resources.md)", "Figures 25 and 26": "`resources`",
    "Figure 27": "`notebooks/verifiers.ipynb`",
}  # fmt: skip


def counterparts() -> str:
    """Every figure and table of the paper, and the names under which its counterpart is made here."""
    shown: dict[str, list[str]] = {place: [told] for place, told in WITHOUT_CURVES.items()}
    for name, spec in study_figures.table().figures.items():
        for place in dict.fromkeys(places((place,)) for panel in spec.panels for place in panel.paper):
            shown.setdefault(place, []).append(f"`{name}`")
    for name in (*PAPER, *SHEETS):
        if numbered := re.fullmatch(r"(figure|table)(\d+\w?)", name):
            shown.setdefault(f"{numbered[1].capitalize()} {numbered[2]}", []).append(f"`{name}`")

    def in_order(row: tuple[str, list[str]]) -> tuple[bool, int, str]:
        return row[0].startswith("Table"), int(re.findall(r"\d+", row[0])[0]), row[0]

    rows = ((place, ", ".join(names)) for place, names in sorted(shown.items(), key=in_order))
    return table(("in the paper", "here"), rows)


def the_ledger() -> str:
    """Every claim with its verdict by the runs that are kept."""
    return claims_view.sheet(ledger(ROOT / KEPT)).markdown()


def statistics() -> str:
    """What the claims compare: every statistic of a run, by the docstring of its function."""

    def told(function: Any) -> str:
        text = " ".join((getattr(function, "func", function).__doc__ or "").split("\n\n")[0].split())
        given = [str(value) for value in getattr(function, "args", ())]
        given += [f"{key} {value}" for key, value in getattr(function, "keywords", {}).items()]
        return text + (f" Here: {', '.join(given)}." if given else "")

    return table(("statistic", "what it is"), ((f"`{name}`", told(one)) for name, one in STATISTICS.items()))


def contradictions() -> str:
    """Where two places of the paper, or the paper and its code, say different things."""
    rows = paper.load("contradictions")["rows"]

    def places(row: dict[str, Any]) -> str:
        return ", ".join(re.sub(r"([a-z])(\d)", r"\1 \2", at) for at in row["at"])

    starts = [one for one in paper.load("results")["contradictions"] if one["suite"] == "mean"]
    told = [(one["note"], "table 13, abstract") for one in starts]
    return table(("what", "met in"), told + [(row["note"].format(**row["values"]), places(row)) for row in rows])


def an_experiment(name: str) -> str:
    """The file of an experiment that comes with the repository."""
    load_experiment(name)
    return f"```yaml\n{(RECIPES.parent / 'ablations' / f'{name}.yaml').read_text(encoding='utf-8')}```"


def licences() -> str:
    """Every package that is installed here, under the licence that its metadata tell."""

    def told(package: Distribution) -> str:
        about = package.metadata
        classes = [text.split(" :: ")[-1] for text in about.get_all("Classifier") or [] if text.startswith("License")]
        first = (about["License"] or "not told").strip().partition("\n")[0]
        return about["License-Expression"] or " or ".join(classes) or first

    packages: dict[str, str] = {package.name: told(package) for package in distributions() if package.name != "or1lab"}
    names = {licence: [name for name in packages if packages[name] == licence] for licence in packages.values()}
    rows = sorted(names.items(), key=lambda row: (-len(row[1]), row[0]))
    return table(("licence", "packages"), ((row[0], ", ".join(sorted(row[1], key=str.lower))) for row in rows))


WRITERS: dict[str, Callable[..., str]] = {
    "recipe-keys": recipe_keys,
    "recipes": recipes,
    "released": released,
    "commands": commands,
    "study-table": study_table,
    "counterparts": counterparts,
    "ledger": the_ledger,
    "statistics": statistics,
    "contradictions": contradictions,
    "experiment": an_experiment,
    "licences": licences,
}


class Written(SphinxDirective):
    """Puts the Markdown of one of WRITERS in its place; its argument, if any, is that of the function."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = WRITERS[self.name](*self.arguments)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    for name in WRITERS:
        app.add_directive(name, Written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
