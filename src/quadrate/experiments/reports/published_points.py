"""Published points to compare ours with; they travel with the package."""

from __future__ import annotations

import csv
import math
from functools import cache
from importlib import resources
from typing import Any

from quadrate.errors import QuadrateError

NUMBERS = ("rate_bits", "mse", "w1", "accuracy", "cross_entropy_nats")


@cache
def _points() -> tuple[dict[str, Any], ...]:
    text = (resources.files("quadrate.experiments.reports") / "published.csv").read_text(
        encoding="utf-8"
    )
    return tuple(
        row | {name: float(row[name] or math.nan) for name in NUMBERS}
        for row in csv.DictReader(text.splitlines())
    )


def published_points(recipe_name: str) -> list[dict[str, Any]]:
    """The published points of a recipe, each a single run of its authors'.

    The list is empty if no point of the recipe is published.

    Keys: `figure`; `recipe`; `rate_bits`, the bound in bits an image; `kind`, end-to-end or
    universal; `mse` per pixel; `w1` in units of an image's norm, by each run's own critic, so not
    comparable with `w1_fresh`; `accuracy` and `cross_entropy_nats` by the authors' classifier,
    which in RDPC on MNIST is the one that our recipes are trained with; `source`, where the point
    comes from. NaN where a figure does not tell.
    """
    return [dict(point) for point in _points() if point["recipe"] == recipe_name]


def published_figure(figure: str) -> list[dict[str, Any]]:
    """The points of one figure, as `RDPC 9a`, with the keys of `published_points`.

    Raises:
        QuadrateError: If no point is of that figure.
    """
    points = [dict(point) for point in _points() if point["figure"] == figure]
    if not points:
        known = ", ".join(dict.fromkeys(point["figure"] for point in _points()))
        raise QuadrateError(f"no published points of figure {figure!r}; there are some of {known}")
    return points
