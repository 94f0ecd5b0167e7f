"""`quadrate plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import FIGURES, Output, output_file
from quadrate.cli.printer import PRINTER, Printing
from quadrate.core.plugins import load_plugins
from quadrate.errors import QuadrateError


def plot(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    output: Output = "trade-off.png",
    overwrite: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Draw evaluated runs as one figure.

    It shows their trade-offs; of invariant codecs, accuracy against bits on disk.

    Args:
        runs: Run folders.
        output: The picture to write; PNG, PDF or SVG by its ending.
        overwrite: Replace the picture if it is there.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    path = output_file(output, FIGURES, overwrite)
    if not runs:
        raise QuadrateError("name at least one run folder to plot")
    from quadrate.experiments.runs import kind_of, naming
    from quadrate.experiments.runs.kinds import find_kind

    kinds = {kind_of(run): run for run in runs}
    if len(kinds) > 1:
        (first, run), (other, another), *_ = kinds.items()
        raise QuadrateError(
            f"{run} is a run of kind {first}, {another} one of kind {other}; plot them apart"
        )
    with naming(*runs):
        find_kind(*kinds).plot(runs, path)
    printer.done({"figure": path}, f"figure: {path}")
