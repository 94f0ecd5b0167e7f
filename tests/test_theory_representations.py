"""Decoders of a fixed encoder against linear, semidefinite and brute-force programs."""

import math

import cvxpy
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, minimize

from quadrate.theory import measure
from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.channels import DiscreteChannel, GaussianChannel
from quadrate.theory.discrete import Discrete
from quadrate.theory.gaussian.scalar import ScalarGaussian
from quadrate.theory.gaussian.vector import ScalarLabel, VectorGaussian
from quadrate.theory.universality.representation import (
    representation,
)
from universality_parts import random_letters, settle, squares

INF = math.inf


SEEDS = st.integers(0, 2**32 - 1)


def squared_w2(first, law, second, other):
    """W2² of two laws on the line by a linear program."""
    sums = np.vstack(
        [
            np.kron(np.eye(len(law)), np.ones(len(other))),
            np.kron(np.ones(len(law)), np.eye(len(other))),
        ]
    )
    return linprog(
        squares(first, second).ravel(), A_eq=sums[:-1], b_eq=np.concatenate([law, other])[:-1]
    ).fun


def least_cost(joint, costs, law, divergence, perception, moves=None, penalties=None, limit=INF):
    """The least cost over decoders by cvxpy; `penalties` are −Σ p(s|x) ln c(s|x̂)."""
    plan = cvxpy.Variable((joint.shape[1], costs.shape[1]), nonneg=True)
    output = cvxpy.sum(plan, axis=0)
    posterior = (joint / joint.sum(axis=0)).T
    constraints = [cvxpy.sum(plan, axis=1) == joint.sum(axis=0)]
    if divergence == "kl":
        constraints.append(cvxpy.sum(cvxpy.kl_div(output, law)) <= perception)
    elif divergence == "tv":
        constraints.append(cvxpy.norm1(output - law) / 2 <= perception)
    else:
        carried = cvxpy.Variable(moves.shape, nonneg=True)
        constraints += [
            cvxpy.sum(carried, axis=1) == law,
            cvxpy.sum(carried, axis=0) == output,
            cvxpy.sum(cvxpy.multiply(carried, moves)) <= perception,
        ]
    if limit < INF:
        constraints.append(cvxpy.sum(cvxpy.multiply(plan, posterior @ penalties)) <= limit)
    return cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum(cvxpy.multiply(plan, posterior @ costs))), constraints
    ).solve(solver="CLARABEL")


# Points with real reconstructions -----------------------------------------------------------------


@settle(8)
@given(SEEDS, st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.3]))
def test_points_need_mmse_and_what_transport_leaves_as_decoders_onto_a_fine_grid_do(seed, part):
    pmf, points, encoder, _, _ = random_letters(seed, n=5)
    points = points / np.ptp(points)
    fixed = representation(Discrete(pmf, squares(points)), DiscreteChannel(encoder), points=points)
    perception = part * fixed.transport
    grid = np.unique(np.concatenate([np.linspace(points.min(), points.max(), 121), points]))
    program = least_cost(
        pmf[:, None] * encoder, squares(points, grid), pmf, "w2", perception, squares(points, grid)
    )
    assert fixed.distortion(perception) == pytest.approx(program, abs=1e-4)
    assert fixed.distortion(perception) <= program + 1e-6


@settle(60)
@given(SEEDS, st.integers(1, 3), st.floats(0, 1))
def test_perfect_perception_at_most_doubles_the_distortion_of_points(seed, dimensions, weight):
    random = np.random.default_rng(seed)
    pmf = random.dirichlet(np.ones(5))
    encoder = random.dirichlet(np.ones(3), size=5)
    points = random.normal(size=(5, dimensions))
    source = Discrete(pmf, ((points[:, None] - points) ** 2).sum(axis=-1))
    fixed = representation(source, DiscreteChannel(encoder), points=points)
    assert fixed.distortion() == fixed.mmse
    assert fixed.mmse <= fixed.distortion(0.0) <= 2 * fixed.mmse + 1e-9
    reached, perception = fixed.interpolation(weight)
    assert reached == pytest.approx(fixed.distortion(perception), abs=1e-9)
    # Without room between the letters, decoders onto them agree where the output has p_X's own law,
    # and are worse elsewhere.
    letters = representation(source, DiscreteChannel(encoder))
    assert letters.distortion(0.0) == pytest.approx(fixed.distortion(0.0), abs=1e-8)
    assert letters.distortion(perception) >= fixed.distortion(perception) - 1e-8


@settle(25)
@given(SEEDS, st.floats(0, 1))
def test_two_decoders_interpolate_the_whole_curve(seed, weight):
    pmf, points, encoder, _, _ = random_letters(seed, n=5)
    source, channel = Discrete(pmf, squares(points)), DiscreteChannel(encoder)
    fixed, joint = representation(source, channel, points=points), pmf[:, None] * encoder
    means = points @ joint / joint.sum(axis=0)
    realistic = representation(source, channel).decoder(
        perception=0.0
    )  # X̂_b: the letter x̂ with probability p(x̂|z)
    outputs = weight * means[:, None] + (1 - weight) * points  # (m, n)
    law = joint.sum(axis=0)[:, None] * realistic
    error = sum(
        joint[x, z] * realistic[z, k] * (points[x] - outputs[z, k]) ** 2
        for x, z, k in np.ndindex(5, 3, 5)
    )
    assert fixed.interpolation(weight) == pytest.approx(
        (error, squared_w2(outputs.ravel(), law.ravel(), points, pmf)), abs=1e-7
    )


@settle(40)
@given(SEEDS, SEEDS)
def test_rate_and_label_entropy_of_a_representation_are_those_of_the_definitions(seed, seed_z):
    pmf, points, _, labels, _ = random_letters(seed, n=4, labels=3)
    encoder = np.random.default_rng(seed_z).dirichlet(np.ones(6) / 2, size=4)
    fixed = representation(
        Discrete(pmf, squares(points), labels), DiscreteChannel(encoder), points=points
    )
    joint = pmf[:, None] * encoder
    weights, labelled = joint.sum(axis=0), labels.T @ joint
    information = sum(
        joint[x, z] * math.log2(encoder[x, z] / weights[z])
        for x, z in np.ndindex(joint.shape)
        if joint[x, z] > 0
    )
    uncertainty = -sum(
        labelled[s, z] * math.log2(labelled[s, z] / weights[z])
        for s, z in np.ndindex(labelled.shape)
        if labelled[s, z] > 0
    )
    assert (fixed.rate, fixed.classification) == pytest.approx((information, uncertainty), abs=1e-9)


def test_the_region_of_an_ideal_classifier_is_a_quadrant_not_a_curve():
    """X = ±1, ±2 evenly, S = (|X| = 2) = Z.

    X̃ = 0 tells nothing of S, and yet the least distortion and H(S|X̂) = 0 come together.

    The poster's Theorem 3 adds inf W2²(p_X̃, p_X̂) over the X̂ of a low enough H(S|X̂) to the mmse,
    as if that had a price."""
    points = np.array([-2.0, -1, 1, 2])
    pmf = np.full(4, 0.25)
    encoder = np.array([[0, 1], [1, 0], [1, 0], [0, 1.0]])
    fixed = representation(
        Discrete(pmf, squares(points), encoder), DiscreteChannel(encoder), points=points
    )
    assert (fixed.mmse, fixed.classification) == (2.5, 0.0)
    assert fixed.contains(2.5, INF, 0.0)
    joint = pmf[:, None] * encoder
    for step in (0.1, 1e-3, 1e-6):
        outputs = np.array([0.0, step])  # X̂ = X̃ + ε·code(Z), and S = Z can be read from it
        labelled = np.array([[joint[:, z] @ encoder[:, s] for s in range(2)] for z in range(2)])
        conditional = labelled / labelled.sum(axis=1, keepdims=True)
        entropy = -sum(
            labelled[z, s] * math.log2(conditional[z, s])
            for z, s in np.ndindex(2, 2)
            if labelled[z, s] > 0
        )
        error = (joint * squares(points, outputs)).sum()
        assert entropy == 0.0
        assert error == pytest.approx(2.5 + step**2 / 2, abs=1e-15)
    # A frozen classifier of the letters does not see the code: there, lower cross-entropy is paid
    # for in distortion.
    classifier = np.array([[0.1, 0.9], [0.8, 0.2], [0.9, 0.1], [0.2, 0.8]])
    frozen = representation(
        Discrete(pmf, squares(points), encoder, classifier), DiscreteChannel(encoder)
    )
    curve = frozen.distortion(INF, np.linspace(frozen.classification, 1.5, 12))
    assert curve[0] > curve[-1] + 0.5
    assert (np.diff(curve, 2) >= -1e-9).all()


# Decoders onto letters ----------------------------------------------------------------------------


@settle(30)
@given(
    SEEDS,
    st.sampled_from(["w2", "tv", "kl"]),
    st.floats(0.02, 0.9),
    st.sampled_from([INF, 0.1, 0.6]),
)
def test_decoders_onto_letters_agree_with_a_convex_program(seed, divergence, part, margin):
    pmf, points, encoder, labels, classifier = random_letters(seed)
    joint, penalties = pmf[:, None] * encoder, -labels @ np.log(classifier).T
    fixed = representation(
        Discrete(pmf, squares(points), labels, classifier),
        DiscreteChannel(encoder),
        divergence=divergence,
        unit="nats",
    )
    free = fixed.decoder()
    output = joint.sum(axis=0) @ free
    ceiling = {
        "tv": np.abs(output - pmf).sum() / 2,
        "kl": (output * np.log(np.maximum(output, 1e-300) / pmf)).sum(),
        "w2": squared_w2(points, output, points, pmf),
    }[divergence]
    perception, limit = part * ceiling, fixed.classification + margin
    cost = fixed.distortion(perception, limit)
    program = least_cost(
        joint, squares(points), pmf, divergence, perception, squares(points), penalties, limit
    )
    assert cost == program or cost == pytest.approx(program, abs=2e-6)
    if cost < INF:
        decoder = fixed.decoder(perception, limit)
        assert decoder.sum(axis=1) == pytest.approx(1)
        assert ((joint @ decoder) * squares(points)).sum() == pytest.approx(cost)
        assert ((joint @ decoder) * penalties).sum() <= limit + 1e-7


@settle(8)
@given(SEEDS, st.sampled_from(["w2", "tv", "kl"]))
def test_the_region_shrinks_with_each_bound_and_is_convex(seed, divergence):
    pmf, points, encoder, labels, classifier = random_letters(seed, n=3)
    fixed = representation(
        Discrete(pmf, squares(points), labels, classifier),
        DiscreteChannel(encoder),
        divergence=divergence,
    )
    over_perception = fixed.distortion(np.linspace(0, 0.6, 6))
    over_classification = fixed.distortion(INF, fixed.classification + np.linspace(0, 0.6, 6))
    for curve in (over_perception, over_classification):
        assert (np.diff(curve) <= 1e-6).all()
        assert (np.diff(curve, 2) >= -1e-6).all()
    assert (
        fixed.distortion(0.1, fixed.classification + 0.2)
        >= max(fixed.distortion(0.1), fixed.distortion(INF, fixed.classification + 0.2)) - 1e-6
    )
    assert fixed.contains(over_perception, np.linspace(0, 0.6, 6)).all()
    assert not fixed.contains(over_perception - 1e-4, np.linspace(0, 0.6, 6)).any()
    assert fixed.contains(INF, INF, fixed.classification) and not fixed.contains(
        INF, INF, fixed.classification - 1e-4
    )


@settle(20)
@given(
    SEEDS,
    st.sampled_from(["w2", "tv", "kl"]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([1e-4, 1e4]),
)
def test_distortion_scales_with_the_source(seed, divergence, perception, scale):
    pmf, points, encoder, _, _ = random_letters(seed)
    unscaled = representation(
        Discrete(pmf, squares(points)), DiscreteChannel(encoder), divergence=divergence
    )
    scaled = representation(
        Discrete(pmf, squares(scale * points)), DiscreteChannel(encoder), divergence=divergence
    )
    bound = perception * (scale**2 if divergence == "w2" else 1)
    assert scaled.distortion(bound) / scale**2 == pytest.approx(
        unscaled.distortion(perception), abs=1e-7
    )


@settle(20)
@given(SEEDS, st.sampled_from([1e-6, 1e-3]))
def test_perfect_perception_holds_for_letters_that_lie_close_together(seed, spread):
    pmf, points, encoder, _, _ = random_letters(seed, n=8)
    points = np.repeat(points[:4], 2) + spread * points
    source, channel = Discrete(pmf, squares(points)), DiscreteChannel(encoder)
    letters = representation(source, channel)
    assert letters.distortion(0.0) == pytest.approx(
        representation(source, channel, points=points).distortion(0.0), abs=1e-9
    )
    assert pmf @ encoder @ letters.decoder(0.0) == pytest.approx(pmf, abs=1e-9)


@settle(30)
@example(0.5, 0.0, 0.0, "tv", 2.2250738585e-313, 0)
@example(0.125, 0.0, 0.0, "kl", 2.2250738585e-313, 0)
@example(0.125, 0.0, 0.0, "kl", 1e-25, 0)
@given(
    st.floats(0.1, 0.9),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.sampled_from(["tv", "w2", "kl"]),
    st.floats(0, 0.1),
    SEEDS,
)
def test_binary_decoders_agree_with_a_search_over_output_laws(
    p, label_flip, noise_flip, divergence, perception, seed
):
    source = Bernoulli(p, label_flip, noise_flip)
    encoder = np.random.default_rng(seed).dirichlet([1, 1], size=2)
    fixed = representation(source, DiscreteChannel(encoder), divergence=divergence, unit="nats")
    point = measure(source, DiscreteChannel(encoder), unit="nats")  # Z in the place of X̂
    assert (fixed.rate, fixed.classification) == pytest.approx(
        (point.rate, point.classification), abs=1e-9
    )
    # For an output law the decoders are a segment, and the distortion is linear on it: its ends are
    # enough.
    outputs = np.clip(np.linspace(*output_range(p, divergence, perception), 2001), 1e-9, 1 - 1e-9)
    zero, one = np.array([1 - p, p]) @ noisy(noise_flip) @ encoder
    first = np.stack([np.maximum(0, (outputs - one) / zero), np.minimum(1, outputs / zero)])
    second = np.clip((outputs - zero * first) / one, 0, 1)
    decoders = np.stack([np.stack([1 - first, first], -1), np.stack([1 - second, second], -1)], -2)
    points = measure(
        source, DiscreteChannel(encoder @ decoders), divergence=divergence, unit="nats"
    )
    assert (points.perception <= perception + 1e-8).all()
    assert fixed.distortion(perception) == pytest.approx(points.distortion.min(), abs=2e-4)
    assert fixed.distortion(perception) <= points.distortion.min() + 1e-7


def noisy(flip):
    return np.array([[1 - flip, flip], [flip, 1 - flip]])


def output_range(p, divergence, bound):
    """The least and largest P(X̂=1) within a bound."""
    if divergence != "kl":
        return max(0, p - bound), min(1, p + bound)

    def excess(q):
        return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)) - bound

    ends = [(1e-12, p), (1 - 1e-12, p)]
    return [
        end if excess(end) <= 0 else brentq(excess, end, inside) if bound else p
        for end, inside in ends
    ]


@pytest.mark.parametrize("divergence", ["chi2", "hellinger"])
def test_other_f_divergences_agree_with_slsqp(divergence):
    pmf, points, encoder, _, _ = random_letters(3, n=3)
    fixed = representation(
        Discrete(pmf, squares(points)), DiscreteChannel(encoder), divergence=divergence
    )
    joint = pmf[:, None] * encoder

    def away(plan):
        output = plan.reshape(3, 3).sum(axis=0)
        return (
            ((output - pmf) ** 2 / pmf)
            if divergence == "chi2"
            else (np.sqrt(output) - np.sqrt(pmf)) ** 2
        ).sum()

    best = minimize(
        lambda plan: plan @ ((joint / joint.sum(axis=0)).T @ squares(points)).ravel(),
        np.outer(joint.sum(axis=0), pmf).ravel(),
        bounds=[(1e-12, 1)] * 9,
        constraints=[
            {"type": "eq", "fun": lambda plan: plan.reshape(3, 3).sum(axis=1) - joint.sum(axis=0)},
            {"type": "ineq", "fun": lambda plan: 0.02 - away(plan)},
        ],
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert fixed.distortion(0.02) == pytest.approx(best.fun, abs=1e-6)
    assert fixed.distortion(0.02) < fixed.distortion(0.0) - 1e-3


# Gaussian representations -------------------------------------------------------------------------


@settle(30)
@given(
    st.floats(0.2, 4),
    st.floats(0, 1),
    st.floats(-2, 2),
    st.floats(0.05, 2),
    st.sampled_from(["w2", "kl"]),
    st.floats(0, 1),
)
def test_scalar_decoders_agree_with_a_search_over_gains_and_noises(
    variance, noise_variance, gain, noise, divergence, part
):
    source = ScalarGaussian(variance, 1.0, 0.6, noise_variance)
    fixed = representation(
        source, GaussianChannel(np.array(gain), np.array(noise)), divergence=divergence, unit="nats"
    )
    perception = part * (fixed.transport if divergence == "w2" else 0.3)
    # X̂ = b Z + N(0, v), by the deviation of X̂: distortion falls with the correlation that is left
    # of Z's.
    spread = gain**2 * (variance + noise_variance) + noise
    cross = abs(gain) * variance / math.sqrt(spread)
    deviation = np.linspace(1e-6, 2, 400_001) * math.sqrt(variance)
    ratio = deviation**2 / variance
    away = (
        (deviation - math.sqrt(variance)) ** 2
        if divergence == "w2"
        else (ratio - 1 - np.log(ratio)) / 2
    )
    best = (variance + deviation**2 - 2 * cross * deviation)[away <= perception + 1e-12]
    if best.size:
        assert fixed.distortion(perception) == pytest.approx(best.min(), abs=3e-5)
    assert fixed.mmse == pytest.approx(variance - cross**2)
    assert fixed.distortion(0.0) == pytest.approx(2 * variance - 2 * cross * math.sqrt(variance))
    assert fixed.distortion(0.0) <= 2 * fixed.mmse + 1e-12


@settle(8)
@given(SEEDS, st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_vector_decoders_agree_with_a_semidefinite_program(seed, part):
    random = np.random.default_rng(seed)
    root, gain = random.normal(size=(3, 3)), random.normal(size=(3, 3))
    covariance, noise = root @ root.T + 0.1 * np.eye(3), np.diag(random.uniform(0.2, 1, 3))
    fixed = representation(VectorGaussian(covariance), GaussianChannel(gain, noise))
    perception = part * fixed.transport
    cross = covariance @ gain.T
    mean = cross @ np.linalg.solve(gain @ cross + noise, cross.T)  # covariance of X̃
    # All Gaussian X̂ with covariance K, their couplings with X̃, and those with X.
    joint, other = cvxpy.Variable((6, 6), PSD=True), cvxpy.Variable((6, 6), PSD=True)
    limits = [joint[:3, :3] == mean, joint[3:, 3:] == covariance]
    if perception > 0:
        distance = cvxpy.trace(other) - 2 * cvxpy.trace(other[:3, 3:])
        limits = [
            joint[:3, :3] == mean,
            other[:3, :3] == covariance,
            joint[3:, 3:] == other[3:, 3:],
            distance <= perception,
        ]
    program = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.trace(joint) - 2 * cvxpy.trace(joint[:3, 3:])), limits
    ).solve(solver="CLARABEL")
    assert fixed.distortion(perception) == pytest.approx(
        np.trace(covariance - mean) + program, abs=1e-4
    )
    assert fixed.mmse <= fixed.distortion(0.0) <= 2 * fixed.mmse


@pytest.mark.parametrize("bound", [1e-300, 1e-40, 1e-17, 1e-15, 50.0, 1e6])
def test_extreme_kl_bounds_are_reached(bound):
    fixed = representation(
        ScalarGaussian(2.0),
        GaussianChannel(np.array(1.0), np.array(1.0)),
        divergence="kl",
        unit="nats",
    )
    if bound < 1:
        slope = 2 * math.sqrt(fixed.transport * 2.0 * bound)  # dD = -2 W2 dσ̂, and KL = (dσ̂/σ)²
        assert fixed.distortion(0.0) - fixed.distortion(bound) == pytest.approx(
            slope, rel=1e-3, abs=1e-14
        )
    else:
        assert fixed.distortion(bound) == fixed.mmse


def test_components_without_variance_carry_nothing():
    source = VectorGaussian([2.0, 1.0], ScalarLabel([0, 1], 0.1))
    fixed = representation(
        source, GaussianChannel(np.diag([1.0, 0.0]), np.diag([2.0, 0.0])), unit="nats"
    )
    assert (fixed.mmse, fixed.rate) == pytest.approx((2.0, math.log(2) / 2))
    assert fixed.classification == pytest.approx(math.log(2 * math.pi * math.e * 1.1) / 2)
    blind = representation(ScalarGaussian(2.0), GaussianChannel(np.array(0.0), np.array(0.0)))
    assert (blind.rate, blind.mmse, blind.distortion(0.0)) == pytest.approx((0.0, 2.0, 4.0))
    assert math.isnan(blind.classification)
