"""`quadrate recipes`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from quadrate.cli.modules import Modules
from quadrate.cli.printer import PRINTER, Printing
from quadrate.core.plugins import load_plugins

if TYPE_CHECKING:
    from quadrate.core.table import Table

_QUICK = (
    "quick, published: points of the two grids (--grid); CPU min: what training the quick one\n"
    "took Quadrate's developers on one core"
)
_RESULTS = (
    "results: whether Quadrate's repository has their results (results/NAME); every recipe can be\n"
    "run; cifar-10 stood in for svhn"
)


def recipes(module: Modules = (), printer: Printing = PRINTER) -> None:
    """List the recipes by paper.

    Figure, data, points of both grids, what training the quick one cost, and whether there are
    results to compare.

    Args:
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    from quadrate.experiments.recipes import catalogue

    facts = [
        {
            "name": line.name,
            "paper": line.paper,
            "shows": line.figures,
            "data": line.data,
            "quick_points": line.points("quick"),
            "published_points": line.points("published"),
            "cpu_minutes": line.cpu_minutes,
            "results": line.committed,
        }
        for line in catalogue()
    ]
    printer.result(facts, _table(facts), _QUICK, _RESULTS)


def _table(facts: list[dict[str, Any]]) -> Table:
    """The recipes below the names of their papers."""
    from quadrate.core.table import Column, Table

    lines: list[tuple[str, ...]] = []
    for paper, group in groupby(facts, lambda line: line["paper"]):
        lines.append((paper, "", "", "", "", "", ""))
        for line in group:
            counts = (line["quick_points"], line["published_points"], line["cpu_minutes"])
            numbers = ("" if count is None else f"{count:g}" for count in counts)
            name = f"  {line['name']}"
            lines.append((name, line["shows"], line["data"], *numbers, line["results"]))
    headings = ("recipe", "shows", "data", "quick", "published", "CPU min", "results")
    columns = zip(headings, zip(*lines, strict=True), strict=True)
    numeric = ("quick", "published", "CPU min")
    return Table([Column(name, own, name not in numeric) for name, own in columns])
