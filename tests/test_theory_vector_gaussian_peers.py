"""Rates of vector Gaussians against convex programs, and against a search over channels."""

import math

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize as slsqp

from quadrate.theory.any_source import Constraints
from quadrate.theory.functions import measure
from quadrate.theory.gaussian.vector import ScalarLabel
from vector_gaussian_parts import binding, draw, inf, nats

HALF = math.log(2 * math.pi * math.e) / 2


SEEDS = st.integers(0, 10**6)


# --- Brute force 1: cvxpy, in the covariances of X̂ and X̃ = E[X|X̂]


def cvxpy_full(source, pairs, label, divergence):
    """The least rate that serves all (distortion, perception) pairs, by matrix inequalities."""
    sigma = source.covariance
    n = len(sigma)
    error = cp.Variable((n, n), PSD=True)
    rules = [sigma - error >> 0]
    if label < inf:
        weights, noise = source.labels.weights, source.labels.noise
        rules.append(
            cp.sum(cp.multiply(np.outer(weights, weights), error))
            <= math.exp(2 * (label - HALF)) - noise
        )
    for most, least in pairs:
        if least == inf:  # X̂ = X̃
            rules += [cp.trace(error) <= most] if most < inf else []
            continue
        output, cross = cp.Variable((n, n), symmetric=True), cp.Variable((n, n))
        rules.append(cp.bmat([[sigma - error, cross], [cross.T, output]]) >> 0)
        rules.append(np.trace(sigma) + cp.trace(output) - 2 * cp.trace(cross) <= most)
        if divergence == "kl":
            whitened = np.linalg.inv(sigma)
            rules.append(
                (cp.trace(whitened @ output) - n - cp.log_det(output) + np.linalg.slogdet(sigma)[1])
                / 2
                <= least
            )
        else:
            shift = cp.Variable((n, n))
            rules += [
                cp.bmat([[output, shift], [shift.T, sigma]]) >> 0,
                cp.trace(output) + np.trace(sigma) - 2 * cp.trace(shift) <= least,
            ]
    problem = cp.Problem(cp.Minimize(-cp.log_det(error)), rules)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == "optimal"
    return (np.linalg.slogdet(sigma)[1] + problem.value) / 2


def cvxpy_aligned(source, most, least, label, divergence):
    """The same for independent components, in the logarithms of their errors."""
    variances = np.diag(source.covariance)
    n = len(variances)
    logs, kept, outputs = cp.Variable(n), cp.Variable(n), cp.Variable(n)
    rules = [cp.exp(logs) + kept <= variances]
    paired = [cp.geo_mean(cp.hstack([outputs[i], kept[i]])) for i in range(n)]
    rules.append(variances.sum() + cp.sum(outputs) - 2 * sum(paired) <= most)
    if divergence == "kl":
        rules.append(
            cp.sum(outputs / variances - 1 - cp.log(outputs) + np.log(variances)) / 2 <= least
        )
    else:
        rules.append(
            variances.sum()
            + cp.sum(outputs)
            - 2 * cp.sum(cp.multiply(np.sqrt(variances), cp.sqrt(outputs)))
            <= least
        )
    if label < inf:
        squares, noises = source.labels.gains**2, source.labels.noises
        terms = [
            cp.log_sum_exp(cp.hstack([logs[i] + math.log(squares[i]), math.log(noises[i])]))
            for i in range(n)
        ]
        rules.append(n * HALF + sum(terms) / 2 <= label)
    problem = cp.Problem(cp.Minimize(cp.sum(np.log(variances) - logs) / 2), rules)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == "optimal"
    return problem.value


@pytest.mark.parametrize("divergence", ["w2", "kl"])
@settings(max_examples=5)
@given(seed=SEEDS)
def test_scalar_label_against_cvxpy(divergence, seed):
    source, rng = draw(seed, "scalar", 3)
    most, least, label = binding(source, rng, divergence)
    for asked in ((most, least, label), (most, least, inf)):
        expected = cvxpy_full(source, [asked[:2]], asked[2], divergence)
        assert nats(source, *asked, divergence) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=5)
@given(SEEDS)
def test_scalar_label_without_perception_against_cvxpy(seed):
    source, rng = draw(seed, "scalar", 4)
    most, _, label = binding(source, rng, "w2")
    for asked in ((most, inf, label), (inf, inf, label), (most, inf, inf)):
        assert nats(source, *asked) == pytest.approx(
            cvxpy_full(source, [asked[:2]], asked[2], "w2"), abs=1e-4
        )


@pytest.mark.parametrize("divergence", ["w2", "kl"])
@settings(max_examples=5)
@given(seed=SEEDS)
def test_aligned_labels_against_cvxpy(divergence, seed):
    source, rng = draw(seed, "aligned", 4)
    most, least, label = binding(source, rng, divergence)
    for asked in ((most, least, label), (most, least, inf), (most, 1e3, label)):
        assert nats(source, *asked, divergence) == pytest.approx(
            cvxpy_aligned(source, *asked, divergence), abs=1e-4
        )


@settings(max_examples=4)
@given(SEEDS)
def test_universal_rate_against_cvxpy(seed):
    source, rng = draw(seed, "scalar", 3)
    most, least, label = binding(source, rng, "w2")
    pairs = [(most, least), (1.2 * most, least / 10), (1.5 * most, 0.01 * least), (inf, 0.0)]
    distortions, perceptions = np.array(pairs).T
    needed, channel = source.solve_universal(
        Constraints(distortions, perceptions, np.array([label, inf, inf, inf]))
    )
    assert needed == pytest.approx(cvxpy_full(source, pairs[:3], label, "w2"), abs=1e-4)
    assert needed >= max(nats(source, *pair, label) for pair in pairs) - 1e-6
    assert float(measure(source, channel, unit="nats").rate) == pytest.approx(needed, abs=1e-7)


# --- Brute force 2: SLSQP over all Gaussian channels X̂ = GX + N, without convexity


def slsqp_channels(source, most, least, label, divergence, rng, starts):
    """The least rate found from several starts, over gains and Cholesky factors of the noise."""
    sigma = source.covariance
    n = len(sigma)
    lower = np.tril_indices(n)
    log_det = np.linalg.slogdet(sigma)[1]

    def parts(x):
        gain, factor = x[: n * n].reshape(n, n), np.zeros((n, n))
        factor[lower] = x[n * n :]
        cross = gain @ sigma
        output = cross @ gain.T + factor @ factor.T
        return output, cross, sigma - cross.T @ np.linalg.solve(output, cross)

    def needed(x):
        return (log_det - np.linalg.slogdet(parts(x)[2])[1]) / 2

    def rest(x):
        output, cross, error = parts(x)
        slacks = [most - np.trace(sigma + output - 2 * cross)] if most < inf else []
        if least < inf and divergence == "kl":
            whitened = np.linalg.solve(sigma, output)
            slacks.append(least - (np.trace(whitened) - n - np.linalg.slogdet(whitened)[1]) / 2)
        elif least < inf:
            products = np.linalg.eigvals(
                sigma @ output
            ).real  # tr (Σ^½ B Σ^½)^½ is the sum of the roots of the eigenvalues of ΣB
            slacks.append(
                least - np.trace(sigma + output) + 2 * np.sqrt(np.maximum(products, 0)).sum()
            )
        if label < inf and isinstance(source.labels, ScalarLabel):
            slacks.append(
                label
                - HALF
                - math.log(
                    source.labels.weights @ error @ source.labels.weights + source.labels.noise
                )
                / 2
            )
        elif label < inf:
            scaled = np.outer(source.labels.gains, source.labels.gains) * error + np.diag(
                source.labels.noises
            )
            slacks.append(label - n * HALF - np.linalg.slogdet(scaled)[1] / 2)
        return np.array(slacks)

    best = inf
    for _ in range(starts):
        start = np.concatenate(
            [
                (0.8 * np.eye(n) + 0.2 * rng.normal(size=(n, n))).ravel(),
                (0.3 * np.eye(n) + 0.05 * rng.normal(size=(n, n)))[lower],
            ]
        )
        found = slsqp(
            needed,
            start,
            constraints={"type": "ineq", "fun": rest},
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-10},
        )
        if np.isfinite(found.fun) and (rest(found.x) > -1e-7).all():
            best = min(best, found.fun)
    return best


@pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning",
    "ignore:Values in x were outside bounds:RuntimeWarning",
)
@pytest.mark.parametrize("kind", ["none", "aligned", "scalar"])
@pytest.mark.parametrize("divergence", ["w2", "kl"])
@settings(max_examples=3)
@given(seed=SEEDS)
def test_no_gaussian_channel_does_better(kind, divergence, seed):
    source, rng = draw(seed, kind, 2)
    most, least, label = binding(source, rng, divergence)
    value = nats(source, most, least, label, divergence)
    assert slsqp_channels(source, most, least, label, divergence, rng, 4) == pytest.approx(
        value, abs=1e-4
    )
