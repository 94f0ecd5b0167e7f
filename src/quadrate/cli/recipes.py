"""`quadrate recipes`."""

from __future__ import annotations

from itertools import groupby

from quadrate.cli.modules import Modules
from quadrate.core.plugins import load_plugins


def recipes(module: Modules = ()) -> None:
    """List the recipes by paper.

    Figure, data, points of both grids, what training the quick one cost, and whether there are
    results to compare.

    Args:
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
    """
    load_plugins(module)
    from quadrate.cli.console import CONSOLE
    from quadrate.core.table import Column, Table
    from quadrate.experiments.recipes import catalogue

    lines: list[tuple[str, ...]] = []
    for paper, experiments in groupby(catalogue(), lambda experiment: experiment.paper):
        lines.append((paper, "", "", "", "", "", ""))
        for line in experiments:
            counts = (line.points("quick"), line.points("published"), line.cpu_minutes)
            numbers = ("" if count is None else f"{count:g}" for count in counts)
            name = f"  {line.name}"
            lines.append((name, line.figures, line.data, *numbers, line.committed))
    headings = ("recipe", "shows", "data", "quick", "published", "CPU min", "results")
    columns = zip(headings, zip(*lines, strict=True), strict=True)
    numeric = ("quick", "published", "CPU min")
    CONSOLE.print(Table([Column(name, own, name not in numeric) for name, own in columns]).text())
    CONSOLE.print(
        "quick, published: points of the two grids (--grid); CPU min: what training the quick one"
        " took Quadrate's developers on one core"
    )
    CONSOLE.print(
        "results: whether Quadrate's repository has their results (results/NAME); every recipe can"
        " be run; cifar-10 stood in for svhn"
    )
