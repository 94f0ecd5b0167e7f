"""What all frozen bottlenecks have in common, and how they come back from a codec's file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks.by_name import FROZEN, Shape, find_lazily
from quadrate.coding.symbols import SymbolModel, Words
from quadrate.errors import QuadrateError


class FrozenBottleneck(SymbolModel, Protocol):
    """A bottleneck made of integer tables: what writes and reads files.

    In addition to what the coder needs (`quadrate.coding.streams.SymbolModel`: `first`, `columns`,
    `tables`, `identity`, `indices`) it rounds, and it becomes arrays.

    Attributes:
        name: What codec files store, a name in `FROZEN`.
        shape: Of one sample's latents, (d,) or (c, h, w).
        dither_columns: Columns of shared dither: as many as symbols, or 0.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> Shape: ...  # noqa: D102
    @property
    def dither_columns(self) -> int: ...  # noqa: D102

    def quantize(self, latents: NDArray[Any], dither: Words) -> Words:
        """Latents (n, *shape) to symbols, int64 (n, columns).

        The dither comes in units of 2^-24 of a cell, int64 (n, dither_columns): the layer's own.
        Models without dither do not look at it, and it may be left out.
        """
        ...

    def dequantize(self, symbols: Words, dither: Words) -> NDArray[Any]:
        """Symbols (n, columns) and the same dither, to what a receiver reads, (n, *shape)."""
        ...

    def bits(self, symbols: Words, dither: Words) -> float:
        """The ideal code length in bits; symbols and dither of all layers, as in `encode_layer`."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but `first` and levels, for a codec's file."""
        ...


def from_arrays(
    arrays: dict[str, NDArray[Any]],
    name: str | None = None,
    first: int = 0,
    levels: Sequence[int] = (),
) -> FrozenBottleneck:
    """Build a frozen bottleneck again.

    Args:
        arrays: What its `arrays` gave.
        name: Its `name`; None for files of versions 0.1 and 0.2, which do not say it.
        first: The number of columns of the layers before.
        levels: For a dithered quantizer, the levels of each column, from the first layer on; 0 for
            a column of a bottleneck without levels.

    Raises:
        QuadrateError: If the name is unknown, or the arrays are not those of such a bottleneck.
    """
    if "map_shape" in arrays:
        shape = np.asarray(arrays["map_shape"])
        if shape.shape != (3,) or shape.dtype.kind not in "iu":
            raise QuadrateError("a map's shape is three integers: channels, height, width")
        own = levels[first:][: int(shape[0])]
        inner = from_arrays({k: a for k, a in arrays.items() if k != "map_shape"}, name, 0, own)
        maps: FrozenBottleneck = find_lazily("spatial:SpatialModel")(
            inner, tuple(shape.tolist()), first
        )
        return maps
    model: FrozenBottleneck = FROZEN.find(name or _name_of(arrays))(arrays, first, tuple(levels))
    if other := sorted(set(arrays) - set(model.arrays())):
        raise QuadrateError(
            f"the tables have parts of another bottleneck: {', '.join(other)[:200]}"
        )
    return model


def _name_of(arrays: dict[str, NDArray[Any]]) -> str:
    """Tell which bottleneck arrays belong to, by an array that no other has."""
    marks = {"cuts": "dithered", "roots": "joint", "gaussian_lows": "hyperprior"}
    return next((name for mark, name in marks.items() if mark in arrays), "rounding")


def read_arrays(
    arrays: Mapping[str, NDArray[Any]], kinds: Mapping[str, str], what: str
) -> list[NDArray[Any]]:
    """Read the arrays of some names, each of its kind of numbers.

    Raises:
        QuadrateError: If one is missing, or holds numbers that its kind does not.
    """
    try:
        return [np.asarray(arrays[name]).astype(kinds[name], casting="safe") for name in kinds]
    except (KeyError, TypeError) as error:
        raise QuadrateError(f"the arrays are not those of {what}: {error}") from None


def stream_identity(start: bytes, kind: str, *arrays: NDArray[Any]) -> bytes:
    """The first 16 bytes of SHA-256 over `start` and the arrays as numbers of a kind."""
    sha = hashlib.sha256(start)
    for array in arrays:
        sha.update(np.ascontiguousarray(array, kind).tobytes())
    return sha.digest()[:16]
