"""The same functions for all sources: the rate a purpose needs, and what a given rate can reach."""

from __future__ import annotations

import math
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from quadrate.theory import checks
from quadrate.theory.any_source import Constraints, Source
from quadrate.theory.channels import Channel, FloatArray, Point
from quadrate.theory.units import Unit, nats_per, nats_per_perception


@overload
def rate(
    source: Source,
    distortion: ArrayLike = ...,
    perception: ArrayLike = ...,
    classification: ArrayLike = ...,
    *,
    divergence: str = ...,
    unit: Unit = ...,
    common_randomness: float = ...,
    classifier_sees_randomness: bool = ...,
    return_channel: Literal[False] = ...,
) -> float | FloatArray: ...
@overload
def rate(
    source: Source,
    distortion: ArrayLike = ...,
    perception: ArrayLike = ...,
    classification: ArrayLike = ...,
    *,
    divergence: str = ...,
    unit: Unit = ...,
    common_randomness: float = ...,
    classifier_sees_randomness: bool = ...,
    return_channel: Literal[True],
) -> tuple[float | FloatArray, Channel]: ...
def rate(
    source: Source,
    distortion: ArrayLike = math.inf,
    perception: ArrayLike = math.inf,
    classification: ArrayLike = math.inf,
    *,
    divergence: str = "w2",
    unit: Unit = "bits",
    common_randomness: float = math.inf,
    classifier_sees_randomness: bool = False,
    return_channel: bool = False,
) -> float | FloatArray | tuple[float | FloatArray, Channel]:
    """The least rate of any codec under the given constraints.

    R(D, P, C) = min I(Y;X̂) (Blau & Michaeli 2019; Wang et al. 2025, eq. 1-4).

    Args:
        source: The source X; its encoder sees Y, which is X, or X with noise.
        distortion: The largest E Δ(X,X̂), inf for any: MSE for Gaussian sources, Hamming for binary
            ones, the source's own matrix for discrete ones.
        perception: The largest d(p_X̂, p_X), inf for any.
        classification: The largest H(S|X̂), in `unit` (differential, and so maybe negative, for
            Gaussian labels), inf for any.
        divergence: "w2" (squared 2-Wasserstein distance), "tv" (total variation, in [0, 1]), "kl"
            (KL(p_X̂ ‖ p_X), in `unit`), "chi2" (χ²) or "hellinger" (squared Hellinger distance), if
            it is one of the source's `divergences`.
        unit: "bits" or "nats": the unit of the rate, the classification, the common randomness and
            a KL perception.
        common_randomness: Rate of the randomness that encoder and decoder share, in `unit`, inf for
            enough. Finite only for scalar Gaussian sources.
        classifier_sees_randomness: Whether the classifier is also given the common randomness:
            H(S|X̂,U). Only for binary sources.
        return_channel: Also return an optimal test channel, which `measure` can check.

    Returns:
        The rate, `inf` where no codec meets the constraints: a float if all constraints are
        numbers, otherwise an array of their broadcast shape. With `return_channel`, a pair of it
        and the channel, which is NaN where the rate is inf or the common randomness finite.

    Raises:
        ValueError: If an argument has the wrong type or name, is NaN, or shapes do not broadcast;
            if a distortion or perception is negative. (A classification below what any codec
            reaches, negative or not, is infeasible: The rate is inf.)

    Warns:
        ConvergenceWarning: If a solver is less exact than it should be.
        LocalOptimumWarning: If the bound on H(S|X̂) of a Discrete source without a frozen classifier
            binds: Then the rate is an upper bound, from a local method.
    """
    bounds = distortion, perception, classification
    randomness = common_randomness, classifier_sees_randomness
    constraints = make_constraints(source, bounds, divergence, unit, randomness)
    nats, channel = source.solve(constraints)
    result = checks.plain(nats / nats_per(unit))
    return (result, channel) if return_channel else result


def distortion(
    source: Source,
    rate: ArrayLike,
    perception: ArrayLike = math.inf,
    classification: ArrayLike = math.inf,
    *,
    divergence: str = "w2",
    unit: Unit = "bits",
    common_randomness: float = math.inf,
    classifier_sees_randomness: bool = False,
) -> float | FloatArray:
    """The least distortion of any codec at a rate: the inverse of `rate`, with its arguments.

    Returns:
        The distortion, `inf` where no codec of that rate meets the other constraints; a float or an
        array of the broadcast shape.

    Raises:
        ValueError: As `rate`; if a rate is negative.

    Warns:
        ConvergenceWarning: As `rate`.
        LocalOptimumWarning: As `rate`.
    """
    rates, perceptions, classifications = checks.broadcast(
        rate=rate, perception=perception, classification=classification
    )
    bounds = np.full(rates.shape, np.inf), perceptions, classifications
    randomness = common_randomness, classifier_sees_randomness
    constraints = make_constraints(source, bounds, divergence, unit, randomness)
    return checks.plain(source.solve_distortion(rates * nats_per(unit), constraints))


def classification(
    source: Source,
    rate: ArrayLike,
    distortion: ArrayLike = math.inf,
    perception: ArrayLike = math.inf,
    *,
    divergence: str = "w2",
    unit: Unit = "bits",
    common_randomness: float = math.inf,
    classifier_sees_randomness: bool = False,
) -> float | FloatArray:
    """The least H(S|X̂) of any codec at a rate: the inverse of `rate`, with its arguments.

    Returns:
        The conditional entropy in `unit`, `inf` where no codec of that rate meets the other
        constraints; a float or an array of the broadcast shape.

    Raises:
        ValueError: As `rate`; if a rate is negative; if the source has no label.

    Warns:
        ConvergenceWarning: As `rate`.
        LocalOptimumWarning: As `rate`.
    """
    rates, distortions, perceptions = checks.broadcast(
        rate=rate, distortion=distortion, perception=perception
    )
    bounds = distortions, perceptions, np.full(rates.shape, np.inf)
    randomness = common_randomness, classifier_sees_randomness
    constraints = make_constraints(source, bounds, divergence, unit, randomness)
    _need_label(source)
    nats = source.solve_classification(rates * nats_per(unit), constraints)
    return checks.plain(nats / nats_per(unit))


def measure(
    source: Source, channel: Channel, *, divergence: str = "w2", unit: Unit = "bits"
) -> Point:
    """I(Y;X̂), E Δ(X,X̂), d(p_X̂, p_X) and H(S|X̂) of a test channel, from their definitions.

    Args:
        source: The source.
        channel: p(x̂|y), such as `rate(..., return_channel=True)` gives.
        divergence: As in `rate`.
        unit: As in `rate`.

    Raises:
        ValueError: If the channel does not fit the source, or the divergence is unknown.
    """
    check_names(source, divergence, unit)
    point = source.measure(channel, divergence)
    scale = nats_per(unit)
    perception = point.perception / nats_per_perception(divergence, unit)
    return Point(point.rate / scale, point.distortion, perception, point.classification / scale)


def make_constraints(
    source: Source,
    bounds: tuple[ArrayLike, ArrayLike, ArrayLike],
    divergence: str,
    unit: Unit,
    randomness: tuple[float, bool] = (math.inf, False),
) -> Constraints:
    """The arguments of `rate`, checked, broadcast and in nats.

    Args:
        source: The source.
        bounds: Distortion, perception and classification.
        divergence: As in `rate`.
        unit: As in `rate`.
        randomness: The common randomness, and whether the classifier sees it.
    """
    check_names(source, divergence, unit)
    distortions, perceptions, classifications = checks.broadcast(
        distortion=bounds[0], perception=bounds[1], classification=bounds[2]
    )
    if (classifications < np.inf).any():
        _need_label(source)
    common, seen = randomness
    if np.ndim(common) or not common >= 0:
        raise ValueError(f"common_randomness must be one number >= 0, or inf; got {common!r}")
    scale = nats_per(unit)
    perceptions = perceptions * nats_per_perception(divergence, unit)
    common = float(common) * scale
    return Constraints(distortions, perceptions, classifications * scale, divergence, common, seen)


def check_names(source: Source, divergence: str, unit: Unit) -> None:
    """Raise a ValueError if the source, its divergence or the unit is unknown."""
    if not isinstance(source, Source):
        raise ValueError(
            "source must be one of quadrate.theory's sources, such as"
            f" ScalarGaussian(variance=1.0); got {source!r}"
        )
    nats_per(unit)
    if divergence not in source.divergences:
        raise ValueError(
            f"divergence must be one of {', '.join(source.divergences)} for a"
            f" {type(source).__name__}; got {divergence!r}"
        )


def _need_label(source: Source) -> None:
    if source.label_entropies is None:
        raise ValueError(
            f"classification needs a source with a label; this {type(source).__name__} was made"
            " without one"
        )
