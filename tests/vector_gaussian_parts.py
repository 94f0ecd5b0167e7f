"""Vector Gaussian sources drawn at random, and constraints that bind."""

import math

import numpy as np

from quadrate.theory.functions import measure, rate
from quadrate.theory.gaussian.vector import AlignedLabels, ScalarLabel, VectorGaussian

inf = math.inf


def nats(source, distortion=inf, perception=inf, classification=inf, divergence="w2"):
    return rate(source, distortion, perception, classification, divergence=divergence, unit="nats")


def with_channel(source, distortion=inf, perception=inf, classification=inf, divergence="w2"):
    needed, channel = rate(
        source,
        distortion,
        perception,
        classification,
        divergence=divergence,
        unit="nats",
        return_channel=True,
    )
    return needed, channel, measure(source, channel, divergence=divergence, unit="nats")


def draw(seed, kind, n):
    """A random source: no label, aligned labels, or one scalar label on a full covariance."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, n))
    variances = np.exp(rng.uniform(-1.5, 1.5, n))
    if kind == "aligned":
        return (
            VectorGaussian(
                variances, AlignedLabels(rng.normal(size=n), np.exp(rng.uniform(-3, 0, n)))
            ),
            rng,
        )
    label = (
        ScalarLabel(rng.normal(size=n), math.exp(rng.uniform(-3, 0))) if kind == "scalar" else None
    )
    return VectorGaussian(factor @ factor.T / n + 0.1 * np.eye(n), label), rng


def binding(source, rng, divergence):
    """(distortion, perception, classification), each below what the others come with."""
    most = rng.uniform(0.2, 0.9) * np.trace(source.covariance)
    _, _, point = with_channel(source, most)
    label = inf
    if source.labels is not None:
        lowest = source.label_entropies[0]
        label = lowest + rng.uniform(0.3, 0.9) * (point.classification - lowest)
        _, _, point = with_channel(source, most, inf, label)
    least = (
        3.0 if divergence == "kl" else float(point.perception)
    )  # X̂ is singular where a component gets no rate
    return float(min(most, point.distortion)), rng.uniform(0.05, 0.8) * least, float(label)
