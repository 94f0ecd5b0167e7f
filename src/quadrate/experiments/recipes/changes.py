"""A recipe with something changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from quadrate.config import InvariantConfig, OperatingPoint, Recipe
from quadrate.core.fields import whole
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe

_Seeded = TypeVar("_Seeded", bound=Recipe | InvariantRecipe)
_Point = TypeVar("_Point", OperatingPoint, InvariantConfig)


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with this many epochs in every stage."""
    return replace(
        recipe,
        stages=tuple(
            replace(stage, training=replace(stage.training, epochs=epochs))
            for stage in recipe.stages
        ),
    )


def with_seeds(recipe: _Seeded, seeds: int) -> _Seeded:
    """The recipe with every point trained from seeds 0 to `seeds` - 1, in place of its own.

    Raises:
        QuadrateError: If `seeds` is below 1.
    """
    if isinstance(recipe, Recipe):
        return replace(
            recipe,
            stages=tuple(
                replace(stage, points=_reseeded(stage.points, seeds)) for stage in recipe.stages
            ),
        )
    return replace(recipe, points=_reseeded(recipe.points, seeds))


def _reseeded(points: tuple[_Point, ...], seeds: int) -> tuple[_Point, ...]:
    """Each of the points with seeds 0 to `seeds` - 1, in place of its own."""
    if whole("seeds", seeds) < 1:
        raise QuadrateError(f"seeds must be at least 1; got {seeds}")
    once = dict.fromkeys(replace(point, seed=0) for point in points)
    return tuple(replace(point, seed=seed) for point in once for seed in range(seeds))
