"""Photographs of any size to coefficients of blocks and back: one linear transform of 16 x 16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError

BLOCK = 16  # pixels a side
_SIZE = BLOCK * BLOCK * 3
_ROWS = 16  # of blocks, transformed at a time: memory for large photographs
_NAMES, _FLOAT = ("mean", "basis"), np.dtype(np.float32)
Coefficients = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BlockTransform:
    """Principal axes of blocks of 16 x 16 pixels in three colours (Karhunen-Loève).

    The axes are orthonormal, so squared errors of coefficients are those of pixels. Blocks do not
    overlap; the last ones of a photograph are filled up with its last row and column.

    Attributes:
        mean: (768,) float32, of blocks whose values are 0 to 255; row, column, colour.
        basis: (768, c) float32, the axes as columns, that of the largest variance first.

    Raises:
        QuadrateError: If the parts do not fit together.
    """

    mean: NDArray[np.float32]
    basis: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.mean.shape != (_SIZE,) or self.basis.ndim != 2 or len(self.basis) != _SIZE:
            raise QuadrateError(
                f"a block transform has a mean ({_SIZE},) and a basis ({_SIZE}, c); got"
                f" {self.mean.shape} and {self.basis.shape}"
            )
        # So that whatever is received can be computed with; false for NaN too.
        if not ((np.abs(self.mean) < 1024).all() and (np.abs(self.basis) < 2).all()):
            raise QuadrateError(
                "a block transform has a mean of gray levels and axes of length one; its numbers"
                " are far larger, or not finite"
            )

    @classmethod
    def fit(cls, photographs: Iterable[NDArray[np.uint8]], channels: int) -> BlockTransform:
        """Fit the axes to photographs, (3, H, W) each, as they are and mirrored in both directions.

        Raises:
            QuadrateError: If there is no whole block.
        """
        products, total, count = np.zeros((_SIZE, _SIZE)), np.zeros(_SIZE), 0
        for photograph in photographs:
            flat = _blocks(photograph).reshape(-1, _SIZE).astype(np.float32)  # (n, 768)
            products += flat.T @ flat
            total += flat.sum(axis=0, dtype=np.float64)
            count += len(flat)
        if not count:
            raise QuadrateError("a block transform needs photographs of at least 16 x 16 pixels")
        # Mirrored blocks have the same numbers in another order, so their sums need not be taken.
        places = np.arange(_SIZE).reshape(BLOCK, BLOCK, 3)
        mirrored = [places[::down, ::right].ravel() for down in (1, -1) for right in (1, -1)]
        mean = np.mean([total[order] for order in mirrored], axis=0) / count
        moments = np.mean([products[np.ix_(order, order)] for order in mirrored], axis=0) / count
        _, axes = np.linalg.eigh(moments - np.outer(mean, mean))
        basis = axes[:, ::-1][:, :channels]
        return cls(mean.astype(np.float32), np.ascontiguousarray(basis, np.float32))

    @property
    def channels(self) -> int:
        """The number of channels, c."""
        return self.basis.shape[1]

    def forward(self, photograph: NDArray[np.uint8]) -> Coefficients:
        """A photograph (3, H, W) to coefficients, (⌈H/16⌉, ⌈W/16⌉, c)."""
        height, width = photograph.shape[1:]
        rows, columns = sites(height, width)
        found = np.empty((rows, columns, self.channels), np.float32)
        for start in range(0, rows, _ROWS):
            strip = photograph[:, start * BLOCK : (start + _ROWS) * BLOCK]
            missing = -strip.shape[1] % BLOCK, -width % BLOCK
            padded = np.pad(strip, ((0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
            flat = _blocks(padded).reshape(-1, _SIZE).astype(np.float32)
            found[start : start + _ROWS] = ((flat - self.mean) @ self.basis).reshape(
                -1, columns, self.channels
            )
        return found

    def inverse(self, coefficients: Coefficients) -> NDArray[np.float32]:
        """Coefficients (h, w, c) to whole blocks of pixels, (3, 16 h, 16 w), mostly in [0, 255]."""
        rows, columns, channels = coefficients.shape
        pixels = np.empty((3, rows * BLOCK, columns * BLOCK), np.float32)
        for start in range(0, rows, _ROWS):
            flat = coefficients[start : start + _ROWS].reshape(-1, channels)
            used = int(np.flatnonzero(flat.any(axis=0)).max(initial=-1)) + 1  # the others are 0
            blocks = flat[:, :used] @ self.basis[:, :used].T + self.mean
            strip = blocks.reshape(-1, columns, BLOCK, BLOCK, 3).transpose(4, 0, 2, 1, 3)
            pixels[:, start * BLOCK : (start + _ROWS) * BLOCK] = strip.reshape(
                3, -1, columns * BLOCK
            )
        return pixels

    def mirror(self, channels: int) -> NDArray[np.float32]:
        """What makes the first coefficients of a block those of the block mirrored left to right.

        Exact for axes that are even or odd, as those of mirrored photographs are.

        Returns:
            A matrix (channels, channels).
        """
        places = np.arange(_SIZE).reshape(BLOCK, BLOCK, 3)[:, ::-1].ravel()
        axes = self.basis[:, :channels]
        return axes.T @ axes[places]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, for a codec's file."""
        return {"mean": self.mean, "basis": self.basis}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> BlockTransform:
        """Build a transform again from its `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a block transform.
        """
        if {name: array.dtype for name, array in arrays.items()} != dict.fromkeys(_NAMES, _FLOAT):
            raise QuadrateError("a block transform has two arrays, mean and basis, of float32")
        return cls(arrays["mean"], arrays["basis"])


def sites(height: int, width: int) -> tuple[int, int]:
    """Return how many blocks there are of a photograph: rows, and in a row."""
    return -(-height // BLOCK), -(-width // BLOCK)


def _blocks(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole blocks of a photograph (3, H, W), row by row: (n, 16, 16, 3)."""
    rows, columns = photograph.shape[1] // BLOCK, photograph.shape[2] // BLOCK
    whole = photograph[:, : rows * BLOCK, : columns * BLOCK]
    parts = whole.reshape(3, rows, BLOCK, columns, BLOCK).transpose(1, 3, 2, 4, 0)
    return parts.reshape(-1, BLOCK, BLOCK, 3)
