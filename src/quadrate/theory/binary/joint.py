"""Binary variables in nats: entropies, and the joint model of source, encoder's view and label."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import entr, xlog1py

from quadrate.theory.any_source import bisect
from quadrate.theory.channels import FloatArray


def symmetric_channel(flip: float) -> FloatArray:
    """The matrix of a binary symmetric channel."""
    return np.array([[1 - flip, flip], [flip, 1 - flip]])


def convolve(p: Any, flip: Any) -> Any:
    """P(A xor B = 1) for independent A ~ Bern(p) and B ~ Bern(flip)."""
    return p * (1 - flip) + (1 - p) * flip


def entropy(p: Any) -> Any:
    """H_b(p)."""
    return entr(p) + entr(1 - p)


def inverse_entropy(nats: FloatArray) -> FloatArray:
    """The p in [0, 1/2] with H_b(p) = nats, elementwise; 0 and 1/2 below and above the range."""
    return bisect(lambda p: entropy(p) >= nats, np.zeros_like(nats), np.full_like(nats, 0.5))


def information(b: float, q: Any, m: Any) -> Any:
    """I(Y;X̂) with P(Y=1) = b, P(X̂=1) = q, P(Y=1, X̂=1) = m.

    Convex in (q, m), as the channel is affine in them, and 0 on m = bq.
    """
    # Rounding may leave a probability below 0.
    joint = sum(entr(np.maximum(cell, 0.0)) for cell in (m, b - m, q - m, 1 - b - q + m))
    return np.maximum(entropy(b) + entropy(q) - joint, 0.0)


def dependence(b: float, q: Any, excess: Any) -> Any:
    """`information` at m = bq + excess, to its last digits however small it is."""

    def term(independent: Any, more: Any) -> Any:
        zero = np.zeros_like(more + independent)
        return independent * _divergence(
            np.divide(more, independent, out=zero, where=independent > 0)
        )

    with_one = term(b * q, excess) + term(b * (1 - q), -excess)
    return with_one + term((1 - b) * q, -excess) + term((1 - b) * (1 - q), excess)


def _divergence(t: Any) -> Any:
    """(1 + t) ln(1 + t) − t for t >= -1, by its series near zero, where the difference cancels."""
    t = np.maximum(t, -1.0)
    series = t**2 * (
        1 / 2 - t * (1 / 6 - t * (1 / 12 - t * (1 / 20 - t * (1 / 30 - t * (1 / 42 - t / 56)))))
    )
    with np.errstate(divide="ignore"):
        return np.where(np.abs(t) < 0.01, series, xlog1py(1 + t, t) - t)


def gradient(b: float, q: Any, m: Any) -> tuple[Any, Any]:
    """Derivatives of `information` by q and by m; infinite or NaN where a probability is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        neither, false = np.log(1 - b - q + m), np.log(q - m)
        return false - neither + np.log((1 - q) / q), np.log(m / (b - m)) + neither - false


@dataclass(frozen=True)
class BinaryModel:
    """X ~ Bern(a), Y = X xor Bern(noise) at the encoder, and the label S = X xor Bern(flip).

    The three parameters are at most 1/2. A channel from Y to X̂ is a pair (q, m) = (P(X̂=1), P(Y=1,
    X̂=1)).

    Attributes:
        a: P(X=1).
        noise: P(Y != X).
        flip: P(S != X).
    """

    a: float
    noise: float
    flip: float

    @cached_property
    def b(self) -> float:
        """P(Y=1)."""
        return float(convolve(self.a, self.noise))

    @cached_property
    def s(self) -> float:
        """P(S=1)."""
        return float(convolve(self.a, self.flip))

    @cached_property
    def source_given_seen(self) -> tuple[float, float]:
        """P(X=1|Y=0) and P(X=1|Y=1)."""
        if self.a == 0:
            return 0.0, 0.0
        return self.a * self.noise / (1 - self.b), self.a * (1 - self.noise) / self.b

    @cached_property
    def label_given_seen(self) -> tuple[float, float]:
        """P(S=1|Y=0) and P(S=1|Y=1)."""
        zero, one = self.source_given_seen
        return float(convolve(zero, self.flip)), float(convolve(one, self.flip))

    @cached_property
    def label_entropies(self) -> tuple[float, float]:
        """H(S|Y) and H(S)."""
        zero, one = self.label_given_seen
        return float((1 - self.b) * entropy(zero) + self.b * entropy(one)), float(entropy(self.s))

    def rate(self, q: Any, m: Any) -> Any:
        """I(Y;X̂)."""
        return information(self.b, q, m)

    def rate_gradient(self, q: Any, m: Any) -> tuple[Any, Any]:
        """Derivatives of I(Y;X̂) by q and by m; infinite or NaN as `gradient`."""
        return gradient(self.b, q, m)

    def label_information(self, q: Any, m: Any) -> Any:
        """I(S;X̂)."""
        zero, one = self.source_given_seen
        return dependence(self.s, q, (1 - 2 * self.flip) * (one - zero) * (m - self.b * q))

    def label_gradient(self, q: Any, m: Any) -> tuple[Any, Any]:
        """Derivatives of I(S;X̂) by q and by m; infinite or NaN as `gradient`."""
        zero, one = self.label_given_seen
        by_output, by_joint = gradient(self.s, q, zero * q + (one - zero) * m)
        with np.errstate(invalid="ignore"):
            return by_output + zero * by_joint, (one - zero) * by_joint

    def distortion(self, q: Any, m: Any) -> Any:
        """P(X̂ != X)."""
        zero, one = self.source_given_seen
        return self.a + q - 2 * (zero * q + (one - zero) * m)

    def transitions(self, q: FloatArray, m: FloatArray) -> FloatArray:
        """P(X̂=1|Y=0) and P(X̂=1|Y=1), (..., 2)."""
        ones = np.stack([(q - m) / (1 - self.b), m / self.b if self.b else q], axis=-1)
        return np.clip(ones, 0, 1)
