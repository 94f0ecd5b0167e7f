"""A part of a recipe: some points with the encoders that they build on, and other settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from quadrate.config import OperatingPoint, Recipe
from quadrate.errors import QuadrateError


@dataclass(frozen=True)
class Subset:
    """The points of a recipe to train, chosen by any of the fields, and settings of training.

    Empty fields and None change nothing.

    Attributes:
        points: Names of points, as their folders have them.
        rate: Rate bounds in bits a sample, to two decimals.
        lambda_r: Weights of a learned rate.
        lambda_d: Weights of the distortion.
        lambda_p: Weights of the perception.
        lambda_c: Weights of the classification.
        batch: Images a step.
        learning_rate: Peak learning rate of encoder and decoder.
    """

    points: tuple[str, ...] = ()
    rate: tuple[float, ...] = ()
    lambda_r: tuple[float, ...] = ()
    lambda_d: tuple[float, ...] = ()
    lambda_p: tuple[float, ...] = ()
    lambda_c: tuple[float, ...] = ()
    batch: int | None = None
    learning_rate: float | None = None

    @property
    def words(self) -> list[str]:
        """The fields that are set, as options of the command line."""
        words: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value not in ((), None):
                words += [
                    _option(field.name),
                    *map(str, value if isinstance(value, tuple) else (value,)),
                ]
        return words

    def of(self, recipe: Recipe) -> Recipe:
        """The part of a recipe; encoders that kept points build on are kept too.

        Raises:
            QuadrateError: If no point of the recipe has one of the values, or all of them, or a
                setting is out of range.
        """
        everything = [point for stage in recipe.stages for point in stage.points]
        kept = [
            point
            for point in everything
            if all([self._takes(everything, point, name) for name in _OF])
        ]
        if not kept:
            raise QuadrateError(
                f"no point of {recipe.name} has all that is asked for; it has"
                f" {_listed(point.key for point in everything)}"
            )
        wanted = {
            (stage.name, point)
            for stage in recipe.stages
            for point in stage.points
            if point in kept
        }
        for stage in reversed(recipe.stages):  # what a stage builds on was trained before it
            wanted |= {
                (stage.base_stage, base)
                for name, point in list(wanted)
                if name == stage.name and (base := stage.base_of(point))
            }
        changed = {
            name: value
            for name in ("batch", "learning_rate")
            if (value := getattr(self, name)) is not None
        }
        stages = [
            replace(stage, points=points, training=replace(stage.training, **changed))
            for stage in recipe.stages
            if (points := tuple(point for point in stage.points if (stage.name, point) in wanted))
        ]
        return replace(recipe, stages=tuple(stages))

    def _takes(
        self, everything: Sequence[OperatingPoint], point: OperatingPoint, name: str
    ) -> bool:
        asked, of = getattr(self, name), _OF[name]
        found = {of(each) for each in everything}
        if unknown := [value for value in asked if value not in found]:
            raise QuadrateError(
                f"no point has {_option(name)} {_listed(unknown[:1])}; there are"
                f" {_listed(sorted(found))}"
            )
        return not asked or of(point) in asked


_OF: dict[str, Callable[[OperatingPoint], Any]] = {
    "points": lambda point: point.key,
    "rate": lambda point: round(point.rate_bound_bits, 2),
    "lambda_r": lambda point: point.lambda_r,
    "lambda_d": lambda point: point.lambda_d,
    "lambda_p": lambda point: point.lambda_p,
    "lambda_c": lambda point: point.lambda_c,
}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listed(values: Any) -> str:
    return ", ".join(
        dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    )
