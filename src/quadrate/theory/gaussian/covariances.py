"""Linear algebra of covariance matrices."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.lapack import dgejsv

from quadrate.theory.channels import FloatArray

# Eigenvalues below this fraction of the largest one of a correlation matrix are rounding errors.
ROUNDING = 1e-13


def checked_covariance(given: FloatArray) -> FloatArray:
    """The (n, n) covariance given as a matrix, or as the (n,) variances of independent components.

    Raises:
        ValueError: If it is not symmetric and positive definite.
    """
    matrix = np.diag(given) if given.ndim == 1 else given
    if matrix.shape[0] != matrix.shape[1] or not np.allclose(
        matrix, matrix.T, rtol=0, atol=1e-9 * np.abs(matrix).max()
    ):
        raise ValueError(f"covariance must be symmetric; got {given.tolist()}")
    matrix = matrix / 2 + matrix.T / 2
    if not (np.diag(matrix) > 0).all() or not np.linalg.eigvalsh(correlation(matrix))[0] > ROUNDING:
        raise ValueError(
            "covariance must be positive definite (leave out directions without variance); its"
            f" eigenvalues are {np.linalg.eigvalsh(matrix).tolist()}"
        )
    return matrix


def correlation(covariance: FloatArray) -> FloatArray:
    """The correlation matrix, which is singular only if components depend on each other.

    Components whose sizes differ by orders of magnitude do not make it so.
    """
    deviations = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / deviations / deviations[:, None])


def spectrum(factor: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The eigenvalues (n,) of factor · factor' and its eigenvectors (n, n), by one-sided Jacobi.

    Small eigenvalues keep as many digits as rows of very different size allow, which other methods
    lose (Drmač & Veselić 2008).

    Raises:
        ArithmeticError: If the method does not converge.
    """
    values, vectors, _, scale, _, failed = dgejsv(factor, joba=2, jobu=0, jobv=0, jobr=0)
    if failed:
        raise ArithmeticError("the eigenvalues of a covariance did not converge")
    return (values * (scale[0] / scale[1])) ** 2, vectors


def symmetric_root(matrix: FloatArray) -> FloatArray:
    """The symmetric square root of a positive semi-definite matrix, rounding below zero cut off."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def log_determinant(covariance: FloatArray) -> float:
    """The log-determinant of a covariance of order one or below; -inf if it is singular."""
    values = np.linalg.eigvalsh(covariance)
    return float(np.log(values).sum()) if values.size == 0 or values[0] > 0 else -math.inf
