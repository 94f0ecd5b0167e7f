"""Recipes: one function an experiment; each returns plain configuration."""

from collections.abc import Callable
from typing import Any

from quadrate.config import Recipe
from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.catalogue import (
    CATALOGUE,
    LOSSLESS_PREDICTION,
    THEORY,
    TRADE_OFFS,
    Experiment,
    grids_of,
)
from quadrate.experiments.recipes.changes import with_epochs, with_seeds
from quadrate.experiments.recipes.demo_recipe import demo
from quadrate.experiments.recipes.settings import RDPC_JUDGE, Grid, RATE_3x3, choose

RECIPES: Registry[Callable[..., Recipe]] = Registry(
    "recipe", {experiment.name: experiment.recipe for experiment in TRADE_OFFS}
)
POINT_RECIPES: Registry[Callable[..., Any]] = Registry(
    "recipe", {experiment.name: experiment.recipe for experiment in (*THEORY, *LOSSLESS_PREDICTION)}
)
"""Those whose points stand alone; `quadrate.experiments.runs.kinds.run_of` makes their runs."""


def register_recipe(make: Callable[..., Any]) -> None:
    """Makes an experiment of one's own known by its recipe's name.

    Args:
        make: Returns the recipe, a `Recipe` or one whose points stand alone, as an
            `InvariantRecipe`; with an argument `grid` if it has both grids.

    Raises:
        QuadrateError: If the name is taken, or cannot be that of a file.
    """
    recipe = make()
    kind, other = (
        (RECIPES, POINT_RECIPES) if isinstance(recipe, Recipe) else (POINT_RECIPES, RECIPES)
    )
    if recipe.name in other:
        raise QuadrateError(f"there is a recipe {recipe.name!r} already; give yours another name")
    kind.register(recipe.name, make)


def find_recipe(name: str, grid: Grid = "thin") -> Recipe:
    """The recipe of that name, with weights and settings that two cores finish ("thin") or with the
    paper's ("published").

    Raises:
        QuadrateError: If there is none, or it has no such grid.
    """
    if not RECIPES.knows(name):
        known = ", ".join((*RECIPES, *POINT_RECIPES))
        raise QuadrateError(
            f"unknown recipe {name!r}; known: {known}; one of your own is registered by --module"
            " FILE.py (docs/extending.md)"
        )
    choose(grid, thin=None, published=None)
    if grid not in grids_of(RECIPES[name]):
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
    "register_recipe",
    "with_epochs",
    "with_seeds",
]
