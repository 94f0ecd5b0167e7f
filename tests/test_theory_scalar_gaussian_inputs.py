"""Scalar Gaussians: limited common randomness, bad arguments, and speed."""

import math
import timeit
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quadrate.theory import (
    DiscreteChannel,
    GaussianChannel,
    classification,
    distortion,
    measure,
    rate,
)
from quadrate.theory.gaussian.scalar import ScalarGaussian

INF = math.inf


LABELLED = ScalarGaussian(1.0, 0.5, 0.9)


NOISY = ScalarGaussian(2.0, 0.5, -0.8, noise_variance=0.7)


settings_for = partial(settings, deadline=None, derandomize=True, database=None)


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
