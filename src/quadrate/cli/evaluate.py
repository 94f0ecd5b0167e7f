"""`quadrate evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.printer import PRINTER, Printing
from quadrate.cli.ray_options import RayOptions
from quadrate.core.plugins import load_plugins

_RAY = RayOptions()


def evaluate(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    device: str = "cpu",
    execution: Literal["spread", "ray"] = "spread",
    workers: int | None = None,
    ray: Annotated[RayOptions, tyro.conf.OmitArgPrefixes] = _RAY,
    quick: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Score every trained point of a run on the test set.

    By the fixed protocol; the table, the figure and the verdicts on the paper's claims go into the
    run's folder.

    Args:
        run: A run folder.
        device: cpu or cuda.
        execution: Whether points are spread over processes or over a Ray cluster
            (docs/training.md).
        workers: Processes at most; by default one a core.
        ray: The Ray cluster.
        quick: A first look at about a sixth of the cost, on fewer images and steps; its rough
            scores are labelled quick, and compare with no others.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    where = ray.workers(execution, workers)
    load_plugins(module)
    from quadrate.cli.steps import evaluate_run
    from quadrate.experiments.runs import Run

    evaluate_run(Run.open(run, device), where, quick, printer=printer)
