"""`quadrate recipes`."""

from __future__ import annotations

from itertools import groupby

from rich.table import Table

from quadrate.cli.console import CONSOLE
from quadrate.recipes import CATALOGUE


def recipes() -> None:
    """Lists the recipes by paper: figure, data, points of the thin and the published grid, what training the thin one cost, and the state."""
    table = Table(box=None, header_style="bold")
    for column, justify in (("recipe", "left"), ("shows", "left"), ("data", "left"), ("thin", "right"), ("published", "right"), ("CPU min", "right")):
        table.add_column(column, justify=justify, no_wrap=column == "recipe")  # type: ignore[arg-type]
    table.add_column("state")
    for paper, experiments in groupby(CATALOGUE, lambda experiment: experiment.paper):
        table.add_row(f"[italic]{paper}[/italic]")
        for experiment in experiments:
            points = ["" if count is None else str(count) for count in (experiment.points("thin"), experiment.points("published"))]
            cost = "" if experiment.cpu_minutes is None else f"{experiment.cpu_minutes:g}"
            table.add_row(f"  {experiment.name}", experiment.figures, experiment.data, *points, cost, experiment.state)
    CONSOLE.print(table)
    CONSOLE.print("thin, published: points of the two grids (--grid); CPU min: training the thin one on one core; --data cifar-10 stands in for SVHN")
