"""Rates of Bernoulli sources: order, convexity, units, inverses, and bad arguments."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bernoulli_parts import INF, account, check, divergence_of, hb
from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.channels import DiscreteChannel, GaussianChannel, MixedChannel
from quadrate.theory.functions import classification, distortion, measure, rate

BITS = 1 / math.log(2)


many = settings(deadline=None, derandomize=True, max_examples=40)


p_values = st.one_of(st.floats(0.02, 0.5), st.just(0.5))


flips = st.one_of(st.floats(0.0, 0.4), st.just(0.0))


noises = st.one_of(st.floats(0.0, 0.3), st.just(0.0))


shares = st.floats(0.0, 1.0)


# ---- properties ----------------------------------------------------------------------------------

sources = st.builds(
    Bernoulli,
    st.floats(0.02, 0.98),
    st.floats(0.0, 1.0),
    st.one_of(st.just(0.0), st.floats(0.0, 1.0)),
)


@many
@given(
    source=sources,
    d=st.floats(0, 0.7),
    tv=st.floats(0, 0.3),
    part=shares,
    divergence=st.sampled_from(["w2", "kl"]),
)
def test_rdpc_is_monotone_and_no_less_than_its_parts(source, d, tv, part, divergence):
    seen, unseen = source.label_entropies
    c = (seen + part * (unseen - seen)) * BITS
    parts = [
        (d, tv, INF),
        (d, INF, c),
        (INF, tv, c),
        (d, INF, INF),
        (INF, INF, c),
        (d + 0.05, tv, c),
        (d, tv + 0.05, c),
        (d, tv, c + 0.05),
    ]
    # Limits that say nothing; H(S) in bits may round to less than it is.
    idle = [(d, 60.0, c), (1.0, tv, c), (d, tv, unseen * BITS + 1e-12)]
    same = [(d, INF, c), (INF, tv, c), (d, tv, INF)]
    full, *rates = rate(
        source, *np.array([(d, tv, c), *parts, *idle, *same]).T, divergence=divergence
    )
    assert all(full >= other - 1e-10 for other in rates[: len(parts)])
    assert full >= rate(source, d) - 1e-12
    assert rates[-6:-3] == pytest.approx(rates[-3:], abs=1e-10)


@many
@given(
    p=p_values,
    flip=flips,
    d=st.tuples(*[st.floats(0, 0.5)] * 2),
    part=st.tuples(shares, shares),
    noise=noises,
    tv=st.tuples(*[st.floats(0, 0.3)] * 2),
)
def test_rdc_without_noise_and_rdp_are_convex(p, flip, d, part, noise, tv):
    source = Bernoulli(p, flip)
    seen, unseen = source.label_entropies
    d, c, tv = np.array(d), (seen + np.array(part) * (unseen - seen)) * BITS, np.array(tv)
    assert rate(source, d.mean(), INF, c.mean()) <= rate(source, d, INF, c).mean() + 1e-9
    noisy = Bernoulli(p, flip, noise)
    d = d + min(p, noise)
    for divergence in ("w2", "kl"):
        assert (
            rate(noisy, d.mean(), tv.mean(), divergence=divergence)
            <= rate(noisy, d, tv, divergence=divergence).mean() + 1e-9
        )


@many
@given(source=sources, d=st.floats(0, 0.7), tv=st.floats(0, 0.3), part=shares)
def test_relabelling_changes_nothing(source, d, tv, part):
    seen, unseen = source.label_entropies
    c = (seen + part * (unseen - seen)) * BITS
    expected = check(source, (d, tv, c))
    p, flip, noise = source.p, source.label_flip, source.noise_flip
    for other in (
        Bernoulli(1 - p, flip, noise),
        Bernoulli(p, 1 - flip, noise),
        Bernoulli(p, flip, 1 - noise),
        Bernoulli(1 - p, 1 - flip, 1 - noise),
    ):
        assert check(other, (d, tv, c + 1e-13)) == pytest.approx(expected, abs=1e-7)


def test_units():
    source = Bernoulli(0.3, 0.1)
    bits = rate(source, 0.2, 0.01, 0.7, divergence="kl")
    assert rate(
        source, 0.2, 0.01 / BITS, 0.7 / BITS, divergence="kl", unit="nats"
    ) == pytest.approx(bits / BITS, abs=1e-12)


def test_arrays_broadcast_and_are_the_numbers_one_by_one():
    source = Bernoulli(0.3, 0.1, 0.05)
    d, tv, c = np.array([0.02, 0.1, 0.25])[:, None], np.array([0.0, 0.1]), 0.75
    values, channel = rate(source, d, tv, c, return_channel=True)
    assert values.shape == (3, 2) and channel.matrix.shape == (3, 2, 2, 2)
    assert (
        np.isinf(values[0]).all()
        and np.isnan(channel.matrix[0]).all()
        and np.isfinite(values[1:]).all()
    )
    point = measure(source, channel)
    assert point.rate.shape == (3, 2)
    for index in np.ndindex(3, 2):
        assert values[index] == rate(source, d[index[0], 0], tv[index[1]], c)


@pytest.mark.parametrize(
    ("source", "limits"),
    [
        (Bernoulli(0.3, 0.1), (INF, INF, float(hb(0.1)) - 1e-9)),
        (Bernoulli(0.3, 0.1), (INF, 0.1, -1.0)),
        (Bernoulli(0.3, 0.1, 0.2), (0.2 - 1e-9, INF, INF)),  # the Bayes error
        (Bernoulli(0.1, 0.1, 0.2), (0.1 - 1e-9, INF, INF)),
        (Bernoulli(0.3, 0.5), (INF, INF, 1 - 1e-9)),
        (Bernoulli(0.3, 0.1, 0.5), (0.29, INF, INF)),
        (Bernoulli(0.3, 0.1, 0.2), (0.2, 0.01, INF)),
    ],
)
def test_infeasible(source, limits):
    assert check(source, limits) == INF
    assert check(source, limits, classifier_sees_randomness=True) == INF


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_constant_source_needs_no_rate(p):
    for source in (Bernoulli(p, 0.1), Bernoulli(p, 0.1, 0.2)):
        for divergence in ("w2", "kl"):
            assert check(source, (0.0, 0.0, float(hb(0.1))), divergence) == 0.0


def test_the_best_distortion_and_classification_are_feasible():
    for p, flip in ((0.3, 0.1), (0.45, 0.0), (0.2, 0.37)):
        source = Bernoulli(p, flip)
        assert check(source, (0.0, 0.0, source.label_entropies[0] * BITS)) == pytest.approx(
            float(hb(p)), abs=1e-9
        )
    for noise in np.linspace(0.01, 0.29, 20):
        bayes = check(Bernoulli(0.3, 0.1, noise), (noise, INF, INF))
        assert (
            rate(Bernoulli(0.3, 0.1, noise), noise + 1e-6)
            < bayes
            <= hb(0.3 * (1 - noise) + 0.7 * noise) + 1e-12
        )
    noisy = Bernoulli(0.3, 0.1, 0.05)
    assert check(noisy, (INF, INF, noisy.label_entropies[0] * BITS)) == pytest.approx(
        float(hb(0.32)), abs=1e-9
    )


def test_kl_perception_is_used_up():
    source = Bernoulli(0.3, 0.1)
    for limits in ((0.2, 0.005, INF), (INF, 0.005, 0.7)):
        _, channel = rate(source, *limits, divergence="kl", return_channel=True)
        assert measure(source, channel, divergence="kl").perception == pytest.approx(
            0.005, abs=1e-9
        )


# ---- inverses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", [Bernoulli(0.3, 0.1), Bernoulli(0.8, 0.0), Bernoulli(0.2, 0.7, 0.1)]
)
def test_inverses_undo_the_rate(source):
    rng = np.random.default_rng(0)
    r = rng.uniform(0.01, 0.6, 20)
    tv = rng.uniform(0, 0.2, 20) * (np.arange(20) % 3 > 0)
    part = rng.random(20)
    seen, unseen = source.label_entropies
    c = (seen + part * (unseen - seen)) * BITS
    d = distortion(source, r, tv, c)
    met = np.isfinite(d)
    assert 3 < met.sum() < 20
    assert (rate(source, d, tv, c)[met] <= r[met] + 1e-12).all()
    assert (rate(source, d - 1e-6, tv, c)[met] > r[met]).all()
    assert (rate(source, INF, tv, c)[~met] > r[~met]).all()
    c = classification(source, r, 0.25, tv)
    met = np.isfinite(c)
    assert 3 < met.sum() < 20
    assert (rate(source, 0.25, tv, c + 1e-12)[met] <= r[met] + 1e-9).all()
    free = rate(source, 0.25, tv)
    assert (rate(source, 0.25, tv, c - 1e-6)[met] > np.maximum(r, free)[met] - 1e-12).all()
    assert (free[~met] > r[~met]).all()


def test_inverses_without_other_constraints():
    source = Bernoulli(0.3, 0.1)
    r = float(hb(0.3) - hb(0.12))
    assert distortion(source, r) == pytest.approx(0.12, abs=1e-9)
    assert classification(source, r) == pytest.approx(float(hb(0.12 * 0.9 + 0.88 * 0.1)), abs=1e-9)
    assert distortion(source, r, classification=0.5) == INF
    assert classification(source, r, distortion=0.1) == INF


# ---- speed, checks of input ----------------------------------------------------------------------


def test_speed_of_surfaces():
    source = Bernoulli(0.3, 0.1)
    d, c = np.linspace(0.01, 0.4, 50)[:, None], np.linspace(0.48, 0.95, 50)
    for perception, allowed in ((INF, 0.1), (0.01, 2.0)):
        times = []
        for _ in range(2):
            start = time.process_time()
            rate(source, d, perception, c)
            times.append(time.process_time() - start)
        assert min(times) < allowed


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"p": 1.2}, "p"),
        ({"p": "x"}, "p"),
        ({"p": math.nan}, "p"),
        ({"p": 0.3, "label_flip": -0.1}, "label_flip"),
        ({"p": 0.3, "noise_flip": 1.5}, "noise_flip"),
    ],
)
def test_bad_probabilities_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be a"):
        Bernoulli(**arguments)


def test_bad_options_are_named():
    source = Bernoulli(0.3, 0.1)
    for options in ({}, {"classifier_sees_randomness": True}):
        with pytest.raises(
            ValueError, match="common_randomness must be inf for a Bernoulli; got 1 nats"
        ):
            rate(source, 0.1, common_randomness=1.0, unit="nats", **options)
        with pytest.raises(ValueError, match="common_randomness"):
            distortion(source, 0.1, common_randomness=1.0, **options)
    with pytest.raises(
        ValueError, match="divergence must be one of w2, tv, kl for a Bernoulli; got 'chi2'"
    ):
        rate(source, 0.1, divergence="chi2")
    with pytest.raises(ValueError, match="classification needs a source with a label"):
        rate(Bernoulli(0.3), classification=0.5)
    assert np.isnan(
        measure(Bernoulli(0.3), rate(Bernoulli(0.3), 0.1, return_channel=True)[1]).classification
    )


def test_channels_that_do_not_fit_are_refused():
    source = Bernoulli(0.3, 0.1)
    with pytest.raises(ValueError, match="channel must be a DiscreteChannel or a MixedChannel"):
        measure(source, GaussianChannel(np.array(1.0), np.array(0.1)))
    with pytest.raises(ValueError, match="channel must have 2 x 2 matrices"):
        measure(source, DiscreteChannel(np.ones((2, 3)) / 3))
    with pytest.raises(ValueError, match="one for each weight"):
        measure(source, MixedChannel(np.ones(3) / 3, np.ones((2, 2, 2)) / 2))


def test_measure_is_the_definitions():
    rng = np.random.default_rng(0)
    w = rng.random((50, 2))
    source = Bernoulli(0.7, 0.2, 0.1)
    point = measure(source, DiscreteChannel(np.stack([1 - w, w], axis=-1)), divergence="kl")
    r, d, h, q = account(0.7, 0.2, 0.1, *w.T)
    got = np.stack([point.rate, point.distortion, point.classification, point.perception])
    assert np.allclose(got, np.stack([r, d, h, divergence_of(q, 0.7, "kl")]), rtol=0, atol=1e-12)
