"""Recipes: one function an experiment; each returns plain configuration."""

from quadrate.config import Recipe
from quadrate.errors import QuadrateError
from quadrate.recipes.catalogue import CATALOGUE, LOSSLESS_PREDICTION, THEORY, TRADE_OFFS, Experiment
from quadrate.recipes.changes import with_epochs, with_seeds
from quadrate.recipes.demo import demo
from quadrate.recipes.settings import RDPC_JUDGE, Grid, RATE_3x3, choose

RECIPES = {experiment.name: experiment.recipe for experiment in TRADE_OFFS}
POINT_RECIPES = {experiment.name: experiment.recipe for experiment in (*THEORY, *LOSSLESS_PREDICTION)}
"""Those whose points stand alone; `quadrate.runs.kinds.run_of` makes their runs."""


def find_recipe(name: str, grid: Grid = "thin") -> Recipe:
    """The recipe of that name, with weights and settings that two cores finish ("thin") or with the paper's ("published").

    Raises:
        QuadrateError: If there is none, or it has no such grid.
    """
    experiments = {experiment.name: experiment for experiment in TRADE_OFFS}
    if name not in experiments:
        raise QuadrateError(f"unknown recipe {name!r}; known: {', '.join((*RECIPES, *POINT_RECIPES))}")
    choose(grid, thin=None, published=None)
    if grid not in experiments[name].grids:
        raise QuadrateError(f"{name} has one grid only, thin; there is no {grid} one")
    return RECIPES[name](grid) if grid != "thin" else RECIPES[name]()


__all__ = [
    "CATALOGUE",
    "POINT_RECIPES",
    "RATE_3x3",
    "RDPC_JUDGE",
    "RECIPES",
    "Experiment",
    "Grid",
    "demo",
    "find_recipe",
    "with_epochs",
    "with_seeds",
]
