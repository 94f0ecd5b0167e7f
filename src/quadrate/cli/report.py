"""`quadrate report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from quadrate.errors import QuadrateError


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html"),
) -> None:
    """Makes one HTML page of evaluated runs, to be read without a network: charts to explore, pictures, tables, findings, settings.

    Args:
        runs: Run folders; those on one data set share a chart as well.
        output: The page to write.
    """
    if not runs:
        raise QuadrateError("name at least one run folder to report on")
    from quadrate.reports.page import write_report

    write_report(runs, output)
    print(f"report: {output} ({output.stat().st_size / 1e6:.1f} MB)")
