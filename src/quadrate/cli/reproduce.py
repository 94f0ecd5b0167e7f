"""`quadrate reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from quadrate.cli.modules import Logging, Modules
from quadrate.cli.printer import PRINTER, Printing
from quadrate.cli.ray_options import RayOptions, on_one_machine
from quadrate.core.plugins import load_plugins
from quadrate.experiments.recipes import Grid
from quadrate.experiments.recipes.subset import Subset

_ALL = Subset()
_RAY = RayOptions()


def reproduce(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")],
    /,
    networks: Literal["default", "paper"] = "default",
    grid: Grid = "quick",
    seeds: int | None = None,
    epochs: int | None = None,
    data: str | None = None,
    device: str = "cpu",
    runs: Path = Path("runs"),
    execution: Literal["auto", "single", "spread", "stacked", "ray"] = "auto",
    workers: int | None = None,
    ray: Annotated[RayOptions, tyro.conf.OmitArgPrefixes] = _RAY,
    part: Annotated[Subset, tyro.conf.OmitArgPrefixes] = _ALL,
    log: Logging = (),
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Reproduce a published experiment from end to end.

    It is trained and evaluated, and the verdicts say which of the paper's claims hold. The table,
    the figure and the verdicts go into the run's folder. After an interruption, the same command
    goes on.

    Args:
        name: An experiment that `quadrate recipes` lists.
        networks: The recipe's own, or the published ones.
        grid: Weights and settings that two cores finish (quick), or the paper's (published).
        seeds: Seeds for each point, in place of the recipe's; an interval takes two at least. What
            was trained for fewer is taken over.
        epochs: Passes over the data, for a quick look.
        data: Another data set, or a folder of labelled images, in place of the recipe's.
        device: cpu or cuda.
        runs: Where run folders live.
        execution: As in `quadrate train`; with ray, points are scored on the cluster, too.
        workers: Processes at most; by default one a core.
        ray: The Ray cluster.
        part: Some of the recipe's points, or other settings; claims that need the others stay
            undecided.
        log: Where curves go, besides the run's folder: csv, tensorboard, wandb (docs/logs.md); may
            be given several times.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    where = ray.workers(execution, workers)
    load_plugins(module)
    from quadrate.cli.steps import Changes, evaluate_run, reproduce_command
    from quadrate.experiments.runs import Run

    family = None if networks == "default" else networks
    changes = Changes(family, grid, seeds, epochs, data, part=part)
    run = Run(changes.of(name, printer.remark), runs, device)
    run.train(on_one_machine(execution), where, printer.report, log)
    command = reproduce_command(name, changes, module)
    evaluate_run(run, where, command=command, printer=printer)
    run.log(*log)
