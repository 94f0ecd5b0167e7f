"""Rates of scalar Gaussians against published values and brute force."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import skewnorm

from quadrate.theory import (
    classification,
    distortion,
    rate,
)
from quadrate.theory.gaussian.scalar import ScalarGaussian
from scalar_gaussian_parts import four_quantities, perception_of, sources

INF = math.inf


LABELLED = ScalarGaussian(1.0, 0.5, 0.9)


NOISY = ScalarGaussian(2.0, 0.5, -0.8, noise_variance=0.7)


# A least-squares fit to the contours of the RDPC paper's theory figure, of label variance ½ and
# correlation .9 it seems.
FIGURE = ScalarGaussian(1.0, 0.4999, math.sqrt(0.80984))


in_nats = {"unit": "nats"}


settings_for = partial(settings, deadline=None, derandomize=True, database=None)


def brute_force(
    source: ScalarGaussian, limits: tuple[float, float, float], divergence: str
) -> float:
    """The least rate over Gaussian test channels, by SLSQP from many starts.

    Limits on distortion, perception and classification.
    """
    scale, seen = math.sqrt(source.variance), math.sqrt(source.variance + source.noise_variance)

    def quantities(x: np.ndarray) -> tuple[float, ...]:
        return four_quantities(source, x[0] * scale / seen, source.variance * x[1] ** 2, divergence)

    bounds = {"type": "ineq", "fun": lambda x: np.array(limits) - quantities(x)[1:]}
    best, generator = INF, np.random.default_rng(0)
    for start in generator.uniform(0.1, 1.1, (8, 2)):
        found = minimize(
            lambda x: quantities(x)[0],
            start,
            method="SLSQP",
            bounds=[(1e-6, 2)] * 2,
            constraints=[bounds],
            options={"ftol": 1e-13, "maxiter": 200},
        )
        if found.success and bounds["fun"](found.x).min() > -1e-9:
            best = min(best, found.fun)
    return best


def limits_at(
    source: ScalarGaussian, decisive: str, divergence: str, lost: float, tight: float
) -> tuple[float, float, float]:
    """Limits of which just those named ("D", "DP" or "C") decide the rate.

    It is exp(-2R) = lost for the first two.
    """
    seen = source.variance / (source.variance + source.noise_variance)
    estimate = math.sqrt(seen * (1 - lost))  # how much the MMSE estimate spreads
    spread = 0.99 * estimate if decisive == "D" else estimate + tight * (1 - estimate)
    error = source.variance * (1 - estimate**2 + max(spread - estimate, 0) ** 2)
    lost_by_label = tight * lost if decisive == "C" else (1 + lost) / 2
    unexplained = 1 - source.correlation**2 * seen * (1 - lost_by_label)
    return (
        error,
        perception_of(source, spread, divergence),
        0.5 * math.log(2 * math.pi * math.e * source.label_variance * unexplained),
    )


# Reference values.

RDC = [(0.55, 0.9, 0.2989185003778102), (0.9, 0.5, 0.9212929619003917), (1.2, 1.2, 0.0)]


RDP = {
    "w2": [
        (0.5, 0.0, 0.41333928659223396),
        (0.5, 0.2, 0.34657359027997264),
        (0.1, 0.01, 1.151292546497023),
        (0.5, 0.02, 0.3660214364460014),
        (0.7, 0.05, 0.20626242668039055),
        (0.3, 0.01, 0.6082497482084419),
    ],
    "kl": [
        (0.5, 0.0, 0.41333928659223396),
        (0.5, 0.2, 0.34657359027997264),
        (0.1, 0.01, 1.151292546497023),
        (0.5, 0.03, 0.36011886058246595),
        (0.7, 0.06, 0.20399149301361502),
    ],
}


RDPC = [
    (0.5, 0.0, 0.9, 0.41333928659223396),
    (0.7, 0.02, 0.8, 0.3654457697041142),
    (0.7, 0.05, 1.05, 0.20626242668039055),
]


LIMITED = [(0.5, 0.0, 0.7357588823428847), (0.5, 1.0, 0.4499688656682692)]


@pytest.mark.parametrize(("d", "c", "nats"), RDC)
def test_rdc_meets_the_reference_values(d: float, c: float, nats: float) -> None:
    assert rate(LABELLED, d, classification=c, **in_nats) == pytest.approx(nats, abs=1e-12)


@pytest.mark.parametrize(
    ("divergence", "d", "p", "nats"), [(name, *row) for name, rows in RDP.items() for row in rows]
)
def test_rdp_meets_the_reference_values(divergence: str, d: float, p: float, nats: float) -> None:
    assert rate(ScalarGaussian(), d, p, divergence=divergence, **in_nats) == pytest.approx(
        nats, abs=1e-12
    )


@pytest.mark.parametrize(("d", "p", "c", "nats"), RDPC)
def test_rdpc_meets_the_reference_values(d: float, p: float, c: float, nats: float) -> None:
    assert rate(LABELLED, d, p, c, **in_nats) == pytest.approx(nats, abs=1e-12)


@pytest.mark.parametrize(("nats", "randomness", "d"), LIMITED)
def test_limited_randomness_meets_the_reference_values(
    nats: float, randomness: float, d: float
) -> None:
    options = {"common_randomness": randomness, "unit": "nats"}
    assert distortion(ScalarGaussian(), nats, 0, **options) == pytest.approx(d, abs=1e-12)
    assert rate(ScalarGaussian(), d, 0, **options) == pytest.approx(nats, abs=1e-12)


def test_the_papers_contours_are_of_nats() -> None:
    """The axis of the RDPC paper's figure says bits.

    Its contours, read off at these levels, are of nats.
    """
    levels = np.arange(1, 8) * 0.3
    distortions = [0.54882, 0.30113, 0.16524, 0.0906, 0.04964, 0.02752, 0.01566]
    classifications = [0.84491, 0.65498, 0.50872, 0.40557, 0.33835, 0.29732, 0.27335]
    np.testing.assert_allclose(distortion(FIGURE, levels, unit="nats"), distortions, atol=1e-3)
    np.testing.assert_allclose(
        classification(FIGURE, levels, unit="nats"), classifications, atol=1.3e-4
    )
    assert np.max(np.abs(distortion(FIGURE, levels, unit="bits") - distortions)) > 0.1


# Formulas as printed that are wrong.


def test_nguyen_theorem_1_second_branch_is_below_the_rate_distortion_bound() -> None:
    """Nguyen et al. on the distortion-classification-rate function, Theorem 1.

    Where its second branch applies, the rate does not suffice.
    """
    nats, c = 0.5, 0.514
    entropy = 0.5 * math.log(2 * math.pi * math.e * LABELLED.label_variance)
    covariance_squared = LABELLED.correlation**2 * LABELLED.label_variance
    switch = entropy + 0.5 * math.log(
        1 - covariance_squared * (1 - math.exp(-2 * nats)) / LABELLED.label_variance
    )
    assert LABELLED.label_entropies[0] <= c <= switch  # the branch applies
    printed = 1 - LABELLED.label_variance / covariance_squared * (
        1 - math.exp(-2 * entropy + 2 * c)
    )
    assert printed == pytest.approx(0.1696, abs=5e-5)
    bound = distortion(LABELLED, nats, unit="nats")
    assert bound == pytest.approx(0.368, abs=5e-4)
    assert printed < bound
    assert distortion(LABELLED, nats, classification=c, unit="nats") == INF
    assert rate(LABELLED, classification=c, unit="nats") == pytest.approx(0.8873, abs=5e-5)
    assert classification(LABELLED, nats, unit="nats") == pytest.approx(
        switch, abs=1e-12
    )  # the right statement: feasible from the switch on


def test_nguyen_theorem_1_third_branch_promises_distortion_zero_at_a_finite_rate() -> None:
    """Its third branch says D = 0 for C > h(S) and R > h(X)."""
    c, nats = LABELLED.label_entropies[1] + 0.1, 0.5 * math.log(2 * math.pi * math.e) + 0.1
    assert distortion(LABELLED, nats, classification=c, unit="nats") == pytest.approx(
        math.exp(-2 * nats), abs=1e-12
    )
    assert rate(LABELLED, 0.0, classification=c) == INF


# Brute force.


@pytest.mark.parametrize("decisive", ["D", "DP", "C"])
@pytest.mark.parametrize("divergence", ["w2", "kl"])
@pytest.mark.parametrize("noisy", [False, True])
def test_agrees_with_brute_force(decisive: str, divergence: str, noisy: bool) -> None:
    @settings_for(max_examples=10)
    @given(sources(noisy), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
    def check(source: ScalarGaussian, lost: float, tight: float) -> None:
        limits = limits_at(source, decisive, divergence, lost, tight)
        options = {"divergence": divergence, "unit": "nats"}
        least = rate(source, *limits, **options)
        assert least == pytest.approx(brute_force(source, limits, divergence), abs=1e-6)
        for i, name in enumerate("DPC"):
            without = rate(
                source, *(INF if i == j else limit for j, limit in enumerate(limits)), **options
            )
            assert (
                without < least - 1e-6
                if name in decisive
                else without == pytest.approx(least, abs=1e-12)
            )

    check()


@settings_for(max_examples=15)
@given(st.floats(0.1, 2), st.floats(0, 2), st.floats(0.02, 1))
def test_limited_randomness_agrees_with_brute_force(
    nats: float, randomness: float, tight: float
) -> None:
    """Over (X, U, V): V distributed as X with I(X;U) <= R and I(V;U) <= R + Rc.

    The reconstruction is linear in U and V and within P of V.
    """
    p = 2 * (tight * (1 - math.sqrt(1 - math.exp(-2 * nats)))) ** 2
    encoder = math.sqrt(1 - math.exp(-2 * nats))
    decoder = math.sqrt(1 - math.exp(-2 * (nats + randomness)))

    def error(x: np.ndarray) -> float:
        joint = np.array([[1, x[2], x[2] * x[3]], [x[2], 1, x[3]], [x[2] * x[3], x[3], 1]])
        weights = np.array([1, -x[0], -x[1]])
        return float(weights @ joint @ weights)

    def slack(x: np.ndarray) -> float:
        return p - (x[0] ** 2 + (x[1] - 1) ** 2 + 2 * x[0] * (x[1] - 1) * x[3])

    best = INF
    for start in np.random.default_rng(0).uniform(0.1, 0.9, (6, 4)):
        bounds = [(-2, 2), (-2, 2), (0, encoder), (0, decoder)]
        found = minimize(
            error,
            start,
            method="SLSQP",
            bounds=bounds,
            constraints=[{"type": "ineq", "fun": slack}],
            options={"ftol": 1e-14, "maxiter": 300},
        )
        if slack(found.x) > -1e-10:
            best = min(best, found.fun)
    least = distortion(ScalarGaussian(), nats, p, common_randomness=randomness, unit="nats")
    assert least == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("source", [LABELLED, NOISY])
@pytest.mark.parametrize("flip", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("size", [0.5, math.sqrt(2 / math.pi), 1.1])
def test_a_channel_that_is_not_gaussian_needs_more(
    source: ScalarGaussian, flip: float, size: float
) -> None:
    """X̂ = ± size: the sign of Y, flipped now and then."""
    seen = math.sqrt(source.variance / (source.variance + source.noise_variance))
    mean_size = math.sqrt(2 / math.pi)
    d = source.variance * (1 + size**2 - 2 * size * (1 - 2 * flip) * seen * mean_size)
    p = source.variance * (1 + size**2 - 2 * size * mean_size)
    skew = source.correlation * seen / math.sqrt(1 - (source.correlation * seen) ** 2)

    def entropy_density(s: float) -> float:
        density = (1 - flip) * skewnorm.pdf(s, skew) + flip * skewnorm.pdf(s, -skew)
        return -density * math.log(density)

    c = 0.5 * math.log(source.label_variance) + quad(entropy_density, -8, 8)[0]
    information = math.log(2) + flip * math.log(flip) + (1 - flip) * math.log(1 - flip)
    least = [
        rate(source, *limits, **in_nats) for limits in [(d, p, c), (d, p), (d, INF, c), (INF, p, c)]
    ]
    assert max(least) < information
    assert least[0] > 0
