"""Frozen rounding to a grid: for each column a step, an offset and an integer table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks.frozen import read_arrays, stream_identity
from quadrate.coding.symbols import NO_DITHER, Words, layer_bits
from quadrate.coding.tables import MAX_ENTRIES, PRECISION_BITS, Tables, integer_frequencies, stacked
from quadrate.errors import QuadrateError

Reals = NDArray[np.float64]
# -dD/dR of a fine uniform quantizer, D = step^2/12 and R = h - log2(step), in squared steps a bit.
RATE_WEIGHT = math.log(2) / 6
ESCAPE_BITS = 32  # that follow an escape
# The cost of a table's entry to every symbol, since it takes at least a unit of frequency.
_ENTRY_BITS = math.log2(math.e) / (1 << PRECISION_BITS)


@dataclass(frozen=True, eq=False)
class RoundingModel:
    """Columns of real numbers to integers and back: a receiver reads symbol·step + offset.

    A sender takes the symbol with the least squared error + rate weight · step² · bits of its
    column's table. Columns are coded independently, so this choice is exact
    rate-distortion-optimized quantization; a rate weight of 0 makes it plain rounding, round((z -
    offset)/step). The choice is the sender's alone: it changes neither tables nor identity.

    Attributes:
        steps: (d,) positive.
        offsets: (d,)
        tables: d tables with an escape.
        rate_weight: The worth of a bit, in squared steps.
        first: The layer's first column.

    Raises:
        QuadrateError: If the parts do not fit together.
    """

    steps: Reals
    offsets: Reals
    tables: Tables
    rate_weight: float = 0.0
    first: int = 0
    name = "rounding"
    dither_columns = 0
    bits = layer_bits

    def __post_init__(self) -> None:
        count = len(self.tables.lows)
        if self.steps.shape != (count,) or self.offsets.shape != (count,) or not self.tables.escape:
            raise QuadrateError(
                f"{count} columns need a step, an offset and a table with an escape each"
            )
        check_grid(self.steps, self.offsets)
        if not 0 <= self.rate_weight < 100:
            raise QuadrateError(
                f"the rate weight is {self.rate_weight}; it must be 0 or more squared steps a bit,"
                " and below 100"
            )

    @property
    def shape(self) -> tuple[int]:
        """The shape of one sample's latents, (d,)."""
        return self.steps.shape

    @property
    def columns(self) -> int:
        """Symbols a sample."""
        return len(self.steps)

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same symbols would give another stream or numbers."""
        return stream_identity(b"rounding" + self.tables.digest, "<f8", self.steps, self.offsets)

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,): the column's own."""
        return np.full(len(symbols), column - self.first)

    def quantize(self, latents: NDArray[Any], dither: Words = NO_DITHER) -> Words:
        """Round real numbers (n, d) to symbols, int64 (n, d), each column in one piece in memory.

        Raises:
            QuadrateError: If a number is not finite, or too far away to be coded.
        """
        columns = np.asarray(latents.T, np.float64, order="C")  # (d, n)
        scaled = (columns - self.offsets[:, None]) / self.steps[:, None]  # (d, n)
        if not (np.abs(scaled) < 2**31 - 1).all():  # false for NaN too
            raise QuadrateError(
                "a feature is not finite, or 2^31 steps or more from its column's offset: such"
                " numbers cannot be coded"
            )
        symbols = np.rint(scaled).astype(np.int64)
        if self.rate_weight:
            for column, own in enumerate(symbols):
                self._weigh(column, scaled[column], own)
        return symbols.T

    def _weigh(self, column: int, scaled: Reals, symbols: Words) -> None:
        """Replace a column's rounded symbols by the best ones, in place."""
        low, bits = int(self.tables.lows[column]), self._bits[column]
        entries = len(bits) - 1
        best = low + np.searchsorted(self._borders[column], scaled, side="right")
        outside = np.flatnonzero((symbols < low) | (symbols >= low + entries))
        far = scaled[outside]
        in_table = (far - best[outside]) ** 2 + self.rate_weight * bits[best[outside] - low]
        escaped = (far - symbols[outside]) ** 2 + self.rate_weight * (bits[-1] + ESCAPE_BITS)
        best[outside] = np.where(in_table <= escaped, best[outside], symbols[outside])
        symbols[:] = best

    @property
    def reach(self) -> float:
        """The largest magnitude that a symbol in a table is received as."""
        ends = np.stack([self.tables.lows, self.tables.lows + self.tables.sizes])  # (2, d)
        return float(np.abs(ends * self.steps + self.offsets).max())

    def scaled(self, scale: float) -> RoundingModel:
        """The bottleneck for numbers that are `scale` times as large; symbols stay the same."""
        return replace(self, steps=self.steps * scale, offsets=self.offsets * scale)

    @cached_property
    def _bits(self) -> list[Reals]:
        """The code length of each entry of each table, the escape's last."""
        rows = zip(self.tables.frequencies, self.tables.sizes, strict=True)
        return [PRECISION_BITS - np.log2(row[:size]) for row, size in rows]

    @cached_property
    def _borders(self) -> list[Reals]:
        """The borders between the symbols of each table."""
        return [
            low + best_borders(bits[None, :-1], self.rate_weight)[0]
            for low, bits in zip(self.tables.lows.tolist(), self._bits, strict=True)
        ]

    def dequantize(self, symbols: Words, dither: Words = NO_DITHER) -> Reals:
        """Give what a receiver reads for symbols, both (n, d)."""
        return np.asarray(symbols * self.steps + self.offsets)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but `first`, for a codec's file."""
        return {
            "frequencies": self.tables.frequencies,
            "lows": self.tables.lows,
            "steps": self.steps,
            "offsets": self.offsets,
            "rate_weight": np.array([self.rate_weight]),
        }

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[Any]], first: int = 0, levels: object = ()
    ) -> RoundingModel:
        """Build a model again from its `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a rounding bottleneck.
        """
        numbers = {"steps": "f8", "offsets": "f8", "rate_weight": "f8"}
        kinds = numbers | {"frequencies": "u2", "lows": "i4"}
        steps, offsets, weight, frequencies, lows = read_arrays(
            arrays, kinds, "a rounding bottleneck"
        )
        rate_weight = float(weight[0]) if weight.shape == (1,) else math.nan
        return cls(steps, offsets, Tables(frequencies, lows, escape=True), rate_weight, first)


def check_grid(steps: Reals, offsets: Reals) -> None:
    """Raise a QuadrateError unless steps are positive and all numbers finite."""
    if not (np.isfinite([steps, offsets]).all() and (steps > 0).all()):
        raise QuadrateError("steps must be positive, steps and offsets finite")


def best_borders(bits: Reals, rate_weight: float) -> Reals:
    """The borders from which on each symbol but the first is the best, rising, (d, K-1).

    The cost (t - k)² + w·b_k is a parabola over t, whose shape is the same for all k. So k beats
    j < k from one border on, at (j + k)/2 + w(b_k - b_j)/2(k - j), and begins at the last of these.
    A symbol that is never the best begins where the next one does.

    Args:
        bits: Of the symbols 0 … K-1, (d, K).
        rate_weight: The worth w of a bit, in squared steps.
    """
    numbers = np.arange(bits.shape[1])
    starts = np.full(bits.shape, -np.inf)
    # Beyond this distance the border against j lies before the one against k - 1, whatever their
    # bits.
    reach = math.ceil(2 + 2 * rate_weight * float(np.ptp(bits))) if bits.size else 0
    for gap in range(1, min(reach, bits.shape[1] - 1) + 1):
        price = rate_weight / (2 * gap) * (bits[:, gap:] - bits[:, :-gap])
        border = numbers[gap:] - gap / 2 + price
        starts[:, gap:] = np.maximum(starts[:, gap:], border)
    return np.minimum.accumulate(starts[:, :0:-1], axis=1)[:, ::-1]


def make_tables(parts: Iterable[tuple[Reals, int]]) -> Tables:
    """Make integer tables with an escape from shares.

    A table ends where one more entry would cost all symbols more than it saves those that escape.

    Args:
        parts: Shares of consecutive symbols, one row for each column, and the first symbol.

    Raises:
        QuadrateError: If a row has no weight, or its bulk takes too many symbols for a table.
    """
    rows: list[NDArray[np.uint16]] = []
    lows: list[int] = []
    for shares, first in parts:
        shares = shares / shares.sum(axis=1, keepdims=True)
        starts = _spare(shares)
        sizes = shares.shape[1] - _spare(shares[:, ::-1]) - starts
        if sizes.max() >= MAX_ENTRIES:
            raise QuadrateError(
                f"a column takes {sizes.max()} symbols; tables hold {MAX_ENTRIES - 1}: ask for a"
                " larger error, or fewer bits"
            )
        own = np.zeros((len(shares), sizes.max() + 1), np.uint16)  # (d, K + 1)
        for size in np.unique(sizes).tolist():  # tables of one length are made at once
            which = np.flatnonzero(sizes == size)
            places = starts[which, None] + np.arange(size)
            inside = np.take_along_axis(shares[which], places, axis=1)
            escaped = np.maximum(0.0, 1 - inside.sum(axis=1, keepdims=True))
            own[which, : size + 1] = integer_frequencies(np.hstack([inside, escaped]))
        rows.append(own)
        lows += (first + starts).tolist()
    return Tables(stacked(rows), np.array(lows, np.int32), escape=True)


def _spare(shares: Reals) -> Words:
    """How many first entries of each row (d, K) should escape, (d,)."""
    before = np.zeros_like(shares)
    np.cumsum(shares[:, :-1], axis=1, out=before[:, 1:])
    saved = _ENTRY_BITS * np.arange(shares.shape[1]) - ESCAPE_BITS * before  # (d, K)
    return np.asarray(np.argmax(saved, axis=1))
