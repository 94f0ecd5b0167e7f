"""Noisy Bernoulli sources: mixtures of channels, and what perfect perception costs."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from bernoulli_parts import INF, account, brute_force, check
from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.channels import DiscreteChannel
from quadrate.theory.functions import classification, distortion, measure, rate

BITS = 1 / math.log(2)


# ---- source noise --------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_noise_makes_perception_cost_classification_at_any_rate(noise):
    p = 0.3
    source = Bernoulli(p, 0.1, noise)
    best = source.label_entropies[0] * BITS
    # X̂ = Y has total variation noise (1 - 2p), where the trade-off ends.
    free, perfect, end = classification(source, INF, INF, [INF, 0.0, noise * (1 - 2 * p) + 1e-12])
    assert (free, end) == pytest.approx((best, best), abs=1e-9)
    assert perfect > best + 1e-3 if noise else perfect == pytest.approx(best, abs=1e-12)


def test_with_noise_the_rate_is_not_convex_and_mixtures_lower_it():
    source = Bernoulli(0.15, 0.05, 0.15)
    d, c = np.array([0.15607865, 0.15006243]), np.array([0.62664124, 0.6900872])
    ends, middle = rate(source, d, INF, c), rate(source, d.mean(), INF, c.mean())
    assert middle > ends.mean() + 5e-4
    assert middle == pytest.approx(
        brute_force(0.15, 0.05, 0.15, (d.mean(), INF, c.mean())), abs=1e-6
    )
    # Nor is it the larger of the rates for the one and the other.
    assert middle > max(rate(source, d.mean()), rate(source, INF, INF, c.mean())) + 1e-3
    assert (
        check(source, (d.mean(), INF, c.mean()), classifier_sees_randomness=True)
        <= ends.mean() + 1e-9
    )


# ---- the classifier sees the common randomness ---------------------------------------------------


def test_mixture_with_the_relabelled_copy_has_perfect_perception_for_free():
    p, flip = 0.3, 0.1
    source = Bernoulli(p, flip)
    value, channel = rate(
        source,
        perception=0,
        classification=0.8109,
        classifier_sees_randomness=True,
        return_channel=True,
    )
    assert value == pytest.approx(rate(source, classification=0.8109), abs=1e-12)
    point = measure(source, channel)
    assert (point.rate, point.classification) == pytest.approx((value, 0.8109), abs=1e-9)
    assert point.perception == pytest.approx(0, abs=1e-12)
    assert point.distortion == pytest.approx(0.304, abs=1e-3)
    # To a classifier that does not see which channel was used, it is worse than the best plain
    # channel.
    blind = measure(source, DiscreteChannel(np.tensordot(channel.weights, channel.matrices, 1)))
    assert blind.classification == pytest.approx(0.893, abs=1e-3)
    assert measure(
        source, rate(source, 0.187, INF, 0.8109, return_channel=True)[1]
    ).distortion == pytest.approx(0.187, abs=1e-3)


def mixture_by_programme(source, limits):
    """The best mixture of channels of a grid, then SLSQP on the best three."""
    p, flip, noise = source.p, source.label_flip, source.noise_flip
    steps = np.sin(np.linspace(0, np.pi / 2, 81)) ** 2
    w = np.stack([values.ravel() for values in np.meshgrid(steps, steps)])
    r, d, h, q = account(p, flip, noise, *w)
    most = np.array([limits[0], limits[2], p + limits[1], limits[1] - p])
    tight = {"primal_feasibility_tolerance": 1e-10}
    found = linprog(r, np.stack([d, h, q, -q]), most, np.ones((1, r.size)), [1.0], options=tight)
    if found.status == 2:
        return INF
    used = np.argsort(found.x)[-4:]
    start = np.concatenate([found.x[used], w[:, used].ravel()])

    def means(values):
        weights = values[:4]
        return np.array(
            [weights @ row for row in account(p, flip, noise, *values[4:].reshape(2, 4))]
        )

    def slack(values):
        _, d, h, q = means(values)
        return most - np.array([d, h, q, -q])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        polished = minimize(
            lambda values: means(values)[0],
            np.clip(start, 1e-6, 1 - 1e-6),
            bounds=[(0, 1)] * 12,
            constraints=[
                {"type": "ineq", "fun": slack},
                {"type": "eq", "fun": lambda values: values[:4].sum() - 1},
            ],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 300},
        )
    feasible = (slack(polished.x) > -1e-9).all() and abs(polished.x[:4].sum() - 1) < 1e-9
    return min(found.fun, polished.fun) if feasible else found.fun


@settings(deadline=None, derandomize=True, max_examples=6)
@given(
    p=st.floats(0.05, 0.5),
    flip=st.floats(0, 0.3),
    noise=st.one_of(st.just(0.0), st.floats(0.01, 0.2)),
    low=st.floats(0.02, 0.45),
    high=st.floats(0.55, 0.98),
    tv=st.sampled_from([0.0, 0.02]),
)
def test_no_mixture_does_better(p, flip, noise, low, high, tv):
    source = Bernoulli(p, flip, noise)
    _, d, h, _ = account(p, flip, noise, low, high)
    limits = (float(d) + 0.02, tv, float(h) + 0.01)
    found = check(source, limits, classifier_sees_randomness=True)
    best = mixture_by_programme(source, limits)
    assert found <= best + 1e-6
    assert found >= best - 1e-4 or math.isinf(best)
    assert found <= rate(source, *limits) + 1e-10
    assert found >= rate(source, limits[0], limits[1]) - 1e-9
    if noise == 0:
        assert found >= rate(source, limits[0], INF, limits[2]) - 1e-9


@pytest.mark.parametrize(
    ("source", "limits"),
    [
        (Bernoulli(0.15, 0.05), (0.15, 0.0, 0.5)),
        (Bernoulli(0.3, 0.1), (0.25, 0.0, 0.7)),
        (Bernoulli(0.3, 0.1, 0.05), (0.25, 0.0, 0.8)),
    ],
)
def test_mixtures_against_programme(source, limits):
    assert check(source, limits, classifier_sees_randomness=True) == pytest.approx(
        mixture_by_programme(source, limits), abs=1e-6
    )


def test_inverses_for_mixtures():
    source = Bernoulli(0.15, 0.05)
    options = {"classifier_sees_randomness": True}
    r = rate(source, 0.12, 0.0, 0.5, **options)
    assert distortion(source, r, 0.0, 0.5, **options) == pytest.approx(0.12, abs=1e-6)
    assert classification(source, r, 0.12, 0.0, **options) == pytest.approx(0.5, abs=1e-6)
    assert distortion(source, 0.01, 0.0, 0.3, **options) == INF
    assert classification(source, 0.01, 0.05, **options) == INF
