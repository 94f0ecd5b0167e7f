"""Recipes of every kind and the runs they make: the one place that tells them apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quadrate.core.files import exists
from quadrate.experiments.recipes.contour_recipe import ContourRecipe
from quadrate.experiments.recipes.feature_recipes import ClipRecipe, FeatureRecipe
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe
from quadrate.experiments.runs.run import Run
from quadrate.experiments.runs.run_folder import read_recipe_fields

if TYPE_CHECKING:
    from quadrate.experiments.runs.point_run import PointRun

PointRecipe = InvariantRecipe | FeatureRecipe | ClipRecipe | ContourRecipe


def run_of(recipe: PointRecipe, root: Path | str = "runs", device: str = "cpu") -> PointRun:
    """The run of a recipe whose points stand alone.

    Of a `Recipe` it is `quadrate.experiments.runs.Run`.

    Raises:
        QuadrateError: If data or the device are missing.
    """
    return _class(type(recipe))(recipe, root, device)  # type: ignore[call-arg]


def open_run(folder: Path | str, device: str = "cpu") -> Run | PointRun:
    """A run of any kind by its folder.

    Raises:
        QuadrateError: If there is no run there, or its data are not what they were.
    """
    fields = read_recipe_fields(Path(folder))
    if _stand_alone(fields):
        for kind, field in (
            (InvariantRecipe, "predictors"),
            (FeatureRecipe, "backbone"),
            (ContourRecipe, "correlation"),
            (ClipRecipe, "points"),
        ):
            if field in fields:
                return _class(kind).open(folder, device)
    return Run.open(folder, device)


def is_point_run(folder: Path) -> bool:
    """Whether a folder is the run of a recipe whose points stand alone."""
    return exists(folder / "config.json") and _stand_alone(read_recipe_fields(folder))


def _stand_alone(fields: Any) -> bool:
    return isinstance(fields, dict) and bool(fields) and "stages" not in fields


def _class(recipe: type[PointRecipe]) -> type[PointRun]:
    if recipe is InvariantRecipe:
        from quadrate.experiments.runs.invariant_run import InvariantRun

        return InvariantRun
    if recipe is FeatureRecipe:
        from quadrate.experiments.runs.feature_run import FeatureRun

        return FeatureRun
    if recipe is ContourRecipe:
        from quadrate.experiments.runs.contour_run import ContourRun

        return ContourRun
    from quadrate.experiments.runs.clip_run import ClipRun

    return ClipRun


__all__ = ["PointRecipe", "is_point_run", "open_run", "run_of"]
