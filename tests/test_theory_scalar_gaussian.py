import dataclasses
import math
import timeit
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq, minimize
from scipy.special import lambertw
from scipy.stats import norm, skewnorm

from quadrate.theory import (
    DiscreteChannel,
    GaussianChannel,
    Source,
    classification,
    distortion,
    measure,
    rate,
)
from quadrate.theory.any_source import Constraints
from quadrate.theory.gaussian.scalar import ScalarGaussian

INF = math.inf
LABELLED = ScalarGaussian(1.0, 0.5, 0.9)
NOISY = ScalarGaussian(2.0, 0.5, -0.8, noise_variance=0.7)
# A least-squares fit to the contours of the RDPC paper's theory figure, of label variance ½ and
# correlation .9 it seems.
FIGURE = ScalarGaussian(1.0, 0.4999, math.sqrt(0.80984))

in_nats = {"unit": "nats"}
settings_for = partial(settings, deadline=None, derandomize=True, database=None)
fractions = st.floats(0.05, 0.95)


@st.composite
def sources(draw: st.DrawFn, noisy: bool | None = None) -> ScalarGaussian:
    """Labelled sources whose label is of some use."""
    noisy = draw(st.booleans()) if noisy is None else noisy
    correlation = draw(st.floats(0.3, 1.0)) * draw(st.sampled_from([-1, 1]))
    variance = draw(st.floats(0.1, 10))
    return ScalarGaussian(
        variance,
        draw(st.floats(0.1, 10)),
        correlation,
        variance * draw(st.floats(0.05, 1)) if noisy else 0.0,
    )


def covariance(source: ScalarGaussian, gain: float, noise: float) -> np.ndarray:
    """That of (S, X, Y, X̂)."""
    joint = source.correlation * math.sqrt(source.variance * source.label_variance)
    inputs = np.array([[source.label_variance, joint], [joint, source.variance]])
    mixing = np.array([[1, 0], [0, 1], [0, 1], [0, gain]])
    result = mixing @ inputs @ mixing.T
    result[2:, 2:] += source.noise_variance * np.outer([1, gain], [1, gain])
    result[3, 3] += noise
    return result


def four_quantities(
    source: ScalarGaussian, gain: float, noise: float, divergence: str
) -> tuple[float, float, float, float]:
    """Rate, distortion, perception, classification in nats, from determinants."""
    full = covariance(source, gain, noise)
    information = 0.5 * (
        math.log(full[2, 2]) + math.log(full[3, 3]) - np.linalg.slogdet(full[2:, 2:])[1]
    )
    error = full[1, 1] + full[3, 3] - 2 * full[1, 3]
    ratio = full[3, 3] / full[1, 1]
    perception = (
        (math.sqrt(full[3, 3]) - math.sqrt(full[1, 1])) ** 2
        if divergence == "w2"
        else 0.5 * (ratio - 1 - math.log(ratio))
    )
    pair = full[np.ix_([0, 3], [0, 3])]
    uncertainty = 0.5 * (
        math.log(2 * math.pi * math.e) + np.linalg.slogdet(pair)[1] - math.log(full[3, 3])
    )
    return information, error, perception, uncertainty


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


def perception_of(source: ScalarGaussian, spread: float, divergence: str) -> float:
    """The divergence from X of a Gaussian of `spread` times its deviation."""
    return (
        source.variance * (1 - spread) ** 2
        if divergence == "w2"
        else (spread**2 - 1) / 2 - math.log(spread)
    )


def least_distortion(source: ScalarGaussian, perception: np.ndarray, divergence: str) -> np.ndarray:
    """At any rate: the MMSE of X given Y, and what spreading the estimate as perception asks for adds to it."""
    estimate = math.sqrt(source.variance / (source.variance + source.noise_variance))

    def spread(p: float) -> float:
        if perception_of(source, estimate, divergence) <= p:
            return estimate
        return (
            1.0
            if p <= 0
            else brentq(lambda s: perception_of(source, s, divergence) - p, estimate, 1, xtol=1e-14)
        )

    return source.variance * (1 - estimate**2 + (np.vectorize(spread)(perception) - estimate) ** 2)


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


# Channels and measurement.


@settings_for(max_examples=60)
@given(sources(), st.floats(0, 2), st.floats(0, 2), st.sampled_from(["w2", "kl"]))
def test_measure_follows_the_definitions(
    source: ScalarGaussian, gain: float, noise: float, divergence: str
) -> None:
    gain, noise = gain + 0.01, noise + 0.01
    point = measure(
        source, GaussianChannel(np.array(gain), np.array(noise)), divergence=divergence, **in_nats
    )
    assert dataclasses.astuple(point) == pytest.approx(
        four_quantities(source, gain, noise, divergence), abs=1e-9
    )


def test_measured_perception_is_the_divergence_of_the_densities() -> None:
    channel = GaussianChannel(np.array(0.6), np.array(0.3))
    outer, inner = norm(scale=math.sqrt(NOISY.variance)), norm(scale=math.sqrt(0.36 * 2.7 + 0.3))
    kl, _ = quad(
        lambda x: inner.pdf(x) * (inner.logpdf(x) - outer.logpdf(x)), -15, 15, epsabs=1e-12
    )
    w2, _ = quad(lambda u: (inner.ppf(u) - outer.ppf(u)) ** 2, 0, 1)
    assert measure(NOISY, channel, divergence="kl", **in_nats).perception == pytest.approx(
        kl, abs=1e-9
    )
    assert measure(NOISY, channel, divergence="kl").perception == pytest.approx(
        kl / math.log(2), abs=1e-9
    )
    assert measure(NOISY, channel).perception == pytest.approx(w2, abs=1e-6)


def test_measure_of_extreme_channels() -> None:
    gain, noise = np.array([0.0, 0.0, 1.0, np.nan]), np.array([0.0, 1.0, 0.0, np.nan])
    point = measure(LABELLED, GaussianChannel(gain, noise), divergence="kl", **in_nats)
    low, high = LABELLED.label_entropies
    np.testing.assert_array_equal(point.rate, [0, 0, INF, np.nan])
    np.testing.assert_array_equal(point.distortion, [1, 2, 0, np.nan])
    np.testing.assert_array_equal(point.perception, [INF, 0, 0, np.nan])
    np.testing.assert_allclose(point.classification, [high, high, low, np.nan], atol=1e-12)
    assert np.isnan(
        measure(ScalarGaussian(), GaussianChannel(gain[:3], noise[:3])).classification
    ).all()


@settings_for(max_examples=150)
@given(sources(), fractions, st.floats(0, 1), fractions, st.sampled_from(["w2", "kl"]))
def test_the_channel_attains_the_rate_within_the_constraints(
    source: ScalarGaussian, x: float, y: float, z: float, divergence: str
) -> None:
    low, high = source.label_entropies
    p = np.array([y * source.variance / 2, 0.0, INF])[:, None, None]
    floor = least_distortion(source, p, divergence)
    d = np.where([True, False], floor + x * (2 * source.variance - floor), INF)
    c = np.array([max(low, high - 5) + z * (high - max(low, high - 5)), INF])[:, None]
    limits = np.broadcast_arrays(d, p, c)
    nats, channel = rate(source, *limits, divergence=divergence, return_channel=True, **in_nats)
    assert np.isfinite(nats).all()
    assert channel.gain.shape == nats.shape
    point = measure(source, channel, divergence=divergence, **in_nats)
    np.testing.assert_allclose(point.rate, nats, atol=1e-9)
    for value, limit in zip(
        (point.distortion, point.perception, point.classification), limits, strict=True
    ):
        assert (value <= limit + 1e-9).all()


# Inverses.


@settings_for(max_examples=30)
@given(
    sources(), st.floats(0.01, 3), st.floats(0, 1.2), st.floats(0, 1), st.sampled_from(["w2", "kl"])
)
def test_inverses_agree_with_bisection(
    source: ScalarGaussian, nats: float, y: float, z: float, divergence: str
) -> None:
    p = np.array([y * source.variance, 0, INF, -0.1])
    low, high = source.label_entropies
    c = np.array([[max(low, high - 5) * z + high * (1 - z)], [INF]])
    p, c, wanted = np.broadcast_arrays(p, c, np.array(nats))
    open_end = np.full(p.shape, INF)
    at_most = Constraints(open_end, p, c, divergence)
    least = source.solve_distortion(wanted, at_most)
    np.testing.assert_allclose(least, Source.solve_distortion(source, wanted, at_most), atol=1e-7)
    assert np.isinf(least[:, 3]).all() and np.isfinite(least[1, :3]).all()
    at_most = Constraints(
        np.broadcast_to(np.array([[z * 2 * source.variance], [INF]]), p.shape),
        p,
        open_end,
        divergence,
    )
    least = source.solve_classification(wanted, at_most)
    if np.isfinite(low):  # the bisection needs an end to start from
        np.testing.assert_allclose(
            least, Source.solve_classification(source, wanted, at_most), atol=1e-7
        )
    assert np.isinf(least[:, 3]).all() and np.isfinite(least[1, :3]).all()


@settings_for(max_examples=60)
@given(
    sources(),
    st.floats(0.001, 6),
    st.floats(0, 1.2),
    st.sampled_from(["w2", "kl"]),
    st.sampled_from(["bits", "nats"]),
)
def test_inverses_go_there_and_back(
    source: ScalarGaussian, amount: float, y: float, divergence: str, unit: str
) -> None:
    options = {"divergence": divergence, "unit": unit}
    d = distortion(source, amount, y * source.variance, **options)
    c = classification(source, amount, d, y * source.variance, **options)
    assert rate(source, d, y * source.variance, **options) == pytest.approx(amount, abs=1e-6)
    assert rate(source, classification=c, **options) == pytest.approx(amount, abs=1e-6)
    assert distortion(source, amount, y * source.variance, c, **options) == d
    assert distortion(source, amount, y * source.variance, c - 1e-9, **options) == INF
    assert classification(source, amount, d * (1 - 1e-9), y * source.variance, **options) == INF


def test_inverses_at_the_ends() -> None:
    low, high = NOISY.label_entropies
    floor = 2 * 0.7 / 2.7
    np.testing.assert_allclose(distortion(NOISY, [0, INF]), [2, floor], rtol=1e-12)
    np.testing.assert_allclose(
        classification(NOISY, [0, INF], unit="nats"), [high, low], rtol=1e-12
    )
    assert distortion(NOISY, 0, 0) == 4
    assert distortion(NOISY, INF, classification=low - 1e-9, unit="nats") == INF
    assert classification(ScalarGaussian(1, 1, 1), INF) == -INF


# Properties.


def constraint_grid(
    source: ScalarGaussian, points: int = 13
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From infeasible to slack in each constraint."""
    low, high = source.label_entropies
    low = max(low, high - 6)
    return tuple(
        np.meshgrid(
            np.append(np.linspace(0, 2.1, points) * source.variance, INF),
            np.concatenate([[0], np.linspace(0.01, 1.1, points), [INF]]) * source.variance,
            np.append(np.linspace(low - 0.1, high + 0.1, points), INF),
            indexing="ij",
        )
    )


@settings_for(max_examples=30)
@given(sources(), st.sampled_from(["w2", "kl"]))
def test_order_and_limits(source: ScalarGaussian, divergence: str) -> None:
    d, p, c = constraint_grid(source)
    options = {"divergence": divergence, "unit": "nats"}
    whole = rate(source, d, p, c, **options)
    finite = np.where(np.isinf(whole), 1e9, whole)
    for axis in range(3):
        assert (np.diff(finite, axis=axis) <= 1e-12).all()
    dp = rate(source, d, p, **options)
    dc = rate(source, d, classification=c, **options)
    pc = rate(source, perception=p, classification=c, **options)
    np.testing.assert_array_equal(whole, np.maximum(dp, pc))
    assert (whole >= dc).all() and (dp >= rate(source, d, **options)).all()
    np.testing.assert_array_equal(whole[:, -1], dc[:, -1])
    np.testing.assert_array_equal(whole[:, :, -1], dp[:, :, -1])
    np.testing.assert_array_equal(
        pc, rate(source, classification=c, **options)
    )  # no trade-off of C and P, with or without noise
    infeasible = (d <= least_distortion(source, p, divergence)) | (c <= source.label_entropies[0])
    np.testing.assert_array_equal(np.isinf(whole), infeasible)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = 0.5 * np.log(source.variance / np.clip(d, 0, source.variance))
    assert (whole >= bound - 1e-12).all()
    assert (whole >= 0).all() and not np.signbit(whole).any()


@settings_for(max_examples=80)
@given(
    sources(),
    st.tuples(fractions, fractions, fractions),
    st.tuples(fractions, fractions, fractions),
    fractions,
    st.sampled_from(["w2", "kl"]),
)
def test_convex(
    source: ScalarGaussian,
    one: tuple[float, ...],
    other: tuple[float, ...],
    weight: float,
    divergence: str,
) -> None:
    low, high = source.label_entropies
    start = np.array(
        [
            source.variance * source.noise_variance / (source.variance + source.noise_variance),
            0,
            max(low, high - 5),
        ]
    )
    end = np.array([2.1 * source.variance, source.variance, high + 0.1])
    a, b = start + np.array(one) * (end - start), start + np.array(other) * (end - start)
    ends = weight * rate(source, *a, divergence=divergence) + (1 - weight) * rate(
        source, *b, divergence=divergence
    )
    assert rate(source, *(weight * a + (1 - weight) * b), divergence=divergence) <= ends + 1e-9


@settings_for(max_examples=40)
@given(sources(), fractions, fractions, fractions, st.sampled_from([0.01, 100.0]))
def test_units_and_scale(
    source: ScalarGaussian, x: float, y: float, z: float, scale: float
) -> None:
    d, p, bit = 2 * x * source.variance, y * source.variance, math.log(2)
    low, high = source.label_entropies
    c = high - z * min(high - low, 3)
    nats = rate(source, d, p, c, **in_nats)
    assert rate(source, d, p, c / bit) == pytest.approx(nats / bit, abs=1e-9)
    assert rate(source, d, p / bit, divergence="kl") == pytest.approx(
        rate(source, d, p, divergence="kl", **in_nats) / bit, abs=1e-9
    )
    scaled = ScalarGaussian(
        source.variance * scale,
        source.label_variance,
        source.correlation,
        source.noise_variance * scale,
    )
    assert rate(scaled, d * scale, p * scale, c, **in_nats) == pytest.approx(nats, abs=1e-9)


def test_a_noisy_source_tends_to_a_clean_one() -> None:
    d, p, c = constraint_grid(LABELLED)
    noisy = rate(dataclasses.replace(LABELLED, noise_variance=1e-13), d, p, c, **in_nats)
    np.testing.assert_allclose(noisy, rate(LABELLED, d, p, c, **in_nats), atol=1e-9)


def test_edges_of_the_constraints() -> None:
    low, high = LABELLED.label_entropies
    nats = rate(LABELLED, [0, 1e-300, 1, 1e300, INF], unit="nats")
    np.testing.assert_allclose(nats, [INF, 150 * math.log(10), 0, 0, 0])
    np.testing.assert_array_equal(rate(LABELLED, 1.5, [1.0, 1e300]), [0, 0])
    np.testing.assert_allclose(
        rate(LABELLED, [1.0, 2.0], 0.0, unit="nats"), [0.5 * math.log(4 / 3), 0], rtol=1e-14
    )
    np.testing.assert_array_equal(
        rate(LABELLED, classification=[-1e3, low, high, 1e3], unit="nats"), [INF, INF, 0, 0]
    )
    _, channel = rate(LABELLED, [0, 0.5], 0.0, return_channel=True)
    np.testing.assert_array_equal(np.isnan([channel.gain, channel.noise]), [[True, False]] * 2)
    floor = 2 * 0.7 / 2.7
    np.testing.assert_array_equal(
        np.isinf(rate(NOISY, [floor * 0.999999, floor * 1.000001])), [True, False]
    )
    np.testing.assert_array_equal(
        rate(ScalarGaussian(1e-300), 1e300, [0, 1e300], common_randomness=1), 0
    )
    np.testing.assert_array_equal(rate(ScalarGaussian(1e-300), 1e300, [0, 1e300]), 0)


def test_a_label_that_is_x_itself_or_has_nothing_to_do_with_it() -> None:
    for sign in (-1, 1):
        exact = ScalarGaussian(1, 0.5, sign)
        low, high = exact.label_entropies
        assert low == -INF
        np.testing.assert_allclose(
            rate(exact, classification=high - np.array([0, 0.5, 40]), unit="nats"),
            [0, 0.5, 40],
            atol=1e-12,
        )
        np.testing.assert_allclose(
            classification(exact, [0.5, 40], unit="nats"), high - np.array([0.5, 40]), atol=1e-12
        )
    for correlation in (0, 1e-9):
        low, high = ScalarGaussian(1, 0.5, correlation).label_entropies
        np.testing.assert_array_equal(
            rate(
                ScalarGaussian(1, 0.5, correlation), classification=[high - 1e-6, high], unit="nats"
            ),
            [INF, 0],
        )
    assert classification(ScalarGaussian(1, 0.5, 0), 3, unit="nats") == high


def test_precision_at_high_rates() -> None:
    """R(D, 0) solves 2(1 - sqrt(1 - exp(-2R))) = D, here for D where naive formulas have cancelled away."""
    d = 10.0 ** -np.arange(1, 14)
    expected = -0.5 * np.log(d - d**2 / 4)
    np.testing.assert_allclose(rate(ScalarGaussian(), d, 0, unit="nats"), expected, rtol=1e-12)
    np.testing.assert_allclose(
        rate(ScalarGaussian(), d, 0, divergence="kl", unit="nats"), expected, rtol=1e-12
    )
    np.testing.assert_allclose(
        rate(ScalarGaussian(), 1, [40, 500, 1e9], divergence="kl"), 0, atol=1e-15
    )


def test_the_spread_that_kl_allows_is_right_to_the_last_digits() -> None:
    p = 10.0 ** np.arange(-3, 2.5, 0.1)
    exponents = [
        brentq(lambda y, p=p: y + math.expm1(-y) - 2 * p, 1e-9, 2 * p + 2, xtol=1e-15, rtol=1e-15)
        for p in p
    ]
    lambert = np.sqrt(
        -lambertw(-np.exp(-1 - 2 * p)).real
    )  # coarser, as its argument nears the branch point for small P
    tiny = 10.0 ** np.arange(-30, -8, 2.0)
    for perceptions, spread, tolerance in [
        (p, np.exp(-np.array(exponents) / 2), 1e-14),
        (p, lambert, 1e-11),
        (tiny, 1 - np.sqrt(tiny) + tiny / 6, 1e-14),
    ]:
        at_zero_rate = distortion(ScalarGaussian(), 0, perceptions, divergence="kl", unit="nats")
        np.testing.assert_allclose(at_zero_rate, 1 + spread**2, rtol=tolerance)


# Limited common randomness.


@settings_for(max_examples=60)
@given(st.floats(0.1, 10), st.floats(0.01, 5), st.floats(0, 5), st.floats(0, 1.2))
def test_limited_randomness_there_and_back(
    variance: float, nats: float, randomness: float, y: float
) -> None:
    source, options = ScalarGaussian(variance), {"common_randomness": randomness, "unit": "nats"}
    d = distortion(source, nats, y * variance, **options)
    assert rate(source, d, y * variance, **options) == pytest.approx(nats, abs=1e-10)
    assert rate(source, d * (1 + 1e-9), y * variance, **options) < nats
    assert distortion(source, nats, y * variance, unit="nats") <= d * (1 + 1e-12)
    assert d <= distortion(source, nats, y * variance, common_randomness=0) * (1 + 1e-12)


def test_limited_randomness_tends_to_enough_of_it() -> None:
    d, p = np.linspace(0, 2.2, 40)[:, None], np.append(np.linspace(0, 1.1, 40), INF)
    enough = rate(ScalarGaussian(), d, p, unit="nats")
    np.testing.assert_allclose(
        rate(ScalarGaussian(), d, p, unit="nats", common_randomness=30), enough, atol=1e-11
    )
    np.testing.assert_array_equal(
        rate(ScalarGaussian(), d, INF, common_randomness=0), rate(ScalarGaussian(), d)
    )
    limited = rate(ScalarGaussian(), d, p, unit="nats", common_randomness=0)
    assert (limited >= enough - 1e-12).all() and (limited > np.maximum(enough, 0.01) + 0.01).any()


def test_what_perfect_perception_costs() -> None:
    """D(R,0)/D(R,inf): with enough randomness from 2 at no rate to 1; without any, 2 throughout."""
    nats = np.array([1e-7, 0.1, 1, 3, 12])
    free = distortion(ScalarGaussian(), nats, unit="nats")
    factor = distortion(ScalarGaussian(), nats, 0, unit="nats") / free
    np.testing.assert_allclose(factor[[0, -1]], [2, 1], atol=1e-3)
    assert (np.diff(factor) < 0).all()
    np.testing.assert_allclose(
        distortion(ScalarGaussian(), nats, 0, common_randomness=0, unit="nats") / free,
        2,
        rtol=1e-12,
    )


def test_limited_randomness_has_no_test_channel() -> None:
    nats, channel = rate(
        ScalarGaussian(), [0.3, 0.5], 0.1, common_randomness=1, return_channel=True
    )
    assert np.isfinite(nats).all() and np.isnan(channel.gain).all() and channel.noise.shape == (2,)


# Bad input, speed.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variance": 0}, r"variance must be a finite number > 0; got 0"),
        ({"variance": -1.0}, r"variance must be a finite number > 0; got -1.0"),
        ({"variance": math.nan}, r"variance must be a finite number > 0; got nan"),
        ({"variance": "a"}, r"variance must be a number; got 'a'"),
        ({"noise_variance": -0.1}, r"noise_variance must be a finite number >= 0; got -0.1"),
        (
            {"label_variance": 0.0, "correlation": 0.5},
            r"label_variance must be a finite number > 0; got 0.0",
        ),
        (
            {"label_variance": 1.0, "correlation": 1.1},
            r"correlation must be a finite number >= -1 and <= 1; got 1.1",
        ),
        (
            {"label_variance": 1.0},
            (
                r"label_variance and correlation must be given together, or neither of them; got"
                r" .*correlation=None"
            ),
        ),
        (
            {"correlation": 0.5},
            (
                r"label_variance and correlation must be given together, or neither of them; got"
                r" label_variance=None"
            ),
        ),
    ],
)
def test_bad_sources_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        ScalarGaussian(**arguments)


LIMIT = {"common_randomness": 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rate(LABELLED, 0.5, divergence="tv"), "divergence must be one of w2, kl"),
        (
            lambda: rate(ScalarGaussian(), classification=1),
            "classification needs a source with a label",
        ),
        (lambda: classification(ScalarGaussian(), 1), "classification needs a source with a label"),
        (
            lambda: rate(LABELLED, 0.5, classifier_sees_randomness=True),
            "classifier_sees_randomness must be False",
        ),
        (
            lambda: distortion(LABELLED, 0.5, classifier_sees_randomness=True),
            "classifier_sees_randomness must be False",
        ),
        (
            lambda: classification(LABELLED, 0.5, classifier_sees_randomness=True),
            "classifier_sees_randomness must be False",
        ),
        (
            lambda: rate(LABELLED, 0.5, 0.1, divergence="kl", **LIMIT),
            "common_randomness must be inf with divergence='kl'",
        ),
        (
            lambda: rate(LABELLED, 0.5, 0.1, 0.9, **LIMIT),
            "common_randomness must be inf where classification",
        ),
        (
            lambda: distortion(LABELLED, 0.5, 0.1, 0.9, **LIMIT),
            "common_randomness must be inf where classification",
        ),
        (
            lambda: classification(LABELLED, 0.5, **LIMIT),
            "common_randomness must be inf where classification",
        ),
        (
            lambda: rate(NOISY, 0.5, 0.1, **LIMIT),
            "common_randomness must be inf for a source with noise_variance > 0",
        ),
        (
            lambda: measure(LABELLED, DiscreteChannel(np.eye(2))),
            "channel must be a GaussianChannel",
        ),
        (
            lambda: measure(LABELLED, GaussianChannel(np.ones(2), np.ones(3))),
            r"channel must have gain and noise of one shape; got \(2,\) and \(3,\)",
        ),
        (
            lambda: measure(LABELLED, GaussianChannel(np.ones(2), np.array([np.nan, -1.0]))),
            "channel must have noise variances >= 0; got -1",
        ),
    ],
)
def test_bad_calls_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        call()


@pytest.mark.parametrize("options", [{}, {"divergence": "kl"}, {"common_randomness": 0.5}])
def test_a_surface_takes_a_moment(options: dict) -> None:
    d, p = np.linspace(0.01, 2, 50)[:, None], np.linspace(0, 1, 50)
    c = INF if "common_randomness" in options else 0.9
    assert (
        min(
            timeit.repeat(
                lambda: rate(LABELLED, d, p, c, return_channel=True, **options), number=1, repeat=5
            )
        )
        < 0.1
    )
