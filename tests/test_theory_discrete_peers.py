"""Discrete sources against cvxpy.

The same convex problems, stated differently and solved by another method.
"""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quadrate.theory.discrete import Discrete, solve
from quadrate.theory.functions import classification, distortion, measure, rate

DIVERGENCES = ["w2", "tv", "kl", "chi2", "hellinger"]
checked = settings(deadline=None, derandomize=True, max_examples=5)


def random_source(seed: int, square: bool = True) -> Discrete:
    """Two to five letters, three labels, a frozen classifier.

    Some letters rare, some outputs never labelled 0.
    """
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 6))
    m = n if square else int(random.integers(2, 6))
    pmf = random.dirichlet(np.full(n, random.choice([0.5, 5.0])))
    delta = random.random((n, m))
    if square:
        places = np.sort(random.normal(size=n))
        delta = [(places[:, None] - places) ** 2, 1 - np.eye(n), delta * (1 - np.eye(n))][
            int(random.integers(3))
        ]
    return Discrete(pmf, delta, random.dirichlet(np.ones(3), n), random.dirichlet(np.ones(3), m))


def by_cvxpy(
    source: Discrete,
    divergence: str,
    weights=(0.0, 0.0, 0.0),
    bounds=(math.inf, math.inf, math.inf),
) -> float:
    """The least rate (plus what has a weight) in nats: a conic program in the joint law."""
    n, m = source.distortion.shape
    p = source.pmf
    joint = cp.Variable((n, m), nonneg=True)
    output = cp.sum(joint, axis=0)
    information = cp.sum(
        cp.kl_div(joint, cp.reshape(p, (n, 1), order="C") @ cp.reshape(output, (1, m), order="C"))
    )
    limits = [cp.sum(joint, axis=1) == p]
    perception = 0.0
    if n == m:
        if divergence in ("w2", "tv"):
            coupling = cp.Variable((n, n), nonneg=True)
            cost = source.distortion.T if divergence == "w2" else 1 - np.eye(n)
            limits += [cp.sum(coupling, axis=1) == output, cp.sum(coupling, axis=0) == p]
            perception = cp.sum(cp.multiply(cost, coupling))
        elif divergence == "kl":
            perception = cp.sum(cp.kl_div(output, p))
        elif divergence == "chi2":
            perception = cp.sum(cp.multiply(1 / p, cp.square(output - p)))
        else:
            perception = 2 - 2 * cp.sum(cp.multiply(np.sqrt(p), cp.sqrt(output)))
    terms = (
        cp.sum(cp.multiply(joint, source.distortion)),
        perception,
        cp.sum(cp.multiply(joint, source.loss)),
    )
    value = information + sum(
        weight * term for weight, term in zip(weights, terms, strict=True) if weight
    )
    limits += [term <= bound for term, bound in zip(terms, bounds, strict=True) if bound < math.inf]
    return float(
        cp.Problem(cp.Minimize(value), limits).solve(
            solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9
        )
    )


@pytest.mark.parametrize("divergence", DIVERGENCES)
@checked
@given(st.integers(0, 10**6), st.tuples(*[st.floats(0.05, 8.0)] * 3))
def test_multipliers(divergence: str, seed: int, weights: tuple[float, float, float]) -> None:
    source = random_source(seed)
    found = solve(source, *weights, divergence=divergence, unit="nats")
    assert found.converged and 0 <= found.gap <= 1e-7
    assert found.lagrangian == pytest.approx(by_cvxpy(source, divergence, weights), abs=1e-5)
    parts = np.array([found.distortion, found.perception, found.classification])
    assert found.rate + np.dot(weights, parts) <= found.lagrangian + 1e-9


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("active", ["distortion", "perception", "classification", "all"])
@settings(deadline=None, derandomize=True, max_examples=3)
@given(st.integers(0, 10**6), st.floats(0.1, 0.9))
def test_each_constraint_active(active: str, divergence: str, seed: int, share: float) -> None:
    source = random_source(seed)
    bounds = _active_bounds(source, divergence, active, share)
    found, channel = rate(source, *bounds, divergence=divergence, unit="nats", return_channel=True)
    assert found == pytest.approx(by_cvxpy(source, divergence, bounds=bounds), abs=1e-5)
    point = measure(source, channel, divergence=divergence, unit="nats")
    assert point.rate == pytest.approx(found, abs=1e-9)
    values = np.array([point.distortion, point.perception, point.classification])
    assert (values <= np.array(bounds) + 1e-7).all()
    if active != "all":
        which = ["distortion", "perception", "classification"].index(active)
        assert values[which] == pytest.approx(bounds[which], abs=1e-4)


def _active_bounds(
    source: Discrete, divergence: str, active: str, share: float
) -> tuple[float, float, float]:
    """Bounds of which exactly the named one binds.

    Between the least and what costs nothing, beside a mild demand that makes perception matter.
    """
    eased = solve(source, 3.0 / source.distortion.max(), divergence=divergence, unit="nats")
    if active == "perception":
        return eased.distortion, share * eased.perception + 1e-4, math.inf
    alone = source.pmf @ source.distortion
    sharp = source.pmf @ source.loss
    if active == "distortion":
        return share * float(alone.min()), math.inf, math.inf
    if active == "classification":
        least = float(source.pmf @ source.loss.min(axis=1))
        return math.inf, math.inf, least + share * (float(sharp.min()) - least)
    mixed = 0.8 * np.eye(len(source.pmf)) + 0.2 * eased.channel.matrix
    point = source._measure(mixed, divergence)
    return point[1], point[2] + 1e-4, point[3]


@checked
@given(st.integers(0, 10**6), st.floats(0.1, 8.0), st.floats(0.0, 4.0))
def test_other_alphabet(seed: int, distortion_weight: float, classification_weight: float) -> None:
    source = random_source(seed, square=False)
    found = solve(source, distortion_weight, 0.0, classification_weight, unit="nats")
    assert found.converged
    assert found.lagrangian == pytest.approx(
        by_cvxpy(source, "w2", (distortion_weight, 0.0, classification_weight)), abs=1e-5
    )


@checked
@given(st.integers(0, 10**6), st.floats(0.05, 0.5))
def test_inverses(seed: int, share: float) -> None:
    source = random_source(seed)
    nats = share * float(-source.pmf @ np.log(source.pmf))
    least = distortion(source, nats, perception=0.02, divergence="tv", unit="nats")
    if least < math.inf:
        assert rate(source, least, 0.02, divergence="tv", unit="nats") == pytest.approx(
            nats, abs=1e-5
        ) or least == pytest.approx(0, abs=1e-9)
    sharpest = classification(source, nats, unit="nats")
    assert rate(source, classification=sharpest, unit="nats") <= nats + 1e-6
    floor = float(source.pmf @ source.loss.min(axis=1))
    if sharpest > floor + 1e-3:
        assert rate(source, classification=sharpest - 1e-3, unit="nats") > nats
