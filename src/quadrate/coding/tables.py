"""Frequency tables, on which entropy coder and decoder must agree to the bit: integers only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrate.errors import QuadrateError

PRECISION_BITS = 16
TOTAL = 1 << PRECISION_BITS
MAX_TABLES = 1 << 20
MAX_ENTRIES = 1 << 14  # of one table, the escape among them


@dataclass(frozen=True, eq=False)
class Tables:
    """Integer frequencies out of 2^16, none zero, for runs of consecutive integers.

    Table t gives symbol `lows[t] + k` the probability `frequencies[t, k] / 2^16`. With `escape`,
    the last entry of every table stands for all other integers, which then follow as they are.

    Attributes:
        frequencies: (T, K) uint16, a table a row; shorter tables end in zeros. 2^16 - 1 is the most
            a table with two entries can hold in one.
        lows: (T,) int32, each table's least symbol.
        escape: Whether the tables end in an escape entry.

    Raises:
        QuadrateError: If a table has a zero before its end, a sum other than 2^16, or fewer than
            two entries.
    """

    frequencies: NDArray[np.uint16]
    lows: NDArray[np.int32]
    escape: bool = False

    def __post_init__(self) -> None:
        if self.frequencies.ndim != 2 or self.lows.shape != self.frequencies.shape[:1]:
            raise QuadrateError(
                f"tables are (T, K) frequencies with (T,) lows; got {self.frequencies.shape} and"
                f" {self.lows.shape}"
            )
        if (
            not 1 <= len(self.lows) <= MAX_TABLES
            or not 2 <= self.frequencies.shape[1] <= MAX_ENTRIES
        ):
            raise QuadrateError(
                f"a codec has 1 to {MAX_TABLES} tables of 2 to {MAX_ENTRIES} entries; got"
                f" {self.frequencies.shape}"
            )
        filled = self.frequencies > 0
        whole = (
            (self.frequencies.sum(axis=1, dtype=np.int64) == TOTAL)
            & (filled[:, :-1] >= filled[:, 1:]).all(axis=1)
            & filled[:, 1]
        )
        if not whole.all():
            raise QuadrateError(
                f"table {int(np.argmin(whole))} does not hold frequencies >= 1 that sum to {TOTAL}"
            )

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of entries of each table, (T,), the escape among them."""
        return np.asarray((self.frequencies > 0).sum(axis=1))

    @property
    def digest(self) -> bytes:
        """SHA-256 of everything that decides the coded stream."""
        sha = hashlib.sha256(repr((self.frequencies.shape, self.escape)).encode())
        sha.update(
            np.ascontiguousarray(self.frequencies, "<u2").tobytes()
            + np.ascontiguousarray(self.lows, "<i4").tobytes()
        )
        return sha.digest()

    def bits(self, symbols: NDArray[np.int64], indices: NDArray[np.int64]) -> float:
        """The ideal code length of symbols under their tables, in bits.

        An escape counts as its entry plus 32 bits.
        """
        frequencies, escaped = self._frequencies_of(symbols, indices)
        return float(
            PRECISION_BITS * frequencies.size - np.log2(frequencies).sum() + 32 * escaped.sum()
        )

    def lengths(
        self, symbols: NDArray[np.int64], indices: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The ideal code length of each symbol by itself, (n,)."""
        frequencies, escaped = self._frequencies_of(symbols, indices)
        return np.asarray(PRECISION_BITS - np.log2(frequencies, dtype=np.float64) + 32 * escaped)

    def _frequencies_of(
        self, symbols: NDArray[np.int64], indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """The frequencies that symbols are coded with, and which of them escape."""
        entries = symbols - self.lows[indices]
        last = self.sizes[indices] - 1
        escaped = (entries < 0) | (entries > last - self.escape)
        return self.frequencies[indices, np.where(escaped, last, entries)], escaped


def stacked(parts: Sequence[NDArray[np.uint16]]) -> NDArray[np.uint16]:
    """Tables of several lengths, (T_i, K_i) each, one after another, filled up with zeros."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def integer_frequencies(probabilities: ArrayLike) -> NDArray[np.uint16]:
    """Round weights (T, K), not negative, to frequencies out of 2^16, uint16, row by row.

    Every entry first gets 1; what is left is shared in proportion and the last units go to the
    largest remainders, the earlier entry first in a tie.

    Raises:
        QuadrateError: If a row has no weight, or there are fewer than 2 or more entries than units.
    """
    weights = np.asarray(probabilities, dtype=np.float64)
    if weights.ndim != 2 or not 2 <= weights.shape[1] <= MAX_ENTRIES:
        raise QuadrateError(
            f"a table holds 2 to {MAX_ENTRIES} entries; got an array of shape {weights.shape}"
        )
    sums = weights.sum(axis=1, keepdims=True)
    if not (np.isfinite(sums).all() and (weights >= 0).all() and (sums > 0).all()):
        raise QuadrateError(
            "a table's weights must be finite, as their sum, not negative, and not all zero"
        )
    shares = weights / sums * (TOTAL - weights.shape[1])
    floors = np.floor(shares)
    # Units to give away, (T,), fewer than K.
    missing = TOTAL - weights.shape[1] - floors.sum(axis=1).astype(np.int64)
    order = np.argsort(-(shares - floors), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(
        ranks, order, np.broadcast_to(np.arange(weights.shape[1]), order.shape), axis=1
    )
    return np.asarray(1 + floors + (ranks < missing[:, None]), dtype=np.uint16)
