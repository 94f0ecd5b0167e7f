"""A recipe with something changed."""

from __future__ import annotations

from dataclasses import replace

from quadrate.config import OperatingPoint, Recipe
from quadrate.errors import QuadrateError


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with as many passes over the data in every stage."""
    return replace(recipe, stages=tuple(replace(stage, training=replace(stage.training, epochs=epochs)) for stage in recipe.stages))


def with_seeds(recipe: Recipe, seeds: int) -> Recipe:
    """The recipe with every point trained from seeds 0 to `seeds` - 1, in place of its own.

    Raises:
        QuadrateError: If `seeds` is below 1.
    """
    if seeds < 1:
        raise QuadrateError(f"seeds must be at least 1; got {seeds}")

    def reseeded(points: tuple[OperatingPoint, ...]) -> tuple[OperatingPoint, ...]:
        once = dict.fromkeys(replace(point, seed=0) for point in points)
        return tuple(replace(point, seed=seed) for point in once for seed in range(seeds))

    return replace(recipe, stages=tuple(replace(stage, points=reseeded(stage.points)) for stage in recipe.stages))
