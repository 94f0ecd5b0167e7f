import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, minimize

from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.channels import DiscreteChannel, GaussianChannel, MixedChannel
from quadrate.theory.functions import classification, distortion, measure, rate

INF = math.inf
BITS = 1 / math.log(2)

# Shrinking a failure would take minutes.
few = settings(deadline=None, derandomize=True, max_examples=5, phases=[Phase.generate])
many = settings(deadline=None, derandomize=True, max_examples=40)
p_values = st.one_of(st.floats(0.02, 0.5), st.just(0.5))
flips = st.one_of(st.floats(0.0, 0.4), st.just(0.0))
noises = st.one_of(st.floats(0.0, 0.3), st.just(0.0))
shares = st.floats(0.0, 1.0)


# An independent account of a channel (w0, w1) = P(X̂=1|Y=0), P(X̂=1|Y=1), in bits, entry by entry.


def plogp(p):
    return p * np.log2(np.where(p > 0, p, 1.0))


def hb(p):
    return -plogp(p) - plogp(1 - p)


def account(p, flip, noise, w0, w1):
    """I(Y;X̂), P(X̂ != X), H(S|X̂), P(X̂=1)."""
    x = {0: 1 - p, 1: p}
    w = {0: np.asarray(w0), 1: np.asarray(w1)}
    y = {v: x[v] * (1 - noise) + x[1 - v] * noise for v in (0, 1)}
    q = y[0] * w[0] + y[1] * w[1]
    information = hb(q) - y[0] * hb(w[0]) - y[1] * hb(w[1])
    ones = {v: (1 - noise) * w[v] + noise * w[1 - v] for v in (0, 1)}  # P(X̂=1|X=v)
    both = {v: x[v] * ones[v] for v in (0, 1)}
    s1 = (1 - flip) * both[1] + flip * both[0]  # P(S=1, X̂=1)
    s = (1 - flip) * p + flip * (1 - p)
    joint = (s1, q - s1, s - s1, 1 - s - q + s1)
    label = plogp(q) + plogp(1 - q) - sum(plogp(np.maximum(cell, 0.0)) for cell in joint)
    return information, x[0] * ones[0] + x[1] * (1 - ones[1]), label, q


STEPS = np.sin(np.linspace(0, np.pi / 2, 301)) ** 2
GRID = [w.ravel() for w in np.meshgrid(STEPS, STEPS)]


def divergence_of(q, p, name):
    return -hb(q) - q * np.log2(p) - (1 - q) * np.log2(1 - p) if name == "kl" else np.abs(q - p)


def outputs_within(p, limit, divergence):
    """The interval of P(X̂=1) within a perception limit."""
    ends = []
    for end in (0.0, 1.0):
        if divergence_of(end, p, divergence) <= limit:
            ends.append(end)
        else:
            ends.append(
                brentq(lambda q: divergence_of(q, p, divergence) - limit, p, end, xtol=1e-15)
                if limit > 0
                else p
            )
    return ends


def brute_force(p, flip, noise, limits, divergence="tv", starts=6):
    """The least I(Y;X̂) in bits over all binary channels.

    A fine grid, then SLSQP from its best and different places.
    """
    least, most = outputs_within(p, limits[1], divergence)

    def excess(w0, w1):
        _, d, h, q = account(p, flip, noise, w0, w1)
        pairs = ((d, limits[0]), (h, limits[2]), (q, most), (-q, -least))
        return np.array([value - limit for value, limit in pairs if limit < INF])

    rates = account(p, flip, noise, *GRID)[0]
    over = np.maximum(excess(*GRID), 0).sum(axis=0)
    best = np.where(over <= 1e-12, rates, INF).min()
    near = np.flatnonzero(over < 0.03)
    chosen = []
    for index in near[np.argsort((rates + 5 * over)[near])]:
        place = np.array([GRID[0][index], GRID[1][index]])
        if all(np.abs(place - other).max() > 0.08 for other in chosen):
            chosen.append(place)
        if len(chosen) == starts:
            break
    for place in chosen:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = minimize(
                lambda w: float(account(p, flip, noise, *w)[0]),
                np.clip(place, 1e-9, 1 - 1e-9),
                bounds=[(0, 1)] * 2,
                constraints={"type": "ineq", "fun": lambda w: -excess(*w)},
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 200},
            )
        w = np.clip(found.x, 0, 1)
        if np.all(excess(*w) <= 1e-9):
            best = min(best, float(account(p, flip, noise, *w)[0]))
    return best


def check(source, limits, divergence="tv", **options):
    """The rate, after a check that its channel has it and keeps to the limits."""
    value, channel = rate(source, *limits, divergence=divergence, return_channel=True, **options)
    if math.isinf(value):
        matrix = channel.matrix if isinstance(channel, DiscreteChannel) else channel.matrices
        assert np.isnan(matrix).all()
        return value
    point = measure(source, channel, divergence=divergence)
    assert point.rate == pytest.approx(value, abs=1e-9)
    for got, limit in zip(
        (point.distortion, point.perception, point.classification), limits, strict=True
    ):
        assert got <= limit + 1e-9 or limit == INF
    return value


# ---- reference values -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "flip", "d", "c", "expected"),
    [
        (0.5, 0.1, 0.1, 0.8, 0.5310044064107188),
        (0.2, 0.05, 0.05, 0.6, 0.43553113777140606),
        (0.4, 0.1, 0.05, 0.46, INF),
    ],
)
def test_reference_rdc(p, flip, d, c, expected):
    assert check(Bernoulli(p, flip), (d, INF, c)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "d", "tv", "expected"),
    [
        (0.1, 0.1, 0.02, 0.06900403310390302),
        (0.3, 0.2, 0.05, 0.17345135818675383),
        (0.5, 0.2, 0.1, 0.2780719051126377),
    ],
)
def test_reference_rdp(p, d, tv, expected):
    assert rate(Bernoulli(p), d, tv, divergence="tv") == pytest.approx(expected, abs=1e-12)
    assert rate(Bernoulli(p), d, tv, divergence="w2") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "flip", "limits", "expected"),
    [
        (0.3, 0.1, (1.0, 0.0, 0.8), 0.20704014828029868),
        (0.2, 0.1, (0.2, 0.0, 0.7), 0.2245230566539568),
    ],
)
def test_reference_rdpc(p, flip, limits, expected):
    assert check(Bernoulli(p, flip), limits) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "c", "free", "perfect"),
    [(0.3, 0.8109, 0.18577, 0.18877), (0.2, 0.737306, 0.15152, 0.15793)],
)
def test_perception_costs_rate_for_a_biased_source(p, c, free, perfect):
    source = Bernoulli(p, 0.1)
    assert rate(source, classification=c) == pytest.approx(free, abs=1.1e-4)
    assert rate(source, perception=0, classification=c) == pytest.approx(perfect, abs=1.1e-4)


def test_perception_from_which_it_costs_nothing():
    p, flip, crossover = 0.3, 0.1, 0.1875
    c = float(hb(crossover * (1 - flip) + (1 - crossover) * flip))
    enough = crossover * (1 - 2 * p) / (1 - 2 * crossover)
    assert enough == pytest.approx(0.12, abs=1e-3)
    free = rate(Bernoulli(p, flip), classification=c)
    assert free == pytest.approx(float(hb(p) - hb(crossover)), abs=1e-12)
    assert rate(Bernoulli(p, flip), perception=enough + 1e-9, classification=c) == pytest.approx(
        free, abs=1e-12
    )
    assert rate(Bernoulli(p, flip), perception=enough - 0.01, classification=c) > free + 1e-6
    assert rate(Bernoulli(0.5, flip), perception=0, classification=c) == pytest.approx(
        rate(Bernoulli(0.5, flip), classification=c), abs=1e-12
    )


# ---- closed forms against what is implemented -------------------------------------------------------------------------------------------------


@many
@given(p=p_values, d=st.floats(0.0, 0.6), tv=st.floats(0.0, 0.6))
def test_rdp_is_the_known_closed_form(p, d, tv):
    """Blau & Michaeli's Bernoulli example, in its three branches."""
    q, slope = 1 - p, 1 - 2 * (p - tv)
    first, second = tv / slope if slope else 0.5, 2 * p * q - (q - p) * tv
    if tv >= p or d < first:
        expected = max(hb(p) - hb(min(d, p)), 0.0)
    elif d < second:

        def three(x, y):
            return -plogp(x) - plogp(y) - plogp(1 - x - y)

        expected = 2 * hb(p) + hb(p - tv) - three((d - tv) / 2, p) - three((d + tv) / 2, q)
    else:
        expected = 0.0
    assert check(Bernoulli(p, 0.5), (d, tv, INF)) == pytest.approx(float(expected), abs=1e-9)


@many
@given(p=p_values, flip=flips, d=st.floats(0.0, 0.6), part=shares)
def test_rdc_is_mrs_gerbers(p, flip, d, part):
    crossover = part * p
    c = float(hb(crossover * (1 - flip) + (1 - crossover) * flip))
    source = Bernoulli(p, flip)
    expected = float(hb(p) - hb(min(d, crossover, p)))
    assert check(source, (d, INF, c)) == pytest.approx(expected, abs=2e-8)
    # The general search, which a perception of 1 does not limit, finds the same.
    assert check(source, (d, 1.0, c)) == pytest.approx(rate(source, d, INF, c), abs=1e-9)


# ---- brute force ------------------------------------------------------------------------------------------------------------------------------

SUBSETS = [(d, t, c) for d in (0, 1) for t in (0, 1) for c in (0, 1) if d or c]


@pytest.mark.parametrize("divergence", ["tv", "kl"])
@pytest.mark.parametrize(
    "asked",
    SUBSETS,
    ids=lambda asked: "".join(name for name, on in zip("DPC", asked, strict=True) if on),
)
def test_no_channel_does_better(asked, divergence):
    """Limits that random channels meet exactly, so that those asked for bind."""

    @few
    @given(
        p=p_values,
        flip=flips,
        noise=noises,
        low=st.floats(0.01, 0.49),
        high=st.floats(0.51, 0.99),
        swap=st.booleans(),
    )
    def run(p, flip, noise, low, high, swap):
        _, d, h, q = account(
            p, flip, noise, *((high, low) if swap and not asked[0] else (low, high))
        )
        met = (float(d), max(float(divergence_of(q, p, divergence)), 0.0), float(h))
        limits = tuple(value if on else INF for value, on in zip(met, asked, strict=True))
        best = brute_force(p, flip, noise, limits, divergence)
        found = check(Bernoulli(p, flip, noise), limits, divergence)
        # Not above any channel; below the best found by no more than the search's own error.
        assert found <= best + 1e-7
        assert found >= best - 3e-6

    run()


@pytest.mark.parametrize(
    ("source", "limits"),
    [
        (Bernoulli(0.3, 0.1), (0.1, INF, INF)),
        (Bernoulli(0.3, 0.1), (INF, INF, 0.7)),
        (Bernoulli(0.3, 0.1), (0.2, 0.05, INF)),
        (Bernoulli(0.2, 0.1), (INF, 0.0, 0.7)),
        (Bernoulli(0.15, 0.05, 0.15), (0.15022, INF, 0.60635)),
        (Bernoulli(0.3, 0.1, 0.05), (0.15, 0.02, INF)),
        (Bernoulli(0.3, 0.1, 0.05), (INF, 0.0, 0.8)),
        (Bernoulli(0.8, 0.9, 0.05), (INF, 0.0, 0.65)),
        (Bernoulli(0.3, 0.0, 0.1), (0.2, 0.3, 0.6)),
    ],
)
def test_where_each_constraint_binds(source, limits):
    found = check(source, limits)
    assert found == pytest.approx(
        brute_force(source.p, source.label_flip, source.noise_flip, limits), abs=1e-6
    )
    for place, limit in enumerate(limits):
        if limit < INF and not (source.label_flip == 0 and place < 2):
            loosened = tuple(INF if other == place else value for other, value in enumerate(limits))
            assert rate(source, *loosened) < found - 1e-4


@pytest.mark.parametrize(
    ("p", "flip", "d", "c"), [(0.3, 0.1, 0.4, 0.7), (0.4, 0.02, 0.1, 0.8), (0.2, 0.15, 0.1, 0.7)]
)
def test_four_letters_do_not_beat_two(p, flip, d, c):
    """Letters 0 and 1 stand for 0, letters 2 and 3 for 1."""
    labels = np.array([[1 - flip, flip], [flip, 1 - flip]])

    def entropies(values):
        coded = np.array([[1 - p], [p]]) * values.reshape(2, 4)
        output = coded.sum(axis=0)
        information = plogp(coded).sum() - plogp(output).sum() + hb(p)
        return np.array(
            [
                information,
                coded[0, 2:].sum() + coded[1, :2].sum(),
                plogp(output).sum() - plogp(labels @ coded).sum(),
            ]
        )

    rng = np.random.default_rng(1)
    best = INF
    for _ in range(4):
        found = minimize(
            lambda values: float(entropies(values)[0]),
            rng.dirichlet(np.ones(4), 2).ravel(),
            bounds=[(1e-12, 1)] * 8,
            constraints=[
                {"type": "eq", "fun": lambda values: values.reshape(2, 4).sum(axis=1) - 1},
                {"type": "ineq", "fun": lambda values: np.array([d, c]) - entropies(values)[1:]},
            ],
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 300},
        )
        if found.success:
            best = min(best, float(found.fun))
    assert best == pytest.approx(rate(Bernoulli(p, flip), d, INF, c), abs=1e-6)


# ---- properties -------------------------------------------------------------------------------------------------------------------------------

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


# ---- inverses ---------------------------------------------------------------------------------------------------------------------------------


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


# ---- source noise -----------------------------------------------------------------------------------------------------------------------------


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


# ---- the classifier sees the common randomness --------------------------------------------------------------------------------------------------


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
    """The best mixture of the channels of a grid, then SLSQP on the weights and channels of the best three."""
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


# ---- speed, checks of input -------------------------------------------------------------------------------------------------------------------


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
