"""Rates of vector Gaussians against published values, closed forms, and each other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quadrate.theory.any_source import Constraints
from quadrate.theory.functions import classification, distortion, measure, rate
from quadrate.theory.gaussian.scalar import ScalarGaussian
from quadrate.theory.gaussian.vector import AlignedLabels, ScalarLabel, VectorGaussian
from vector_gaussian_parts import binding, draw, inf, nats, with_channel

HALF = math.log(2 * math.pi * math.e) / 2


SEEDS = st.integers(0, 10**6)


# --- Values from the literature and from the facts


@pytest.mark.parametrize(
    ("most", "needed", "rates"),
    [
        (
            0.8,
            2.946638919415507,
            [1.4259219034318813, 0.9602515288254441, 0.4891994018144293, 0.07126608534375206],
        ),
        (
            4.0,
            0.6950089872585586,
            [0.4852433483540219, 0.17760883943820124, 0.030810281699938248, 0.001346517766397277],
        ),
    ],
)
def test_perfect_realism(most, needed, rates):
    variances = np.array([4, 1.5, 0.5, 0.1])
    source = VectorGaussian(variances)
    value, channel, point = with_channel(source, most, 0.0)
    assert value == pytest.approx(needed, abs=1e-9)
    correlation = np.diag(channel.gain) ** 2
    np.testing.assert_allclose(-np.log(1 - correlation) / 2, rates, atol=1e-9)
    assert float(point.perception) == pytest.approx(0, abs=1e-12)


def test_perfect_realism_gives_every_component_some_rate():
    source = VectorGaussian([4, 1.5, 0.5, 0.1])
    value, channel, _ = with_channel(source, 2.0, 0.0)
    assert value == pytest.approx(1.53799, abs=1e-5)
    np.testing.assert_allclose(
        -np.log(1 - np.diag(channel.gain) ** 2) / 2, [0.897, 0.482, 0.150, 0.009], atol=1e-3
    )
    value, channel, _ = with_channel(source, 2.0)
    np.testing.assert_allclose(
        -np.log(1 - np.diag(channel.gain)) / 2, [0.872, 0.381, 0, 0], atol=1e-3
    )


@pytest.mark.parametrize(
    ("most", "label", "needed", "errors"),
    [
        (
            1.2,
            3.4046279856819557,
            1.4507545240774964,
            [0.4623365480477298, 0.2376634519522701, 0.5],
        ),
        (3.0, 3.127369113457978, 2.20110501371855, [0.3834094929274726, 0.06390158215457885, 0.5]),
    ],
)
def test_aligned_labels(most, label, needed, errors):
    variances = np.array([2, 1, 0.5])
    source = VectorGaussian(variances, AlignedLabels([0.5, 1, 0], [0.3, 0.2, 1]))
    value, channel, _ = with_channel(source, most, inf, label)
    assert value == pytest.approx(needed, abs=1e-9)
    np.testing.assert_allclose(variances * (1 - np.diag(channel.gain)), errors, atol=1e-9)


def test_distortion_and_classification_trade_at_one_rate():
    source = VectorGaussian([2, 1], ScalarLabel([0, 1], 0.1))
    np.testing.assert_allclose(distortion(source, 1.0, unit="nats"), 1.0405, atol=1e-4)
    np.testing.assert_allclose(
        measure(
            source, with_channel(source, 2 * math.sqrt(2) / math.e)[1], unit="nats"
        ).classification,
        1.180,
        atol=5e-4,
    )
    np.testing.assert_allclose(
        classification(source, 1.0, [1.049, 1.164, 2.135], unit="nats"),
        [1.127, 0.987, 0.696],
        atol=1e-3,
    )
    assert classification(source, 1.0, unit="nats") == pytest.approx(
        HALF + math.log(math.exp(-2) + 0.1) / 2, abs=1e-6
    )


@pytest.mark.parametrize(("largest", "factor"), [(100, 6.89), (2, 2.05)])
def test_best_classification_may_cost_more_than_twice_the_distortion(largest, factor):
    """Nguyen et al., arXiv 2504.09932, state a factor of two at most; it fails for vectors."""
    source = VectorGaussian([largest, 1], ScalarLabel([0, 1], 0.1))
    lowest = classification(source, 1.0, unit="nats")
    ratio = distortion(source, 1.0, classification=lowest, unit="nats") / distortion(
        source, 1.0, unit="nats"
    )
    assert ratio == pytest.approx(factor, abs=5e-3)
    assert ratio > 2


def test_universal_rate_of_two_points_of_one_nat_each():
    source = VectorGaussian([2, 1], ScalarLabel([0, 1], 0.1))
    most, lowest = distortion(source, 1.0, unit="nats"), classification(source, 1.0, unit="nats")
    both = Constraints(np.array([most, inf]), np.array([inf, inf]), np.array([inf, lowest]))
    needed, channel = source.solve_universal(both)
    assert needed == pytest.approx(1.3964, abs=1e-4)
    assert needed - source.solve(both)[0].max() == pytest.approx(0.396, abs=1e-3)
    point = measure(source, channel, unit="nats")
    assert (float(point.rate), float(point.distortion)) == (
        pytest.approx(needed, abs=1e-9),
        pytest.approx(most, abs=1e-9),
    )
    assert float(point.classification) == pytest.approx(lowest, abs=1e-9)


# --- Closed forms


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(["w2", "kl"]), st.booleans())
def test_one_dimension_is_the_scalar_source(seed, divergence, aligned):
    rng = np.random.default_rng(seed)
    variance, weight, noise = np.exp(rng.uniform(-2, 2, 3))
    label = AlignedLabels([weight], [noise]) if aligned else ScalarLabel([weight], noise)
    vector = VectorGaussian([variance], label)
    total = weight**2 * variance + noise
    scalar = ScalarGaussian(variance, total, math.sqrt(weight**2 * variance / total))
    low, high = vector.label_entropies
    np.testing.assert_allclose((low, high), scalar.label_entropies)
    for active in ("D", "P", "C", "DP", "DC", "PC", "DPC"):
        asked = (
            variance * rng.uniform(0.05, 1.9) if "D" in active else inf,
            rng.choice([0, variance * rng.uniform(0.001, 0.5)]) if "P" in active else inf,
            low + (high - low) * rng.uniform(0.1, 1) if "C" in active else inf,
        )
        assert nats(vector, *asked, divergence) == pytest.approx(
            nats(scalar, *asked, divergence), abs=1e-6
        )


@settings(max_examples=20)
@given(SEEDS)
def test_scalar_label_alone_is_a_scalar_problem(seed):
    source, rng = draw(seed, "scalar", 4)
    weights, noise = source.labels.weights, source.labels.noise
    low, high = source.label_entropies
    label = rng.uniform(low, high)
    left = math.exp(2 * (label - HALF)) - noise
    assert nats(source, classification=label) == pytest.approx(
        math.log(weights @ source.covariance @ weights / left) / 2, abs=1e-9
    )


@settings(max_examples=6)
@given(SEEDS, st.sampled_from(["w2", "kl"]))
def test_a_scalar_label_along_an_axis_is_an_aligned_label(seed, divergence):
    rng = np.random.default_rng(seed)
    variances, noise = np.exp(rng.uniform(-1, 1, 3)), 0.2
    scalar = VectorGaussian(variances, ScalarLabel([0, 1.5, 0], noise))
    aligned = VectorGaussian(variances, AlignedLabels([0, 1.5, 0], [1, noise, 1]))
    most, least, label = binding(scalar, rng, divergence)
    for asked in ((most, inf, label), (most, least, label), (most, 0, label)):
        expected = nats(aligned, *asked[:2], asked[2] + 2 * HALF, divergence)
        assert nats(scalar, *asked, divergence) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=6)
@given(SEEDS, st.sampled_from(["w2", "kl"]))
def test_rotations_change_nothing(seed, divergence):
    source, rng = draw(seed, "scalar", 3)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = VectorGaussian(
        rotation @ source.covariance @ rotation.T,
        ScalarLabel(rotation @ source.labels.weights, source.labels.noise),
    )
    asked = binding(source, rng, divergence)
    assert nats(turned, *asked, divergence) == pytest.approx(
        nats(source, *asked, divergence), abs=1e-6
    )


@pytest.mark.parametrize("kind", ["aligned", "scalar"])
@pytest.mark.parametrize("divergence", ["w2", "kl"])
def test_perception_is_free_beside_classification_alone(kind, divergence):
    source, _ = draw(1, kind, 3)
    low, high = source.label_entropies
    label = (low + high) / 2
    value, _, point = with_channel(source, inf, 0.0, label, divergence)
    assert value == nats(source, classification=label)
    assert float(point.perception) == pytest.approx(0, abs=1e-9)
    assert float(point.classification) == pytest.approx(label, abs=1e-9)
    assert float(point.rate) == pytest.approx(value, abs=1e-9)


# --- Properties


@pytest.mark.parametrize("kind", ["none", "aligned", "scalar"])
@pytest.mark.parametrize("divergence", ["w2", "kl"])
@settings(max_examples=5)
@given(seed=SEEDS)
def test_channel_meets_its_constraints_and_no_part_needs_more(kind, divergence, seed):
    source, rng = draw(seed, kind, 4)
    most, least, label = binding(source, rng, divergence)
    bound = nats(source, most)
    for active in ("D", "DP", "D0", "DC", "DPC", "D0C", "0C"):
        asked = (
            most if "D" in active else inf,
            least if "P" in active else 0.0 if "0" in active else inf,
            label if "C" in active else inf,
        )
        value, _, point = with_channel(source, *asked, divergence)
        assert float(point.rate) == pytest.approx(value, abs=1e-7)
        assert float(point.distortion) <= asked[0] + 1e-7
        assert float(point.perception) <= asked[1] + 1e-7
        assert asked[2] == inf or float(point.classification) <= asked[2] + 1e-7
        assert asked[0] == inf or value >= bound - 1e-9
        for part in range(3):
            relaxed = [inf if part == i else bound for i, bound in enumerate(asked)]
            assert value >= nats(source, *relaxed, divergence) - 1e-7


def test_all_three_constraints_bind_in_the_brute_forces():
    """A guard for the tests above: without any one of the constraints less rate is enough."""
    for kind in ("aligned", "scalar"):
        for divergence in ("w2", "kl"):
            source, rng = draw(0, kind, 3)
            asked = binding(source, rng, divergence)
            for part in range(3):
                relaxed = [inf if part == i else bound for i, bound in enumerate(asked)]
                assert nats(source, *asked, divergence) > nats(source, *relaxed, divergence) + 1e-3


@pytest.mark.parametrize("divergence", ["w2", "kl"])
@settings(max_examples=4)
@given(seed=SEEDS)
def test_convex_in_distortion_and_perception(divergence, seed):
    source, rng = draw(seed, "scalar", 3)
    (most, least, label) = binding(source, rng, divergence)
    (more, lesser, _) = binding(source, rng, divergence)
    middle = nats(source, (most + more) / 2, (least + lesser) / 2, label, divergence)
    ends = nats(source, [most, more], [least, lesser], label, divergence)
    assert middle <= ends.mean() + 1e-6


def test_monotone_and_its_limits():
    source, _ = draw(3, "scalar", 3)
    low, high = source.label_entropies
    label, most = low + 0.4 * (high - low), 0.4 * np.trace(source.covariance)
    for divergence in ("w2", "kl"):
        by_perception = nats(
            source, most, np.array([0, 1e-4, 1e-2, 0.1, 1, 1e3, inf]), label, divergence
        )
        assert (np.diff(by_perception) <= 1e-7).all()
        assert by_perception[-2] == pytest.approx(nats(source, most, inf, label), abs=1e-6)
        by_distortion = nats(
            source, most * np.array([0.1, 0.5, 1, 2, 4, 100, inf]), 0.01, label, divergence
        )
        assert (np.diff(by_distortion) <= 1e-7).all()
        assert by_distortion[-2] == by_distortion[-1] == nats(source, classification=label)
        by_label = nats(source, most, 0.01, np.linspace(low, high, 6)[1:], divergence)
        assert (np.diff(by_label) <= 1e-7).all()
        assert by_label[-1] == pytest.approx(nats(source, most, 0.01, inf, divergence), abs=1e-6)


def test_nothing_is_needed_when_nothing_binds():
    source, _ = draw(4, "scalar", 3)
    trace, (_, high) = np.trace(source.covariance), source.label_entropies
    for asked in ((inf,), (trace,), (2 * trace, 0.0, high), (trace, trace, high)):
        assert nats(source, *asked) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", ["aligned", "scalar"])
def test_infeasible(kind):
    source, _ = draw(2, kind, 3)
    lowest = source.label_entropies[0]
    asked = ([0.0, 1.0, 1.0], [inf, inf, inf], [inf, lowest, lowest - 1])
    needed, channel, point = with_channel(source, *asked)
    assert (needed == inf).all()
    assert (
        np.isnan(channel.gain).all()
        and np.isnan(channel.noise).all()
        and np.isnan(point.rate).all()
    )
    nothing, channel = source.solve_universal(
        Constraints(*(np.array(bounds, dtype=float) for bounds in asked))
    )
    assert nothing == inf and np.isnan(channel.gain).all()


def test_units_and_shapes():
    source, _ = draw(6, "scalar", 3)
    _, high = source.label_entropies
    bits, channel = rate(
        source, [[0.5], [0.7]], [0.0, 0.1, inf], (high - 0.2) / math.log(2), return_channel=True
    )
    assert bits.shape == (2, 3) and channel.gain.shape == channel.noise.shape == (2, 3, 3, 3)
    np.testing.assert_allclose(
        bits * math.log(2), nats(source, [[0.5], [0.7]], [0.0, 0.1, inf], high - 0.2)
    )
    assert measure(source, channel).rate.shape == (2, 3)
    assert isinstance(rate(source, 0.5), float)


# --- Labels without noise


def test_noise_free_labels():
    """A nat of rate buys a nat of a noise-free label."""
    source = VectorGaussian([2, 1, 0.5], AlignedLabels([0.5, 1, 0], [0, 0, 1]))
    low, high = source.label_entropies
    assert low == -inf
    value, _, point = with_channel(source, classification=high - 1)
    assert value == pytest.approx(1, abs=1e-9)
    water = math.sqrt(2 * 1 * math.exp(-2))
    assert float(point.distortion) == pytest.approx(2 * water + 0.5, abs=1e-9)
    for asked in ((1.2, inf), (0.8, inf), (0.8, 0.05)):
        assert nats(source, *asked, high - 1) == pytest.approx(
            max(1, nats(source, *asked)), abs=1e-6
        )
    mixed = VectorGaussian([2, 1, 0.5], AlignedLabels([0.5, 1, 1], [0, 0.2, 0.1]))
    nearly = VectorGaussian([2, 1, 0.5], AlignedLabels([0.5, 1, 1], [1e-9, 0.2, 0.1]))
    for asked in ((1.0, inf, 2.0), (inf, inf, 1.0), (0.5, 0.1, 1.0)):
        assert nats(mixed, *asked) == pytest.approx(nats(nearly, *asked), abs=1e-6)
    exact = VectorGaussian([[2, 1], [1, 1]], ScalarLabel([1, 1], 0))
    assert nats(exact, classification=HALF) == pytest.approx(math.log(5) / 2, abs=1e-9)


# --- Inverses


@pytest.mark.parametrize("kind", ["aligned", "scalar"])
@pytest.mark.parametrize("divergence", ["w2", "kl"])
def test_inverses(kind, divergence):
    source, rng = draw(7, kind, 3)
    asked = binding(source, rng, divergence)
    needed = nats(source, *asked, divergence)
    most, least, label = asked
    assert distortion(
        source, needed, least, label, divergence=divergence, unit="nats"
    ) == pytest.approx(most, abs=1e-5)
    assert classification(
        source, needed, most, least, divergence=divergence, unit="nats"
    ) == pytest.approx(label, abs=1e-5)
    bits = distortion(source, needed / math.log(2), inf, label / math.log(2))
    assert nats(source, bits, inf, label) == pytest.approx(needed, abs=1e-6)


def test_inverses_at_the_ends():
    source, _ = draw(8, "scalar", 3)
    trace, (low, high) = np.trace(source.covariance), source.label_entropies
    assert distortion(source, 0.0) == pytest.approx(trace, rel=1e-9)
    assert classification(source, 0.0, unit="nats") == pytest.approx(high, abs=1e-9)
    assert distortion(source, inf) == 0 and classification(source, inf) == low / math.log(2)
    # Where another constraint alone sets the rate, the least distortion at which it does.
    label = (low + high) / 2
    value, _, point = with_channel(source, inf, inf, label)
    assert distortion(source, value, classification=label, unit="nats") == pytest.approx(
        float(point.distortion), abs=1e-4
    )
    assert distortion(source, value - 1e-3, classification=label, unit="nats") == inf
    assert classification(source, 0.1, 0.01 * trace) == inf
    np.testing.assert_array_equal(
        np.isinf(distortion(source, [0.0, 1.0], classification=low - 1)), True
    )
