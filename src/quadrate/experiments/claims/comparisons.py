"""Comparisons that claims are about: plain functions from scored points to plain dicts.

Intervals are 95 % t-intervals over seeds, NaN for one seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from quadrate.errors import QuadrateError
from quadrate.evaluation.intervals import interpolate_front, pareto_set
from quadrate.experiments.reports.published_points import published_figure
from quadrate.experiments.reports.summary import (
    POINT,
    Row,
    interval,
    mean_over_seeds,
    point_of,
    require,
)

SAME_RATE_BITS = 0.05  # published rates are rounded
AT_FLOOR = 0.05  # of the excess of W1 at the least MSE: above chance, and far below what is seen


def along_published_front(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How much lower our MSE is at each point of the published front (RDPC, Fig. 9a).

    By the training judge, with a curve for each seed: the Pareto set of its points, linearly
    interpolated. Left of its first point a curve is constant; above its last point it does not
    exist.

    Args:
        rows: Scored points of one stage.

    Returns:
        One dict for each point of the Pareto set of each published rate that we have: `rate_bits`,
        `accuracy`, `mse_published`, and `percent_lower` with its interval over seeds; -∞ without
        an interval if a seed does not reach the accuracy.

    Raises:
        QuadrateError: If a column is missing, or no rate is a published one.
    """
    require(rows, *POINT, "seed", "rate_bound_bits", "distortion_mse", "accuracy_training")
    published = published_figure("RDPC 9a")
    points = []
    for bits in sorted({row["rate_bits"] for row in published}):
        front = pareto_set(
            (row["mse"], row["accuracy"]) for row in published if row["rate_bits"] == bits
        )
        ours = [row for row in rows if abs(row["rate_bound_bits"] - bits) < SAME_RATE_BITS]
        curves: dict[int, list[tuple[float, float]]] = {}
        for row in sorted(ours, key=lambda row: int(row["seed"])):
            curves.setdefault(row["seed"], []).append(
                (row["distortion_mse"], row["accuracy_training"])
            )
        for mse, accuracy in front if ours else []:
            lower = [100 * (1 - _mse_at(curve, accuracy) / mse) for curve in curves.values()]
            reached = all(map(math.isfinite, lower))
            found = interval("percent_lower", lower) if reached else {"percent_lower": -math.inf}
            points.append({"rate_bits": bits, "accuracy": accuracy, "mse_published": mse, **found})
    if not points:
        rates = sorted({row["rate_bound_bits"] for row in rows})
        raise QuadrateError(f"none of our rates {rates} is a published one")
    return points


def perfect_realism(rows: Sequence[Row]) -> dict[str, Any]:
    """The most realistic codec of any stage, next to the one of least MSE at the same rate.

    The most realistic one has the least excess of W1 over its floor. Both are chosen on means over
    seeds.

    Args:
        rows: Scored points with the columns of `quadrate.experiments.claims.perception.better_w1`.

    Returns:
        `stage`, `lambda_p`, `w1_floor` and, unless it is "direct", `decoder` of the most realistic
        codec; with intervals over the seeds that both codecs have, its `w1`, its ratios
        `distortion_mse_ratio` and `w1_ratio` to the other codec, and `w1_above`: its excess less
        `AT_FLOOR` times that of the other, below 0 where perfect realism is reached.

    Raises:
        QuadrateError: If a column is missing, no codec was trained for realism, or the two have no
            seed in common.
    """
    require(rows, *POINT, "seed", "rate_bound_bits", "distortion_mse", "w1", "w1_floor")
    if not any(row["lambda_p"] or row.get("decoder") == "flow" for row in rows):
        raise QuadrateError("no codec was trained for realism: each has λp = 0, none a flow")
    real = _lowest(rows, lambda row: row["w1"] - row["w1_floor"])
    same_rate = [row for row in rows if row["rate_bound_bits"] == real[0]["rate_bound_bits"]]
    tops, bases = (
        {row["seed"]: row for row in seeds} for seeds in (real, _lowest(same_rate, _mse))
    )
    pairs = [(tops[seed], bases[seed]) for seed in shared_seeds(tops, bases)]
    told = ("stage", "lambda_p", "w1_floor", "decoder")
    found = {name: real[0][name] for name in told if name in real[0]}
    found |= interval("w1", [top["w1"] for top, _ in pairs])
    for score in ("distortion_mse", "w1"):
        found |= interval(f"{score}_ratio", [top[score] / base[score] for top, base in pairs])
    excesses = [[row["w1"] - row["w1_floor"] for row in pair] for pair in pairs]
    return found | interval("w1_above", [top - AT_FLOOR * base for top, base in excesses])


def universal_penalty(rows: Sequence[Row], score: str) -> dict[str, float]:
    """What a shared encoder costs in a score: universal decoders against end-to-end codecs.

    Points of equal weights and seed are compared. A seed's decoders share their encoder, so the
    interval is over each seed's mean.

    Returns:
        `ratio`, universal to end-to-end, with its interval.

    Raises:
        QuadrateError: If a stage or a column is missing, or no weights and seed are in both.
    """
    keys = ("levels", "lambda_d", "lambda_p", "lambda_c", "seed")
    single, shared = (
        {tuple(row[key] for key in keys): row for row in _of_stage(rows, stage)}
        for stage in ("end-to-end", "universal")
    )
    by_seed: dict[int, list[tuple[Row, Row]]] = {}
    for key in single:
        if key in shared:
            by_seed.setdefault(key[-1], []).append((single[key], shared[key]))
    if not by_seed:
        raise QuadrateError(
            "stages 'end-to-end' and 'universal' have no weights and seed in common"
        )
    require([row for pairs in by_seed.values() for pair in pairs for row in pair], score)
    return interval(
        "ratio",
        [
            _mean(universal[score] / alone[score] for alone, universal in by_seed[seed])
            for seed in sorted(by_seed)
        ],
    )


def refinement(rows: Sequence[Row], score: str) -> list[dict[str, float]]:
    """A second encoder on a frozen first, next to the first alone and a single encoder.

    The single encoder has the whole rate.

    Returns:
        One dict for each λp of the refined stage: `lambda_p`, the mean scores `first`, `refined`
        and `single` of the three stages, `first_bits` and `refined_bits`, and the ratios
        `refined_to_first` and `refined_to_single` with intervals. The first stage's scores are
        those of the base decoded alone.

    Raises:
        QuadrateError: If a stage, its partner of equal λp, or a column is missing.
    """
    stages = {name: _of_stage(rows, name) for name in ("first", "refined", "single")}
    results = []
    for weight in sorted({row["lambda_p"] for row in stages["refined"]}):
        own = stages | {
            name: [row for row in stages[name] if row["lambda_p"] == weight]
            for name in ("refined", "single")
        }
        scores = {name: _by_seed(part, score) for name, part in own.items()}
        entry = {"lambda_p": weight} | {
            f"{name}_bits": float(own[name][0]["rate_bound_bits"]) for name in ("first", "refined")
        }
        entry |= {name: _mean(values.values()) for name, values in scores.items()}
        for other in ("first", "single"):
            shared = shared_seeds(scores["refined"], scores[other])
            entry |= interval(
                f"refined_to_{other}",
                [scores["refined"][seed] / scores[other][seed] for seed in shared],
            )
        results.append(entry)
    return results


def urdc_mses(rows: Sequence[Row]) -> dict[float, dict[str, dict[int, float]]]:
    """The MSEs that URDC's claims compare (Nguyen et al. 2025, Fig. 6), by λp, name and seed.

    `encoder` is the end-to-end MSE at the largest λc, `best` that of the end-to-end λc with the
    lowest mean, `lowest` that of the universal decoder with the lowest mean.

    Raises:
        QuadrateError: If no stage `end-to-end…` has a partner `universal…`, or a column is missing.
    """
    require(rows, *POINT, "seed", "distortion_mse")
    stages = {str(row["stage"]) for row in rows}
    ends = sorted(
        stage.removeprefix("end-to-end") for stage in stages if stage.startswith("end-to-end")
    )
    ends = [end for end in ends if f"universal{end}" in stages]
    if not ends:
        raise QuadrateError(
            "no stage 'end-to-end…' with a partner 'universal…'; there are"
            f" {', '.join(sorted(stages))}"
        )
    mses = {}
    for end in ends:
        single, shared = (_of_stage(rows, f"{kind}{end}") for kind in ("end-to-end", "universal"))
        largest = max(row["lambda_c"] for row in single)
        chosen = {
            "encoder": [row for row in single if row["lambda_c"] == largest],
            "best": _lowest(single, _mse),
            "lowest": _lowest(shared, _mse),
        }
        mses[float(single[0]["lambda_p"])] = {
            name: _by_seed(own, "distortion_mse") for name, own in chosen.items()
        }
    return mses


def _mse_at(points: Sequence[tuple[float, float]], accuracy: float) -> float:
    """The MSE at which a curve reaches an accuracy, infinite above its last point."""
    _, lowest = min(points, key=lambda point: (point[0], -point[1]))
    mse = float(interpolate_front(points, [max(accuracy, lowest)])[0])
    return math.inf if math.isnan(mse) else mse


def _of_stage(rows: Sequence[Row], stage: str) -> list[Row]:
    """The rows of a stage, each with the columns that every comparison reads."""
    require(rows, *POINT, "seed", "rate_bound_bits", "distortion_mse")
    own = [row for row in rows if row["stage"] == stage]
    if not own:
        raise QuadrateError(
            f"no scored points of stage {stage!r}; there are"
            f" {', '.join(sorted({str(row['stage']) for row in rows}))}"
        )
    return own


def _by_seed(rows: Sequence[Row], score: str) -> dict[int, float]:
    require(rows, score)
    return {row["seed"]: float(row[score]) for row in rows}


def shared_seeds(one: Mapping[int, Any], other: Mapping[int, Any]) -> list[int]:
    """The seeds in both.

    Raises:
        QuadrateError: If there is no such seed.
    """
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        raise QuadrateError(
            f"points to compare have no seed in common: {sorted(one)} and {sorted(other)}"
        )
    return seeds


def _lowest(rows: Sequence[Row], score: Callable[[Row], float]) -> list[Row]:
    """The seeds of the point with the lowest score of its mean."""
    lowest = min(mean_over_seeds(rows), key=score)
    return [row for row in rows if point_of(row) == point_of(lowest)]


def _mse(row: Row) -> float:
    return float(row["distortion_mse"])


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
