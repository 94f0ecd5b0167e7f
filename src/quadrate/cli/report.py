"""`quadrate report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import Output, output_file
from quadrate.cli.printer import PRINTER, Printing
from quadrate.core.plugins import load_plugins
from quadrate.errors import QuadrateError


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    output: Output = "report.html",
    overwrite: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Make one HTML page of evaluated runs.

    Charts to explore, pictures, tables, claims and settings, to be read without a network.

    Args:
        runs: Run folders; those on one data set share a chart as well.
        output: The page to write, whose name ends in .html.
        overwrite: Replace the page if it is there.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    path = output_file(output, (".html", ".htm"), overwrite)
    if not runs:
        raise QuadrateError("name at least one run folder to report on")
    from quadrate.experiments.page import write_report

    write_report(runs, path)
    size = path.stat().st_size
    printer.done({"report": path, "bytes": size}, f"report: {path} ({size / 1e6:.1f} MB)")
