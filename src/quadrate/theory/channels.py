"""Test channels p(x̂|y): what an optimal codec does to its input, for `measure` to check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianChannel:
    """X̂ = gain · Y + N(0, noise), Y being what the encoder sees (X unless the source is noisy).

    Attributes:
        gain: (...) for a scalar source, (..., n, n) for a vector.
        noise: Variance (...), or covariance (..., n, n), of the added noise.
    """

    gain: FloatArray
    noise: FloatArray


@dataclass(frozen=True)
class DiscreteChannel:
    """A transition matrix.

    Attributes:
        matrix: (..., n, m) probabilities p(x̂|y): one row for each input letter, summing to one.
    """

    matrix: FloatArray


@dataclass(frozen=True)
class MixedChannel:
    """Time sharing: common randomness U picks one of k channels, and the classifier sees which.

    Attributes:
        weights: (..., k) probabilities of U.
        matrices: (..., k, n, m) transition matrices p(x̂|y, u).
    """

    weights: FloatArray
    matrices: FloatArray


Channel = GaussianChannel | DiscreteChannel | MixedChannel


@dataclass(frozen=True)
class Point:
    """The four quantities of a codec, each a number or an array of the channel's leading shape.

    Attributes:
        rate: I(Y;X̂), or I(Y;X̂|U) for a mixed channel.
        distortion: E Δ(X,X̂): mean squared error, or the source's own distortion (Hamming for
            binary).
        perception: d(p_X̂, p_X) under the given divergence.
        classification: H(S|X̂) (differential for Gaussian labels; H(S|X̂,U) for a mixed channel);
            NaN without a label.
    """

    rate: FloatArray
    distortion: FloatArray
    perception: FloatArray
    classification: FloatArray
