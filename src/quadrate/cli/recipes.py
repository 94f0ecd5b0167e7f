"""`quadrate recipes`."""

from __future__ import annotations

from rich.table import Table

from quadrate.cli.progress import CONSOLE
from quadrate.recipes import RECIPES


def recipes() -> None:
    """Lists the recipes: name, data, how many operating points, what it shows."""
    table = Table(box=None, header_style="bold")
    for column in ("recipe", "data", "points", "shows"):
        table.add_column(column, justify="right" if column == "points" else "left")
    for name, recipe in RECIPES.items():
        made = recipe()
        table.add_row(name, made.source, str(sum(len(stage.points) for stage in made.stages)), made.title)
    CONSOLE.print(table)
