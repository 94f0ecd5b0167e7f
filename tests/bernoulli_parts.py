"""Bernoulli sources and questions, and rates by brute force."""

import math
import warnings

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from quadrate.theory.channels import DiscreteChannel
from quadrate.theory.functions import measure, rate

INF = math.inf


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
