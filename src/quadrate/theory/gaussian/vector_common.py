"""The parts that both problems of a Gaussian vector share: multipliers, and what is decodable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.optimize import brentq

from quadrate.theory.channels import FloatArray
from quadrate.theory.gaussian.barrier import Barrier, Jet, Smooth, outside

_Response = TypeVar("_Response")

# The least variance of an output relative to the source's: a smaller one would save less than 1e-8
# nats, which rounding would hide.
OUTPUT_FLOOR = 1e-9


class Solution(NamedTuple):
    """A solution in the source's eigenbasis, in parts of the source's deviations.

    So nothing cancels, however small an error or a variance is.

    Attributes:
        rate: Nats.
        error: (n, n) covariance of X given X̂; the identity if X̂ tells nothing.
        output: (n, n) covariance of X̂ where that is part of the solution; the identity for the
            source's own.
    """

    rate: float
    error: FloatArray
    output: FloatArray


def constrained(
    response: Callable[[float, float], _Response],
    distortion_excess: Callable[[_Response], float],
    label_excess: Callable[[_Response], float],
    scale: float,
) -> _Response:
    """The response at the multipliers (ℓ, m) ≥ 0 that satisfy the optimality conditions.

    No excess is positive, and each multiplier or its excess is zero. The dual function is concave
    in (ℓ, m): with the best ℓ for each m, the label's excess falls as m grows, and two nested
    searches find both.

    Args:
        response: The minimizer of rate + ℓ · distortion + m · label.
        distortion_excess: By how much a response exceeds its distortion; falls with ℓ.
        label_excess: By how much a response exceeds its bound on the label.
        scale: A distortion of the source's order, to start the searches at its reciprocal.
    """

    def at(m: float) -> _Response:
        return response(multiplier(lambda ell: distortion_excess(response(ell, m)), 1 / scale), m)

    return at(multiplier(lambda m: label_excess(at(m)), 1 / scale))


def multiplier(excess: Callable[[float], float], start: float) -> float:
    """The least multiplier >= 0 at which a falling excess is no longer positive.

    The search begins at `start` > 0.
    """
    if excess(0.0) <= 0:
        return 0.0
    high = math.log(start)
    while excess(math.exp(high)) > 0:
        high += 2
    low = high - 2
    while excess(math.exp(low)) <= 0:
        low -= 2
    return math.exp(brentq(lambda logarithm: excess(math.exp(logarithm)), low, high, xtol=1e-15))


def decodable(
    error: Smooth, loss: Smooth, distortions: FloatArray, perceptions: FloatArray
) -> Barrier:
    """The barrier of a representation Z from which each of k pairs (D, P) can be decoded.

    D is the distortion, P the squared Wasserstein distance. With Q the error covariance of X̃ =
    E[X|Z], the condition is tr Q ≤ D and W2(p_X̃, p_X) ≤ √P + √(D − tr Q) (Freirich et al. 2021);
    squared, tr Q cancels and loss ≤ (P + D)/2 + √(P (D − tr Q)) remains, convex in Q.

    Args:
        error: The function tr Q.
        loss: The function tr Σ − tr (Σ^½ (Σ − Q) Σ^½)^½.
        distortions: (k,) D.
        perceptions: (k,) P.
    """

    def smooth(x: FloatArray) -> Jet:
        value, error_gradient, error_hessian = error(x)
        loss_value, loss_gradient, loss_hessian = loss(x)
        squared = np.outer(error_gradient, error_gradient)
        left = distortions - value  # (k,)
        if not (left > 0).all():
            return outside(x.size)
        slack = (perceptions + distortions) / 2 + np.sqrt(perceptions * left) - loss_value
        if not (slack > 0).all():
            return outside(x.size)
        slope = np.sqrt(perceptions / left) / 2
        gradients = (loss_gradient + np.outer(slope, error_gradient)) / slack[:, None]  # (k, p)
        hessian = (1 / slack).sum() * loss_hessian + (slope / slack).sum() * error_hessian
        hessian += (slope / (2 * left * slack)).sum() * squared + gradients.T @ gradients
        # The domain of the root is one more constraint: the tightest of all tr Q < D.
        tightest = left.min()
        hessian += error_hessian / tightest + squared / tightest**2
        barrier = -float(np.log(slack).sum() + math.log(tightest))
        return barrier, gradients.sum(0) + error_gradient / tightest, hessian

    return Barrier(len(distortions) + 1, smooth)
