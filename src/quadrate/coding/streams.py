"""One layer's symbols of one chunk to its payload and back."""

from __future__ import annotations

import numpy as np

from quadrate.coding.entropy_coder import Decoder, Encoder
from quadrate.coding.symbols import SymbolModel, Words


def encode_layer(model: SymbolModel, symbols: Words, dither: Words) -> bytes:
    """A layer's payload.

    Symbols (n, d) of all layers up to it, and dithers (n, d) in units of 2^-24 cell.

    Raises:
        QuadrateError: If a symbol is not in its table.
    """
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
    decoder = Decoder(model.tables, payload)
    symbols = np.concatenate([known, np.empty((len(known), model.columns), dtype=np.int64)], axis=1)
    for column in range(model.first, model.first + model.columns):
        symbols[:, column] = decoder.read(model.indices(column, symbols, dither))
    decoder.finish()
    return symbols
