"""What runs find against published points, on rows whose answer is known."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import linregress

from quadrate.errors import QuadrateError
from quadrate.evaluation.intervals import pareto_set
from quadrate.experiments.reports import (
    against_published_front,
    findings_markdown,
    perception_price,
    published_fig9a,
    refinement,
    restoration,
    universal_penalty,
    urdc_finding,
)
from rows_made import TRADE_OFFS, scored, scored_recipe

T_975_1 = 12.706204736  # Student's t, one degree of freedom


# The findings as numbers


def test_published_points_are_the_figures() -> None:
    points = published_fig9a()
    assert len(points) == 124 and {point["rate_bits"] for point in points} == {4.75, 6.0, 8.0, 10.0}
    assert {"rate_bits": 6.0, "mse": 0.0426, "accuracy": 0.9675} in points


def test_pareto_set() -> None:
    assert pareto_set([(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.7), (1, 0.4), (4, 0.9)]) == [
        (1, 0.5),
        (2, 0.7),
        (3, 0.9),
    ]


def front_rows(
    points: list[tuple[float, float]], seeds: int = 1, spread: float = 0.0
) -> list[dict[str, Any]]:
    """Ours at 4.75 bits.

    (mse, accuracy) pairs, by λc, with the MSE of seed s multiplied by 1 + s·spread.
    """
    return [
        scored(
            c=0.001 * i,
            seed=seed,
            distortion_mse=mse * (1 + seed * spread),
            accuracy_training=accuracy,
        )
        for i, (mse, accuracy) in enumerate(points)
        for seed in range(seeds)
    ]


PUBLISHED = [
    {"rate_bits": 4.75, "mse": mse, "accuracy": accuracy}
    for mse, accuracy in ((0.040, 0.90), (0.050, 0.95), (0.060, 0.94), (0.060, 0.972))
]


def test_front_is_compared_at_equal_accuracy() -> None:
    # Ours: constant .038 up to accuracy .92, then 1/3 MSE an accuracy to (.056, .974); the third
    # point is dominated.
    ours = front_rows([(0.038, 0.92), (0.056, 0.974), (0.057, 0.96)])
    found = against_published_front(ours, PUBLISHED)
    accuracies = [point["accuracy"] for point in found["points"]]
    assert accuracies == [
        0.90,
        0.91,
        0.92,
        0.93,
        0.94,
        0.95,
        0.96,
        0.97,
    ]  # .975 is beyond the published points
    by_accuracy = {point["accuracy"]: point for point in found["points"]}
    assert (by_accuracy[0.90]["mse_ours"], by_accuracy[0.90]["mse_published"]) == pytest.approx(
        (0.038, 0.040)
    )
    assert by_accuracy[0.90]["percent_lower"] == pytest.approx(5.0)
    assert (by_accuracy[0.93]["mse_ours"], by_accuracy[0.93]["mse_published"]) == pytest.approx(
        (0.038 + 0.01 / 3, 0.046)
    )
    assert by_accuracy[0.96]["mse_published"] == pytest.approx(0.050 + 0.010 * 0.010 / 0.022)
    percents = [point["percent_lower"] for point in found["points"]]
    assert found["min_percent_lower"] == min(percents) and found[
        "mean_percent_lower"
    ] == pytest.approx(sum(percents) / 8)


def test_front_of_means_over_seeds_with_an_interval() -> None:
    found = against_published_front(
        front_rows([(0.036, 0.89), (0.054, 0.973)], seeds=2, spread=0.02), PUBLISHED
    )
    alone = [
        against_published_front(front_rows([(0.036 * f, 0.89), (0.054 * f, 0.973)]), PUBLISHED)
        for f in (1.0, 1.01, 1.02)
    ]
    assert found["mean_percent_lower"] == pytest.approx(alone[1]["mean_percent_lower"])
    middle = alone[1]["mean_percent_lower"]
    half = T_975_1 * (alone[0]["mean_percent_lower"] - alone[2]["mean_percent_lower"]) / 2
    assert found["seeds_mean_percent_lower"] == pytest.approx(middle)
    assert (
        found["seeds_mean_percent_lower_low"],
        found["seeds_mean_percent_lower_high"],
    ) == pytest.approx((middle - half, middle + half))


def test_an_accuracy_that_we_do_not_reach_is_no_gain() -> None:
    found = against_published_front(front_rows([(0.030, 0.92), (0.031, 0.965)]), PUBLISHED)
    assert found["points"][-1]["mse_ours"] == math.inf and found["min_percent_lower"] == -math.inf
    assert "∞" in findings_markdown("rdc-mnist", front_rows([(0.030, 0.8), (0.031, 0.9)]))


def test_equal_fronts_differ_by_nothing() -> None:
    ours = [
        scored(
            levels=levels,
            c=1e-4 * i,
            distortion_mse=point["mse"],
            accuracy_training=point["accuracy"],
        )
        for bits, levels in ((4.75, "3x3x3"), (6, "4x4x4"), (8, "4x4x4x4"), (10, "4x4x4x4x4"))
        for i, point in enumerate(
            point for point in published_fig9a() if point["rate_bits"] == bits
        )
    ]
    found = against_published_front(ours)
    assert {point["rate_bits"] for point in found["points"]} == {4.75, 6, 8, 10}
    assert found["min_percent_lower"] == found["mean_percent_lower"] == 0


def test_front_needs_a_published_rate() -> None:
    with pytest.raises(QuadrateError, match="none of our rates"):
        against_published_front([scored(levels="2x2")])


def test_perception_price() -> None:
    rows = [
        scored(p=p, seed=seed, distortion_mse=mse * (1 + 0.1 * seed * p / 0.015))
        for p, mse in ((0.0, 0.04), (0.005, 0.9), (0.015, 0.06))
        for seed in (0, 1)
    ]
    price = perception_price(rows)
    assert (price["lambda_p_low"], price["lambda_p_high"]) == (0.0, 0.015)
    assert price["distortion_mse_ratio"] == pytest.approx(1.575)  # of 1.5 and 1.65
    assert price["distortion_mse_ratio_high"] == pytest.approx(1.575 + T_975_1 * 0.075)
    assert price["w1_fresh_ratio"] == pytest.approx((6 * math.exp(-2.5) + 0.5) / 6.5)


def test_universal_penalty_pools_within_seeds_first() -> None:
    ratios = {(0.0, 0): 1.02, (0.0, 1): 1.04, (0.01, 0): 1.06, (0.01, 1): 1.12}
    rows = [scored(p=p, seed=seed, distortion_mse=0.05, w1_fresh=2.0) for p, seed in ratios]
    rows += [
        scored("universal", p=p, seed=seed, distortion_mse=0.05 * ratio, w1_fresh=2.0 * ratio**2)
        for (p, seed), ratio in ratios.items()
    ]
    rows += [scored("universal", p=0.5, distortion_mse=9.0)]  # has no partner
    found = universal_penalty(rows, "end-to-end", "universal", "w1_fresh")
    assert found["seeds"] == 2 and [entry["lambda_p"] for entry in found["weights"]] == [0.0, 0.01]
    assert found["weights"][0]["mse_ratio"] == pytest.approx(1.03)
    assert found["weights"][1]["mse_ratio_high"] == pytest.approx(1.09 + T_975_1 * 0.03)
    assert found["pooled"]["mse_ratio"] == pytest.approx(1.06)  # of 1.04 and 1.08
    assert found["pooled"]["mse_ratio_low"] == pytest.approx(1.06 - T_975_1 * 0.02)
    assert found["pooled"]["score_ratio"] == pytest.approx(
        np.mean([ratio**2 for ratio in ratios.values()])
    )
    assert found["pooled"]["score_difference"] == pytest.approx(
        2 * found["pooled"]["score_ratio"] - 2
    )


def test_scores_below_zero_have_no_ratio() -> None:
    rows = [scored(stage, kid=kid) for stage, kid in (("end-to-end", -0.001), ("universal", 0.002))]
    pooled = universal_penalty(rows, "end-to-end", "universal", "kid")["pooled"]
    assert pooled["score_difference"] == pytest.approx(0.003) and "score_ratio" not in pooled
    assert math.isnan(pooled["score_difference_low"])  # one seed


def test_universal_penalty_needs_partners() -> None:
    with pytest.raises(QuadrateError, match="have no weights and seed in common"):
        universal_penalty(
            [scored(p=0.1), scored("universal", p=0.2)], "end-to-end", "universal", "w1_fresh"
        )
    with pytest.raises(
        QuadrateError, match="no scored points of stage 'universal'; there are end-to-end"
    ):
        universal_penalty([scored()], "end-to-end", "universal", "w1_fresh")


def test_refinement() -> None:
    rows = [scored("first", seed=seed, distortion_mse=0.05) for seed in (0, 1)]
    for p, w1 in ((0.0, 3.0), (0.015, 1.0)):
        for seed in (0, 1):
            rows.append(
                scored(
                    "refined",
                    "3x3x3x3x3x3",
                    p=p,
                    seed=seed,
                    distortion_mse=0.04 + 0.002 * seed,
                    w1_fresh=1.2 * w1,
                )
            )
            rows.append(
                scored("single", "3x3x3x3x3x3", p=p, seed=seed, distortion_mse=0.04, w1_fresh=w1)
            )
    plain, realistic = refinement(rows)
    assert (plain["lambda_p"], realistic["lambda_p"]) == (0.0, 0.015)
    assert (plain["first_mse"], plain["refined_mse"], plain["single_mse"]) == pytest.approx(
        (0.05, 0.041, 0.04)
    )
    assert plain["refined_to_single_mse"] == pytest.approx(1.025) and plain[
        "refined_to_first_mse"
    ] == pytest.approx(0.82)
    assert plain["refined_to_single_mse_high"] == pytest.approx(1.025 + T_975_1 * 0.025)
    assert (realistic["refined_to_single_w1"], realistic["single_w1"]) == pytest.approx((1.2, 1.0))
    assert (plain["first_bits"], plain["refined_bits"]) == pytest.approx(
        (3 * math.log2(3), 6 * math.log2(3))
    )


def restored(slope: float, noise: float, scatter: float) -> list[dict[str, Any]]:
    """Five points a seed along a line of cross-entropy over W1, with some scatter.

    Each seed has its own level.
    """
    rows = []
    for seed in (0, 1):
        for i, jitter in enumerate((0.3, -0.5, 0.1, 0.4, -0.3)):
            w1, sign = 1.0 + 0.1 * i, 1 - 2 * seed
            nats = 0.5 + seed + slope * w1 + scatter * jitter * sign
            rows.append(
                scored(
                    p=0.01 * i,
                    seed=seed,
                    noise_std=noise,
                    w1_fresh=w1,
                    sliced_w2sq=w1**2,
                    cross_entropy_training_nats=nats,
                )
            )
    return rows


def test_restoration_tells_a_trade_off_from_none() -> None:
    found = restoration(
        restored(0.0, 0.0, 0.05) + restored(-0.8, 0.5, 0.01) + restored(0.8, 1.0, 0.01)
    )
    verdicts = {entry["noise_std"]: entry for entry in found if entry["judge"] == "training"}
    assert [verdicts[noise]["trade_off_w1_fresh"] for noise in (0.0, 0.5, 1.0)] == [
        "not seen",
        "appears",
        "reversed",
    ]
    assert [verdicts[noise]["trade_off_sliced_w2sq"] for noise in (0.5, 1.0)] == [
        "appears",
        "reversed",
    ]
    assert verdicts[0.5]["rank_correlation_w1_fresh"] == pytest.approx(-1)
    assert (verdicts[0.5]["w1_fresh_min"], verdicts[0.5]["w1_fresh_max"]) == pytest.approx(
        (1.0, 1.4)
    )
    assert {entry["judge"] for entry in found} == {"training", "independent", "retrained"}


def test_restoration_price_of_the_best_classification() -> None:
    base = restored(0.0, 0.0, 0.0)[0]
    ends = [(0.1, 3.0, 0.01), (0.5, 1.5, 0.002), (2.0, 2.0, 0.001)]  # cross-entropy, W1, sliced W2²
    rows = [
        base
        | {
            "lambda_c": 0.01 * i,
            "seed": 0,
            "cross_entropy_training_nats": ce,
            "w1_fresh": w1,
            "sliced_w2sq": w2,
        }
        for i, (ce, w1, w2) in enumerate(ends)
    ]
    (entry,) = (found for found in restoration(rows) if found["judge"] == "training")
    assert entry["price_w1_fresh"] == pytest.approx(2.0) and entry[
        "price_sliced_w2sq"
    ] == pytest.approx(10.0)


def test_restoration_slope_is_that_of_least_squares() -> None:
    rows = [row for row in restored(-0.8, 0.5, 0.1) if row["seed"] == 0]
    entry = restoration(rows)[0]
    line = linregress(
        [row["w1_fresh"] for row in rows], [row["cross_entropy_training_nats"] for row in rows]
    )
    assert entry["slope_w1_fresh"] == pytest.approx(line.slope)
    assert entry["slope_w1_fresh_high"] - line.slope == pytest.approx(
        3.182446305 * line.stderr
    )  # t of 3 degrees of freedom


def test_urdc_finding() -> None:
    rows = []
    for end, factor in (("", 1.0), ("-wasserstein", 2.0)):
        for c, single, shared in (
            (0.0, 0.047, 0.0519),
            (0.0033, 0.0467, 0.0521),
            (0.015, 0.0526, 0.0522),
        ):
            rows.append(
                scored(f"end-to-end{end}", p=factor - 1, c=c, distortion_mse=factor * single)
            )
            rows.append(
                scored(f"universal{end}", p=factor - 1, c=c, distortion_mse=factor * shared)
            )
    without, wasserstein = urdc_finding(rows)
    assert (without["lambda_p"], wasserstein["lambda_p"]) == (0.0, 1.0)
    assert (without["encoder_mse"], without["best_end_to_end_mse"]) == (0.0526, 0.0467)
    assert (wasserstein["universal_mse_min"], wasserstein["universal_mse_max"]) == pytest.approx(
        (0.1038, 0.1044)
    )
    for found in (without, wasserstein):
        assert found["lowest_above_best_percent"] == pytest.approx(11.1349, abs=1e-4)
        assert found["highest_above_encoder_percent"] == pytest.approx(-0.7605, abs=1e-4)


@pytest.mark.parametrize("name", TRADE_OFFS)
def test_findings_as_markdown(name: str) -> None:
    text = findings_markdown(name, scored_recipe(name))
    assert (text == "") == (
        name in ("demo", "zoo-mnist", "rdc-svhn", "large-rate-mnist", "urdc-mnist-rates")
    )  # which have none
    if text:
        tables = [line for line in text.splitlines() if line.startswith("|")]
        assert len(tables) >= 3 and "nan" not in text
    if name == "rdp-mnist":
        assert "| pooled |" in text and "λp = 0 to 0.015" in text
    if name == "urdc-mnist":
        assert "universal-wasserstein" in text
