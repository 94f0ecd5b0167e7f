"""Classification against perception and distortion.

Regressions over a grid of weights, and what accuracy costs where one of them is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.experiments.reports.summary import (
    JUDGES,
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
        where points are too few, or x does not vary); and `rank_correlation`, Spearman's, mean over
        seeds.
    """
    from scipy.stats import rankdata, t

    groups = [
        [row for row in rows if row["seed"] == seed]
        for seed in sorted({row["seed"] for row in rows})
    ]
    xs, ys = (
        np.concatenate([_centred([row[name] for row in group]) for group in groups])
        for name in (x, y)
    )
    freedom, spread = len(xs) - len(groups) - 1, float(xs @ xs)
    slope = float(xs @ ys) / spread if spread else math.nan
    reach = (
        float(t.ppf(0.975, freedom))
        * math.sqrt(float(np.sum((ys - slope * xs) ** 2)) / freedom / spread)
        if freedom > 0 and spread
        else math.nan
    )
    ranks = [
        [_centred(rankdata([row[name] for row in group])) for name in (x, y)] for group in groups
    ]
    correlations = [
        float(a @ b) / math.sqrt(float((a @ a) * (b @ b))) if (a @ a) * (b @ b) else math.nan
        for a, b in ranks
    ]
    return {
        "slope": slope,
        "slope_low": slope - reach,
        "slope_high": slope + reach,
        "rank_correlation": sum(correlations) / len(correlations),
    }


def restoration(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Does classification trade against perception? For each noise level and judge, over the grid
    of weights.

    Returns:
        One dict a noise level and judge: `noise_std`, `judge`; the lowest and highest mean over
        seeds of `accuracy`, `cross_entropy_nats`, `w1_fresh` and `sliced_w2sq` (`…_min`, `…_max`);
        for both perception scores `slope_…` in nats a unit, cross-entropy regressed on the score
        within seeds, with its 95 % interval, `rank_correlation_…` (Spearman, mean over seeds), and
        `trade_off_…`: "appears" if the slope is surely negative (better perception goes with worse
        classification), "reversed" if surely positive, otherwise "not seen". The slope is over all
        weights, dominated ones too; `price_…` looks at the ends of the front: the score where
        classification is best, over the best score.

    Raises:
        QuadrateError: If there are no rows or a column is missing.
    """
    require(rows, *POINT, "seed", "w1_fresh", "sliced_w2sq")
    results = []
    for noise in sorted({row["noise_std"] for row in rows}):
        own = [row for row in rows if row["noise_std"] == noise]
        for judge in (judge for judge in JUDGES if f"accuracy_{judge}" in own[0]):
            columns = {
                "accuracy": f"accuracy_{judge}",
                "cross_entropy_nats": f"cross_entropy_{judge}_nats",
                "w1_fresh": "w1_fresh",
                "sliced_w2sq": "sliced_w2sq",
            }
            require(own, *columns.values())
            means = mean_over_seeds(own)
            entry: dict[str, Any] = {"noise_std": noise, "judge": judge}
            for name, column in columns.items():
                entry |= _range(name, [row[column] for row in means])
            best = min(means, key=lambda row: row[columns["cross_entropy_nats"]])
            for score in ("w1_fresh", "sliced_w2sq"):
                line = regression(own, score, columns["cross_entropy_nats"])
                entry |= {
                    name.replace("slope", f"slope_{score}"): value
                    for name, value in line.items()
                    if name.startswith("slope")
                }
                entry[f"rank_correlation_{score}"] = line["rank_correlation"]
                entry[f"trade_off_{score}"] = (
                    "appears"
                    if line["slope_high"] < 0
                    else "reversed"
                    if line["slope_low"] > 0
                    else "not seen"
                )
                entry[f"price_{score}"] = best[score] / min(row[score] for row in means)
            results.append(entry)
    return results


def accuracy_against_perception(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Is accuracy bought with perception? For each rate and judge, accuracy regressed on
    fresh-critic W1 over the grid of weights.

    Returns:
        One dict a rate and judge: `rate_bits`, `judge`; the range of the means over seeds of
        `accuracy` and `w1_fresh` (`…_min`, `…_max`); `slope` (accuracy a unit of W1; positive where
        better perception goes with less accuracy) and `change`, the slope times the range of W1, in
        percentage points, both with 95 % intervals; `rank_correlation` (Spearman, mean over seeds).

    Raises:
        QuadrateError: If there are no rows or a column is missing.
    """
    require(rows, *POINT, "seed", "rate_bound_bits", "w1_fresh")
    results = []
    for bits, own in by_rate(rows):
        for judge in (judge for judge in JUDGES if f"accuracy_{judge}" in own[0]):
            require(own, f"accuracy_{judge}")
            means = mean_over_seeds(own)
            ranges = _range("accuracy", [row[f"accuracy_{judge}"] for row in means]) | _range(
                "w1_fresh", [row["w1_fresh"] for row in means]
            )
            line = regression(own, "w1_fresh", f"accuracy_{judge}")
            reach = 100 * (ranges["w1_fresh_max"] - ranges["w1_fresh_min"])
            change = {
                name.replace("slope", "change"): reach * value
                for name, value in line.items()
                if name.startswith("slope")
            }
            results.append({"rate_bits": bits, "judge": judge, **ranges, **line, **change})
    return results


def accuracy_price(rows: Sequence[Row], given: str, paid: str) -> list[dict[str, Any]]:
    """What accuracy costs in one score while another is held: RDPC's Fig.

    10(a) gives W1 and pays in MSE, Fig. 11(a) gives MSE and pays in W1.

    For each λc and seed the points of all λp form a curve along the given score, linearly
    interpolated at one level that all curves of a rate reach: the middle of their common range.

    Args:
        rows: Scored points of several λp and λc.
        given: The column that is held.
        paid: The column that is paid in.

    Returns:
        One dict a rate: `rate_bits`; `given`, the level, NaN where the curves have no common range,
        and then nothing else but empty `weights`; `weights`, one dict a λc with `lambda_c`, the
        paid column and `accuracy_…` of each judge, means with intervals over seeds; from the
        smallest λc to the largest, paired by seed, `paid_percent` and `accuracy_…_points` with
        intervals.

    Raises:
        QuadrateError: If there are no rows or a column is missing.
    """
    require(rows, *POINT, "seed", "rate_bound_bits", given, paid)
    judges = [
        f"accuracy_{judge}" for judge in JUDGES if all(f"accuracy_{judge}" in row for row in rows)
    ]
    return [
        {"rate_bits": bits, **_price(own, given, (paid, *judges))} for bits, own in by_rate(rows)
    ]


def _price(rows: Sequence[Row], given: str, scores: Sequence[str]) -> dict[str, Any]:
    curves: dict[tuple[float, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[given]):
        curves.setdefault((row["lambda_c"], row["seed"]), []).append(row)
    low = max(curve[0][given] for curve in curves.values())
    high = min(curve[-1][given] for curve in curves.values())
    if low > high:
        return {"given": math.nan, "weights": []}
    level = (low + high) / 2
    at = {
        key: {name: _interpolated(curve, given, name, level) for name in scores}
        for key, curve in curves.items()
    }
    weights = sorted({weight for weight, _ in at})
    found: dict[str, Any] = {"given": level, "weights": []}
    for weight in weights:
        own = [values for key, values in at.items() if key[0] == weight]
        found["weights"].append(
            {"lambda_c": weight}
            | _intervals({name: [values[name] for values in own] for name in scores})
        )
    seeds = sorted(
        {seed for _, seed in at if {(weights[0], seed), (weights[-1], seed)} <= at.keys()}
    )
    ends = [(at[weights[0], seed], at[weights[-1], seed]) for seed in seeds]
    paid, *judges = scores
    changes = {"paid_percent": [100 * (top[paid] / base[paid] - 1) for base, top in ends]}
    return found | _intervals(
        changes
        | {
            f"{name}_points": [100 * (top[name] - base[name]) for base, top in ends]
            for name in judges
        }
    )


def by_rate(rows: Iterable[Row]) -> list[tuple[float, list[Row]]]:
    """Rows in groups of equal rate, by rising rate: bits a sample and the rows."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(round(float(row["rate_bound_bits"]), 2), []).append(row)
    return sorted(groups.items())


def _interpolated(curve: Sequence[Row], given: str, name: str, level: float) -> float:
    return float(np.interp(level, [row[given] for row in curve], [row[name] for row in curve]))


def _range(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{name}_min": min(values), f"{name}_max": max(values)}


def _intervals(values: dict[str, list[float]]) -> dict[str, float]:
    return {
        key: value for name, own in values.items() for key, value in interval(name, own).items()
    }


def _centred(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array - array.mean()
