"""One encoder for many purposes: the rate of a universal representation, and its penalty."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from quadrate.theory import checks
from quadrate.theory.any_source import Constraints, Source
from quadrate.theory.channels import FloatArray
from quadrate.theory.functions import make_constraints
from quadrate.theory.gaussian.scalar import ScalarGaussian
from quadrate.theory.gaussian.vector import VectorGaussian
from quadrate.theory.units import Unit, nats_per


def universal_rate(
    source: Source,
    distortion: ArrayLike = math.inf,
    perception: ArrayLike = math.inf,
    classification: ArrayLike = math.inf,
    *,
    divergence: str = "w2",
    unit: Unit = "bits",
) -> float:
    """The least I(Y;Z) of one representation Z from which every point of a set Θ is decodable.

    R(Θ) (Zhang et al. 2021; Nguyen et al. 2025). For a scalar Gaussian source it is the largest
    R(D,P,C) of the set: of two jointly Gaussian representations, the one of the higher rate can do
    all that the other can (Zhang et al.; Nguyen et al., Theorem 2). For vectors it may be larger:
    different purposes may need different components.

    Args:
        source: A ScalarGaussian or VectorGaussian.
        distortion: The points' largest E Δ(X,X̂). The three arguments broadcast to arrays that list
            the points of Θ, each with its own decoder.
        perception: The points' largest d(p_X̂, p_X).
        classification: The points' largest h(S|X̂), in `unit`.
        divergence: As in `rate`.
        unit: As in `rate`.

    Returns:
        The rate in `unit`; `inf` if a point is infeasible.

    Raises:
        ValueError: As `rate`; if Θ is empty; if the source is of another type.
    """
    theta = _theta(source, (distortion, perception, classification), divergence, unit)
    return _universal(source, theta)[0] / nats_per(unit)


def rate_penalty(
    source: Source,
    distortion: ArrayLike = math.inf,
    perception: ArrayLike = math.inf,
    classification: ArrayLike = math.inf,
    *,
    divergence: str = "w2",
    unit: Unit = "bits",
) -> float:
    """The extra rate of one encoder for a whole set Θ over its most demanding point.

    A(Θ) = R(Θ) − sup_Θ R(D,P,C) >= 0, with the arguments of `universal_rate`.

    Returns:
        The penalty in `unit`; `inf` if a point is infeasible.

    Raises:
        ValueError: As `universal_rate`.
    """
    theta = _theta(source, (distortion, perception, classification), divergence, unit)
    universal, largest = _universal(source, theta)
    return max(0.0, universal - largest) / nats_per(unit) if universal < math.inf else math.inf


def mse_encoder_bounds(variance: float, mmse: float) -> tuple[float, float]:
    """Bounds on the loss at perfect perception of an encoder for squared error alone.

    Zhang et al. 2021. Let D3 be the least distortion at perfect perception of any encoder of the
    rate R, and D_b that of an encoder whose X̃ has the least distortion of that rate: mmse = D(R).
    Then D_b <= 2 mmse, and D3 >= 2σ² − 2σ√(σ² − mmse), because no X̂ of that rate correlates more
    with X than an X̃ of least distortion. The difference vanishes at mmse ≈ 0 and mmse ≈ σ², the
    ratio is one at mmse ≈ σ².

    Args:
        variance: σ² of the source, which may have any law; the total variance of a vector.
        mmse: E‖X−X̃‖² of the encoder, within [0, variance].

    Returns:
        Lower bounds on D3 − D_b, which is never above 0, and on D3 / D_b, which is never above 1.

    Raises:
        ValueError: If a number is out of its range.
    """
    variance = checks.number("variance", variance, 0, open_low=True)
    mmse = checks.number("mmse", mmse, 0, variance)
    # (2σ² − 2σ√(σ² − mmse)) / (2 mmse) without the cancellation at small mmse.
    ratio = 1 / (1 + math.sqrt(1 - mmse / variance))
    return 2 * mmse * (ratio - 1), ratio


def one_shot_bound(rate: ArrayLike, *, unit: Unit = "bits") -> float | FloatArray:
    """R + log2(R + 1) + 5 bits: enough to code single samples, with unlimited common randomness.

    R is the value of a (universal) rate function. By the strong functional representation lemma
    (Li & El Gamal 2018; Zhang et al. 2021).

    Args:
        rate: R >= 0, in `unit`.
        unit: "bits" or "nats", of the result too.

    Raises:
        ValueError: If a rate is negative or NaN, or the unit is unknown.
    """
    (rates,) = checks.broadcast(rate=rate)
    bits = rates * (nats_per(unit) / nats_per("bits"))
    return checks.plain((bits + np.log2(bits + 1) + 5) * (nats_per("bits") / nats_per(unit)))


def _theta(
    source: Source, bounds: tuple[ArrayLike, ArrayLike, ArrayLike], divergence: str, unit: Unit
) -> Constraints:
    """The points of Θ as arrays of one dimension."""
    points = make_constraints(source, bounds, divergence, unit)
    if points.distortion.size == 0:
        raise ValueError(
            "distortion, perception and classification must list at least one point; got none"
        )
    arrays = points.distortion, points.perception, points.classification
    return points.at(*(values.ravel() for values in arrays))


def _universal(source: Source, theta: Constraints) -> tuple[float, float]:
    """R(Θ) and sup_Θ R(D,P,C) in nats."""
    if not isinstance(source, ScalarGaussian | VectorGaussian):
        raise ValueError(
            "source must be a ScalarGaussian or a VectorGaussian, whose universal rates are known;"
            f" got a {type(source).__name__}"
        )
    rates, _ = source.solve(theta)
    largest = float(np.max(rates))
    if isinstance(source, ScalarGaussian) or largest == math.inf:
        return largest, largest
    return float(source.solve_universal(theta)[0]), largest
