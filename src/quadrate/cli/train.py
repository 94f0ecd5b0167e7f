"""`quadrate train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from quadrate.cli.modules import Modules, Terms, weighted_terms
from quadrate.config import Recipe
from quadrate.core.plugins import load_plugins
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import Grid, find_recipe, with_seeds
from quadrate.experiments.recipes.subset import Subset

_ALL = Subset()


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
    execution: Literal["auto", "single", "spread", "stacked"] = "auto",
    workers: int | None = None,
    part: Annotated[Subset, tyro.conf.OmitArgPrefixes] = _ALL,
    module: Modules = (),
) -> None:
    """Train a recipe, or go on where it was interrupted.

    Args:
        recipe: A name that `quadrate recipes` lists.
        grid: Weights and settings that two cores finish (quick), or the paper's (published).
        data: Another data set, or a folder of images, in place of the recipe's; points with
            lambda_c > 0 take class folders.
        family: Other networks: ours (compact), ours for colour (compact-colour), the published ones
            (paper), or registered ones. With other data, those of ours that fit by default.
        judge: Another classifier in the loss: conv, dense, residual, paper, a registered one, or
            the path of a judge or checkpoint. With other data, one that fits by default.
        term: A registered loss of your own and its weight; may be given several times.
        seeds: Seeds for each point, in place of the recipe's.
        epochs: Passes over the data, for a quick look.
        runs: Where run folders live.
        device: cpu or cuda.
        execution: How points run: stacked as one program (the default on a GPU), spread over
            processes (the default on a CPU), or one by one.
        workers: Processes at most; by default one a core.
        part: Some of the recipe's points, or other settings.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
    """
    load_plugins(module)
    from quadrate.cli.steps import adapted, adapted_points, for_data, train_points, train_run
    from quadrate.experiments.runs import Run
    from quadrate.experiments.runs.kinds import run_of

    if find_recipe(recipe).kind != Recipe.kind:
        if family or judge or term or execution != "auto":
            own = "has its own networks and loss, no judge, and runs a point a process"
            raise QuadrateError(
                f"{recipe} {own}; leave --family, --judge, --term and --execution out"
            )
        if part.words:
            raise QuadrateError(
                f"{recipe} is trained as a whole, with its own settings; leave {part.words[0]} out"
            )
        points = run_of(adapted_points(recipe, data, seeds, grid, epochs=epochs), runs, device)
        train_points(points, workers)
        print(f"trained: {points.folder}\nnext:    quadrate evaluate {points.folder}")
        return
    found = find_recipe(recipe, grid)
    chosen = adapted(found, data, family, judge, epochs)
    chosen = replace(chosen, terms=(*chosen.terms, *weighted_terms(term)))
    chosen = part.of(chosen if seeds is None else with_seeds(chosen, seeds))
    run = Run(for_data(found, chosen, family, judge), runs, device=device)
    train_run(run, execution, workers)
    print(f"trained: {run.folder}\nnext:    quadrate evaluate {run.folder}")
