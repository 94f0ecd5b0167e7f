"""A log-barrier method for small smooth convex programs, with a certified gap.

Boyd & Vandenberghe 2004, ch. 11; Nesterov & Nemirovskii 1994.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from quadrate.theory.channels import FloatArray
from quadrate.theory.convergence import ConvergenceWarning

# Value, gradient (p,) and Hessian (p, p) at a point.
Jet = tuple[float, FloatArray, FloatArray]
# A convex function of x (p,); its value is inf outside its domain.
Smooth = Callable[[FloatArray], Jet]

# The fraction of the tolerance that is aimed at.
_AIM = 1e-2
# The objective's weight grows by at most this factor from one centre to the next.
_GROWTH = 20.0
# Squared Newton decrements: below the first a full step is safe, below the second the centre is
# reached.
_SAFE, _CENTRED = 1e-2, 1e-8
# The most steps to one centre; the least fraction of a step: shorter ones gain only rounding.
_MAX_STEPS, _LEAST_STEP = 100, 1e-6


@dataclass(frozen=True)
class Barrier:
    """A convex function that grows to infinity at the edge of the feasible set.

    Attributes:
        order: Its parameter ν: at the centre of weight t the objective exceeds its least value by
            at most (the sum of all ν) / t.
        smooth: The function.
    """

    order: int
    smooth: Smooth


def outside(p: int) -> Jet:
    """The jet of a point outside the domain, in p variables."""
    return math.inf, np.zeros(p), np.zeros((p, p))


def below(function: Smooth, bound: float) -> Barrier:
    """The barrier of function(x) < bound."""

    def smooth(x: FloatArray) -> Jet:
        value, gradient, hessian = function(x)
        slack = bound - value
        if not slack > 0:
            return outside(x.size)
        gradient = gradient / slack
        return -math.log(slack), gradient, hessian / slack + np.outer(gradient, gradient)

    return Barrier(1, smooth)


def positive_definite(base: FloatArray, directions: FloatArray) -> Barrier:
    """The barrier −ln det M(x) of M(x) = base + Σ x_i directions_i ≻ 0.

    Args:
        base: (m, m), symmetric.
        directions: (p, m, m), symmetric.
    """

    def smooth(x: FloatArray) -> Jet:
        try:
            root = np.linalg.cholesky(base + np.tensordot(x, directions, 1))
        except np.linalg.LinAlgError:
            return outside(x.size)
        inverse = np.linalg.inv(root)
        whitened = inverse @ directions @ inverse.T  # (p, m, m)
        flat = whitened.reshape(x.size, -1)
        barrier = -2 * float(np.log(np.diag(root)).sum())
        return barrier, -np.trace(whitened, axis1=1, axis2=2), flat @ flat.T

    return Barrier(len(base), smooth)


def minimize(
    objective: Smooth, barriers: Sequence[Barrier], start: FloatArray, tolerance: float = 1e-6
) -> FloatArray:
    """A point where a convex objective is least, among those where all barriers are finite.

    Args:
        objective: The function to minimize.
        barriers: The constraints; the result is strictly inside, so the objective is never below
            its least value. Each is evaluated only where the objective and the barriers before it
            are finite.
        start: (p,) a point strictly inside.
        tolerance: How far the objective may end above its least value, as certified by the
            barriers' orders and the last Newton decrement. A hundredth of it is aimed at.

    Warns:
        ConvergenceWarning: If the tolerance was not reached.
    """
    order = sum(barrier.order for barrier in barriers)
    last = order / (_AIM * tolerance)
    x, gap = start, math.inf
    for weight in np.geomspace(1.0, last, 1 + math.ceil(math.log(last, _GROWTH))):
        centre, decrement = _centre(objective, barriers, x, weight)
        if not decrement < 1:
            break
        x = centre
        gap = (order + (decrement + math.sqrt(order)) * decrement / (1 - decrement)) / weight
    if gap > tolerance:
        warnings.warn(
            f"a convex program stopped {gap:.1g} from its optimum, short of {tolerance:g}",
            ConvergenceWarning,
            stacklevel=2,
        )
    return x


def _centre(
    objective: Smooth, barriers: Sequence[Barrier], x: FloatArray, weight: float
) -> tuple[FloatArray, float]:
    """Newton's method on weight · objective + Σ barriers: (x, the last Newton decrement)."""

    def total(x: FloatArray) -> Jet:
        value, gradient, hessian = objective(x)
        value, gradient, hessian = weight * value, weight * gradient, weight * hessian
        for barrier in barriers:
            if value == math.inf:
                break
            more = barrier.smooth(x)
            value, gradient, hessian = value + more[0], gradient + more[1], hessian + more[2]
        return value, gradient, hessian

    jet = total(x)
    squared = math.inf
    for _ in range(_MAX_STEPS):
        value, gradient, hessian = jet
        step = -_solve(hessian, gradient)
        squared = float(-gradient @ step)
        if not squared >= 0:  # rounding has the last word
            return x, math.inf
        if squared <= _CENTRED:
            break
        size, jet = 1.0, total(x + step)
        # Near the centre the value changes by less than its rounding: only the domain is checked.
        while jet[0] == math.inf or (squared > _SAFE and jet[0] > value - 0.1 * size * squared):
            size /= 2
            if size < _LEAST_STEP:
                return x, math.sqrt(squared)
            jet = total(x + size * step)
        x = x + size * step
    return x, math.sqrt(squared)


def _solve(hessian: FloatArray, gradient: FloatArray) -> FloatArray:
    """Solve hessian · y = gradient, scaled to a unit diagonal.

    The barriers' curvatures differ by many powers of ten.
    """
    scale = 1 / np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    scaled = hessian * np.outer(scale, scale)
    try:
        return np.asarray(scale * np.linalg.solve(scaled, scale * gradient))
    except np.linalg.LinAlgError:
        return np.asarray(scale * np.linalg.lstsq(scaled, scale * gradient, rcond=None)[0])
