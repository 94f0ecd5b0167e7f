"""`quadrate evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from quadrate.cli.progress import CONSOLE, Progress
from quadrate.files import write_text
from quadrate.reports import findings_markdown, plot_run, results_table
from quadrate.runs import Run


def evaluate(run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")], /, device: str = "cpu", workers: int | None = None) -> None:
    """Scores every trained point of a run on the test set by the fixed protocol; writes a table, findings and a figure into it.

    Args:
        run: A run folder.
        device: cpu or cuda.
        workers: Processes at most; by default one a core.
    """
    opened = Run.open(run, device=device)
    with Progress.of_evaluation(opened) as progress:
        rows = opened.evaluate(workers, progress.report)
    CONSOLE.print(results_table(rows))
    figure = opened.folder / "trade-off.png"
    plot_run(opened.recipe.name, rows, figure)
    complete = len(rows) == sum(len(stage.points) for stage in opened.recipe.stages)
    findings = findings_markdown(opened.recipe.name, rows) if complete else "Some points are not trained yet, so there are no findings yet."
    write_text(opened.folder / "findings.md", findings)
    print(f"{findings}\ntable:    {opened.folder / 'results.csv'}\nfindings: {opened.folder / 'findings.md'}\nfigure:   {figure}")
