"""The claims as numbers: plain functions from scored points to plain dicts.

Intervals are 95 % t-intervals over seeds, NaN for one seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError
from quadrate.evaluation.intervals import interpolate_front, pareto_set
from quadrate.experiments.reports.published_points import published_fig9a
from quadrate.experiments.reports.summary import POINT, Row, interval, mean_over_seeds, require

ACCURACIES = (0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.975)
SAME_RATE_BITS = 0.05  # published rates are rounded


def against_published_front(
    rows: Sequence[Row], published: Sequence[Row] | None = None
) -> dict[str, Any]:
    """How much lower our mean curve's MSE is than the published front's at equal accuracy, by the
    training judge.

    Our curve runs through the means over seeds; both curves are the Pareto set of their points,
    linearly interpolated. Left of its first point a curve is constant: that point has the higher
    accuracy at the lowest MSE. Above its last point it does not exist: MSE ∞, -∞ percent.

    Args:
        rows: Scored points of one stage.
        published: `rate_bits`, `mse`, `accuracy`; by default RDPC's Fig. 9(a).

    Returns:
        `points`, one dict for each published rate that we have and each of `ACCURACIES` within the
        published points of that rate: `rate_bits`, `accuracy`, `mse_ours`, `mse_published`,
        `percent_lower`; their `mean_percent_lower` and `min_percent_lower`; and
        `seeds_mean_percent_lower` with `…_low`, `…_high`, where each seed has its own curve.

    Raises:
        QuadrateError: If a column is missing, or no rate is a published one.
    """
    require(rows, *POINT, "seed", "rate_bound_bits", "distortion_mse", "accuracy_training")
    published = published_fig9a() if published is None else published
    require(published, "rate_bits", "mse", "accuracy")
    points = _against(mean_over_seeds(rows), published)
    if not points:
        ours, theirs = (
            sorted({row[name] for row in table})
            for table, name in ((rows, "rate_bound_bits"), (published, "rate_bits"))
        )
        raise QuadrateError(
            f"none of our rates {ours} is a published one, {theirs} bits, or no accuracy of"
            " interest was published for it"
        )
    seeds = [
        _mean(
            point["percent_lower"]
            for point in _against([row for row in rows if row["seed"] == seed], published)
        )
        for seed in _seeds(rows)
    ]
    lower = [point["percent_lower"] for point in points]
    spread = interval("seeds_mean_percent_lower", seeds) if all(map(math.isfinite, seeds)) else {}
    return {
        "points": points,
        "mean_percent_lower": _mean(lower),
        "min_percent_lower": min(lower),
        **spread,
    }


def along_published_front(
    rows: Sequence[Row], published: Sequence[Row] | None = None
) -> list[dict[str, Any]]:
    """How much lower our MSE is at each point of the published front, a curve for each seed, by the
    training judge.

    Args:
        rows: Scored points of one stage.
        published: `rate_bits`, `mse`, `accuracy`; by default RDPC's Fig. 9(a).

    Returns:
        One dict for each point of the Pareto set of each published rate that we have: `rate_bits`,
        `accuracy`, `mse_published`, and `percent_lower` with its interval over seeds; -∞ without
        one where a seed does not reach the accuracy.

    Raises:
        QuadrateError: If a column is missing, or no rate is a published one.
    """
    require(rows, *POINT, "seed", "rate_bound_bits", "distortion_mse", "accuracy_training")
    published = published_fig9a() if published is None else published
    points = []
    for bits in sorted({row["rate_bits"] for row in published}):
        front = pareto_set(
            (row["mse"], row["accuracy"]) for row in published if row["rate_bits"] == bits
        )
        ours = [row for row in rows if abs(row["rate_bound_bits"] - bits) < SAME_RATE_BITS]
        curves = [
            [
                (row["distortion_mse"], row["accuracy_training"])
                for row in ours
                if row["seed"] == seed
            ]
            for seed in _seeds(ours)
        ]
        for mse, accuracy in front if ours else []:
            lower = [100 * (1 - _mse_at(curve, [accuracy])[0] / mse) for curve in curves]
            reached = all(map(math.isfinite, lower))
            found = interval("percent_lower", lower) if reached else {"percent_lower": -math.inf}
            points.append({"rate_bits": bits, "accuracy": accuracy, "mse_published": mse, **found})
    if not points:
        raise QuadrateError(
            f"none of our rates {sorted({row['rate_bound_bits'] for row in rows})} is a"
            " published one"
        )
    return points


def perception_price(rows: Sequence[Row], stage: str = "end-to-end") -> dict[str, float]:
    """What the largest λp of a stage costs and buys.

    MSE, fresh-critic W1 and sliced W2² as ratios to those at the smallest, with intervals.

    Raises:
        QuadrateError: If the stage or a column is missing, or λp does not vary.
    """
    own = _of_stage(rows, stage)
    low, high = min(row["lambda_p"] for row in own), max(row["lambda_p"] for row in own)
    if low == high:
        raise QuadrateError(f"stage {stage!r} has but one lambda_p, {low:g}; its price takes two")
    price: dict[str, float] = {"lambda_p_low": low, "lambda_p_high": high}
    for score in ("distortion_mse", "w1_fresh", "sliced_w2sq"):
        base, top = (
            _by_seed([row for row in own if row["lambda_p"] == weight], score)
            for weight in (low, high)
        )
        price |= interval(
            f"{score}_ratio", [top[seed] / base[seed] for seed in shared_seeds(base, top)]
        )
    return price


def universal_penalty(
    rows: Sequence[Row], end_to_end_stage: str, universal_stage: str, score: str
) -> dict[str, Any]:
    """What a shared encoder costs.

    Universal decoders against end-to-end codecs of equal weights and seed.

    Args:
        rows: Scored points of a run.
        end_to_end_stage: Name of the stage that trained an encoder for each point.
        universal_stage: Name of the stage that trained decoders on one encoder a seed.
        score: A column of perception or classification to compare beside `distortion_mse`.

    Returns:
        `weights`, one dict a matching (levels, λd, λp, λc), and `pooled`, of each seed's mean over
        them, since a seed's decoders share their encoder. Both hold `mse_ratio`, `score_difference`
        and, where all scores are positive, `score_ratio`, universal to end-to-end, with intervals;
        the number of `seeds`.

    Raises:
        QuadrateError: If a stage or a column is missing, or no weights and seed are in both.
    """
    pairs = _pairs(rows, end_to_end_stage, universal_stage)
    require([row for pair in pairs.values() for row in pair], "distortion_mse", score)
    compared = {key: _compare(*pair, score) for key, pair in pairs.items()}
    positive = all(row[score] > 0 for pair in pairs.values() for row in pair)
    names = ["mse_ratio", "score_difference", *(["score_ratio"] if positive else [])]
    weights = []
    for key in dict.fromkeys(key[:-1] for key in compared):
        own = [values for other, values in compared.items() if other[:-1] == key]
        entry: dict[str, Any] = dict(
            zip(("levels", "lambda_d", "lambda_p", "lambda_c"), key, strict=True)
        )
        weights.append(entry | _intervals(own, names))
    seeds = sorted({key[-1] for key in compared})
    by_seed = [
        {
            name: _mean(values[name] for key, values in compared.items() if key[-1] == seed)
            for name in names
        }
        for seed in seeds
    ]
    return {
        "score": score,
        "weights": weights,
        "pooled": _intervals(by_seed, names),
        "seeds": len(seeds),
    }


def refinement(
    rows: Sequence[Row], first: str = "first", refined: str = "refined", single: str = "single"
) -> list[dict[str, float]]:
    """A second encoder on a frozen first, beside the first alone and a single encoder of the whole
    rate: one dict a λp of the refined stage.

    Returns:
        For each λp: mean MSE and fresh-critic W1 of the three stages (`first_mse`, `refined_mse`,
        `single_mse`, `first_w1`, …), `first_bits` and `refined_bits`, and `refined_to_first_mse`,
        `refined_to_single_mse` and `refined_to_single_w1`, ratios with intervals. The first stage's
        scores are those of the base decoded alone.

    Raises:
        QuadrateError: If a stage, its partner of equal λp, or a column is missing.
    """
    stages = {
        name: _of_stage(rows, stage)
        for name, stage in (("first", first), ("refined", refined), ("single", single))
    }
    results = []
    for weight in sorted({row["lambda_p"] for row in stages["refined"]}):
        own = stages | {
            name: [row for row in stages[name] if row["lambda_p"] == weight]
            for name in ("refined", "single")
        }
        entry = {"lambda_p": weight} | {
            f"{name}_bits": float(own[name][0]["rate_bound_bits"]) for name in ("first", "refined")
        }
        for short, score in (("mse", "distortion_mse"), ("w1", "w1_fresh")):
            scores = {name: _by_seed(part, score) for name, part in own.items()}
            entry |= {f"{name}_{short}": _mean(values.values()) for name, values in scores.items()}
            for other in ("first", "single") if short == "mse" else ("single",):
                shared = shared_seeds(scores["refined"], scores[other])
                entry |= interval(
                    f"refined_to_{other}_{short}",
                    [scores["refined"][seed] / scores[other][seed] for seed in shared],
                )
        results.append(entry)
    return results


def urdc_mses(rows: Sequence[Row]) -> dict[float, dict[str, dict[int, float]]]:
    """The MSEs that URDC's claim is about, by seed.

    For each λp those of `encoder`, `best`, `lowest` and `highest`.

    The encoder's is the end-to-end MSE at the largest λc, the best that of the end-to-end λc with
    the lowest mean; lowest and highest are those of the universal decoders with the lowest and the
    highest mean.

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
            "best": _extreme(single, min),
            "lowest": _extreme(shared, min),
            "highest": _extreme(shared, max),
        }
        mses[float(single[0]["lambda_p"])] = {
            name: _by_seed(own, "distortion_mse") for name, own in chosen.items()
        }
    return mses


def urdc_finding(rows: Sequence[Row]) -> list[dict[str, float]]:
    """How near universal decoders stay to their encoder's MSE, and how far above the best
    end-to-end one (URDC, Nguyen et al. 2025, Fig. 6).

    Published: universal decoders of .0519 to .0522, which cannot leave their encoder's .052 or so,
    11 % above the best, .0467.

    Returns:
        One dict a λp, without (0) and with the Wasserstein term: `lambda_p`; means over seeds,
        `encoder_mse`, `best_end_to_end_mse`, `universal_mse_min` and `…_max`; how far the lowest
        and the highest universal decoder lie above the encoder's and above the best, with
        intervals: `lowest_above_encoder_percent`, `highest_above_encoder_percent`,
        `lowest_above_best_percent`, `highest_above_best_percent`.

    Raises:
        QuadrateError: As `urdc_mses`.
    """
    results = []
    for weight, mses in urdc_mses(rows).items():
        entry = {
            "lambda_p": weight,
            "encoder_mse": _mean(mses["encoder"].values()),
            "best_end_to_end_mse": _mean(mses["best"].values()),
        }
        for word, name in (("lowest", "min"), ("highest", "max")):
            decoder = mses[word]
            entry[f"universal_mse_{name}"] = _mean(decoder.values())
            for other in ("encoder", "best"):
                percent = [
                    100 * (decoder[seed] / mses[other][seed] - 1)
                    for seed in shared_seeds(decoder, mses[other])
                ]
                entry |= interval(f"{word}_above_{other}_percent", percent)
        results.append(entry)
    return results


def _against(rows: Iterable[Row], published: Sequence[Row]) -> list[dict[str, float]]:
    rows, points = list(rows), []
    for bits in sorted({row["rate_bits"] for row in published}):
        theirs = [(row["mse"], row["accuracy"]) for row in published if row["rate_bits"] == bits]
        ours = [
            (row["distortion_mse"], row["accuracy_training"])
            for row in rows
            if abs(row["rate_bound_bits"] - bits) < SAME_RATE_BITS
        ]
        reached = [accuracy for _, accuracy in theirs]
        levels = [accuracy for accuracy in ACCURACIES if min(reached) <= accuracy <= max(reached)]
        if ours and levels:
            for accuracy, mine, other in zip(
                levels, _mse_at(ours, levels), _mse_at(theirs, levels), strict=True
            ):
                lower = 100 * (1 - mine / other)
                points.append(
                    {
                        "rate_bits": bits,
                        "accuracy": accuracy,
                        "mse_ours": mine,
                        "mse_published": other,
                        "percent_lower": lower,
                    }
                )
    return points


def _mse_at(points: Sequence[tuple[float, float]], accuracies: Sequence[float]) -> list[float]:
    """The MSE at which points reach accuracies.

    That of the first point to its left, infinite above the last one.
    """
    _, lowest = min(points, key=lambda point: (point[0], -point[1]))
    mse: NDArray[np.float64] = interpolate_front(points, np.maximum(accuracies, lowest).tolist())
    return [float(value) for value in np.nan_to_num(mse, nan=math.inf)]


def _pairs(
    rows: Sequence[Row], end_to_end: str, universal: str
) -> dict[tuple[Any, ...], tuple[Row, Row]]:
    """End-to-end and universal rows of equal levels, weights and seed."""
    keys = ("levels", "lambda_d", "lambda_p", "lambda_c", "seed")
    single, shared = (
        {tuple(row[key] for key in keys): row for row in _of_stage(rows, stage)}
        for stage in (end_to_end, universal)
    )
    pairs = {key: (single[key], shared[key]) for key in single if key in shared}
    if not pairs:
        raise QuadrateError(
            f"stages {end_to_end!r} and {universal!r} have no weights and seed in common"
        )
    return pairs


def _compare(end_to_end: Row, universal: Row, score: str) -> dict[str, float]:
    return {
        "mse_ratio": universal["distortion_mse"] / end_to_end["distortion_mse"],
        "score_difference": universal[score] - end_to_end[score],
        "score_ratio": universal[score] / end_to_end[score] if end_to_end[score] else math.nan,
    }


def _of_stage(rows: Sequence[Row], stage: str) -> list[Row]:
    """A stage's rows, each with the columns that every finding reads."""
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


def shared_seeds(one: Mapping[int, float], other: Mapping[int, float]) -> list[int]:
    """The seeds that both have.

    Raises:
        QuadrateError: If there are none.
    """
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        raise QuadrateError(
            f"points to compare have no seed in common: {sorted(one)} and {sorted(other)}"
        )
    return seeds


def _extreme(rows: Sequence[Row], choose: Callable[..., Any]) -> list[Row]:
    """The seeds of the point with the lowest or highest mean MSE."""
    chosen = choose(mean_over_seeds(rows), key=lambda row: row["distortion_mse"])
    return [row for row in rows if all(row[name] == chosen[name] for name in POINT)]


def _intervals(values: Sequence[dict[str, float]], names: Sequence[str]) -> dict[str, float]:
    return {
        key: value
        for name in names
        for key, value in interval(name, [entry[name] for entry in values]).items()
    }


def _seeds(rows: Sequence[Row]) -> list[int]:
    return sorted({row["seed"] for row in rows})


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
