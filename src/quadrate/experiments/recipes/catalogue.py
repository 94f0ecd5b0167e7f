"""Every recipe by name, and the catalogue made from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import (
    contour_recipe,
    demo_recipe,
    feature_recipes,
    lossless_prediction,
    photo_recipes,
    probe_recipes,
    promises,
    rdpc,
    urdc,
    urdp,
)
from quadrate.experiments.recipes.experiment import PAPERS, Experiment, grids_of
from quadrate.experiments.recipes.settings import Grid, choose

BUILT_IN: tuple[Callable[..., Any], ...] = (
    demo_recipe.demo,
    promises.promises_mnist,
    promises.promises_mnist_10bit,
    urdp.rdp_mnist,
    urdp.rdp_svhn,
    urdp.refine_mnist,
    urdp.refine_svhn,
    rdpc.rdc_mnist,
    rdpc.rdc_svhn,
    rdpc.rpc_mnist,
    rdpc.rdpc_mnist,
    rdpc.rdpc_svhn,
    rdpc.large_rate_mnist,
    rdpc.restore_mnist,
    contour_recipe.rdpc_contours,
    urdc.urdc_mnist,
    urdc.urdc_mnist_6bit,
    urdc.urdc_mnist_rates,
    lossless_prediction.banana_rotation,
    lossless_prediction.banana_x_translation,
    lossless_prediction.banana_y_translation,
    lossless_prediction.group_exact,
    lossless_prediction.mnist_invariant_vic,
    lossless_prediction.mnist_invariant_vc,
    lossless_prediction.mnist_invariant_bince,
    lossless_prediction.mnist_invariant_less,
    lossless_prediction.mnist_invariant_sup,
    feature_recipes.cifar_features,
    feature_recipes.lossyless_clip,
    photo_recipes.photo_kodak,
    photo_recipes.photo,
    photo_recipes.photo_faithful,
    probe_recipes.clothing_probes,
)
"""Quadrate's own recipes, each decorated with `experiment`."""

RECIPES: Registry[Callable[..., Any]] = Registry(
    "recipe",
    {make.experiment.name: make for make in BUILT_IN},  # type: ignore[attr-defined]
)
"""Functions that return recipes of all kinds, which the recipe's `kind` names."""


def register_recipe(make: Callable[..., Any]) -> None:
    """Make your own recipe known by its name.

    Args:
        make: Returns the recipe, of any kind; with an argument `grid` if it has both grids.

    Raises:
        QuadrateError: If the name is taken or cannot be the name of a file.
    """
    RECIPES.register(make().name, make)


def find_recipe(name: str, grid: Grid = "quick") -> Any:
    """The recipe of that name.

    Args:
        name: The name in the catalogue, or of a registered recipe.
        grid: Weights and settings that two cores finish ("quick"), or the paper's ("published").

    Raises:
        QuadrateError: If there is no such recipe, or it does not have that grid.
    """
    make = RECIPES.find(name)
    choose(grid, quick=None, published=None)
    if grid not in grids_of(make):
        raise QuadrateError(f"{name} has one grid only, quick; there is no {grid} one")
    return make(grid) if grid != "quick" else make()


def catalogue() -> tuple[Experiment, ...]:
    """All experiments by paper; those of recipes that you registered stand last."""
    lines = [
        getattr(make, "experiment", None) or Experiment(name, make, data=make().source)
        for name, make in RECIPES.items()
    ]
    return tuple(sorted(lines, key=lambda line: PAPERS.index(line.paper)))


def name_on(name: str, source: str) -> str:
    """The name of a recipe on other data than its own.

    It begins with the name of the data, in characters that are fit for a folder.
    """
    data = re.sub(r"[^\w. -]", "-", Path(source).name).strip(". ")
    return f"{data}-{name}"


def published_name(name: str, source: str) -> str:
    """The name in the catalogue of a recipe that may run on other data than the paper's."""
    other = name.removeprefix(name_on("", source))
    return other if name not in RECIPES and other in RECIPES else name
