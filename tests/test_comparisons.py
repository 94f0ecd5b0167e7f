"""The comparisons that claims are about, on rows whose answer is known."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import linregress

from quadrate.errors import QuadrateError
from quadrate.evaluation.intervals import pareto_set
from quadrate.experiments.claims.comparisons import (
    along_published_front,
    perfect_realism,
    refinement,
    universal_penalty,
    urdc_mses,
)
from quadrate.experiments.claims.perception import better_w1
from quadrate.experiments.claims.tradeoffs import noise_trade_off
from quadrate.experiments.reports.published_points import published_figure
from rows_made import scored

T_975_1 = 12.706204736  # Student's t, one degree of freedom


def test_published_points_are_the_figures() -> None:
    points = published_figure("RDPC 9a")
    assert len(points) == 124 and {point["rate_bits"] for point in points} == {4.75, 6.0, 8.0, 10.0}
    assert (6.0, 0.0426, 0.9675) in {
        (point["rate_bits"], point["mse"], point["accuracy"]) for point in points
    }


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


def published_front(bits: float) -> list[tuple[float, float]]:
    return pareto_set(
        (point["mse"], point["accuracy"])
        for point in published_figure("RDPC 9a")
        if point["rate_bits"] == bits
    )


def test_equal_fronts_differ_by_nothing() -> None:
    points = [
        (point["mse"], point["accuracy"])
        for point in published_figure("RDPC 9a")
        if point["rate_bits"] == 4.75
    ]
    found = along_published_front(front_rows(points))
    assert [(point["mse_published"], point["accuracy"]) for point in found] == published_front(4.75)
    assert {point["percent_lower"] for point in found} == {0.0}


def test_the_front_is_compared_at_equal_accuracy_with_an_interval_over_seeds() -> None:
    front = published_front(4.75)
    found = along_published_front(
        front_rows([(0.9 * mse, accuracy) for mse, accuracy in front], seeds=2, spread=0.02)
    )
    for point in found:  # 10 % and 8.2 % lower
        assert point["percent_lower"] == pytest.approx(9.1)
        assert point["percent_lower_high"] == pytest.approx(9.1 + T_975_1 * 0.9)
    between = along_published_front(front_rows([front[0], front[2]]))[1]["percent_lower"]
    share = (front[1][1] - front[0][1]) / (front[2][1] - front[0][1])
    mse = front[0][0] + share * (front[2][0] - front[0][0])  # linearly interpolated
    assert between == pytest.approx(100 * (1 - mse / front[1][0]))


def test_an_accuracy_that_we_do_not_reach_is_no_gain() -> None:
    found = along_published_front(front_rows([(0.030, 0.92), (0.031, 0.965)]))
    assert found[0]["percent_lower"] > 30 and found[-1]["percent_lower"] == -math.inf


def test_front_needs_a_published_rate() -> None:
    with pytest.raises(QuadrateError, match="none of our rates"):
        along_published_front([scored(levels="2x2")])


def test_perfect_realism() -> None:
    rows = [
        scored(stage, p=p, seed=seed, distortion_mse=mse * (1 + seed * noise), w1_fresh=w1 + seed)
        for stage, p, mse, noise, w1 in (
            ("end-to-end", 0.0, 0.04, 0.0, 4.0),
            ("end-to-end", 0.015, 0.9, 0.0, 2.0),
            ("universal", 0.015, 0.06, 0.1, 1.0),
        )
        for seed in (0, 1)
    ]
    rows.append(scored(levels="4x4x4", distortion_mse=0.01, w1_fresh=9.0))  # another rate
    found = perfect_realism(better_w1([row | {"w1_fresh_floor": 0.2} for row in rows]))
    assert (found["stage"], found["lambda_p"], found["w1_floor"]) == ("universal", 0.015, 0.2)
    assert found["distortion_mse_ratio"] == pytest.approx(1.575)  # of 1.5 and 1.65
    assert found["distortion_mse_ratio_high"] == pytest.approx(1.575 + T_975_1 * 0.075)
    assert found["w1"] == pytest.approx(1.5)
    assert found["w1_ratio"] == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert found["w1_above"] == pytest.approx((0.8 - 0.05 * 3.8 + 1.8 - 0.05 * 4.8) / 2)


def test_universal_penalty_pools_within_seeds_first() -> None:
    ratios = {(0.0, 0): 1.02, (0.0, 1): 1.04, (0.01, 0): 1.06, (0.01, 1): 1.12}
    rows = [scored(p=p, seed=seed, distortion_mse=0.05, w1_fresh=2.0) for p, seed in ratios]
    rows += [
        scored("universal", p=p, seed=seed, distortion_mse=0.05 * ratio, w1_fresh=2.0 * ratio**2)
        for (p, seed), ratio in ratios.items()
    ]
    rows += [scored("universal", p=0.5, distortion_mse=9.0)]  # has no partner
    found = universal_penalty(rows, "distortion_mse")
    assert found["ratio"] == pytest.approx(1.06)  # of 1.04 and 1.08
    assert found["ratio_low"] == pytest.approx(1.06 - T_975_1 * 0.02)
    assert universal_penalty(rows, "w1_fresh")["ratio"] == pytest.approx(
        np.mean([ratio**2 for ratio in ratios.values()])
    )


def test_one_seed_has_no_interval() -> None:
    penalty = universal_penalty([scored(), scored("universal")], "distortion_mse")
    assert math.isnan(penalty["ratio_low"])


def test_universal_penalty_needs_partners() -> None:
    with pytest.raises(QuadrateError, match="have no weights and seed in common"):
        universal_penalty([scored(p=0.1), scored("universal", p=0.2)], "distortion_mse")
    with pytest.raises(
        QuadrateError, match="no scored points of stage 'universal'; there are end-to-end"
    ):
        universal_penalty([scored()], "distortion_mse")


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
    plain, realistic = refinement(rows, "distortion_mse")
    assert (plain["lambda_p"], realistic["lambda_p"]) == (0.0, 0.015)
    assert (plain["first"], plain["refined"], plain["single"]) == pytest.approx((0.05, 0.041, 0.04))
    assert plain["refined_to_single"] == pytest.approx(1.025)
    assert plain["refined_to_first"] == pytest.approx(0.82)
    assert plain["refined_to_single_high"] == pytest.approx(1.025 + T_975_1 * 0.025)
    _, realistic = refinement(rows, "w1_fresh")
    assert (realistic["refined_to_single"], realistic["single"]) == pytest.approx((1.2, 1.0))
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


def test_the_slope_tells_a_trade_off_from_none() -> None:
    rows = restored(0.0, 0.0, 0.05) + restored(-0.8, 0.5, 0.01) + restored(0.8, 1.0, 0.01)
    none, appears, reverse = noise_trade_off(better_w1(rows), "training")
    assert [found["noise_std"] for found in (none, appears, reverse)] == [0.0, 0.5, 1.0]
    assert none["slope_low"] < 0 < none["slope_high"]
    assert appears["slope_high"] < 0 < reverse["slope_low"]


def test_the_price_of_the_best_classification() -> None:
    base = restored(0.0, 0.0, 0.0)[0]
    ends = [(0.1, 3.0), (0.5, 1.5), (2.0, 2.0)]  # cross-entropy, W1
    rows = [
        base
        | {"lambda_c": 0.01 * i, "seed": 0, "cross_entropy_training_nats": nats, "w1_fresh": w1}
        for i, (nats, w1) in enumerate(ends)
    ]
    (found,) = noise_trade_off(better_w1(rows), "training")
    assert found["price"] == pytest.approx(2.0)


def test_the_slope_is_that_of_least_squares() -> None:
    rows = [row for row in restored(-0.8, 0.5, 0.1) if row["seed"] == 0]
    (found,) = noise_trade_off(better_w1(rows), "training")
    line = linregress(
        [row["w1_fresh"] for row in rows], [row["cross_entropy_training_nats"] for row in rows]
    )
    assert found["slope"] == pytest.approx(line.slope)
    assert found["slope_high"] - line.slope == pytest.approx(
        3.182446305 * line.stderr
    )  # t of 3 degrees of freedom


def test_urdc_mses() -> None:
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
    assert urdc_mses(rows) == {
        factor - 1: {
            "encoder": {0: factor * 0.0526},
            "best": {0: factor * 0.0467},
            "lowest": {0: factor * 0.0519},
        }
        for factor in (1.0, 2.0)
    }
