"""One layer's symbols of one chunk to its payload and back."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.tables import Tables

Words = NDArray[np.int64]


class SymbolModel(Protocol):
    """What a frozen bottleneck gives the coder.

    Which table each symbol is coded under, in integers.

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
        """The table of each sample's symbol in a column, (n,), from the symbols of earlier columns, (n, >= column), and the dithers."""
        ...


def encode_layer(model: SymbolModel, symbols: Words, dither: Words) -> bytes:
    """A layer's payload.

    Symbols (n, d) of all layers up to it, and dithers (n, d) in units of 2^-24 cell.

    Raises:
        QuadrateError: If a symbol is not in its table.
    """
    from quadrate.coding.entropy_coder import Encoder  # constriction, which training does not need

    encoder = Encoder(model.tables)
    for column in range(model.first, model.first + model.columns):
        encoder.write(symbols[:, column], model.indices(column, symbols, dither))
    return encoder.bytes()


def decode_layer(model: SymbolModel, payload: bytes, known: Words, dither: Words) -> Words:
    """The inverse: a payload, the symbols (n, first) of the layers before, and dithers (n, >= first
    + columns), to symbols (n, first + columns).

    Raises:
        QuadrateError: If the payload is not one of this model's.
    """
    from quadrate.coding.entropy_coder import Decoder

    decoder = Decoder(model.tables, payload)
    symbols = np.concatenate([known, np.empty((len(known), model.columns), dtype=np.int64)], axis=1)
    for column in range(model.first, model.first + model.columns):
        symbols[:, column] = decoder.read(model.indices(column, symbols, dither))
    decoder.finish()
    return symbols
