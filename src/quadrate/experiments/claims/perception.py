"""The W1 that claims about perception rest on: the better of its two lower bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from quadrate.experiments.claims.claim import Answer
from quadrate.experiments.reports.summary import Row, by_point, point_of, require

_BOUNDS = {"w1_certified": "the certified bound", "w1_fresh": "the fresh critic"}


def better_w1(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows with the better of the two lower bounds of W1, which is the larger one.

    Each bound is the gap of the best function of a 1-Lipschitz family, so the larger of the two is
    that of both families together: one distance for all points, whichever family gives it. It is
    chosen for a point, not for a row: the one whose mean over seeds exceeds its own floor, what it
    finds between real images, by more. A maximum row by row would add up chance.

    Args:
        rows: Scored points, with all their seeds.

    Returns:
        The rows in their order, each also with `w1`, the bound, `w1_floor`, its floor, both in
        Euclidean norms of an image in [0, 1]^CHW, and `w1_bound`, the column that it is from.

    Raises:
        QuadrateError: If there are no rows, or one lacks a bound or a floor.
    """
    require(rows, *(f"{bound}{end}" for bound in _BOUNDS for end in ("", "_floor")))
    chosen = {point_of(seeds[0]): _better(seeds) for seeds in by_point(rows)}
    made = []
    for row in rows:
        bound = chosen[point_of(row)]
        made.append({**row, "w1": row[bound], "w1_floor": row[f"{bound}_floor"], "w1_bound": bound})
    return made


def on_better_w1(
    decide: Callable[[Sequence[Row]], tuple[str, Answer]],
) -> Callable[[Sequence[Row]], tuple[str, Answer]]:
    """A check that reads the column `w1`, from one of rows; its measurement names the bound."""

    def checked(rows: Sequence[Row]) -> tuple[str, Answer]:
        bounded = better_w1(rows)
        measured, answer = decide(bounded)
        return f"{measured}; W1 by {_named(bounded)}", answer

    return checked


def _better(seeds: Sequence[Row]) -> str:
    """The column of the better bound of a point."""
    return max(
        _BOUNDS, key=lambda bound: math.fsum(row[bound] - row[f"{bound}_floor"] for row in seeds)
    )


def _named(rows: Sequence[Row]) -> str:
    """The bounds that were chosen, in words; with the number of points if there are both."""
    points = [seeds[0]["w1_bound"] for seeds in by_point(rows)]
    if len(set(points)) == 1:
        return _BOUNDS[points[0]]
    each = " and ".join(f"{name} at {points.count(bound)}" for bound, name in _BOUNDS.items())
    return f"{each} points"
