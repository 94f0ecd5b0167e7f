"""Rates of a Gaussian vector with one scalar label.

Matrices that need not commute, and constraints that are convex in the error covariance.
"""

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
from quadrate.theory.gaussian.vector_common import (
    OUTPUT_FLOOR,
    Solution,
    constrained,
    decodable,
    spectrum,
    symmetric_root,
)


@dataclass(frozen=True, eq=False)
class Full:
    """Independent Y_i ~ N(0, λ_i) with S = w'Y + N(0, noise); Σ = diag(λ).

    The programs are in whitened deviations from a perfect copy, so that nothing cancels at small
    distortions: error covariance Σ^½ Q Σ^½, E[X̃X̂'] = Σ^½ (I − W) Σ^½ with X̃ = E[X|Z], output
    covariance Σ^½ (I + E) Σ^½.

    Attributes:
        variances: (n,) λ, positive.
        weights: (n,) w.
        noise: variance of the label's noise.
    """

    variances: FloatArray
    weights: FloatArray
    noise: float

    @property
    def root(self) -> FloatArray:
        """(n, n) Σ^½."""
        return np.diag(np.sqrt(self.variances))

    def solve(self, distortion: float, classification: float) -> Solution:
        """The least rate at a distortion and a classification, whatever the perception."""
        values, vectors = self._response(distortion, classification)
        return Solution(
            float(np.log(values).sum()) / 2, (vectors / values) @ vectors.T, np.eye(len(values))
        )

    def error_root(self, distortion: float, classification: float) -> FloatArray:
        """(n, n) C with C C' the error of that solution."""
        values, vectors = self._response(distortion, classification)
        return np.asarray(vectors / np.sqrt(values))

    def _response(self, distortion: float, classification: float) -> tuple[FloatArray, FloatArray]:
        """(n,) reciprocals of the parts of X's deviations that are left, and in which directions (n, n)."""
        roots, length = np.sqrt(self.variances), float(np.linalg.norm(self.weights))
        direction = self.weights / length
        bound = self.label_error(classification)

        def response(ell: float, m: float) -> tuple[FloatArray, FloatArray]:
            # The eigenvalues of Σ^½ (2ℓ + 2m ww') Σ^½, from a root of the middle.
            plain = math.sqrt(2 * ell)
            tilted = math.hypot(math.sqrt(2 * ell), math.sqrt(2 * m) * length)
            values, vectors = spectrum(
                roots[:, None]
                * (plain * np.eye(len(roots)) + (tilted - plain) * np.outer(direction, direction))
            )
            return np.maximum(values, 1), vectors

        def label_error(found: tuple[FloatArray, FloatArray]) -> float:
            values, vectors = found
            return float((((self.weights * roots) @ vectors) ** 2 / values).sum())

        return constrained(
            response,
            lambda found: float(((roots[:, None] * found[1]) ** 2 / found[0]).sum()) - distortion,
            lambda found: label_error(found) - bound,
            float(self.variances.sum()),
        )

    def realistic(
        self, distortions: FloatArray, perceptions: FloatArray, classification: float
    ) -> Solution:
        """The least rate from which all k pairs of (distortion, squared Wasserstein distance) can be decoded."""
        program = _Program(self, distortions.min(), classification, outputs=False)
        error, loss = program.trace(program.q), program.trace(program.w)
        return program.solve([decodable(error, loss, distortions, perceptions)])

    def realistic_kl(self, distortion: float, perception: float, classification: float) -> Solution:
        """The least rate at a distortion, a KL divergence and a classification, with the output's covariance."""
        program = _Program(self, distortion, classification, outputs=True)
        floor = positive_definite((1 - OUTPUT_FLOOR) * np.eye(len(self.root)), program.e)
        return program.solve(
            [
                floor,
                below(program.divergence, perception),
                below(program.trace(program.e + 2 * program.w), distortion),
            ]
        )

    def distance(self, error: FloatArray) -> float:
        """The squared Wasserstein distance of E[X|X̂] from X, with a `Solution`'s error."""
        roots = np.sqrt(self.variances)
        mean = roots[:, None] * (np.eye(len(roots)) - error) * roots
        return max(
            0.0,
            float(
                np.trace(mean)
                + self.variances.sum()
                - 2 * np.trace(symmetric_root(roots[:, None] * mean * roots))
            ),
        )

    def label_error(self, classification: float) -> float:
        """What w'Qw may be at most: h(S|Z) = ½ ln(2πe (w'Qw + noise))."""
        return math.exp(2 * classification - 1) / (2 * math.pi) - self.noise


class _Program:
    """Minimizes the rate over x, of which Q, W and E are linear functions.

    Q, w and e (p, n, n) times x (p,). E is zero without `outputs`.
    """

    def __init__(
        self, problem: Full, distortion: float, classification: float, outputs: bool
    ) -> None:
        self._problem = problem
        self._distortion = distortion
        self._label_error = problem.label_error(classification)
        n = len(problem.root)
        symmetric, general = _symmetric(n), np.eye(n * n).reshape(-1, n, n)
        # Q is scaled by the solution without perception: its eigenvalues may differ by more powers
        # of ten than Newton's method survives.
        scale = problem.error_root(distortion, classification)
        blocks = [scale @ symmetric @ scale.T, general] + [symmetric] * outputs
        ends = np.cumsum([0] + [len(block) for block in blocks])
        directions = np.zeros((3, ends[-1], n, n))
        for part, block, start, end in zip(directions, blocks, ends, ends[1:], strict=False):
            part[start:end] = block
        self.q, self.w, self.e = directions
        # Small multiples of this meet every constraint that can be met: Q scaled down, W = I and E
        # = 0.
        self._inward = np.concatenate(
            [np.trace(block, axis1=1, axis2=2) for block in (symmetric, general)]
            + [np.zeros(len(symmetric) * outputs)]
        )

    def trace(self, directions: FloatArray) -> Smooth:
        """The linear function tr Σ^½ M(x) Σ^½ of M(x) = Σ x_i directions_i."""
        return _linear(np.einsum("ij,kij->k", self._problem.root @ self._problem.root, directions))

    def divergence(self, x: FloatArray) -> Jet:
        """KL(p_X̂ ‖ p_X) = ½ (tr E − ln det(I + E))."""
        _, gradient, hessian = positive_definite(np.eye(len(self._problem.root)), self.e).smooth(x)
        values = np.linalg.eigvalsh(np.tensordot(x, self.e, 1))
        return (
            float((values - np.log1p(values)).sum() / 2),
            (np.trace(self.e, axis1=1, axis2=2) + gradient) / 2,
            hessian / 2,
        )

    def solve(self, barriers: list[Barrier]) -> Solution:
        """The least rate under these barriers and the label's bound."""
        root = self._problem.root
        n = len(root)
        # The covariance of (X̃, X̂), whitened and with X̂ subtracted from X̃, is positive definite.
        corner, side = self.w + self.w.swapaxes(1, 2) - self.q + self.e, -self.w - self.e
        covariance = np.concatenate(
            [
                np.concatenate([corner, side], axis=2),
                np.concatenate([side.swapaxes(1, 2), self.e], axis=2),
            ],
            axis=1,
        )
        barriers = [positive_definite(np.diag(np.repeat([0.0, 1.0], n)), covariance), *barriers]
        if self._label_error < math.inf:
            weights = root @ self._problem.weights
            barriers.append(
                below(_linear(np.einsum("i,kij,j->k", weights, self.q, weights)), self._label_error)
            )
        start = min(0.5, self._distortion / (4 * np.trace(root @ root))) * self._inward
        x = minimize(self._rate, barriers, start)
        return Solution(
            self._rate(x)[0], np.tensordot(x, self.q, 1), np.eye(n) + np.tensordot(x, self.e, 1)
        )

    def _rate(self, x: FloatArray) -> Jet:
        """−½ ln det Q."""
        value, gradient, hessian = positive_definite(
            np.zeros_like(self._problem.root), self.q
        ).smooth(x)
        return value / 2, gradient / 2, hessian / 2


def _linear(coefficients: FloatArray) -> Smooth:
    """The function coefficients · x."""
    flat = np.zeros((len(coefficients), len(coefficients)))
    return lambda x: (float(coefficients @ x), coefficients, flat)


def _symmetric(n: int) -> FloatArray:
    """(n (n + 1) / 2, n, n) a basis of the symmetric matrices, of zeros and ones."""
    rows, columns = np.triu_indices(n)
    basis = np.zeros((len(rows), n, n))
    basis[np.arange(len(rows)), rows, columns] = 1
    basis[np.arange(len(rows)), columns, rows] = 1
    return basis
