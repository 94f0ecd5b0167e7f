"""The linear transform before a rounding bottleneck: principal axes or coordinates."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks.frozen import read_arrays
from quadrate.errors import QuadrateError

Reals = NDArray[np.floating]
_ROWS = 4096  # in memory as float64 at a time


@dataclass(frozen=True, eq=False)
class LinearTransform:
    """Features to the coefficients that are coded, and back; the others are received as means.

    Attributes:
        mean: (D,) float64.
        kept: (d,) int32, the numbers of the coefficients that are coded, rising.
        basis: (D, d) float32, the kept axes as orthonormal columns; None if the coefficients are
            the coordinates themselves.

    Raises:
        QuadrateError: If the parts do not fit together.
    """

    mean: NDArray[np.float64]
    kept: NDArray[np.int32]
    basis: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        size = self.mean.size
        if (
            self.mean.ndim != 1
            or self.kept.ndim != 1
            or not 1 <= len(self.kept) <= size
            or not np.isfinite(self.mean).all()
        ):
            raise QuadrateError("a transform has a finite mean (D,) and 1 to D kept coefficients")
        if self.kept[0] < 0 or self.kept[-1] >= size or (np.diff(self.kept) <= 0).any():
            raise QuadrateError(f"kept coefficients must rise from 0 to {size - 1}")
        if self.basis is not None and (
            self.basis.shape != (size, len(self.kept)) or not np.isfinite(self.basis).all()
        ):
            raise QuadrateError(
                f"a basis of {len(self.kept)} axes of {size} dimensions is finite and ({size},"
                f" {len(self.kept)})"
            )

    @classmethod
    def identity(cls, size: int) -> LinearTransform:
        """The transform that changes nothing."""
        return cls(np.zeros(size), np.arange(size, dtype=np.int32))

    def scaled(self, scale: float) -> LinearTransform:
        """The transform for features that are `scale` times as large."""
        return LinearTransform(self.mean * scale, self.kept, self.basis)

    def forward(self, features: Reals) -> Reals:
        """Features (n, D) to coefficients (n, d), of the same precision."""
        # In float64 first, so that a large mean costs no precision.
        centred = (features - self.mean).astype(features.dtype, copy=False)
        if self.basis is not None:
            return np.asarray(centred @ self.basis)
        return centred if len(self.kept) == len(self.mean) else centred[:, self.kept]

    def inverse(self, coefficients: Reals) -> Reals:
        """Coefficients (n, d) to features (n, D), of the same precision."""
        mean = self.mean.astype(coefficients.dtype)
        if self.basis is not None:
            return np.asarray(coefficients @ self.basis.T + mean)
        if len(self.kept) == len(mean):
            return np.asarray(coefficients + mean)
        features = np.tile(mean, (len(coefficients), 1))
        features[:, self.kept] += coefficients
        return features

    def digest(self) -> bytes:
        """SHA-256 of everything."""
        sha = hashlib.sha256(repr((len(self.mean), self.basis is None)).encode())
        for array, kind in ((self.mean, "<f8"), (self.kept, "<i4"), (self.basis, "<f4")):
            sha.update(b"" if array is None else np.ascontiguousarray(array, kind).tobytes())
        return sha.digest()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, for a codec's file."""
        arrays: dict[str, NDArray[Any]] = {"mean": self.mean, "kept": self.kept}
        return arrays if self.basis is None else arrays | {"basis": self.basis}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> LinearTransform:
        """Build a transform again from its `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a transform.
        """
        kinds = {"mean": "f8", "kept": "i4"} | ({"basis": "f4"} if "basis" in arrays else {})
        return cls(*read_arrays(arrays, kinds, "a linear transform"))


def mean_and_covariance(features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,) and covariance (D, D) of features (n, D), block by block.

    The covariance is taken about the first block's mean and moved afterwards: one pass, and no loss
    where the mean is large.
    """
    start = features[:_ROWS].mean(axis=0, dtype=np.float64)
    total, products = np.zeros(len(start)), np.zeros((len(start), len(start)))
    for block in (features[i : i + _ROWS] for i in range(0, len(features), _ROWS)):
        # Half the time of float64; a block's sums stay exact enough, and add up in float64.
        centred = (block - start).astype(np.float32)
        total += centred.sum(axis=0, dtype=np.float64)
        products += centred.T @ centred
    shift = total / len(features)
    return start + shift, products / len(features) - np.outer(shift, shift)


def principal_axes(
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Variances (D,), the largest first, and the axes (D, D) as columns."""
    variances, axes = np.linalg.eigh(covariance)
    return np.maximum(variances[::-1], 0), np.ascontiguousarray(axes[:, ::-1], np.float32)
