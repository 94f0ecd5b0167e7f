"""`quadrate judge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.printer import PRINTER, Printing
from quadrate.core.plugins import load_plugins


def judge(
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    architecture: str = "conv",
    seed: int = 0,
    runs: Path = Path("runs"),
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Train or score a classifier that judges codecs on a data set.

    Prints its accuracy on clean images.

    Args:
        data: A data set's name, or a folder of labelled images.
        architecture: conv, dense, lenet, paper, residual, strided or a registered one; or the path
            of a judge or a published checkpoint.
        seed: The seed of the training.
        runs: Its file goes into RUNS/judges, where training finds it.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    from quadrate.sources import load_source
    from quadrate.training import find_judge
    from quadrate.training.processes import one_thread

    with one_thread():
        found = find_judge(
            architecture, load_source(data), runs / "judges", seed=seed, report=printer.report
        )
    facts = {
        "judge": found.name,
        "data": data,
        "accuracy": found.accuracy,
        "cross_entropy_nats": found.cross_entropy_nats,
    }
    printer.result(
        facts,
        f"judge {found.name} on clean {data}: accuracy {found.accuracy:.4f}, cross-entropy"
        f" {found.cross_entropy_nats:.4f} nats",
    )
