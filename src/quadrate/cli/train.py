"""`quadrate train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from quadrate.cli.steps import adapted, adapted_points, for_data, train_points, train_run
from quadrate.errors import QuadrateError
from quadrate.recipes import POINT_RECIPES, Grid, find_recipe, with_seeds
from quadrate.recipes.subset import Subset
from quadrate.runs import Run
from quadrate.runs.kinds import run_of

_ALL = Subset()


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    /,
    grid: Grid = "thin",
    data: str | None = None,
    family: Literal["compact", "compact-colour", "paper"] | None = None,
    judge: str | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    runs: Path = Path("runs"),
    device: str = "cpu",
    execution: Literal["auto", "single", "spread", "stacked"] = "auto",
    workers: int | None = None,
    part: Annotated[Subset, tyro.conf.OmitArgPrefixes] = _ALL,
) -> None:
    """Trains a recipe; what is trained already is kept, what was interrupted goes on.

    Args:
        recipe: A name that `quadrate recipes` lists.
        grid: Weights and settings that two cores finish (thin), or the paper's (published).
        data: Another data set, or a folder of images, in place of the recipe's; points with lambda_c > 0 take class folders.
        family: Other networks: ours, ours for colour, or the published ones. With other data, those of ours that fit by default.
        judge: Another classifier in the loss: conv, dense, residual, paper, or the path of a checkpoint. With other data, one that fits by default.
        seeds: Seeds for each point, in place of the recipe's.
        epochs: Passes over the data, for a quick look.
        runs: Where run folders live.
        device: cpu or cuda.
        execution: How points run: stacked as one program (the default on a GPU), spread over processes (the default on a CPU), or one by one.
        workers: Processes at most; by default one a core.
        part: Some of the recipe's points, or other settings.
    """
    if recipe in POINT_RECIPES:
        if family or judge or execution != "auto":
            raise QuadrateError(f"{recipe} has its own networks, no judge, and runs a point a process; leave --family, --judge and --execution out")
        if part.words:
            raise QuadrateError(f"{recipe} is trained as a whole, with its own settings; leave {part.words[0]} out")
        points = run_of(adapted_points(recipe, data, seeds, grid, epochs=epochs), runs, device)
        train_points(points, workers)
        print(f"trained: {points.folder}\nnext:    quadrate evaluate {points.folder}")
        return
    found = find_recipe(recipe, grid)
    chosen = adapted(found, data, family, judge, epochs)
    chosen = part.of(chosen if seeds is None else with_seeds(chosen, seeds))
    run = Run(for_data(found, chosen, family, judge), runs, device=device)
    train_run(run, execution, workers)
    print(f"trained: {run.folder}\nnext:    quadrate evaluate {run.folder}")
