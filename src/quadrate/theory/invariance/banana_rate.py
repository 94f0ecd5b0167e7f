"""The rates of the banana, a source in the plane whose tasks ignore a rotation or a translation.

It comes from Dubois et al. 2021: a Gaussian is bent along a parabola, turned and shifted, which
keeps areas. Its maximal invariants M(X) are continuous, so bounds come from differential entropies;
a codec of one latent can reach the entropy-coded uniform quantizer of M(X). Integrals are by
quadrature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.interpolate import BSpline, make_interp_spline
from scipy.optimize import minimize
from scipy.special import entr

from quadrate.theory import checks
from quadrate.theory.channels import FloatArray
from quadrate.theory.units import Unit, nats_per

Invariance = Literal["rotation", "y_translation", "x_translation", "none"]

# The authors' constants (lossyless, banana data module): x1 ~ N(0, 3²), x2 ~ N(0, .5²) + .1 (x1² −
# 9), turned by −40 degrees and shifted.
_DEVIATIONS = np.array([3.0, 0.5])
_CURVATURE = 0.1
_ANGLE = math.radians(-40)
_SHIFT = np.array([-0.75, -1.0])
_ROTATION = np.array([[math.cos(_ANGLE), -math.sin(_ANGLE)], [math.sin(_ANGLE), math.cos(_ANGLE)]])

# All points within 7 deviations of x1 and x2, all but 1e-11 of the mass, have |M(X)| up to this.
_REACH = 50.0
# Nodes of the trapezoidal rule along an orbit, a circle or a line cut at the same distance. It
# converges faster than any power, as the density is analytic.
_LINE = np.linspace(-_REACH, _REACH, 2501)
_ANGLES = np.linspace(0, 2 * math.pi, 2048, endpoint=False)
# Spacing of the tabulated densities, which vary over .3 at least; the finest step the table
# resolves; values of M(X) integrated at a time.
_SPACING, _FINEST_STEP, _CHUNK = 0.02, 0.01, 256


def sample(count: int, generator: np.random.Generator) -> FloatArray:
    """(count, 2) independent points of the banana."""
    latents = generator.normal(size=(count, 2)) * _DEVIATIONS
    latents[:, 1] += _CURVATURE * (latents[:, 0] ** 2 - _DEVIATIONS[0] ** 2)
    return np.asarray(latents @ _ROTATION.T + _SHIFT)


def density(points: ArrayLike) -> FloatArray:
    """The density (...) of the banana at points (..., 2).

    Raises:
        ValueError: If the points are not in the plane.
    """
    latents = (_plane(points) - _SHIFT) @ _ROTATION
    first = latents[..., 0]
    second = latents[..., 1] - _CURVATURE * (first**2 - _DEVIATIONS[0] ** 2)
    exponent = (first / _DEVIATIONS[0]) ** 2 + (second / _DEVIATIONS[1]) ** 2
    return np.asarray(np.exp(-exponent / 2) / (2 * math.pi * _DEVIATIONS.prod()))


def maximal_invariant(invariance: Invariance, points: ArrayLike) -> FloatArray:
    """M(x), the same for all points of an orbit, and different for different orbits.

    |x| for rotations, the other coordinate for translations.

    Args:
        invariance: "rotation", "y_translation", "x_translation" or "none".
        points: (..., 2).

    Returns:
        (...) the invariant; (..., 2), the points themselves, for "none".

    Raises:
        ValueError: If the invariance is unknown, or the points are not in the plane.
    """
    _check(invariance)
    checked = _plane(points)
    if invariance == "none":
        return checked
    if invariance == "rotation":
        return np.asarray(np.linalg.norm(checked, axis=-1))
    return checked[..., 0 if invariance == "y_translation" else 1]


def invariant_density(invariance: Invariance, values: ArrayLike) -> FloatArray:
    """The density of M(X): the banana's integral over the points of each value, to some 1e-12.

    Args:
        invariance: "rotation", "y_translation" or "x_translation".
        values: (...) of M; the density of a negative radius is zero.

    Returns:
        (...) densities.

    Raises:
        ValueError: If the invariance is unknown or "none".
    """
    _check(invariance, scalar=True)
    checked = np.asarray(values, dtype=np.float64)
    flat = checked.reshape(-1)
    chunks = [flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK)]
    parts = [_fibre_integrals(invariance, chunk) for chunk in chunks]
    return np.concatenate([*parts, np.zeros(0)]).reshape(checked.shape)


def differential_entropy(invariance: Invariance = "none", *, unit: Unit = "bits") -> float:
    """h[M(X)], or h[X] for "none".

    2.171 bits for rotation, 3.075 and 2.787 for y and x translation, 4.679 without invariance.

    Raises:
        ValueError: If the invariance or the unit is unknown.
    """
    _check(invariance)
    return _entropy(invariance) / nats_per(unit)


def shannon_lower_bound(
    invariance: Invariance, mse: ArrayLike, *, unit: Unit = "bits"
) -> float | FloatArray:
    """A lower bound on the rate of any codec with a mean squared error of M.

    It is max(h[M(X)] − d/2 log(2πe MSE), 0), d the coordinates of M (1; 2 for "none").

    Args:
        invariance: "rotation", "y_translation", "x_translation" or "none".
        mse: Mean squared error of M(X), per coordinate for "none".
        unit: "bits" or "nats".

    Returns:
        The rate, `inf` where mse is 0: a float or an array of mse's shape.

    Raises:
        ValueError: If the invariance or the unit is unknown, or mse is NaN or negative.
    """
    entropy, scale = differential_entropy(invariance, unit="nats"), nats_per(unit)
    (errors,) = checks.broadcast(mse=mse)
    with np.errstate(divide="ignore"):
        noise = np.log(2 * math.pi * math.e * errors) / 2
    return checks.plain(np.maximum(entropy - (2 if invariance == "none" else 1) * noise, 0) / scale)


@dataclass(frozen=True)
class Quantizer:
    """An entropy-coded uniform quantizer of M(X), with its rate and its error.

    Attributes:
        step: Width of its cells.
        offset: The middle of one of them.
        rate: The entropy of the cell's index.
        mse: Mean squared error of M(X).
    """

    step: float
    offset: float
    rate: float
    mse: float


def quantizer(
    invariance: Invariance,
    step: float,
    offset: float = 0.0,
    *,
    centroids: bool = True,
    unit: Unit = "bits",
) -> Quantizer:
    """The uniform quantizer with cells [offset + (k − ½) step, offset + (k + ½) step].

    Args:
        invariance: "rotation", "y_translation" or "x_translation".
        step: Width of the cells, at least .01.
        offset: The middle of one cell.
        centroids: Reconstruct a cell as its mean, which is best, rather than as its middle.
        unit: "bits" or "nats".

    Raises:
        ValueError: If the invariance is unknown or "none", a number is out of range, or the unit is
            unknown.
    """
    _check(invariance, scalar=True)
    width = checks.number("step", step, _FINEST_STEP)
    middle = checks.number("offset", offset)
    scale = nats_per(unit)
    rate, mse = _quantize(invariance, width, middle, centroids)
    return Quantizer(width, middle, rate / scale, mse)


def best_quantizer(invariance: Invariance, rate_weight: float, *, unit: Unit = "bits") -> Quantizer:
    """The uniform quantizer with centroids that minimizes MSE/2 + rate_weight · rate.

    The minimum is over all steps and offsets. The rate is in nats, and MSE/2 is the mean over the
    two coordinates of an orbit's representative: the objective that Dubois et al. 2021 train with.
    So .1465, at a weight of .07 for rotation, is the best that their codec (.1472) could reach.

    Args:
        invariance: "rotation", "y_translation" or "x_translation".
        rate_weight: The price of a nat, at least 1e-5.
        unit: Of the rate that is returned.

    Raises:
        ValueError: If the invariance is unknown or "none", the weight is out of range, or the unit
            is unknown.
    """
    _check(invariance, scalar=True)
    weight, scale = checks.number("rate_weight", rate_weight, 1e-5), nats_per(unit)

    def objective(parameters: FloatArray) -> float:
        rate, mse = _quantize(invariance, math.exp(parameters[0]), float(parameters[1]), True)
        return mse / 2 + weight * rate

    # The objective has local minima, in the offset above all: a grid finds the basin, a simplex its
    # bottom.
    steps, phases = np.geomspace(_FINEST_STEP, 4 * _REACH, 80), np.linspace(0, 1, 12, False)
    starts = [np.array([math.log(step), step * phase]) for step in steps for phase in phases]
    start, options = min(starts, key=objective), {"xatol": 1e-7, "fatol": 1e-13}
    found = minimize(objective, start, method="Nelder-Mead", options=options)
    step = math.exp(found.x[0])
    offset = float(np.remainder(found.x[1], step))
    rate, mse = _quantize(invariance, step, offset, True)
    return Quantizer(step, offset, rate / scale, mse)


def _check(invariance: str, *, scalar: bool = False) -> None:
    names = [name for name in get_args(Invariance) if not (scalar and name == "none")]
    if invariance not in names:
        raise ValueError(f"invariance must be one of {', '.join(names)}; got {invariance!r}")


def _plane(points: ArrayLike) -> FloatArray:
    checked = np.asarray(points, dtype=np.float64)
    if checked.ndim == 0 or checked.shape[-1] != 2:
        raise ValueError(
            f"points must have 2 coordinates along the last axis; got shape {checked.shape}"
        )
    return checked


def _fibre_integrals(invariance: Invariance, values: FloatArray) -> FloatArray:
    """(k) integrals of the density over the points with M(x) = value, for (k) values."""
    if invariance == "rotation":
        directions = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)  # (nodes, 2)
        means = density(values[:, None, None] * directions).mean(axis=1)
        return np.asarray(2 * math.pi * np.maximum(values, 0) * means)
    coordinates = np.broadcast_arrays(values[:, None], _LINE)  # M and the other, (k, nodes) each
    points = np.stack(coordinates if invariance == "y_translation" else coordinates[::-1], axis=-1)
    return np.asarray(density(points).sum(axis=1) * (_LINE[1] - _LINE[0]))


def _support(invariance: Invariance) -> tuple[float, float]:
    return (0.0 if invariance == "rotation" else -_REACH), _REACH


@lru_cache
def _entropy(invariance: Invariance) -> float:
    if invariance == "none":  # the bending, turn and shift of the Gaussian keep areas
        return math.log(2 * math.pi * math.e) + float(np.log(_DEVIATIONS).sum())

    def term(value: float) -> float:
        return float(entr(invariant_density(invariance, value)))

    low, high = _support(invariance)
    return float(quad(term, low, high, epsabs=1e-11, epsrel=1e-11, limit=500)[0])


@lru_cache
def _cumulative_moments(invariance: Invariance) -> BSpline:
    """The integrals up to m of the density of M times (1, M, M²), as a spline with values (3)."""
    low, high = _support(invariance)
    values = np.linspace(low, high, round((high - low) / _SPACING) + 1)
    moments = invariant_density(invariance, values)[:, None] * values[:, None] ** np.arange(3)
    return make_interp_spline(values, moments, k=7).antiderivative()


def _quantize(
    invariance: Invariance, step: float, offset: float, centroids: bool
) -> tuple[float, float]:
    """The entropy in nats of the cell's index, and the mean squared error."""
    low, high = _support(invariance)
    first, last = math.floor((low - offset) / step), math.ceil((high - offset) / step)
    middles = offset + step * np.arange(first, last + 1)
    edges = np.append(middles - step / 2, middles[-1] + step / 2)
    moments = _cumulative_moments(invariance)(np.clip(edges, low, high))
    masses, firsts, seconds = np.diff(moments, axis=0).T
    masses, points = np.maximum(masses, 0), middles
    if centroids:
        points = np.divide(firsts, masses, out=middles.copy(), where=masses > 1e-12)
    errors = seconds - 2 * points * firsts + points**2 * masses
    return float(entr(masses).sum()), float(np.sum(errors))
