"""`quadrate plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from quadrate.errors import QuadrateError
from quadrate.reports import plot_runs
from quadrate.runs import read_results


def plot(runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")], /, output: Path = Path("trade-off.png")) -> None:
    """Draws the trade-off of one or more evaluated runs as one figure.

    Args:
        runs: Run folders.
        output: The picture to write; PNG, PDF or SVG by its ending.
    """
    if not runs:
        raise QuadrateError("name at least one run folder to plot")
    plot_runs([read_results(run) for run in runs], output)
    print(f"figure: {output}")
