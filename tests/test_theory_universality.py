"""Universal representations.

Decoders of a fixed encoder against linear, semidefinite and brute-force programs, and what
universality costs.
"""

import math

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, minimize

from quadrate.theory import classification, distortion, measure, rate
from quadrate.theory.any_source import Constraints
from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.channels import DiscreteChannel, GaussianChannel
from quadrate.theory.convergence import ConvergenceWarning
from quadrate.theory.discrete import Discrete
from quadrate.theory.gaussian.scalar import ScalarGaussian
from quadrate.theory.gaussian.vector import AlignedLabels, ScalarLabel, VectorGaussian
from quadrate.theory.universality.representation import (
    AlphabetRepresentation,
    SquaredErrorRepresentation,
    representation,
)
from quadrate.theory.universality.universal import (
    mse_encoder_bounds,
    one_shot_bound,
    rate_penalty,
    universal_rate,
)

INF = math.inf
SEEDS = st.integers(0, 2**32 - 1)


def settle(examples):
    return settings(deadline=None, derandomize=True, max_examples=examples)


def random_letters(seed, n=4, m=3, labels=2):
    """A pmf, coordinates on the line, an encoder p(z|x), p(s|x) and a frozen classifier c(s|x̂)."""
    random = np.random.default_rng(seed)
    pmf, encoder = random.dirichlet(np.ones(n)), random.dirichlet(np.ones(m) / 2, size=n)
    return (
        pmf,
        random.normal(size=n),
        encoder,
        random.dirichlet(np.ones(labels) / 2, size=n),
        random.dirichlet(np.ones(labels), size=n),
    )


def squares(points, others=None):
    return (points[:, None] - (points if others is None else others)) ** 2


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
    """The least expected cost over decoders by cvxpy, from p(x,z), Δ(x,x̂), p_X, the cost of moving x to x̂, and −Σ p(s|x) ln c(s|x̂)."""
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
def test_the_universal_rate_of_a_vector_agrees_with_a_determinant_program_and_has_no_negative_penalty(
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
    assert rate_penalty(source, distortions[0], INF, classifications[0]) == pytest.approx(
        0, abs=1e-6
    )


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


# Arguments ----------------------------------------------------------------------------------------


def test_kl_perception_and_entropies_follow_the_unit():
    pmf, points, encoder, labels, classifier = random_letters(5)
    source = Discrete(pmf, squares(points), labels, classifier)
    bits, nats = (
        representation(source, DiscreteChannel(encoder), divergence="kl", unit=unit)
        for unit in ("bits", "nats")
    )
    assert (bits.rate, bits.classification) == pytest.approx(
        (nats.rate / math.log(2), nats.classification / math.log(2))
    )
    limit = nats.classification + 0.1
    assert bits.distortion(0.02 / math.log(2), limit / math.log(2)) == pytest.approx(
        nats.distortion(0.02, limit), abs=1e-6
    )
    assert bits.decoder(0.02 / math.log(2)) == pytest.approx(nats.decoder(0.02), abs=1e-4)


LETTERS = Discrete([0.2, 0.3, 0.5], squares(np.arange(3.0)))
THREE = DiscreteChannel(np.full((3, 2), 0.5))
SCALAR = GaussianChannel(np.array(0.5), np.array(0.1))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: representation(1.0, SCALAR), "source must be"),
        (lambda: representation(LETTERS, SCALAR), "channel must be a DiscreteChannel"),
        (
            lambda: representation(LETTERS, DiscreteChannel(np.full((2, 2), 0.5))),
            r"channel must have shape \(3, any\)",
        ),
        (
            lambda: representation(LETTERS, DiscreteChannel(np.full((3, 2), 0.4))),
            "channel must be a distribution in every row",
        ),
        (
            lambda: representation(LETTERS, THREE, points=[1.0, 2.0]),
            "points must have one entry for each of the 3 letters",
        ),
        (lambda: representation(LETTERS, THREE, points=1.0), "points must have 1 or 2 dimension"),
        (
            lambda: representation(LETTERS, THREE, points=[0.0, 1.0, 2.0], divergence="tv"),
            "divergence must be 'w2' with points",
        ),
        (lambda: representation(LETTERS, THREE, divergence="l1"), "divergence must be one of"),
        (lambda: representation(LETTERS, THREE, unit="dits"), "unit must be"),
        (
            lambda: representation(
                Discrete([0.5, 0.5], 1 - np.eye(2), np.eye(2), np.full((2, 2), 0.5)),
                DiscreteChannel(np.eye(2)),
                points=[0.0, 1.0],
            ),
            "points must be None for a source with a frozen classifier",
        ),
        (
            lambda: representation(ScalarGaussian(1.0), SCALAR, points=[0.0]),
            "points must be None for a ScalarGaussian",
        ),
        (lambda: representation(ScalarGaussian(1.0), THREE), "channel must be a GaussianChannel"),
        (
            lambda: representation(ScalarGaussian(1.0), GaussianChannel(np.ones(2), np.ones(2))),
            "channel must be one encoder",
        ),
        (
            lambda: representation(SHARED, GaussianChannel(np.eye(2), np.eye(2)), divergence="kl"),
            "divergence must be 'w2'",
        ),
        (
            lambda: representation(ScalarGaussian(1.0), SCALAR).distortion(INF, 0.1),
            "classification must be inf",
        ),
        (
            lambda: representation(ScalarGaussian(1.0), SCALAR).distortion(math.nan),
            "perception must not be NaN",
        ),
        (
            lambda: representation(ScalarGaussian(1.0), SCALAR).interpolation(1.2),
            r"weight must be within \[0, 1\]",
        ),
        (
            lambda: universal_rate(LETTERS, 0.1),
            "source must be a ScalarGaussian or a VectorGaussian",
        ),
        (lambda: universal_rate(ScalarGaussian(1.0), []), "must list at least one point"),
        (
            lambda: rate_penalty(ScalarGaussian(1.0), [0.1, 0.2], [0.1, 0.2, 0.3]),
            "constraints must broadcast",
        ),
        (
            lambda: rate_penalty(ScalarGaussian(1.0), 0.1, INF, 0.1),
            "classification needs a source with a label",
        ),
        (
            lambda: universal_rate(SHARED, 0.1, 0.1, divergence="kl"),
            "divergence must be 'w2' for a universal rate",
        ),
        (lambda: mse_encoder_bounds(0.0, 0.0), "variance must be"),
        (lambda: mse_encoder_bounds(1.0, 1.1), "mmse must be"),
        (lambda: one_shot_bound(-1.0), "rate must be >= 0"),
        (lambda: one_shot_bound(1.0, unit="dits"), "unit must be"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_channel_of_an_infeasible_point_is_refused():
    needed, channel = rate(ScalarGaussian(1.0), 0.0, return_channel=True)
    assert needed == INF
    with pytest.raises(ValueError, match="channel must hold at least one number, all finite"):
        representation(ScalarGaussian(1.0), channel)


def test_a_decoder_that_is_not_reached_is_warned_of(monkeypatch):
    monkeypatch.setattr("quadrate.theory.universality.decoders._TANGENTS", 1)
    pmf, points, encoder, _, _ = random_letters(3)
    fixed = representation(
        Discrete(pmf, squares(points)), DiscreteChannel(encoder), divergence="kl"
    )
    with pytest.warns(ConvergenceWarning, match="was not reached in 1 steps"):
        fixed.distortion(0.01)


def test_letters_of_reconstruction_may_be_others_as_long_as_perception_is_not_bounded():
    pmf, points, encoder, labels, _ = random_letters(7, n=3)
    places, classifier = (
        np.linspace(-2, 2, 5),
        np.array([[1.0, 0.0], [0.7, 0.3], [0.5, 0.5], [0.2, 0.8], [0.0, 1.0]]),
    )  # zeros forbid letters
    fixed = representation(
        Discrete(pmf, squares(points, places), labels, classifier),
        DiscreteChannel(encoder),
        unit="nats",
    )
    joint = pmf[:, None] * encoder
    assert fixed.distortion() == pytest.approx((squares(places, points) @ joint).min(axis=0).sum())
    assert fixed.distortion(INF, 1.5) >= fixed.distortion()
    assert fixed.decoder(classification=1.5).shape == (3, 5)
    assert fixed.decoder(classification=1.5)[:, [0, 4]] == pytest.approx(0)
    with pytest.raises(
        ValueError, match="perception must be inf for a source whose X and X̂ differ"
    ):
        fixed.distortion(0.1)


def test_letters_of_probability_zero_do_not_matter():
    pmf, points, encoder, _, _ = random_letters(11, n=3)
    wider, rows = np.append(pmf, 0.0), np.vstack([encoder, encoder[0]])
    places = np.append(points, 9.0)
    for divergence in Discrete.divergences:
        small = representation(
            Discrete(pmf, squares(points)), DiscreteChannel(encoder), divergence=divergence
        )
        large = representation(
            Discrete(wider, squares(places)), DiscreteChannel(rows), divergence=divergence
        )
        for perception in (0.0, 0.05, INF):
            assert large.distortion(perception) == pytest.approx(
                small.distortion(perception), abs=1e-6
            )


def test_kinds_of_representation_are_told_apart():
    assert isinstance(representation(LETTERS, THREE), AlphabetRepresentation)
    assert isinstance(
        representation(LETTERS, THREE, points=[0.0, 1.0, 2.0]), SquaredErrorRepresentation
    )
