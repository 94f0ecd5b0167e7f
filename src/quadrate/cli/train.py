"""`quadrate train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from quadrate.cli.progress import Progress
from quadrate.config import Recipe
from quadrate.recipes import find_recipe
from quadrate.runs import Run


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    /,
    data: str | None = None,
    family: Literal["compact", "paper"] | None = None,
    judge: str | None = None,
    epochs: int | None = None,
    runs: Path = Path("runs"),
    device: str = "cpu",
    execution: Literal["auto", "single", "spread", "stacked"] = "auto",
    workers: int | None = None,
) -> None:
    """Trains a recipe; what is trained already is kept, what was interrupted goes on.

    Args:
        recipe: A name that `quadrate recipes` lists.
        data: Another data set, or a folder of labelled images, in place of the recipe's.
        family: Other networks: ours, or the published ones.
        judge: Another classifier in the loss: conv, dense, paper, or the path of a checkpoint.
        epochs: Passes over the data, for a quick look.
        runs: Where run folders live.
        device: cpu or cuda.
        execution: How points run: stacked as one program (the default on a GPU), spread over processes (the default on a CPU), or one by one.
        workers: Processes at most; by default one a core.
    """
    chosen = find_recipe(recipe)
    if data is not None and data != chosen.source:
        # Another name: what is published for the recipe does not speak of other data.
        chosen = replace(chosen, source=data, name=f"{Path(data).name}-{chosen.name}")
    chosen = replace(chosen, family=family or chosen.family, judge=judge or chosen.judge)
    if epochs is not None:
        chosen = _with_epochs(chosen, epochs)
    run = Run(chosen, runs, device=device)
    with Progress.of_training(run) as progress:
        run.train(execution, workers, progress.report)
    print(f"trained: {run.folder}\nnext:    quadrate evaluate {run.folder}")


def _with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    return replace(recipe, stages=tuple(replace(stage, training=replace(stage.training, epochs=epochs)) for stage in recipe.stages))
