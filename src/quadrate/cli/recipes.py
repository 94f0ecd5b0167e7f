"""`quadrate recipes`."""

from __future__ import annotations

from itertools import groupby


def recipes() -> None:
    """List the recipes by paper.

    Figure, data, points of both grids, what training the quick one cost, and whether there are
    results to compare.
    """
    from rich.table import Table

    from quadrate.cli.console import CONSOLE
    from quadrate.experiments.recipes import catalogue

    table = Table(box=None, header_style="bold")
    for column, justify in (
        ("recipe", "left"),
        ("shows", "left"),
        ("data", "left"),
        ("quick", "right"),
        ("published", "right"),
        ("CPU min", "right"),
    ):
        table.add_column(column, justify=justify, no_wrap=column == "recipe")  # type: ignore[arg-type]
    table.add_column("results")
    for paper, experiments in groupby(catalogue(), lambda experiment: experiment.paper):
        table.add_row(f"[italic]{paper}[/italic]")
        for experiment in experiments:
            points = [
                "" if count is None else str(count)
                for count in (experiment.points("quick"), experiment.points("published"))
            ]
            cost = "" if experiment.cpu_minutes is None else f"{experiment.cpu_minutes:g}"
            table.add_row(
                f"  {experiment.name}",
                experiment.figures,
                experiment.data,
                *points,
                cost,
                experiment.committed,
            )
    CONSOLE.print(table)
    CONSOLE.print(
        "quick, published: points of the two grids (--grid); CPU min: what training the quick one"
        " took Quadrate's developers on one core"
    )
    CONSOLE.print(
        "results: whether Quadrate's repository has their results (results/NAME); every recipe can"
        " be run; cifar-10 stood in for svhn"
    )
