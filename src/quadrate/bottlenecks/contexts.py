"""Tables of the dithered quantizer, given the dither and the symbols before, in integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks import trees
from quadrate.bottlenecks.frozen import read_arrays, stream_identity
from quadrate.coding.symbols import DITHER_BITS, Words, dither_noise, layer_bits
from quadrate.coding.tables import Tables
from quadrate.errors import QuadrateError

_CELL = 1 << DITHER_BITS  # the width of a cell, in units of the dither
_POSITION_BITS = 16  # a received position is a whole number of 2^-16 of a cell
_BINS = 16  # of the dither, for each dimension
_CLASSES = 32  # of a latent's position, about, that trees predict
_GRID_BITS = 4  # trees split at whole numbers of 2^-4 of a cell
_SAMPLES = 1 << 20  # received positions that a tree is grown on


@dataclass(frozen=True, eq=False)
class ContextModel:
    """The frozen dithered quantizer, with tables for p(z_i | u_i, y_1 … y_{i-1}).

    y_j is the received position, symbol less dither. All that (z_j, u_j) say about latent j is that
    it lies within half a cell of y_j, and latents do not depend on dithers; so conditioning on y_j
    loses nothing, and the tables' cost adds up to the joint H(Z|U) by the chain rule. The context
    of dimension i is the leaf that y_1 … y_{i-1} reach in a decision tree, and its table the one
    for that leaf and for the bin that dither u_i lies in.

    Attributes:
        levels: The number of levels of every column, including those of earlier layers, (d,); 0 for
            columns of earlier layers that have no levels, which no tree looks at.
        first: The layer's first column; those before it are known when the layer is read.
        cuts: (d - first, bins - 1) int32, rising borders between the bins of a dimension's dither,
            in units of 2^-24 cell.
        roots: (d - first,) int32, the root of each dimension's tree among the nodes.
        nodes: (nodes, 4) int32, rows for `trees.descend` over received positions in units of 2^-16
            cell.
        tables: One table for every leaf and bin: that of leaf m and bin b is number `m * bins + b`.

    Raises:
        QuadrateError: If the parts do not fit together.
    """

    levels: tuple[int, ...]
    first: int
    cuts: NDArray[np.int32]
    roots: NDArray[np.int32]
    nodes: NDArray[np.int32]
    tables: Tables
    name = "dithered"
    bits = layer_bits

    def __post_init__(self) -> None:
        count = len(self.levels) - self.first
        if not (
            self.cuts.ndim == self.nodes.ndim == 2
            and self.roots.ndim == 1
            and self.nodes.shape[1] == 4
            and 0 <= self.first < len(self.levels)
            and len(self.cuts) == len(self.roots) == count
        ):
            raise QuadrateError(
                f"a context model of {count} dimensions needs cuts, roots and nodes for each"
            )
        if (self.cuts[:, 1:] < self.cuts[:, :-1]).any():
            raise QuadrateError("a context model's cuts must rise")
        leaves, rest = divmod(len(self.tables.lows), self._bins)
        if rest:
            raise QuadrateError(
                f"a context model needs {self._bins} tables a leaf; there are"
                f" {len(self.tables.lows)}"
            )
        if fault := trees.faults(self.nodes, self.roots, self.first, leaves):
            raise QuadrateError(f"a context model is damaged: {fault}")
        leaf = self.nodes[:, 0] < 0
        # The dimension of each leaf, and the longest of its tables.
        own = np.searchsorted(self.roots, np.flatnonzero(leaf), side="right") - 1
        sizes = self.tables.sizes.reshape(leaves, self._bins).max(axis=1)[self.nodes[leaf, 1]]
        too_long = (sizes > np.array(self.levels)[self.first + own]).any()
        if self.tables.lows.any() or self.tables.escape or too_long:
            raise QuadrateError(
                "a context model's tables hold more symbols than the quantizer has levels"
            )

    @property
    def columns(self) -> int:
        """The number of symbols a sample."""
        return len(self.levels) - self.first

    @property
    def dither_columns(self) -> int:
        """As many columns of dither."""
        return self.columns

    @property
    def shape(self) -> tuple[int]:
        """The shape of one sample's latents, (columns,)."""
        return (self.columns,)

    @property
    def _bins(self) -> int:
        return self.cuts.shape[1] + 1

    @cached_property
    def _top(self) -> Words:
        return np.array(self.levels[self.first :]) - 1  # (d,) the highest symbols

    @cached_property
    def _step(self) -> NDArray[np.float32]:
        return np.float32(2) / self._top.astype(np.float32)  # (d,) widths of cells

    def quantize(self, latents: NDArray[Any], dither: Words) -> Words:
        """Round latents in [-1, 1] to symbols; both and the dither are (n, columns).

        In float32 like `DitheredQuantizer`, with the same result bit for bit.
        """
        moved = latents.astype(np.float32) + dither_noise(dither) * self._step + np.float32(1)
        return np.rint(moved / self._step).astype(np.int64).clip(0, self._top)

    def dequantize(self, symbols: Words, dither: Words) -> NDArray[np.float32]:
        """Take the centres of the symbols' cells less the dither, (n, columns)."""
        centres = symbols.astype(np.float32) * self._step - np.float32(1)
        return np.asarray(centres - dither_noise(dither) * self._step)

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same symbols and seed would give another stream."""
        start = repr(("dithered", self.levels, self.first, DITHER_BITS, self.cuts.shape)).encode()
        arrays = (self.cuts, self.roots, self.nodes)
        return stream_identity(start + self.tables.digest, "<i4", *arrays)

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,); arguments as of `SymbolModel`."""
        own = column - self.first
        bins = np.searchsorted(self.cuts[own], dither[:, column], side="right")
        received = received_positions(symbols[:, :column], dither[:, :column])
        at = trees.descend(self.nodes, int(self.roots[own]), received)
        return self.nodes[at, 1].astype(np.int64) * self._bins + bins

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but `first` and the levels, for a codec's file."""
        return {
            "cuts": self.cuts,
            "roots": self.roots,
            "nodes": self.nodes,
            "frequencies": self.tables.frequencies,
        }

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[Any]], first: int, levels: tuple[int, ...]
    ) -> ContextModel:
        """Build a model again from its `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a context model.
        """
        kinds = {"cuts": "i4", "roots": "i4", "nodes": "i4", "frequencies": "u2"}
        cuts, roots, nodes, frequencies = read_arrays(arrays, kinds, "a dithered quantizer")
        lows = np.zeros(frequencies.shape[:1], np.int32)
        return cls(levels, first, cuts, roots, nodes, Tables(frequencies, lows))


def received_positions(symbols: Words, dither: Words) -> Words:
    """Where the received values lie, in units of 2^-16 cell from the least value there is.

    (n, d) and (n, d) to (n, d), above 0.
    """
    return (symbols + 1 << _POSITION_BITS) - (dither >> DITHER_BITS - _POSITION_BITS)


def fit_contexts(
    latents: NDArray[np.float32], levels: Sequence[int], first: int = 0, seed: int = 0
) -> ContextModel:
    """Fit a context model to training latents.

    Each tree is grown to predict where the latent lies from what is received before it; each table
    then holds the share of its leaf's latents that fall into each cell, averaged over the bin's
    dithers exactly, and drawn towards the parent's where the leaf holds few.

    Args:
        latents: Latents of training samples, in [-1, 1], (n, d).
        levels: The number of levels of every column, (d,); 0 for columns of earlier layers that
            have no levels.
        first: The layer's first column.
        seed: Seed of the dithers under which the trees are grown.

    Raises:
        QuadrateError: If there are no latents, or they do not fit the levels.
    """
    levels = tuple(levels)
    unknown = np.array(levels) == 0
    if (
        latents.ndim != 2
        or latents.shape[1] != len(levels)
        or len(latents) < 1
        or not ((np.abs(latents) <= 1) | unknown).all()
    ):
        raise QuadrateError(
            f"tables are fitted to latents (n, {len(levels)}) in [-1, 1]; got {latents.shape} with"
            " values beyond, or none"
        )
    top = np.array(levels) - 1
    positions = (latents.astype(np.float64) + 1) / 2 * top  # (n, d) in cells, 0 … L - 1
    repeats = max(1, min(32, _SAMPLES // len(latents)))
    positions = np.tile(positions, (repeats, 1))  # (repeats·n, d)
    dither = np.random.Generator(np.random.Philox(seed)).integers(0, _CELL, positions.shape)
    symbols = np.minimum(np.floor(positions + dither / _CELL), top).astype(np.int64)
    received = received_positions(symbols, dither)
    received[:, unknown] = 0
    cuts, forest = [], trees.Forest()
    for i in range(first, len(levels)):
        cuts.append(_dither_cuts(positions[: len(latents), i]))
        tree = _grow(received[:, :i], positions[:, i], levels[i], len(latents))
        at = trees.descend(tree, 0, received[:, :i])
        counts = _counts(at, len(tree), positions[:, i], cuts[-1], levels[i])
        forest.add(tree, trees.shares(tree, counts, repeats))
    roots, nodes, tables = forest.finish()
    return ContextModel(levels, first, np.stack(cuts), roots, nodes, tables)


def _dither_cuts(positions: NDArray[np.float64]) -> NDArray[np.int32]:
    """Borders of the dither's bins that share out the latents evenly.

    A latent at fraction φ of its cell changes symbol at dither 1 - φ.
    """
    quantiles = np.quantile(1 - positions % 1, np.arange(1, _BINS) / _BINS)
    return np.clip(np.rint(quantiles * _CELL), 0, _CELL).astype(np.int32)


def _grow(
    received: Words, positions: NDArray[np.float64], level: int, samples: int
) -> NDArray[np.int64]:
    """A tree from received positions to where the latent lies."""
    fine = max(1, _CLASSES // (level - 1))
    count = fine * (level - 1)
    classes = np.minimum((positions * fine).astype(np.int64), count - 1)
    shift = _POSITION_BITS - _GRID_BITS
    return trees.grow(received >> shift, classes, count, samples, shift)


def _counts(
    at: Words, nodes: int, positions: NDArray[np.float64], cuts: NDArray[np.int32], level: int
) -> NDArray[np.float64]:
    """How many latents of each leaf fall into each cell, averaged over the dithers of a bin.

    Args:
        at: Each latent's leaf, (n,).
        nodes: How many nodes the tree has.
        positions: Each latent's position in cells, (n,).
        cuts: Borders of the dither's bins, (bins - 1,).
        level: How many cells there are.

    Returns:
        (nodes, bins, level).
    """
    lower = np.minimum(np.floor(positions), level - 1).astype(np.int64)
    change = 1 - (positions - lower)  # the dither from which on the upper cell is taken
    borders = np.concatenate([[0], cuts, [_CELL]]) / _CELL
    counts = np.zeros((nodes, len(borders) - 1, level))
    for b, (low, high) in enumerate(zip(borders[:-1], borders[1:], strict=True)):
        if high > low:
            stays = np.clip((change - low) / (high - low), 0, 1)
        else:
            stays = (change > low).astype(np.float64)
        for cell, share in ((lower, stays), (np.minimum(lower + 1, level - 1), 1 - stays)):
            sums = np.bincount(at * level + cell, share, nodes * level)
            counts[:, b] += sums.reshape(nodes, level)
    return counts
