"""One layer's symbols of one chunk to its payload and back."""

from __future__ import annotations

import numpy as np

from quadrate.coding.entropy_coder import Decoder, Encoder
from quadrate.coding.symbols import SymbolModel, Words


def encode_layer(model: SymbolModel, symbols: Words, dither: Words) -> bytes:
    """Write a layer's payload.

    Args:
        model: The layer's frozen bottleneck.
        symbols: Of all layers up to this one, (n, first + columns).
        dither: Of the same columns, in units of 2^-24 of a cell.

    Raises:
        QuadrateError: If a symbol is not in its table.
    """
    encoder = Encoder(model.tables)
    for column in range(model.first, model.first + model.columns):
        encoder.write(symbols[:, column], model.indices(column, symbols, dither))
    return encoder.bytes()


def decode_layer(model: SymbolModel, payload: bytes, known: Words, dither: Words) -> Words:
    """Read what `encode_layer` wrote: symbols (n, first + columns).

    Args:
        model: The layer's frozen bottleneck.
        payload: The bytes.
        known: The symbols of the layers before, (n, first).
        dither: As in `encode_layer`.

    Raises:
        QuadrateError: If the payload is not one of this model's.
    """
    decoder = Decoder(model.tables, payload)
    symbols = np.concatenate([known, np.empty((len(known), model.columns), dtype=np.int64)], axis=1)
    for column in range(model.first, model.first + model.columns):
        symbols[:, column] = decoder.read(model.indices(column, symbols, dither))
    decoder.finish()
    return symbols
