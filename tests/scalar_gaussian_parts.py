"""Scalar Gaussian sources, their constraints, and rates by brute force."""

import math

import numpy as np
from hypothesis import strategies as st

from quadrate.theory.gaussian.scalar import ScalarGaussian


@st.composite
def sources(draw: st.DrawFn, noisy: bool | None = None) -> ScalarGaussian:
    """Labelled sources whose label is of some use."""
    noisy = draw(st.booleans()) if noisy is None else noisy
    correlation = draw(st.floats(0.3, 1.0)) * draw(st.sampled_from([-1, 1]))
    variance = draw(st.floats(0.1, 10))
    return ScalarGaussian(
        variance,
        draw(st.floats(0.1, 10)),
        correlation,
        variance * draw(st.floats(0.05, 1)) if noisy else 0.0,
    )


def covariance(source: ScalarGaussian, gain: float, noise: float) -> np.ndarray:
    """That of (S, X, Y, X̂)."""
    joint = source.correlation * math.sqrt(source.variance * source.label_variance)
    inputs = np.array([[source.label_variance, joint], [joint, source.variance]])
    mixing = np.array([[1, 0], [0, 1], [0, 1], [0, gain]])
    result = mixing @ inputs @ mixing.T
    result[2:, 2:] += source.noise_variance * np.outer([1, gain], [1, gain])
    result[3, 3] += noise
    return result


def four_quantities(
    source: ScalarGaussian, gain: float, noise: float, divergence: str
) -> tuple[float, float, float, float]:
    """Rate, distortion, perception, classification in nats, from determinants."""
    full = covariance(source, gain, noise)
    information = 0.5 * (
        math.log(full[2, 2]) + math.log(full[3, 3]) - np.linalg.slogdet(full[2:, 2:])[1]
    )
    error = full[1, 1] + full[3, 3] - 2 * full[1, 3]
    ratio = full[3, 3] / full[1, 1]
    perception = (
        (math.sqrt(full[3, 3]) - math.sqrt(full[1, 1])) ** 2
        if divergence == "w2"
        else 0.5 * (ratio - 1 - math.log(ratio))
    )
    pair = full[np.ix_([0, 3], [0, 3])]
    uncertainty = 0.5 * (
        math.log(2 * math.pi * math.e) + np.linalg.slogdet(pair)[1] - math.log(full[3, 3])
    )
    return information, error, perception, uncertainty


def perception_of(source: ScalarGaussian, spread: float, divergence: str) -> float:
    """The divergence from X of a Gaussian of `spread` times its deviation."""
    return (
        source.variance * (1 - spread) ** 2
        if divergence == "w2"
        else (spread**2 - 1) / 2 - math.log(spread)
    )
