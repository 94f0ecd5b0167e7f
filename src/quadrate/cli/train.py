"""`quadrate train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from quadrate.cli.modules import Logging, Modules, Terms
from quadrate.cli.printer import PRINTER, Printing
from quadrate.cli.ray_options import RayOptions, on_one_machine
from quadrate.core.plugins import load_plugins
from quadrate.experiments.recipes import Grid
from quadrate.experiments.recipes.subset import Subset

_ALL = Subset()
_RAY = RayOptions()


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    /,
    grid: Grid = "quick",
    data: str | None = None,
    family: str | None = None,
    judge: str | None = None,
    term: Terms = (),
    seeds: int | None = None,
    epochs: int | None = None,
    runs: Path = Path("runs"),
    device: str = "cpu",
    execution: Literal["auto", "single", "spread", "stacked", "ray"] = "auto",
    workers: int | None = None,
    ray: Annotated[RayOptions, tyro.conf.OmitArgPrefixes] = _RAY,
    part: Annotated[Subset, tyro.conf.OmitArgPrefixes] = _ALL,
    log: Logging = (),
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Train a recipe, or go on where it was interrupted.

    Args:
        recipe: A name that `quadrate recipes` lists.
        grid: Weights and settings that two cores finish (quick), or the paper's (published).
        data: Another data set, or a folder of images, in place of the recipe's; points with
            lambda_c > 0 take class folders.
        family: Other networks: ours (compact), ours for colour (compact-colour), the published ones
            (paper), or registered ones. With other data, those of ours that fit by default.
        judge: Another classifier in the loss: conv, dense, lenet, paper, residual, strided, a
            registered one, or the path of a judge or checkpoint. With other data, one that fits by
            default.
        term: A registered loss of your own and its weight; may be given several times.
        seeds: Seeds for each point, in place of the recipe's.
        epochs: Passes over the data, for a quick look.
        runs: Where run folders live.
        device: cpu or cuda.
        execution: How points run: stacked as one program (the default on a GPU), spread over
            processes (the default on a CPU), one by one, or on a Ray cluster (docs/training.md),
            each a job on a CPU, stacks of them on GPUs.
        workers: Processes at most; by default one a core.
        ray: The Ray cluster.
        part: Some of the recipe's points, or other settings.
        log: Where curves go, besides the run's folder: csv, tensorboard, wandb (docs/logs.md); may
            be given several times.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    where = ray.workers(execution, workers)
    load_plugins(module)
    from quadrate.cli.steps import Changes
    from quadrate.experiments.runs import Run

    changes = Changes(family, grid, seeds, epochs, data, judge, term, part)
    run = Run(changes.of(recipe, printer.remark), runs, device)
    run.train(on_one_machine(execution), where, printer.report, log)
    next_step = f"next:    quadrate evaluate {run.folder}"
    printer.done({"run": run.folder}, f"trained: {run.folder}", next_step)
