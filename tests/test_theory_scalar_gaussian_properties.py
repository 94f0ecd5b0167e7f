"""Rates of scalar Gaussians: channels that attain them, inverses, order and limits."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import lambertw
from scipy.stats import norm

from quadrate.theory import (
    GaussianChannel,
    Source,
    classification,
    distortion,
    measure,
    rate,
)
from quadrate.theory.any_source import Constraints
from quadrate.theory.gaussian.scalar import ScalarGaussian
from scalar_gaussian_parts import four_quantities, perception_of, sources

INF = math.inf


LABELLED = ScalarGaussian(1.0, 0.5, 0.9)


NOISY = ScalarGaussian(2.0, 0.5, -0.8, noise_variance=0.7)


in_nats = {"unit": "nats"}


settings_for = partial(settings, deadline=None, derandomize=True, database=None)


fractions = st.floats(0.05, 0.95)


def least_distortion(source: ScalarGaussian, perception: np.ndarray, divergence: str) -> np.ndarray:
    """At any rate: the MMSE of X given Y, and what perception adds to it."""
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
    """R(D, 0) solves 2(1 - sqrt(1 - exp(-2R))) = D, also where naive formulas cancel."""
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
