"""Rates of Bernoulli sources against published values, known closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from bernoulli_parts import INF, account, brute_force, check, divergence_of, hb, plogp
from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.functions import rate

# Shrinking a failure would take minutes.
few = settings(deadline=None, derandomize=True, max_examples=5, phases=[Phase.generate])


many = settings(deadline=None, derandomize=True, max_examples=40)


p_values = st.one_of(st.floats(0.02, 0.5), st.just(0.5))


flips = st.one_of(st.floats(0.0, 0.4), st.just(0.0))


noises = st.one_of(st.floats(0.0, 0.3), st.just(0.0))


shares = st.floats(0.0, 1.0)


# ---- reference values ----------------------------------------------------------------------------


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


# ---- closed forms against what is implemented ----------------------------------------------------


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


# ---- brute force ---------------------------------------------------------------------------------

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
        channel = (high, low) if swap and not asked[0] else (low, high)
        own, d, h, q = account(p, flip, noise, *channel)
        met = (float(d), max(float(divergence_of(q, p, divergence)), 0.0), float(h))
        limits = tuple(value if on else INF for value, on in zip(met, asked, strict=True))
        # The channel itself meets the limits, also where the search from a grid is not exact.
        best = min(brute_force(p, flip, noise, limits, divergence), float(own))
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
