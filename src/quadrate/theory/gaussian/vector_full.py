"""Rates of a Gaussian vector with one scalar label: matrices that need not commute, and constraints that are convex in the error covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quadrate.theory.channels import FloatArray
from quadrate.theory.gaussian.barrier import Barrier, Jet, Smooth, below, minimize, positive_definite
from quadrate.theory.gaussian.vector_common import OUTPUT_FLOOR, constrained, decodable


@dataclass(frozen=True, eq=False)
class Full:
    """X ~ N(0, Σ) with S = w'X + N(0, noise).

    The programs are in whitened deviations from a perfect copy, so that nothing cancels at small distortions: error covariance Σ^½ Q Σ^½,
    E[X̃X̂'] = Σ^½ (I − W) Σ^½ with X̃ = E[X|Z], output covariance Σ^½ (I + E) Σ^½.

    Attributes:
        root: (n, n) Σ^½, symmetric.
        weights: (n,) w.
        noise: variance of the label's noise.
    """

    root: FloatArray
    weights: FloatArray
    noise: float

    def error(self, distortion: float, classification: float) -> FloatArray:
        """(n, n) error covariance of the least rate at a distortion and a classification, whatever the perception."""
        label = np.outer(self.weights, self.weights)
        bound = self.label_error(classification)

        def response(ell: float, m: float) -> FloatArray:
            values, vectors = np.linalg.eigh(self.root @ (2 * ell * np.eye(len(label)) + 2 * m * label) @ self.root)
            half = self.root @ vectors
            return np.asarray((half / np.maximum(values, 1)) @ half.T)

        return constrained(
            response,
            lambda error: float(np.trace(error)) - distortion,
            lambda error: float(self.weights @ error @ self.weights) - bound,
            float(np.trace(self.root @ self.root)),
        )

    def realistic_error(self, distortions: FloatArray, perceptions: FloatArray, classification: float) -> FloatArray:
        """(n, n) error covariance of the least rate from which all k pairs of (distortion, squared Wasserstein distance) can be decoded."""
        program = _Program(self, distortions.min(), classification, outputs=False)
        error, loss = program.trace(program.q), program.trace(program.w)
        return program.solve([decodable(error, loss, distortions, perceptions)])[0]

    def realistic_error_kl(self, distortion: float, perception: float, classification: float) -> tuple[FloatArray, FloatArray]:
        """(n, n) error and output covariances of the least rate at a distortion, a KL divergence and a classification."""
        program = _Program(self, distortion, classification, outputs=True)
        floor = positive_definite((1 - OUTPUT_FLOOR) * np.eye(len(self.root)), program.e)
        return program.solve([floor, below(program.divergence, perception), below(program.trace(program.e + 2 * program.w), distortion)])

    def label_error(self, classification: float) -> float:
        """What w'Qw may be at most: h(S|Z) = ½ ln(2πe (w'Qw + noise))."""
        return math.exp(2 * classification - 1) / (2 * math.pi) - self.noise


class _Program:
    """Minimizes the rate over x, of which Q, W and E are linear functions: q, w and e (p, n, n) times x (p,). E is zero without `outputs`."""

    def __init__(self, problem: Full, distortion: float, classification: float, outputs: bool) -> None:
        self._problem = problem
        self._distortion = distortion
        self._label_error = problem.label_error(classification)
        n = len(problem.root)
        symmetric, general = _symmetric(n), np.eye(n * n).reshape(-1, n, n)
        # Q is scaled by the solution without perception: its eigenvalues may differ by more powers of ten than Newton's method survives.
        unroot = np.linalg.inv(problem.root)
        scale = np.linalg.cholesky(unroot @ problem.error(distortion, classification) @ unroot)
        blocks = [scale @ symmetric @ scale.T, general] + [symmetric] * outputs
        ends = np.cumsum([0] + [len(block) for block in blocks])
        directions = np.zeros((3, ends[-1], n, n))
        for part, block, start, end in zip(directions, blocks, ends, ends[1:], strict=False):
            part[start:end] = block
        self.q, self.w, self.e = directions
        # Small multiples of this meet every constraint that can be met: Q scaled down, W = I and E = 0.
        self._inward = np.concatenate([np.trace(block, axis1=1, axis2=2) for block in (symmetric, general)] + [np.zeros(len(symmetric) * outputs)])

    def trace(self, directions: FloatArray) -> Smooth:
        """The linear function tr Σ^½ M(x) Σ^½ of M(x) = Σ x_i directions_i."""
        return _linear(np.einsum("ij,kij->k", self._problem.root @ self._problem.root, directions))

    def divergence(self, x: FloatArray) -> Jet:
        """KL(p_X̂ ‖ p_X) = ½ (tr E − ln det(I + E))."""
        _, gradient, hessian = positive_definite(np.eye(len(self._problem.root)), self.e).smooth(x)
        values = np.linalg.eigvalsh(np.tensordot(x, self.e, 1))
        return float((values - np.log1p(values)).sum() / 2), (np.trace(self.e, axis1=1, axis2=2) + gradient) / 2, hessian / 2

    def solve(self, barriers: list[Barrier]) -> tuple[FloatArray, FloatArray]:
        """(n, n) error and output covariances of the least rate under these barriers and the label's bound."""
        root = self._problem.root
        n = len(root)
        # The covariance of (X̃, X̂), whitened and with X̂ subtracted from X̃, is positive definite.
        corner, side = self.w + self.w.swapaxes(1, 2) - self.q + self.e, -self.w - self.e
        covariance = np.concatenate([np.concatenate([corner, side], axis=2), np.concatenate([side.swapaxes(1, 2), self.e], axis=2)], axis=1)
        barriers = [positive_definite(np.diag(np.repeat([0.0, 1.0], n)), covariance), *barriers]
        if self._label_error < math.inf:
            weights = root @ self._problem.weights
            barriers.append(below(_linear(np.einsum("i,kij,j->k", weights, self.q, weights)), self._label_error))
        start = min(0.5, self._distortion / (4 * np.trace(root @ root))) * self._inward
        x = minimize(self._rate, barriers, start)
        error, output = (root @ (base + np.tensordot(x, part, 1)) @ root for base, part in ((0, self.q), (np.eye(n), self.e)))
        return error, output

    def _rate(self, x: FloatArray) -> Jet:
        """−½ ln det Q."""
        value, gradient, hessian = positive_definite(np.zeros_like(self._problem.root), self.q).smooth(x)
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
