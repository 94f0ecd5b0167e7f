"""Summaries over seeds and points: confidence intervals, and interpolated fronts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """The mean over seeds and Student's t interval around it: (mean, low, high).

    The interval of a single value is NaN.

    Args:
        values: One number for each seed, independent and about normal.
        level: The probability that the interval covers the expectation.

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

    quantile = t.ppf((1 + level) / 2, len(values) - 1)
    reach = float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean, mean - reach, mean + reach


def pareto_set(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (mse, accuracy) points that no other point beats or equals in both, sorted by MSE."""
    front: list[tuple[float, float]] = []
    for mse, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((mse, accuracy))
    return front


def interpolate_front(
    points: Sequence[tuple[float, float]], at: Sequence[float]
) -> NDArray[np.float64]:
    """The MSE at which the Pareto set of points reaches given accuracies, by linear interpolation.

    Args:
        points: (mse, accuracy) pairs, in any order.
        at: The accuracies.

    Returns:
        One MSE for each accuracy, float64; NaN outside the front's range of accuracies.

    Raises:
        QuadrateError: If there are no points.
    """
    if len(points) == 0:
        raise QuadrateError("a front takes at least one (mse, accuracy) point; got none")
    mses, accuracies = zip(*pareto_set(points), strict=True)
    wanted = np.asarray(at, dtype=np.float64)
    return np.interp(wanted, accuracies, mses, left=math.nan, right=math.nan)
