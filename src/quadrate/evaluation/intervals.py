"""Summaries over seeds and points.

Confidence intervals, and a front interpolated at given accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """The mean over seeds and Student's t interval around it: (mean, low, high).

    One value has no spread: its interval is NaN.

    Args:
        values: One number a seed, independent and about normal.
        level: Chance that the interval covers the expectation.

    Raises:
        QuadrateError: If there are no values, or the level is not between 0 and 1.
    """
    if len(values) == 0 or not 0 < level < 1:
        raise QuadrateError(
            f"an interval takes at least one value and a level between 0 and 1; got {len(values)}"
            f" values and level {level}"
        )
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    from scipy.stats import t

    reach = float(
        t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    )
    return mean, mean - reach, mean + reach


def pareto_set(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (mse, accuracy) points that no other one beats or equals in both, by rising MSE and so by rising accuracy."""
    front: list[tuple[float, float]] = []
    for mse, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((mse, accuracy))
    return front


def interpolate_front(
    points: Sequence[tuple[float, float]], at: Sequence[float]
) -> NDArray[np.float64]:
    """The MSE at which a front reaches given accuracies, by linear interpolation between its
    neighbouring points.

    The front is the Pareto set (`pareto_set`).

    Args:
        points: (mse, accuracy) pairs, in any order.
        at: accuracies.

    Returns:
        One MSE an accuracy, float64; NaN outside the front's range of accuracies.

    Raises:
        QuadrateError: If there are no points.
    """
    if len(points) == 0:
        raise QuadrateError("a front takes at least one (mse, accuracy) point; got none")
    mses, accuracies = zip(*pareto_set(points), strict=True)
    return np.interp(
        np.asarray(at, dtype=np.float64), accuracies, mses, left=math.nan, right=math.nan
    )
