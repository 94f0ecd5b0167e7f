"""One encoder for many purposes.

The rate of a universal representation, and what universality costs.
"""

from __future__ import annotations

import math
from dataclasses import replace

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

    R(Θ) (Zhang et al. 2021; Nguyen et al. 2025).

    For a scalar Gaussian source it is the largest R(D,P,C) of the set, since of two jointly
    Gaussian representations the one of the higher rate does whatever the other does (Zhang et al.;
    Nguyen et al., Theorem 2). For vectors it may be above that: different purposes may need
    different components.

    Args:
        source: A ScalarGaussian or VectorGaussian.
        distortion: The points' largest E Δ(X,X̂). The three arguments broadcast to arrays that list
            the points of Θ, each met by a decoder of its own.
        perception: The points' largest d(p_X̂, p_X).
        classification: The points' largest h(S|X̂), in `unit`.
        divergence: As in `rate`.
        unit: As in `rate`.

    Returns:
        The rate in `unit`; `inf` if a point is infeasible.

    Raises:
        ValueError: As `rate`; if Θ is empty; if the source is another.
    """
    nats, _ = _universal(
        source, _theta(source, distortion, perception, classification, divergence, unit)
    )
    return nats / nats_per(unit)


def rate_penalty(
    source: Source,
    distortion: ArrayLike = math.inf,
    perception: ArrayLike = math.inf,
    classification: ArrayLike = math.inf,
    *,
    divergence: str = "w2",
    unit: Unit = "bits",
) -> float:
    """What one encoder for a whole set Θ costs beyond its most demanding point alone.

    A(Θ) = R(Θ) − sup_Θ R(D,P,C) >= 0.

    Arguments as `universal_rate`.

    Returns:
        The penalty in `unit`; `inf` if a point is infeasible.

    Raises:
        ValueError: As `universal_rate`.
    """
    universal, largest = _universal(
        source, _theta(source, distortion, perception, classification, divergence, unit)
    )
    return max(0.0, universal - largest) / nats_per(unit) if universal < math.inf else math.inf


def mse_encoder_bounds(variance: float, mmse: float) -> tuple[float, float]:
    """How little an encoder that was trained for squared error alone loses in perfect perception
    (Zhang et al. 2021).

    Let D3 be the least distortion at perfect perception of any encoder of the rate R, and D_b that
    of the given encoder's decoders, whose X̃ has the least distortion of that rate: mmse = D(R).
    Then D_b <= 2 mmse, and D3 >= 2σ² − 2σ√(σ² − mmse), because no X̂ of that rate correlates more
    with X than an X̃ of least distortion. The difference vanishes at mmse ≈ 0 and mmse ≈ σ², the
    ratio is one at mmse ≈ σ².

    Args:
        variance: σ² of the source, any that has one; in total, for a vector.
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
    """R + log2(R + 1) + 5 bits.

    Enough for codes of single samples with unlimited common randomness, R the value of a
    (universal) rate function.

    By the strong functional representation lemma (Li & El Gamal 2018; Zhang et al. 2021).

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
    source: Source,
    distortion: ArrayLike,
    perception: ArrayLike,
    classification: ArrayLike,
    divergence: str,
    unit: Unit,
) -> Constraints:
    """The points of Θ as arrays of one dimension."""
    points = make_constraints(
        source, distortion, perception, classification, divergence, unit, math.inf, False
    )
    if points.distortion.size == 0:
        raise ValueError(
            "distortion, perception and classification must list at least one point; got none"
        )
    return replace(
        points,
        distortion=points.distortion.ravel(),
        perception=points.perception.ravel(),
        classification=points.classification.ravel(),
    )


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
