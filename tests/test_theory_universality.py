"""What universality costs: rates of whole sets of points, and the published bounds on them."""

import math

import cvxpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quadrate.theory import classification, distortion, rate
from quadrate.theory.any_source import Constraints
from quadrate.theory.channels import GaussianChannel
from quadrate.theory.gaussian.scalar import ScalarGaussian
from quadrate.theory.gaussian.vector import AlignedLabels, ScalarLabel, VectorGaussian
from quadrate.theory.universality.representation import (
    representation,
)
from quadrate.theory.universality.universal import (
    mse_encoder_bounds,
    one_shot_bound,
    rate_penalty,
    universal_rate,
)
from universality_parts import settle

INF = math.inf


SEEDS = st.integers(0, 2**32 - 1)


# Universal rates ----------------------------------------------------------------------------------


@settle(40)
@given(SEEDS, st.sampled_from(["w2", "kl"]), st.sampled_from([0.0, 0.4]))
def test_one_representation_at_the_largest_rate_serves_a_whole_set_of_a_scalar_gaussian(
    seed, divergence, noise_variance
):
    random = np.random.default_rng(seed)
    source = ScalarGaussian(1.0, 0.5, 0.9, noise_variance)
    least, most = source.label_entropies
    floor = noise_variance / (1 + noise_variance)
    points = (
        random.uniform(floor + 0.1, 1.5, 6),
        random.uniform(0, 0.3, 6),
        random.uniform(least + 0.1, most + 0.1, 6),
    )
    needed = universal_rate(source, *points, divergence=divergence, unit="nats")
    assert needed == np.max(rate(source, *points, divergence=divergence, unit="nats"))
    assert rate_penalty(source, *points, divergence=divergence, unit="nats") == 0.0
    if needed > 0:
        lost = math.exp(-2 * needed)
        channel = GaussianChannel(
            np.array(math.sqrt((1 - lost) / (1 + noise_variance))), np.array(lost)
        )  # any of that rate
        fixed = representation(source, channel, divergence=divergence, unit="nats")
        assert fixed.rate == pytest.approx(needed)
        assert fixed.contains(*points).all()
        weaker = GaussianChannel(channel.gain, channel.noise * 1.01)
        assert (
            not representation(source, weaker, divergence=divergence, unit="nats")
            .contains(*points)
            .all()
        )


SHARED = VectorGaussian([2.0, 1.0], ScalarLabel([0.0, 1.0], 0.1))


def test_two_purposes_of_one_nat_need_more_than_one_nat_of_a_vector():
    """λ = (2, 1), S = X2 + N(0, .1).

    The published facts' penalty of .396 nats, and its value at the corner of the two points.
    """
    one_nat_distortion = 2 * math.sqrt(2) / math.e
    one_nat_label = 0.5 * math.log(2 * math.pi * math.e * (math.exp(-2) + 0.1))
    points = dict(
        distortion=[one_nat_distortion, INF], classification=[INF, one_nat_label], unit="nats"
    )
    assert rate(SHARED, **points) == pytest.approx([1.0, 1.0], abs=1e-6)
    # X2 gets its nat; X1 gets what is left of the distortion.
    exact = 1.0 + 0.5 * math.log(2 / (one_nat_distortion - math.exp(-2)))
    assert exact == pytest.approx(1.3964, abs=1e-4)
    assert universal_rate(SHARED, **points) == pytest.approx(exact, abs=1e-6)
    assert rate_penalty(SHARED, **points) == pytest.approx(0.396, abs=5e-4)
    assert rate_penalty(
        SHARED,
        **points | {"classification": np.array([INF, one_nat_label]) / math.log(2), "unit": "bits"},
    ) == pytest.approx((exact - 1) / math.log(2), abs=1e-6)


@settle(12)
@given(SEEDS)
def test_the_universal_rate_of_a_vector_agrees_with_a_determinant_program(
    seed,
):
    random = np.random.default_rng(seed)
    root, weights = random.normal(size=(3, 3)), random.normal(size=3)
    covariance = root @ root.T + 0.2 * np.eye(3)
    source = VectorGaussian(covariance, ScalarLabel(weights, 0.1))
    distortions = random.uniform(0.3, 1, 3) * np.trace(covariance)
    variances = random.uniform(0.2, 1, 3) * (weights @ covariance @ weights)
    classifications = 0.5 * np.log(2 * math.pi * math.e * (variances + 0.1))
    error = cvxpy.Variable((3, 3), PSD=True)
    limits = [
        covariance - error >> 0,
        cvxpy.trace(error) <= distortions.min(),
        weights @ error @ weights <= variances.min(),
    ]
    program = cvxpy.Problem(cvxpy.Minimize(-cvxpy.log_det(error)), limits).solve(solver="CLARABEL")
    exact = 0.5 * (np.linalg.slogdet(covariance)[1] + program)
    assert universal_rate(source, distortions, INF, classifications, unit="nats") == pytest.approx(
        exact, abs=1e-4
    )
    penalty = rate_penalty(source, distortions, INF, classifications, unit="nats")
    assert penalty == pytest.approx(
        exact - np.max(rate(source, distortions, INF, classifications, unit="nats")), abs=1e-4
    )
    alone = rate_penalty(source, distortions[0], INF, classifications[0], unit="nats")
    assert alone == pytest.approx(0, abs=1e-6)


@settle(10)
@given(SEEDS)
def test_a_universal_channel_of_a_vector_serves_every_point_of_its_set(seed):
    random = np.random.default_rng(seed)
    source = VectorGaussian(
        random.uniform(0.2, 3, 3),
        AlignedLabels(random.uniform(0.2, 2, 3), random.uniform(0.1, 1, 3)),
    )
    least, most = source.label_entropies
    points = (
        random.uniform(0.3, 1, 3) * np.trace(source.covariance),
        random.uniform(0, 0.5, 3),
        random.uniform(least / 2 + most / 2, most, 3),
    )
    needed = universal_rate(source, *points, unit="nats")
    assert rate_penalty(source, *points) >= 0
    assert needed >= np.max(rate(source, *points, unit="nats")) - 1e-6
    _, channel = source.solve_universal(Constraints(*points))
    fixed = representation(source, channel, unit="nats")
    assert fixed.rate == pytest.approx(needed, abs=1e-6)
    slack = 1e-5
    assert fixed.contains(points[0] + slack, points[1] + slack, points[2] + slack).all()


@pytest.mark.parametrize(
    "source, points",
    [
        (SHARED, dict(distortion=[0.3, 0.9, 2.0])),  # one kind of bound: the tightest serves all
        (
            VectorGaussian([1.5, 1.5, 1.5], AlignedLabels([2, 2, 2], [0.3, 0.3, 0.3])),
            dict(distortion=[0.9, INF], classification=[INF, 6.0]),
        ),
        (SHARED, dict(distortion=0.7, perception=0.05, classification=1.2)),  # one point
    ],
)
def test_vectors_pay_nothing_where_the_purposes_want_the_same(source, points):
    assert rate_penalty(source, **points) == pytest.approx(0, abs=1e-6)
    assert universal_rate(source, **points) > 0.1


def test_the_best_classification_can_cost_more_than_twice_the_distortion():
    """Against "optimal classification increases MSE at most by a factor two" (2504.09932).

    Λ = (100, 1), S = X2 + N(0, .1), one nat.
    """
    source = VectorGaussian([100.0, 1.0], ScalarLabel([0.0, 1.0], 0.1))
    least = classification(source, 1.0, unit="nats")
    assert least == pytest.approx(
        0.5 * math.log(2 * math.pi * math.e * (math.exp(-2) + 0.1)), abs=1e-6
    )
    at_least = distortion(source, 1.0, classification=least + 1e-5, unit="nats")
    assert at_least / distortion(source, 1.0, unit="nats") == pytest.approx(6.89, abs=0.02)


def test_an_infeasible_point_makes_a_set_infeasible():
    for source in (ScalarGaussian(1.0, 0.5, 0.9), SHARED):
        assert universal_rate(source, [0.5, 0.0]) == INF
        assert rate_penalty(source, [0.5, 0.0], [0.1, 0.2]) == INF
        assert rate_penalty(source, 0.5, INF, -9.0) == INF


# Bounds -------------------------------------------------------------------------------------------


@settle(30)
@given(SEEDS, st.floats(0.05, 0.95))
def test_perfect_perception_needs_no_more_than_the_rate_of_half_the_distortion(seed, part):
    """Blau & Michaeli 2019, Theorem 2, for the sources with squared error."""
    for source in (
        ScalarGaussian(1.7),
        VectorGaussian(np.random.default_rng(seed).uniform(0.1, 3, 3)),
    ):
        bound = part * source.distortion_ceiling
        perfect, halved = rate(source, bound, 0.0), rate(source, bound / 2)
        assert rate(source, bound) <= perfect + 1e-9
        assert perfect <= halved + 1e-6


@settle(15)
@given(SEEDS, st.floats(0.1, 4))
def test_an_encoder_trained_for_squared_error_loses_no_more_than_the_bounds_say(seed, bits):
    source = VectorGaussian(np.random.default_rng(seed).uniform(0.1, 3, 3))
    variance, mmse = np.trace(source.covariance), distortion(source, bits)
    _, channel = rate(source, mmse, return_channel=True)
    own = representation(source, channel).distortion(0.0)
    best = distortion(source, bits, 0.0)
    gap, ratio = mse_encoder_bounds(variance, mmse)
    assert best <= own + 1e-6
    assert best - own >= gap - 1e-6
    assert best / own >= ratio - 1e-6
    assert gap == pytest.approx(
        2 * variance - 2 * math.sqrt(variance * (variance - mmse)) - 2 * mmse
    )
    assert ratio == pytest.approx(
        (2 * variance - 2 * math.sqrt(variance * (variance - mmse))) / (2 * mmse)
    )


def test_the_bounds_are_tight_at_their_ends():
    assert mse_encoder_bounds(2.0, 0.0) == (0.0, 0.5)
    assert mse_encoder_bounds(2.0, 2.0) == (0.0, 1.0)
    assert mse_encoder_bounds(1.0, 1e-12)[1] == pytest.approx(0.5, abs=1e-12)


def test_one_shot_codes_cost_a_logarithm_and_five_bits():
    assert one_shot_bound(0.0) == 5.0
    assert one_shot_bound([1.0, 3.0, 7.0]) == pytest.approx([7.0, 10.0, 15.0])
    assert one_shot_bound(3 * math.log(2), unit="nats") == pytest.approx(10 * math.log(2))
    assert one_shot_bound(INF) == INF
