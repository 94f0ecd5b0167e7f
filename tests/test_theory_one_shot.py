import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.binary.one_shot import OneShotBernoulli
from quadrate.theory.channels import DiscreteChannel, MixedChannel
from quadrate.theory.functions import classification, distortion, measure, rate

INF = math.inf
many = settings(deadline=None, derandomize=True, max_examples=60)
p_values = st.floats(0.02, 0.98)
flips = st.floats(0.0, 1.0)


def hb(p):
    return -sum(v * math.log2(v) for v in (p, 1 - p) if v > 0)


def by_programme(p, flip, goal, rate_limit=INF, distortion_limit=INF, classification_limit=INF):
    """The best weights of the four channels with P(X̂=1) = p, by a linear program, in bits."""
    m = p * (1 - flip) + (1 - p) * flip
    costs = np.array([[hb(p), hb(p), 0, 0], [0, 1, p, 1 - p], [hb(flip), hb(flip), hb(m), hb(m)]])
    limits = np.array([rate_limit, distortion_limit, classification_limit])
    kept = np.isfinite(limits)
    found = linprog(
        costs[goal],
        costs[kept] if kept.any() else None,
        limits[kept] if kept.any() else None,
        [[1, 1, 1, 1], [p, 1 - p, 0, 1]],
        [1, p],
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert found.status in (0, 2)
    return found.fun if found.status == 0 else INF


@many
@given(
    p=p_values,
    flip=flips,
    d=st.floats(0, 0.6),
    c=st.floats(0, 1),
    asked=st.sampled_from(["d", "c", "dc"]),
)
def test_rate_is_the_programmes(p, flip, d, c, asked):
    d, c = (d if "d" in asked else INF), (c if "c" in asked else INF)
    source = OneShotBernoulli(p, flip)
    seen, unseen = hb(flip), hb(p * (1 - flip) + (1 - p) * flip)
    if c < INF:
        c = seen + (c * 1.2 - 0.1) * (unseen - seen) if unseen - seen > 1e-3 else INF
    value, channel = rate(source, d, 0.0, c, return_channel=True)
    assert value == pytest.approx(
        by_programme(p, flip, 0, distortion_limit=d, classification_limit=c), abs=1e-9
    )
    if math.isinf(value):
        assert np.isnan(channel.weights).all()
        return
    point = measure(source, channel)
    assert point.rate == pytest.approx(value, abs=1e-12)
    assert point.distortion <= d + 1e-12 and point.classification <= c + 1e-12
    assert point.perception == pytest.approx(0, abs=1e-12)


@many
@given(p=p_values, flip=flips, r=st.floats(0, 1.1), other=st.floats(0, 1))
def test_inverses_are_the_programmes(p, flip, r, other):
    source = OneShotBernoulli(p, flip)
    seen, unseen = hb(flip), hb(p * (1 - flip) + (1 - p) * flip)
    c = seen + other * (unseen - seen) if unseen - seen > 1e-3 else INF
    assert distortion(source, r, 0.0, c) == pytest.approx(
        by_programme(p, flip, 1, rate_limit=r, classification_limit=c), abs=1e-9
    )
    d = other * 2 * p * (1 - p)
    assert classification(source, r, d) == pytest.approx(
        by_programme(p, flip, 2, rate_limit=r, distortion_limit=d), abs=1e-9
    )


def test_printed_theorem_2_is_below_zero_where_nothing_is_feasible():
    """ICLR 2026, Theorem 2, its branch for small C."""
    q, flip, r, c = 0.4, 0.1, 0.8, 0.459
    m = (1 - q) * (1 - flip) + q * flip
    printed = 2 * q * (1 - q) - 2 * (1 - q) * q * (hb(m) - c) / (hb(m) - hb(flip))
    assert printed == pytest.approx(-0.009, abs=5e-4)
    assert distortion(OneShotBernoulli(q, flip), r, classification=c) == INF
    assert by_programme(q, flip, 1, rate_limit=r, classification_limit=c) == INF
    # At a C above H(S|X) that needs more than the rate, the printed value is below that of the rate
    # alone.
    c = hb(flip) + 0.05
    printed = 2 * q * (1 - q) - 2 * (1 - q) * q * (hb(m) - c) / (hb(m) - hb(flip))
    assert printed < distortion(OneShotBernoulli(q, flip), r)
    assert distortion(OneShotBernoulli(q, flip), r, classification=c) == INF


def test_ends_and_limits():
    source = OneShotBernoulli(0.4, 0.1)
    seen, unseen = (value / math.log(2) for value in source.label_entropies)
    assert (seen, unseen) == pytest.approx((hb(0.1), hb(0.42)), abs=1e-12)
    assert (
        rate(source, 0.0) == rate(source, classification=seen) == pytest.approx(hb(0.4), abs=1e-12)
    )
    assert rate(source) == rate(source, 0.48, INF, unseen) == pytest.approx(0, abs=1e-12)
    assert distortion(source, 0.0) == pytest.approx(0.48, abs=1e-12)
    assert distortion(source, INF, 0.0, seen) == pytest.approx(0, abs=1e-12)
    assert classification(source, 2.0, 0.0) == pytest.approx(seen, abs=1e-12)
    assert rate(source, INF, INF, seen - 1e-9) == INF


@many
@given(p=p_values, flip=flips, d=st.floats(0, 0.5), part=st.floats(0, 1))
def test_one_shot_needs_no_less_than_many(p, flip, d, part):
    source = OneShotBernoulli(p, flip)
    seen, unseen = source.label_entropies
    c = (seen + part * (unseen - seen)) / math.log(2) + 1e-12
    many_symbols = Bernoulli(p, flip)
    assert rate(source, d, 0.0, c) >= rate(many_symbols, d, INF, c) - 1e-7
    assert rate(source, d) >= rate(many_symbols, d, 0.0) - 1e-9


def test_degenerate_sources():
    for p in (0.0, 1.0):
        assert rate(OneShotBernoulli(p, 0.1), 0.0, 0.0, hb(0.1) + 1e-12) == 0
        assert distortion(OneShotBernoulli(p, 0.1), 0.0) == 0
    assert rate(OneShotBernoulli(0.3, 0.5), classification=1.0) == 0
    assert rate(OneShotBernoulli(0.3, 0.5), classification=0.999) == INF


def test_arrays_and_units():
    source = OneShotBernoulli(0.3, 0.1)
    values, channel = rate(
        source, np.array([0.1, 0.2])[:, None], 0.0, [0.8, INF, 0.1], return_channel=True
    )
    assert (
        values.shape == (2, 3)
        and channel.weights.shape == (2, 3, 4)
        and channel.matrices.shape == (2, 3, 4, 2, 2)
    )
    assert np.isinf(values[:, 2]).all() and np.isnan(channel.weights[:, 2]).all()
    assert values[0, 0] == rate(source, 0.1, 0.0, 0.8)
    assert rate(source, 0.1, unit="nats") == pytest.approx(
        rate(source, 0.1) * math.log(2), abs=1e-15
    )
    assert measure(source, channel).rate.shape == (2, 3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="^p must be a finite number"):
        OneShotBernoulli(1.5, 0.1)
    with pytest.raises(ValueError, match="^label_flip must be a finite number"):
        OneShotBernoulli(0.5, -0.1)
    source = OneShotBernoulli(0.3, 0.1)
    for function in (rate, distortion, classification):
        with pytest.raises(
            ValueError, match="common_randomness must be inf for a OneShotBernoulli; got 1 nats"
        ):
            function(source, 0.1, common_randomness=1.0, unit="nats")
    for channel in (DiscreteChannel(np.eye(2)), MixedChannel(np.ones(1), np.full((1, 2, 2), 0.5))):
        with pytest.raises(ValueError, match="channel must be a MixedChannel of maps"):
            measure(source, channel)
