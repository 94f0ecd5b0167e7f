"""Rates of a Gaussian vector with one scalar label, by programs convex in the error covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quadrate.theory.channels import FloatArray
from quadrate.theory.gaussian.barrier import (
    Barrier,
    Jet,
    Smooth,
    below,
    minimize,
    positive_definite,
)
from quadrate.theory.gaussian.covariances import spectrum, symmetric_root
from quadrate.theory.gaussian.vector_common import OUTPUT_FLOOR, Solution, constrained, decodable


@dataclass(frozen=True, eq=False)
class Full:
    """Independent Y_i ~ N(0, λ_i) with S = w'Y + N(0, noise); Σ = diag(λ).

    The programs are in whitened deviations from a perfect copy, so that nothing cancels at small
    distortions: error covariance Σ^½ Q Σ^½, E[X̃X̂'] = Σ^½ (I − W) Σ^½ with X̃ = E[X|Z], output
    covariance Σ^½ (I + E) Σ^½.

    Attributes:
        variances: (n,) λ, positive.
        weights: (n,) w.
        noise: Variance of the label's noise.
    """

    variances: FloatArray
    weights: FloatArray
    noise: float

    def solve(self, distortion: float, classification: float) -> Solution:
        """The least rate at a distortion and a classification, whatever the perception."""
        values, vectors = self._response(distortion, classification)
        error = (vectors / values) @ vectors.T
        return Solution(float(np.log(values).sum()) / 2, error, np.eye(len(values)))

    def error_root(self, distortion: float, classification: float) -> FloatArray:
        """(n, n) C with C C' the error of that solution."""
        values, vectors = self._response(distortion, classification)
        return np.asarray(vectors / np.sqrt(values))

    def _response(self, distortion: float, classification: float) -> tuple[FloatArray, FloatArray]:
        """(n,) reciprocals of X's relative error variances, and their directions (n, n)."""
        roots, length = np.sqrt(self.variances), float(np.linalg.norm(self.weights))
        direction = self.weights / length
        alignment = np.outer(direction, direction)
        bound = self.label_error(classification)

        def response(ell: float, m: float) -> tuple[FloatArray, FloatArray]:
            # The eigenvalues of Σ^½ (2ℓ + 2m ww') Σ^½, from a root of the middle.
            plain = math.sqrt(2 * ell)
            tilted = math.hypot(math.sqrt(2 * ell), math.sqrt(2 * m) * length)
            middle = plain * np.eye(len(roots)) + (tilted - plain) * alignment
            values, vectors = spectrum(roots[:, None] * middle)
            return np.maximum(values, 1), vectors

        def distortion_excess(found: tuple[FloatArray, FloatArray]) -> float:
            values, vectors = found
            return float(((roots[:, None] * vectors) ** 2 / values).sum()) - distortion

        def label_excess(found: tuple[FloatArray, FloatArray]) -> float:
            values, vectors = found
            return float((((self.weights * roots) @ vectors) ** 2 / values).sum()) - bound

        return constrained(response, distortion_excess, label_excess, float(self.variances.sum()))

    def realistic(
        self, distortions: FloatArray, perceptions: FloatArray, classification: float
    ) -> Solution:
        """The least rate from which all k pairs can be decoded.

        A pair is a distortion and a squared Wasserstein distance.
        """
        program = _Program(self, distortions.min(), classification, outputs=False)
        error, loss = program.trace(program.q), program.trace(program.w)
        return program.solve([decodable(error, loss, distortions, perceptions)])

    def realistic_kl(self, distortion: float, perception: float, classification: float) -> Solution:
        """The least rate under a KL divergence, with the output's covariance."""
        program = _Program(self, distortion, classification, outputs=True)
        floor = positive_definite((1 - OUTPUT_FLOOR) * np.eye(len(self.variances)), program.e)
        error = program.trace(program.e + 2 * program.w)
        barriers = [floor, below(program.divergence, perception), below(error, distortion)]
        return program.solve(barriers)

    def distance(self, error: FloatArray) -> float:
        """The squared Wasserstein distance of E[X|X̂] from X, with a `Solution`'s error."""
        roots = np.sqrt(self.variances)
        mean = roots[:, None] * (np.eye(len(roots)) - error) * roots
        root = symmetric_root(roots[:, None] * mean * roots)
        return max(0.0, float(np.trace(mean) + self.variances.sum() - 2 * np.trace(root)))

    def label_error(self, classification: float) -> float:
        """The largest w'Qw: h(S|Z) = ½ ln(2πe (w'Qw + noise))."""
        return math.exp(2 * classification - 1) / (2 * math.pi) - self.noise


class _Program:
    """A program that minimizes the rate over x (p,); Q, W and E are linear in x.

    They are q, w and e, (p, n, n), times x. E is zero without `outputs`.
    """

    def __init__(
        self, problem: Full, distortion: float, classification: float, outputs: bool
    ) -> None:
        self._problem = problem
        self._distortion = distortion
        self._label_error = problem.label_error(classification)
        self._root = np.diag(np.sqrt(problem.variances))  # Σ^½
        n = len(self._root)
        symmetric, general = _symmetric(n), np.eye(n * n).reshape(-1, n, n)
        # Q is scaled by the solution without perception: its eigenvalues may differ by too many
        # powers of ten for Newton's method.
        scale = problem.error_root(distortion, classification)
        blocks = [scale @ symmetric @ scale.T, general] + [symmetric] * outputs
        ends = np.cumsum([0] + [len(block) for block in blocks])
        directions = np.zeros((3, ends[-1], n, n))
        for part, block, start, end in zip(directions, blocks, ends, ends[1:], strict=False):
            part[start:end] = block
        self.q, self.w, self.e = directions
        # Small multiples of this meet every constraint that can be met: a small Q, W = I, E = 0.
        inward = [np.trace(block, axis1=1, axis2=2) for block in (symmetric, general)]
        self._inward = np.concatenate([*inward, np.zeros(len(symmetric) * outputs)])

    def trace(self, directions: FloatArray) -> Smooth:
        """The linear function tr Σ^½ M(x) Σ^½ of M(x) = Σ x_i directions_i."""
        return _linear(np.einsum("ij,kij->k", self._root @ self._root, directions))

    def divergence(self, x: FloatArray) -> Jet:
        """KL(p_X̂ ‖ p_X) = ½ (tr E − ln det(I + E))."""
        _, gradient, hessian = positive_definite(np.eye(len(self._root)), self.e).smooth(x)
        values = np.linalg.eigvalsh(np.tensordot(x, self.e, 1))
        divergence = float((values - np.log1p(values)).sum() / 2)
        return divergence, (np.trace(self.e, axis1=1, axis2=2) + gradient) / 2, hessian / 2

    def solve(self, barriers: list[Barrier]) -> Solution:
        """The least rate under these barriers and the label's bound."""
        root = self._root
        n = len(root)
        # The covariance of (X̃, X̂), whitened and with X̂ subtracted from X̃, is positive definite.
        corner, side = self.w + self.w.swapaxes(1, 2) - self.q + self.e, -self.w - self.e
        covariance = np.block([[corner, side], [side.swapaxes(1, 2), self.e]])
        barriers = [positive_definite(np.diag(np.repeat([0.0, 1.0], n)), covariance), *barriers]
        if self._label_error < math.inf:
            weights = root @ self._problem.weights
            label = _linear(np.einsum("i,kij,j->k", weights, self.q, weights))
            barriers.append(below(label, self._label_error))
        start = min(0.5, self._distortion / (4 * np.trace(root @ root))) * self._inward
        x = minimize(self._rate, barriers, start)
        error, output = np.tensordot(x, self.q, 1), np.eye(n) + np.tensordot(x, self.e, 1)
        return Solution(self._rate(x)[0], error, output)

    def _rate(self, x: FloatArray) -> Jet:
        """−½ ln det Q."""
        value, gradient, hessian = positive_definite(np.zeros_like(self._root), self.q).smooth(x)
        return value / 2, gradient / 2, hessian / 2


def _linear(coefficients: FloatArray) -> Smooth:
    """The function coefficients · x."""
    flat = np.zeros((len(coefficients), len(coefficients)))
    return lambda x: (float(coefficients @ x), coefficients, flat)


def _symmetric(n: int) -> FloatArray:
    """A basis (n (n + 1) / 2, n, n) of the symmetric matrices, of zeros and ones."""
    rows, columns = np.triu_indices(n)
    basis = np.zeros((len(rows), n, n))
    basis[np.arange(len(rows)), rows, columns] = 1
    basis[np.arange(len(rows)), columns, rows] = 1
    return basis
