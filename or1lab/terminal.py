"""What the commands have in common: the console, and JSON."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

Tier = Annotated[str, typer.Option(help="tiny (the files as they stand), or a real model: 1.5b, 7b, 32b.")]


def print_json(value: Any) -> None:
    print(jsonlib.dumps(value, indent=2, default=str))
