"""The symbols of frozen bottlenecks: what the coder needs to know of them, and their dither."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.tables import Tables

Words = NDArray[np.int64]
DITHER_BITS = 24  # a dither is a whole number of 2^-24 of a cell
NO_DITHER: Words = np.empty((0, 0), np.int64)


class SymbolModel(Protocol):
    """What the coder needs of a frozen bottleneck: the table of each symbol, in integers.

    Symbols and dithers of all layers of a refinement stand side by side: column i of the dithers
    belongs to column i of the symbols. Columns without dither hold anything there, and where no
    layer has dither, dithers may be (n, 0).

    Attributes:
        first: The layer's first column among the columns of all layers.
        columns: How many symbols a sample the layer has.
        tables: The integer tables.
        identity: 16 bytes that differ whenever the same symbols would give another stream.
    """

    @property
    def first(self) -> int: ...  # noqa: D102
    @property
    def columns(self) -> int: ...  # noqa: D102
    @property
    def tables(self) -> Tables: ...  # noqa: D102
    @property
    def identity(self) -> bytes: ...  # noqa: D102

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,).

        Args:
            column: Counted from the first column of all layers.
            symbols: Of at least the columns before it, (n, >= column).
            dither: Of at least these columns and its own.
        """
        ...


def layer_bits(model: SymbolModel, symbols: Words, dither: Words = NO_DITHER) -> float:
    """The ideal length of a layer's payload in bits; arguments as of `encode_layer`."""
    return sum(
        model.tables.bits(symbols[:, column], model.indices(column, symbols, dither))
        for column in range(model.first, model.first + model.columns)
    )


def dither_noise(dither: Words) -> NDArray[np.float32]:
    """Dithers in units of 2^-24 of a cell, to noise in units of a cell, on [-1/2, 1/2)."""
    uniform = dither.astype(np.float32) * np.float32(2.0**-DITHER_BITS)
    return uniform - np.float32(0.5)
