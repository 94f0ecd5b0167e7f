"""Rates of independent Gaussian components, each with its own label or without labels.

All matrices are diagonal, and the programs convex in the logarithms of the errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from quadrate.theory.channels import FloatArray
from quadrate.theory.gaussian.barrier import Barrier, Jet, below, minimize, outside
from quadrate.theory.gaussian.vector_common import (
    OUTPUT_FLOOR,
    Solution,
    constrained,
    decodable,
    multiplier,
)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Independent Y_i ~ N(0, λ_i) with labels S_i = a_i Y_i + N(0, n_i).

    Solutions are diagonal. Each constraint is convex and rising in the error covariance, or a
    log-determinant of a positive linear map of it: either way convex along the geodesics of
    positive matrices. Flipping the sign of a component changes nothing. So the centre of a
    solution's flipped copies is a solution, and has no correlations.

    Attributes:
        variances: (n,) λ, positive.
        gains: (n,) a; zeros without a label.
        noises: (n,) n; ones without a label.
    """

    variances: FloatArray
    gains: FloatArray
    noises: FloatArray

    def solve(self, distortion: float, classification: float) -> Solution:
        """The least rate at a distortion and a classification, whatever the perception."""
        return self._solution(np.log(self._errors(distortion, classification) / self.variances))

    def realistic(
        self, distortions: FloatArray, perceptions: FloatArray, classification: float
    ) -> Solution:
        """The least rate from which all k pairs can be decoded.

        A pair is a distortion and a squared Wasserstein distance.
        """
        if len(distortions) == 1 and perceptions[0] == 0 and classification == math.inf:
            return self._solution(np.log(self._perfect_realism(distortions[0]) / self.variances))
        barriers = [decodable(self._error, self._loss, distortions, perceptions)]
        return self._solution(self._program(barriers, classification, distortions.min(), 0))

    def realistic_kl(self, distortion: float, perception: float, classification: float) -> Solution:
        """The least rate under a KL divergence, with the output's covariance."""
        n = len(self.variances)
        barriers = [
            Barrier(n, partial(_positive, n)),
            below(self._divergence, perception),
            below(self._distortion, distortion),
        ]
        return self._solution(self._program(barriers, classification, distortion, n))

    def distance(self, error: FloatArray) -> float:
        """The squared Wasserstein distance of E[X|X̂] from X, with a `Solution`'s error."""
        left = np.diag(error)
        return float((self.variances * (left / (1 + np.sqrt(1 - left))) ** 2).sum())

    def _solution(self, x: FloatArray) -> Solution:
        """The solution of x = (τ, e), or of x = τ; see `_program`."""
        n = len(self.variances)
        output = np.diag(1 + x[n:]) if x.size > n else np.eye(n)
        return Solution(_rate(n, x)[0], np.diag(np.exp(x[:n])), output)

    def _label_entropy(self, errors: FloatArray) -> float:
        variances = self.gains**2 * errors + self.noises
        with np.errstate(divide="ignore"):
            return float(np.log(2 * math.pi * math.e * variances).sum() / 2)

    def _errors(self, distortion: float, classification: float) -> FloatArray:
        """(n,) errors of the least rate under distortion and classification."""
        filled = self._filled(distortion)
        if self._label_entropy(filled) <= classification:
            return filled
        if not self.noises.all():
            tied = self._noise_free(classification)
            if tied.sum() <= distortion:
                return tied
        return self._multipliers(distortion, classification)

    def _filled(self, distortion: float) -> FloatArray:
        """(n,) errors under distortion alone, by reverse water-filling.

        They are min(λ, ν), with the ν at which they add up to the distortion.
        """
        n = len(self.variances)
        below_level = np.concatenate([[0.0], np.cumsum(np.sort(self.variances))[:-1]])
        # Σ min(λ, ν) is the least over j of (the j smallest λ) + (n − j) ν.
        return np.minimum(self.variances, np.max((distortion - below_level) / (n - np.arange(n))))

    def _noise_free(self, classification: float) -> FloatArray:
        """(n,) errors under classification where labels are without noise.

        There a nat of rate buys a nat of it on any component: it is spent on the largest.
        """

        def errors(ell: float) -> FloatArray:
            spent = (self.noises == 0) & (ell * self.variances > 1)
            return np.where(spent, 1 / max(ell, np.finfo(float).tiny), self.variances)

        def excess(ell: float) -> float:
            return self._label_entropy(errors(ell)) - classification

        return errors(multiplier(excess, 1 / self.variances.max()))

    def _multipliers(self, distortion: float, classification: float) -> FloatArray:
        """(n,) errors under distortion and classification: reverse water-filling with labels."""
        squares = self.gains**2

        def response(ell: float, m: float) -> FloatArray:
            # The positive root of 2ℓa²E² + (2ℓn + (m − 1)a²)E − n, without cancellation.
            a, b = 2 * ell * squares, 2 * ell * self.noises + (m - 1) * squares
            root = np.hypot(b, 2 * np.sqrt(a) * np.sqrt(self.noises))
            with np.errstate(divide="ignore", invalid="ignore"):
                errors = np.where(b > 0, 2 * self.noises / (b + root), (root - b) / (2 * a))
            return np.fmin(self.variances, errors)

        def distortion_excess(errors: FloatArray) -> float:
            return float(errors.sum() - distortion)

        def label_excess(errors: FloatArray) -> float:  # finite even for labels without noise
            return max(self._label_entropy(errors) - classification, -1.0)

        return constrained(response, distortion_excess, label_excess, self.variances.max())

    def _perfect_realism(self, distortion: float) -> FloatArray:
        """(n,) errors of the least rate at perfect realism (Qian et al. 2024, arXiv 2406.18008)."""

        def excess(ell: float) -> float:
            tilt = 4 * ell * self.variances
            s = np.hypot(1, tilt)
            return float(2 * (self.variances * (1 + 1 / (s + tilt)) / (s + 1)).sum()) - distortion

        ell = multiplier(excess, 1 / self.variances.max())
        return np.asarray(2 * self.variances / (1 + np.hypot(1, 4 * ell * self.variances)))

    def _program(
        self, barriers: list[Barrier], classification: float, distortion: float, outputs: int
    ) -> FloatArray:
        """The x = (τ, e) of the least rate: errors λ exp(τ), output variances λ (1 + e).

        The length of e is `outputs`, n or 0.
        """
        n = len(self.variances)
        barriers = [Barrier(n, partial(_negative, n)), *barriers]
        if classification < math.inf:
            barriers.append(below(self._label, classification))
        # Small fractions of the errors without perception meet every constraint that can be met.
        fraction = min(0.5, distortion / (4 * self.variances.sum()))
        errors = np.log(fraction * self._errors(distortion, classification) / self.variances)
        return minimize(partial(_rate, n), barriers, np.append(errors, np.zeros(outputs)))

    def _error(self, x: FloatArray) -> Jet:
        """The distortion of X̃: tr Q."""
        errors = self.variances * np.exp(x)
        return _separable(x, errors, errors, errors)

    def _loss(self, x: FloatArray) -> Jet:
        """How far X̃ is from X's law, tr Σ − tr (Σ^½ (Σ − Q) Σ^½)^½.

        This is Σ λ (1 − √(1 − g)), with g = exp(τ).
        """
        scale, g = self.variances, np.exp(x)
        root = np.sqrt(1 - g)
        slope = g / (2 * root)
        curvature = scale * (slope + g**2 / (4 * root**3))
        return _separable(x, scale * g / (1 + root), scale * slope, curvature)

    def _label(self, x: FloatArray) -> Jet:
        """h(S|Z) = ½ Σ ln(2πe (a² λ exp(τ) + n))."""
        power = self.gains**2 * self.variances * np.exp(x[: len(self.variances)])
        share = power / (power + self.noises)
        entropies = np.log(2 * math.pi * math.e * (power + self.noises)) / 2
        return _separable(x, entropies, share / 2, share * (1 - share) / 2)

    def _distortion(self, x: FloatArray) -> Jet:
        """Σ λ (2 + e − 2uv), with u = √(1 + e) and v = √(1 − g)."""
        scale, n = self.variances, len(self.variances)
        g, e = np.exp(x[:n]), x[n:]
        u, v = np.sqrt(1 + e), np.sqrt(1 - g)
        # In this form nothing cancels when both g and e are small.
        value = (scale * (g + ((e + g) / (u + v)) ** 2)).sum()
        gradient = np.append(scale * u * g / v, scale * (e + g) / (u * (u + v)))
        own = np.append(scale * u * (g / v + g**2 / (2 * v**3)), scale * v / (2 * u**3))
        mixed = np.diag(scale * g / (2 * u * v), n)
        return float(value), gradient, np.diag(own) + mixed + mixed.T

    def _divergence(self, x: FloatArray) -> Jet:
        """KL(p_X̂ ‖ p_X) = ½ Σ (e − ln(1 + e))."""
        n = len(self.variances)
        e = x[n:]
        return _separable(x, (e - np.log1p(e)) / 2, e / (1 + e) / 2, 1 / (1 + e) ** 2 / 2, first=n)


def _rate(n: int, x: FloatArray) -> Jet:
    """−½ Σ τ, the first n variables."""
    return _separable(x, -x[:n] / 2, np.full(n, -0.5), np.zeros(n))


def _negative(n: int, x: FloatArray) -> Jet:
    """−Σ ln(−τ), the first n variables: no error exceeds its variance."""
    if not (x[:n] < 0).all():
        return outside(x.size)
    return _separable(x, -np.log(-x[:n]), -1 / x[:n], 1 / x[:n] ** 2)


def _positive(n: int, x: FloatArray) -> Jet:
    """−Σ ln(1 + e − floor), all but the first n variables: no output vanishes."""
    room = x[n:] + (1 - OUTPUT_FLOOR)
    if not (room > 0).all():
        return outside(x.size)
    return _separable(x, -np.log(room), -1 / room, 1 / room**2, first=n)


def _separable(
    x: FloatArray, values: FloatArray, gradient: FloatArray, curvature: FloatArray, first: int = 0
) -> Jet:
    """The jet of a sum of functions of single variables, of x[first] and those after it."""
    around = (first, x.size - first - len(gradient))
    return float(values.sum()), np.pad(gradient, around), np.diag(np.pad(curvature, around))
