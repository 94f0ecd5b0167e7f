"""Rate functions at the edges of what numbers can say.

Forbidden letters, tiny and huge sizes, near-singular covariances, senseless bounds.
"""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from quadrate.theory import (
    Bernoulli,
    ConvergenceWarning,
    Discrete,
    DiscreteChannel,
    LocalOptimumWarning,
    OneShotBernoulli,
    ScalarGaussian,
    ScalarLabel,
    Source,
    VectorGaussian,
    banana,
    classification,
    distortion,
    invariant_rate,
    measure,
    rate,
    representation,
    solve,
    universal_rate,
)
from quadrate.theory.units import Divergence

INF = math.inf
PMF = np.array([0.5, 0.3, 0.2])
DIVERGENCES = get_args(Divergence)
LABELS = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]
HUGE = (1e7, 1e10, 1e12, 1e300, INF)


def forbidding(huge: float) -> np.ndarray:
    """The last letter may stand for all; each other one for itself alone."""
    return np.array([[0, huge, 1], [huge, 0, 1], [huge, huge, 0]], dtype=float)


def blahut(pmf: np.ndarray, cost: np.ndarray, price: float) -> tuple[float, float]:
    """(distortion, bits) at a slope of the rate-distortion function, by Blahut and Arimoto."""
    output = np.full(cost.shape[1], 1 / cost.shape[1])
    weights = np.exp(-price * np.where(np.isfinite(cost), cost, 1e6))
    for _ in range(5_000):
        channel = output * weights
        channel /= channel.sum(axis=1, keepdims=True)
        output = pmf @ channel
    ratios = np.divide(channel, output, out=np.ones_like(channel), where=channel > 1e-300)
    mean = float(
        (
            pmf[:, None]
            * channel
            * np.where(channel > 1e-300, np.where(np.isfinite(cost), cost, 0), 0)
        ).sum()
    )
    return mean, float((pmf[:, None] * channel * np.log2(ratios)).sum())


# Forbidden letters.


@pytest.mark.parametrize("huge", HUGE)
def test_huge_entries_forbid(huge: float) -> None:
    source = Discrete(PMF, forbidding(huge))
    bits, channel = rate(source, distortion=0.556884, return_channel=True)
    assert bits == pytest.approx(0.298047, abs=1e-5)
    point = measure(source, channel)
    assert point.distortion <= 0.556884 * (1 + 1e-6) and point.rate == pytest.approx(bits, abs=1e-9)
    assert distortion(source, bits) == pytest.approx(0.556884, abs=1e-5)
    assert solve(source, 1.0).rate == pytest.approx(0.298047, abs=1e-5)


def test_forbidden_letters_agree_with_blahut_and_arimoto() -> None:
    random = np.random.default_rng(0)
    for _ in range(6):
        n, m = random.integers(2, 5, size=2)
        pmf, cost = random.dirichlet(np.ones(n)), random.random((n, m))
        banned = random.random((n, m)) < 0.3
        banned[:, 0] = False  # every letter may become the first
        for price in (2.0, 8.0):
            mean, bits = blahut(pmf, np.where(banned, INF, cost), price)
            for huge in (1e12, INF):
                assert rate(
                    Discrete(pmf, np.where(banned, huge, cost)), mean * (1 + 1e-9)
                ) == pytest.approx(bits, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1.0, 1e12, 1e300])
def test_erasures(scale: float) -> None:
    """A bit is known or erased at a distortion of one: R(D) = 1 − D."""
    source = Discrete([0.5, 0.5], scale * np.array([[0, INF, 1], [INF, 0, 1]]))
    asked = np.array([0.0, 0.1, 0.5, 0.9, 1.0, 2.0])
    bits, channel = rate(source, scale * asked, return_channel=True)
    np.testing.assert_allclose(bits, np.maximum(1 - asked, 0), atol=1e-6)
    assert (measure(source, channel).distortion <= scale * asked * (1 + 1e-6)).all()
    assert (channel.matrix[:, [0, 1], [1, 0]] == 0).all()
    assert distortion(source, 0.25) == pytest.approx(0.75 * scale, rel=1e-5)


def test_what_must_be_avoided_and_cannot_be_is_infeasible() -> None:
    source = Discrete([0.5, 0.5], [[0, INF], [INF, INF]])
    assert rate(source, 5.0) == rate(source, 1e300) == INF
    assert distortion(source, 3.0) == INF
    assert rate(source) == pytest.approx(0, abs=1e-9)  # nothing is asked, and the distortion is inf
    assert measure(source, DiscreteChannel(np.eye(2))).distortion == INF
    assert (
        measure(Discrete([1.0, 0.0], [[0, INF], [INF, INF]]), DiscreteChannel(np.eye(2))).distortion
        == 0
    )
    for wrong in (-INF, math.nan):
        with pytest.raises(ValueError, match="distortion must hold"):
            Discrete([0.5, 0.5], [[0, wrong], [1, 0]])


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_forbidden_letters_and_perception(divergence: str) -> None:
    limit = rate(Discrete(PMF, forbidding(INF)), 0.4, 0.05, divergence=divergence)
    for huge in (1e9, 1e12, 1e300):
        source = Discrete(PMF, forbidding(huge))
        bits, channel = rate(source, 0.4, 0.05, divergence=divergence, return_channel=True)
        point = measure(source, channel, divergence=divergence)
        assert bits == pytest.approx(limit, abs=1e-5)
        assert point.distortion <= 0.4 * (1 + 1e-6) and point.perception <= 0.05 * (1 + 1e-6)


@pytest.mark.filterwarnings("ignore::quadrate.theory.LocalOptimumWarning")
def test_forbidden_letters_and_labels() -> None:
    for classifier in (None, LABELS):
        found = []
        for huge in (1e12, INF):
            source = Discrete(PMF, forbidding(huge), LABELS, classifier)
            bits, channel = rate(source, 0.5, classification=0.87, return_channel=True)
            point = measure(source, channel)
            assert point.distortion <= 0.5 * (1 + 1e-6) and point.classification <= 0.87 * (
                1 + 1e-6
            )
            found.append(bits)
        assert found[0] == pytest.approx(found[1], abs=1e-4)
    assert classification(source, 0.3, distortion=0.7) == pytest.approx(0.87106, abs=1e-4)


def test_forbidden_letters_and_a_fixed_encoder() -> None:
    encoder = DiscreteChannel(np.array([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0, 1.0]]))
    assert representation(Discrete(PMF, forbidding(INF)), encoder).distortion() == pytest.approx(
        0.8
    )
    near = representation(Discrete(PMF, forbidding(1e12)), encoder)
    assert near.distortion() == pytest.approx(0.8) and near.distortion(0.0) == pytest.approx(
        0.09375e12
    )


def test_transport_among_forbidden_moves() -> None:
    output = DiscreteChannel(np.array([[0.8, 0, 0.2], [0, 2 / 3, 1 / 3], [0, 0, 1.0]]))
    for huge in HUGE:
        assert measure(Discrete(PMF, forbidding(huge)), output).perception == pytest.approx(
            0.2, rel=1e-6
        )
    mixed = DiscreteChannel(np.array([[0, 1.0, 0], [1.0, 0, 0], [0, 0, 1.0]]))
    assert measure(Discrete(PMF, forbidding(INF)), mixed).perception == INF
    assert measure(Discrete(PMF, forbidding(1e12)), mixed).perception == pytest.approx(0.2e12)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e12, 1e300])
def test_a_distortion_has_no_scale_and_no_zero(scale: float, offset: float) -> None:
    cost = np.array([[0, 0.3, 1], [0.4, 0, 1], [1, 1, 0]])
    expected = rate(Discrete(PMF, cost), [0.05, 0.3])
    found = rate(Discrete(PMF, scale * (cost + offset)), scale * (np.array([0.05, 0.3]) + offset))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_small_entries_are_not_nothing() -> None:
    """At no distortion a letter at 1e-12 of the others is as forbidden as they are."""
    cost = [[0, 1e-12, 1], [1e-12, 0, 1], [1, 1, 0]]
    entropy = -float(PMF @ np.log2(PMF))
    assert rate(Discrete(PMF, cost), 0.0) == pytest.approx(entropy, abs=1e-6)
    assert rate(Discrete(PMF, cost), 1e-12) == pytest.approx(
        -0.8 * math.log2(0.8) - 0.2 * math.log2(0.2), abs=1e-6
    )


def test_the_local_method_says_that_it_is_one() -> None:
    source = Discrete(PMF, forbidding(2.0), LABELS)
    for question in (
        lambda: rate(source, classification=0.8),
        lambda: solve(source, classification_weight=2.0),
    ):
        with pytest.warns(LocalOptimumWarning, match="an upper bound"):
            question()
    rate(source, 0.4)  # without the label, nothing is local and nothing is said
    rate(source, 0.4, classification=5.0)
    assert issubclass(LocalOptimumWarning, ConvergenceWarning)


# Gaussian sources.


def water_filling(variances: list[float], total: float) -> float:
    """Bits, by the order of the variances."""
    rest = sorted(variances)
    while rest and total / len(rest) >= rest[0]:
        total -= rest.pop(0)
    return sum(0.5 * (math.log2(variance) - math.log2(total / len(rest))) for variance in rest)


@pytest.mark.parametrize(
    "variances", [[1.0, 2.0], [1e-12, 1e12], [1e-12, 1.0, 1e12], [1e-300, 1e-299], [1e300, 3e299]]
)
def test_reverse_water_filling_at_any_size(variances: list[float]) -> None:
    source = VectorGaussian(np.array(variances))
    for total in (1e-300, 1e-100, 1e-20, 1e-13, 0.5, 1e6, 1e300):
        if total < 1e-7 * min(variances) * 1e-293:
            continue
        expected = water_filling(variances, total)
        bits, channel = rate(source, distortion=total, return_channel=True)
        assert bits == pytest.approx(expected, rel=1e-9, abs=1e-9)
        point = measure(source, channel)
        assert point.rate == pytest.approx(
            bits, rel=1e-9, abs=1e-9
        ) and point.distortion <= total * (1 + 1e-9)


def test_small_distortions_with_perception_and_at_a_rate() -> None:
    source = VectorGaussian(np.array([1.0, 2.0]))
    expected = water_filling([1.0, 2.0], 1e-20)
    for options in (
        {"perception": 0.0},
        {"perception": 1e-30},
        {"perception": 0.1, "divergence": "kl"},
    ):
        assert rate(source, 1e-20, **options) == pytest.approx(expected, rel=1e-9)
    for bits in (40.0, 200.0, 900.0):
        assert distortion(source, bits) == pytest.approx(2 * math.sqrt(2) * 2.0**-bits, rel=1e-6)
    assert distortion(source, 5000.0) == distortion(source, INF) == 0


def test_nearly_singular_covariances() -> None:
    ones = np.ones((3, 3))
    assert rate(VectorGaussian(ones + 1e-12 * np.eye(3)), 0.5) == pytest.approx(
        0.5 * math.log2(6), abs=1e-9
    )
    with pytest.warns(
        ConvergenceWarning, match="close to singular"
    ):  # what is coded here is known to four digits only
        rate(VectorGaussian(ones + 1e-12 * np.eye(3)), 1e-12)
    for covariance in (
        ones,
        ones + 1e-15 * np.eye(3),
        np.diag([1.0, 0.0]),
        [[1.0, 1 - 1e-15], [1 - 1e-15, 1.0]],
    ):
        with pytest.raises(ValueError, match="positive definite"):
            VectorGaussian(covariance)
    # Components of very different size are not singular: their correlation is one half.
    skewed = VectorGaussian([[1e12, 0.5], [0.5, 1e-12]])
    assert rate(skewed, 1e-13) == pytest.approx(0.5 * math.log2(0.75 / 0.5e-13**2), rel=1e-9)


@pytest.mark.parametrize("size", [1e-150, 1e-12, 1e-3, 1e12, 1e150])
def test_a_source_has_no_scale(size: float) -> None:
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    plain, scaled = (
        VectorGaussian(a * a * covariance, ScalarLabel([1 / a, 0.5 / a], 0.3)) for a in (1.0, size)
    )
    for asked, kl in (
        ((0.3, INF, INF), 0),
        ((0.3, 0.01, INF), 0),
        ((0.3, 0.01, INF), 1),
        ((0.3, INF, 1.2), 0),
        ((0.3, 0.01, 1.2), 0),
    ):
        options = {"divergence": "kl" if kl else "w2"}
        expected = rate(plain, *asked, **options)
        assert rate(
            scaled, asked[0] * size**2, asked[1] * (1 if kl else size**2), asked[2], **options
        ) == pytest.approx(expected, rel=1e-7)
    one, other = (ScalarGaussian(a * a, 0.5, 0.9, 0.1 * a * a) for a in (1.0, size))
    assert rate(other, 0.3 * size**2, 0.01 * size**2, 0.9) == pytest.approx(
        rate(one, 0.3, 0.01, 0.9), rel=1e-12
    )
    assert distortion(scaled, 1.0) == pytest.approx(size**2 * distortion(plain, 1.0), rel=1e-9)


def test_a_scalar_source_at_its_edges() -> None:
    source = ScalarGaussian(1.0, 0.5, 1 - 1e-15)
    for total in (1e-300, 1e-20, 1e-3):
        for perception in (INF, 0.0, 1e-12):
            assert rate(source, total, perception) == pytest.approx(
                -0.5 * math.log2(total), rel=1e-3
            )
    low, high = source.label_entropies
    assert rate(source, classification=(low + high) / 2, unit="nats") == pytest.approx(
        (high - low) / 4 * 2, rel=1e-6
    )


def test_binary_sources_at_their_edges() -> None:
    for p in (1e-300, 1e-15, 1e-9):
        nats = (
            -p * math.log(p) + p - (-p / 2 * math.log(p / 2) + p / 2)
        )  # H(p) − H(p/2) to first order
        assert rate(Bernoulli(p), p / 2, unit="nats") == pytest.approx(nats, rel=1e-6, abs=1e-15)
        assert rate(Bernoulli(1 - p), 1.0) == 0


@pytest.mark.parametrize("flip", [0.49, 0.499999])
def test_a_label_that_says_next_to_nothing_is_certified(flip: float) -> None:
    source = Bernoulli(0.3, flip, 1e-9)
    low, high = source.label_entropies
    limit = (low + high) / 2 / math.log(2)
    hidden = rate(source, 0.27, 0.03, limit)
    seen, channel = rate(
        source, 0.27, 0.03, limit, classifier_sees_randomness=True, return_channel=True
    )
    assert seen == pytest.approx(0.3542, abs=1e-3) and seen < hidden
    assert measure(source, channel).classification <= limit + 1e-12


# Bounds that make no sense.

SOURCES: list[Source] = [
    ScalarGaussian(1.0, 0.5, 0.9),
    VectorGaussian([2.0, 1.0], ScalarLabel([0.0, 1.0], 0.1)),
    Bernoulli(0.3, 0.1),
    OneShotBernoulli(0.3, 0.1),
    Discrete(PMF, forbidding(2.0), LABELS, LABELS),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
@pytest.mark.parametrize("wrong", [-1.0, -1e-300, -INF, math.nan])
def test_what_cannot_be_negative_is_refused(source: Source, wrong: float) -> None:
    message = "must not be NaN" if math.isnan(wrong) else "must be >= 0"
    for bound in (wrong, [0.1, wrong]):
        for question in (
            lambda bound=bound: rate(source, distortion=bound),
            lambda bound=bound: rate(source, perception=bound),
            lambda bound=bound: distortion(source, bound),
            lambda bound=bound: distortion(source, 1.0, bound),
            lambda bound=bound: classification(source, bound),
            lambda bound=bound: classification(source, 1.0, bound),
            lambda bound=bound: classification(source, 1.0, INF, bound),
        ):
            with pytest.raises(ValueError, match=message):
                question()
    if not math.isnan(wrong):
        assert (
            rate(source, classification=min(wrong, -20.0)) == INF
        )  # an entropy out of reach, as any other


def test_negative_bounds_elsewhere() -> None:
    fixed = representation(Bernoulli(0.3), DiscreteChannel(np.eye(2)))
    for question in (
        lambda: universal_rate(ScalarGaussian(), [0.1, -0.1]),
        lambda: fixed.distortion(-0.1),
        lambda: fixed.contains(-0.1),
        lambda: fixed.decoder(-0.1),
        lambda: invariant_rate(1.0, -0.1),
        lambda: banana.shannon_lower_bound("rotation", -0.1),
    ):
        with pytest.raises(ValueError, match="must be >= 0"):
            question()


# One list of divergences.


def test_there_is_one_list_of_divergences() -> None:
    assert {name for source in SOURCES for name in source.divergences} == set(DIVERGENCES)
    documented = rate.__doc__.split("divergence: ")[1].split("unit: ")[0]
    assert [name for name in DIVERGENCES if f'"{name}"' in documented] == list(DIVERGENCES)
