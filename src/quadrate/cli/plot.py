"""`quadrate plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import FIGURES, Output, output_file
from quadrate.core.plugins import load_plugins
from quadrate.errors import QuadrateError


def plot(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    output: Output = "trade-off.png",
    overwrite: bool = False,
    module: Modules = (),
) -> None:
    """Draw evaluated runs as one figure.

    It shows their trade-offs; of invariant codecs, accuracy against bits on disk.

    Args:
        runs: Run folders.
        output: The picture to write; PNG, PDF or SVG by its ending.
        overwrite: Replace the picture if it is there.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
    """
    load_plugins(module)
    path = output_file(output, FIGURES, overwrite)
    if not runs:
        raise QuadrateError("name at least one run folder to plot")
    from quadrate.experiments.reports import plot_runs
    from quadrate.experiments.runs import read_results
    from quadrate.experiments.runs.kinds import is_point_run
    from quadrate.experiments.runs.run_folder import naming

    invariant = [run for run in runs if is_point_run(run)]
    if invariant and len(invariant) < len(runs):
        raise QuadrateError(
            f"{invariant[0]} is no trade-off of the same scores as the others; plot them apart"
        )
    with naming(*runs):
        if invariant:
            from quadrate.experiments.reports.invariant_figures import plot_tables

            plot_tables([run / "results.csv" for run in runs], path)
        else:
            plot_runs([read_results(run) for run in runs], path)
    print(f"figure: {path}")
