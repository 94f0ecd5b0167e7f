"""Symbols to bytes and back under integer tables, by the range coder of `constriction`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from quadrate.coding.tables import TOTAL, Tables
from quadrate.errors import QuadrateError

Symbols = NDArray[np.int64]
_Model = constriction.stream.model.Categorical
_HALF = constriction.stream.model.Uniform(1 << 16)
_BLOCK = 1 << 20  # probabilities that are spelled out at a time
# With fewer symbols a table on average, it is faster to spell the probabilities out than to make a
# call for each table.
_FEW = 32


class Encoder:
    """Writes one stream.

    Symbols are written in groups: within a group in the order of their tables, and within a table
    in the order given.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables, self._sizes = tables, tables.sizes
        self._coder = constriction.stream.queue.RangeEncoder()

    def write(self, symbols: Symbols, indices: Symbols) -> None:
        """Write symbols, (n,), each under the table of its index, (n,).

        Raises:
            QuadrateError: If a symbol lies outside its table and the tables have no escape, or does
                not fit into 32 bits.
        """
        order = _order(indices)
        indices = indices[order]
        values = symbols[order]
        entries = values - self._tables.lows[indices]
        last = self._sizes[indices] - 1
        outside = (entries < 0) | (entries > last - self._tables.escape)
        if outside.any() and not self._tables.escape:
            raise QuadrateError(
                f"symbol {int(values[outside][0])} is not in its table, which has no escape"
            )
        entries = np.where(outside, last, entries).astype(np.int32)
        for part, model, probabilities in _calls(self._tables, self._sizes, indices):
            self._coder.encode(entries[part], model, *probabilities)
        if outside.any():
            self._write_raw(values[outside])

    def _write_raw(self, values: Symbols) -> None:
        # Checked before folding, which could overflow 64 bits.
        wide = (values < -(1 << 31)) | (values >= 1 << 31)
        if wide.any():
            raise QuadrateError(f"symbol {int(values[np.argmax(wide)])} does not fit into 32 bits")
        folded = np.where(values < 0, -2 * values - 1, 2 * values)
        halves = np.stack([folded >> 16, folded & 0xFFFF], axis=1)  # (n, 2)
        self._coder.encode(halves.astype(np.int32).ravel(), _HALF)

    def bytes(self) -> bytes:
        """The stream so far."""
        return np.asarray(self._coder.get_compressed(), dtype="<u4").tobytes()


class Decoder:
    """Reads one stream; groups must be read in the order in which they were written.

    Raises:
        QuadrateError: If the stream's length is not a whole number of 32-bit words.
    """

    def __init__(self, tables: Tables, stream: bytes) -> None:
        if len(stream) % 4:
            raise QuadrateError(
                f"a coded stream is a whole number of 32-bit words; this one has {len(stream)}"
                " bytes"
            )
        self._tables, self._sizes = tables, tables.sizes
        self._coder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(stream, "<u4").astype(np.uint32)
        )

    def read(self, indices: Symbols) -> Symbols:
        """Read symbols, (n,), each under the table of its index, (n,).

        Raises:
            QuadrateError: If the stream cannot have been written under these tables.
        """
        order = _order(indices)
        indices = indices[order]
        entries = np.empty(len(indices), dtype=np.int64)
        for part, model, probabilities in _calls(self._tables, self._sizes, indices):
            entries[part] = self._decode(model, *(probabilities or (len(entries[part]),)))
        values = entries + self._tables.lows[indices]
        if self._tables.escape:
            escaped = entries == self._sizes[indices] - 1
            if escaped.any():
                values[escaped] = self._read_raw(int(escaped.sum()))
        symbols = np.empty_like(values)
        symbols[order] = values
        return symbols

    def _read_raw(self, count: int) -> Symbols:
        halves = np.asarray(self._decode(_HALF, 2 * count), dtype=np.int64).reshape(count, 2)
        folded = halves[:, 0] << 16 | halves[:, 1]
        return np.where(folded % 2, -(folded + 1) // 2, folded // 2)

    def _decode(self, model: Any, *arguments: Any) -> Any:
        try:
            return self._coder.decode(model, *arguments)
        except AssertionError:  # what constriction raises on data that no encoder wrote
            raise QuadrateError(
                "the coded stream is damaged: no symbols under these tables give it"
            ) from None

    def finish(self) -> None:
        """Raise a QuadrateError if the stream goes on after the symbols."""
        if not self._coder.maybe_exhausted():
            raise QuadrateError("the coded stream goes on after its last symbol")


def _order(indices: Symbols) -> NDArray[np.intp]:
    """A stable order by table; numpy sorts 16-bit integers by radix, about ten times as fast."""
    short = len(indices) and indices.max() < 1 << 16
    return np.argsort(indices.astype(np.uint16) if short else indices, kind="stable")


def _calls(
    tables: Tables, sizes: Symbols, indices: Symbols
) -> Iterator[tuple[slice, Any, tuple[Any, ...]]]:
    """The calls to the coder for symbols that are sorted by table.

    Many symbols a table go table by table, few with a row of probabilities each; the stream is the
    same. Frequencies reach the coder as the float64 numbers f / 2^16, exactly, with
    `perfect=False`: this fixes the stream.

    Yields:
        Which symbols, the model, and either nothing or the probabilities for each symbol.
    """
    if not len(indices):
        return
    starts = np.flatnonzero(np.diff(indices, prepend=-1))
    if len(starts) * _FEW > len(indices) and len(set(sizes[indices[starts]].tolist())) == 1:
        size = int(sizes[indices[0]])
        block = max(1, _BLOCK // size)
        for start in range(0, len(indices), block):
            part = slice(start, start + block)
            yield part, _Model(perfect=False), (tables.frequencies[indices[part], :size] / TOTAL,)
        return
    for first, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(indices)], strict=True):
        table = int(indices[first])
        model = _Model(tables.frequencies[table, : sizes[table]] / TOTAL, perfect=False)
        yield slice(first, stop), model, ()
