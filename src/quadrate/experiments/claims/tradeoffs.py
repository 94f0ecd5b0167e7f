"""Classification against perception and distortion.

Regressions over a grid of weights, and what accuracy costs if perception or distortion is given.
The column `w1` is that of `quadrate.experiments.claims.perception.better_w1`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from quadrate.evaluation.score import JUDGES
from quadrate.experiments.reports.summary import (
    POINT,
    Row,
    interval,
    mean_over_seeds,
    require,
)


def regression(rows: Sequence[Row], x: str, y: str) -> dict[str, float]:
    """Least squares of one column on another with a level for each seed.

    Returns:
        `slope` in units of y a unit of x with its 95 % interval, `slope_low` and `slope_high` (NaN
        if points are too few, or x does not vary).
    """
    from scipy.stats import t

    groups = [
        [row for row in rows if row["seed"] == seed]
        for seed in sorted({row["seed"] for row in rows})
    ]
    xs, ys = (
        np.concatenate([_centred([row[name] for row in group]) for group in groups])
        for name in (x, y)
    )
    freedom, spread = len(xs) - len(groups) - 1, float(xs @ xs)
    slope, reach = math.nan, math.nan
    if spread:
        slope = float(xs @ ys) / spread
    if spread and freedom > 0:
        errors = float(np.sum((ys - slope * xs) ** 2))
        reach = float(t.ppf(0.975, freedom)) * math.sqrt(errors / freedom / spread)
    return {"slope": slope, "slope_low": slope - reach, "slope_high": slope + reach}


def noise_trade_off(rows: Sequence[Row], judge: str) -> list[dict[str, float]]:
    """Does classification trade against perception? For each noise level, over all weights.

    Returns:
        One dict for each noise level: `noise_std`; `slope`, the judge's cross-entropy regressed on
        W1 within seeds, in nats a unit, with its 95 % interval (surely negative where
        better perception goes with worse classification); and `price`, the W1 where cross-entropy
        is lowest over the best W1.

    Raises:
        QuadrateError: If there are no rows or a column is missing.
    """
    nats = f"cross_entropy_{judge}_nats"
    require(rows, *POINT, "seed", "w1", nats)
    found = []
    for noise in sorted({row["noise_std"] for row in rows}):
        own = [row for row in rows if row["noise_std"] == noise]
        means = mean_over_seeds(own)
        best = min(means, key=lambda row: row[nats])
        price = best["w1"] / min(row["w1"] for row in means)
        found.append({"noise_std": noise, **regression(own, "w1", nats), "price": price})
    return found


def accuracy_against_perception(rows: Sequence[Row], judge: str) -> list[dict[str, float]]:
    """Is accuracy bought with perception? For each rate, over all weights.

    Returns:
        One dict for each rate: `rate_bits`; `slope`, accuracy regressed on W1 within
        seeds (positive where better perception goes with less accuracy); `change`, the slope times
        the range of W1, in percentage points; both with 95 % intervals.

    Raises:
        QuadrateError: If there are no rows or a column is missing.
    """
    require(rows, *POINT, "seed", "rate_bound_bits", "w1", f"accuracy_{judge}")
    found = []
    for bits, own in by_rate(rows):
        w1 = [row["w1"] for row in mean_over_seeds(own)]
        line = regression(own, "w1", f"accuracy_{judge}")
        reach = 100 * (max(w1) - min(w1))
        change = {name.replace("slope", "change"): reach * value for name, value in line.items()}
        found.append({"rate_bits": bits, **line, **change})
    return found


def accuracy_price(rows: Sequence[Row], given: str, paid: str) -> list[dict[str, float]]:
    """What accuracy costs in one score while another is held.

    RDPC's Fig. 10(a) gives W1 and pays in MSE, Fig. 11(a) gives MSE and pays in W1. For each λc and
    seed the points of all λp form a curve along the given score, linearly interpolated at a level
    that all curves of a rate reach: the middle of their common range.

    Args:
        rows: Scored points of several λp and λc.
        given: The column that is held.
        paid: The column that is paid in.

    Returns:
        One dict for each rate: `rate_bits`; `given`, the level, NaN if the curves have no common
        range; otherwise also, from the smallest λc to the largest, paired by seed, `paid_percent`
        and `accuracy_…_points` for each judge, with intervals.

    Raises:
        QuadrateError: If there are no rows or a column is missing.
    """
    require(rows, *POINT, "seed", "rate_bound_bits", given, paid)
    judges = [
        f"accuracy_{judge}" for judge in JUDGES if all(f"accuracy_{judge}" in row for row in rows)
    ]
    return [{"rate_bits": bits, **_price(own, given, paid, judges)} for bits, own in by_rate(rows)]


def _price(rows: Sequence[Row], given: str, paid: str, judges: Sequence[str]) -> dict[str, float]:
    curves: dict[tuple[float, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[given]):
        curves.setdefault((row["lambda_c"], row["seed"]), []).append(row)
    low = max(curve[0][given] for curve in curves.values())
    high = min(curve[-1][given] for curve in curves.values())
    if low > high:
        return {"given": math.nan}
    level = (low + high) / 2
    at = {
        key: {name: _interpolated(curve, given, name, level) for name in (paid, *judges)}
        for key, curve in curves.items()
    }
    least, most = (choose(weight for weight, _ in at) for choose in (min, max))
    seeds = sorted({seed for _, seed in at if {(least, seed), (most, seed)} <= at.keys()})
    ends = [(at[least, seed], at[most, seed]) for seed in seeds]
    found = {"given": level}
    found |= interval("paid_percent", [100 * (top[paid] / base[paid] - 1) for base, top in ends])
    for name in judges:
        found |= interval(f"{name}_points", [100 * (top[name] - base[name]) for base, top in ends])
    return found


def by_rate(rows: Iterable[Row]) -> list[tuple[float, list[Row]]]:
    """Groups of rows of equal rate, by rising rate: bits a sample and the rows."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(round(float(row["rate_bound_bits"]), 2), []).append(row)
    return sorted(groups.items())


def _interpolated(curve: Sequence[Row], given: str, name: str, level: float) -> float:
    return float(np.interp(level, [row[given] for row in curve], [row[name] for row in curve]))


def _centred(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array - array.mean()
