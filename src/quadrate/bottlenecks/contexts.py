"""How probable each symbol of the dithered quantizer is, given its dither and the symbols before it; in integers, so that machines agree."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks import trees
from quadrate.coding.symbols import DITHER_BITS, Words, dither_noise, layer_bits
from quadrate.coding.tables import Tables, integer_frequencies
from quadrate.errors import QuadrateError

_POSITION_BITS = 16  # a received position is a whole number of 2^-16 of a cell
_BINS = 16  # of the dither, for each dimension
_CLASSES = 32  # of a latent's position, about, by which trees are grown
_GRID_BITS = 4  # trees split at whole numbers of 2^-4 of a cell
_SAMPLES = 1 << 20  # received positions that a tree is grown on


@dataclass(frozen=True, eq=False)
class ContextModel:
    """Tables for p(z_i | u_i, y_1 … y_{i-1}), with y_j the received position, symbol less dither.

    All that (z_j, u_j) say about latent j is that it lies within half a cell of y_j, and latents do
    not depend on dithers; so conditioning on y_j loses nothing, and the tables' cost adds up to the
    joint H(Z|U) by the chain rule. The context of dimension i is the leaf that y_1 … y_{i-1} reach
    in a decision tree, its table the one for that leaf and for the bin that dither u_i lies in.

    Attributes:
        levels: The number of levels of every column, of earlier layers too, (d,); 0 for columns of
            earlier layers that have no levels, which no tree looks at.
        first: The first dimension that is this layer's; those before it are known when the layer is
            read.
        cuts: (d - first, bins - 1) int32, rising borders between the bins of a dimension's dither,
            in units of 2^-24 cell.
        roots: (d - first,) int32, the root of each dimension's tree among the nodes.
        nodes: (nodes, 4) int32: a received dimension, a threshold on its position in units of 2^-16
            cell, and the nodes to go to if the position is at most and above it; a leaf has -1 for
            its dimension, and its number among all leaves as its threshold.
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

    def __post_init__(self) -> None:
        count = len(self.levels) - self.first
        shaped = (
            self.cuts.ndim == self.nodes.ndim == 2
            and self.roots.ndim == 1
            and self.nodes.shape[1] == 4
        )
        if not (
            shaped
            and 0 <= self.first < len(self.levels)
            and len(self.cuts) == len(self.roots) == count
        ):
            raise QuadrateError(
                f"a context model of {count} dimensions needs cuts, roots and nodes for each"
            )
        if (self.cuts[:, 1:] < self.cuts[:, :-1]).any():
            raise QuadrateError("a context model's cuts must rise")
        bins = self.cuts.shape[1] + 1
        leaves = len(self.tables.lows) // bins
        if leaves * bins != len(self.tables.lows):
            raise QuadrateError(
                f"a context model needs {bins} tables a leaf; there are {len(self.tables.lows)}"
            )
        if fault := trees.faults(self.nodes, self.roots, self.first, leaves):
            raise QuadrateError(f"a context model is damaged: {fault}")
        leaf = self.nodes[:, 0] < 0
        own = (
            np.searchsorted(self.roots, np.flatnonzero(leaf), side="right") - 1
        )  # each leaf's dimension
        sizes = self.tables.sizes.reshape(leaves, bins).max(axis=1)[self.nodes[leaf, 1]]
        if (
            self.tables.lows.any()
            or self.tables.escape
            or (sizes > np.array(self.levels)[self.first + own]).any()
        ):
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
        """Of one sample's latents, (columns,)."""
        return (self.columns,)

    @cached_property
    def _top(self) -> Words:
        return np.array(self.levels[self.first :]) - 1  # (d,) the highest symbols

    @cached_property
    def _step(self) -> NDArray[np.float32]:
        return np.float32(2) / self._top.astype(np.float32)  # (d,) widths of cells

    def quantize(self, latents: NDArray[Any], dither: Words) -> Words:
        """Latents in [-1, 1] and dither in units of 2^-24 cell to symbols, all (n, columns).

        In float32 as `DitheredQuantizer`, with the same result bit for bit.
        """
        moved = latents.astype(np.float32) + dither_noise(dither) * self._step + np.float32(1)
        return np.rint(moved / self._step).astype(np.int64).clip(0, self._top)

    def dequantize(self, symbols: Words, dither: Words) -> NDArray[np.float32]:
        """Symbols and dither to the centres of their cells less the dither, (n, columns)."""
        centres = symbols.astype(np.float32) * self._step - np.float32(1)
        return np.asarray(centres - dither_noise(dither) * self._step)

    def bits(self, symbols: Words, dither: Words) -> float:
        """The ideal code length in bits; arguments as of `encode_layer`."""
        return layer_bits(self, symbols, dither)

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same symbols and seed would give another stream."""
        sha = hashlib.sha256(
            repr(("dithered", self.levels, self.first, DITHER_BITS, self.cuts.shape)).encode()
            + self.tables.digest
        )
        for array in (self.cuts, self.roots, self.nodes):
            sha.update(np.ascontiguousarray(array, "<i4").tobytes())
        return sha.digest()[:16]

    def indices(self, dimension: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in one of the layer's dimensions.

        Args:
            dimension: Its number, counted from the first dimension of all.
            symbols: The samples' earlier symbols, (n, at least `dimension`).
            dither: Their dithers in units of 2^-24 cell, 0 to 2^24 - 1, (n, at least `dimension +
                1`).

        Returns:
            (n,) int64.
        """
        own = dimension - self.first
        bins = np.searchsorted(self.cuts[own], dither[:, dimension], side="right")
        received = received_positions(symbols[:, :dimension], dither[:, :dimension])
        leaves = self.nodes[trees.descend(self.nodes, int(self.roots[own]), received), 1].astype(
            np.int64
        )
        return leaves * (self.cuts.shape[1] + 1) + bins

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the levels, for a codec's file."""
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
        """The inverse of `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a context model.
        """
        try:
            cuts, roots, nodes = (
                np.asarray(arrays[name]).astype(np.int32, casting="safe")
                for name in ("cuts", "roots", "nodes")
            )
            frequencies = np.asarray(arrays["frequencies"]).astype(np.uint16, casting="safe")
            lows = np.zeros(len(frequencies), np.int32)
        except (KeyError, TypeError) as error:
            raise QuadrateError(
                f"the tables are not those of a dithered quantizer: {error}"
            ) from None
        return cls(levels, first, cuts, roots, nodes, Tables(frequencies, lows))


def received_positions(symbols: Words, dither: Words) -> Words:
    """Where the received values lie, in units of 2^-16 cell from the least value there is.

    (n, d) and (n, d) to (n, d), above 0.
    """
    return (symbols + 1 << _POSITION_BITS) - (dither >> DITHER_BITS - _POSITION_BITS)


def fit_contexts(
    latents: NDArray[np.float32], levels: tuple[int, ...], first: int = 0, seed: int = 0
) -> ContextModel:
    """Fits a context model to training latents.

    Each tree is grown to predict where the latent lies from what is received before it; each table
    then holds the share of its leaf's latents that fall into each cell, averaged over the bin's
    dithers exactly, and drawn towards the parent's where the leaf holds few.

    Args:
        latents: What the encoders make of training images, in [-1, 1], (n, d).
        levels: The number of levels of every column, (d,); 0 for columns of earlier layers that
            have no levels.
        first: The layer's first dimension.
        seed: Seed of the dithers under which the trees are grown.

    Raises:
        QuadrateError: If there are no latents, or they do not fit the levels.
    """
    if (
        latents.ndim != 2
        or latents.shape[1] != len(levels)
        or len(latents) < 1
        or not (np.abs(latents[:, np.array(levels) > 0]) <= 1).all()
    ):
        raise QuadrateError(
            f"tables are fitted to latents (n, {len(levels)}) in [-1, 1]; got {latents.shape} with"
            " values beyond, or none"
        )
    positions = (latents.astype(np.float64) + 1) / 2 * (np.array(levels) - 1)  # in cells: 0 .. L-1
    repeats = max(1, min(32, _SAMPLES // len(latents)))
    positions = np.tile(positions, (repeats, 1))
    dither = np.random.Generator(np.random.Philox(seed)).integers(
        0, 1 << DITHER_BITS, positions.shape
    )
    symbols = np.minimum(
        np.floor(positions + dither / (1 << DITHER_BITS)), np.array(levels) - 1
    ).astype(np.int64)
    received = received_positions(symbols, dither)
    received[:, np.array(levels) == 0] = 0  # nothing is known of them
    cuts, roots, nodes, weights = [], [], [], []
    offset = leaves = 0
    for i in range(first, len(levels)):
        own_cuts = _dither_cuts(positions[: len(latents), i])
        tree = _grow(received[:, :i], positions[:, i], levels[i], len(latents))
        counts = _counts(tree, received[:, :i], positions[:, i], own_cuts, levels[i]) / repeats
        shares = trees.shrink(tree, counts)
        leaf = tree[:, 0] < 0
        trees.number_leaves(tree, leaves, offset)
        cuts.append(own_cuts)
        roots.append(offset)
        nodes.append(tree)
        weights.append(shares[leaf].reshape(-1, levels[i]))
        offset, leaves = offset + len(tree), leaves + int(leaf.sum())
    frequencies = np.zeros((sum(map(len, weights)), max(levels[first:])), dtype=np.uint16)
    row = 0
    for table in weights:
        frequencies[row : row + len(table), : table.shape[1]] = integer_frequencies(table)
        row += len(table)
    tables = Tables(frequencies, np.zeros(len(frequencies), np.int32))
    return ContextModel(
        tuple(levels),
        first,
        np.stack(cuts),
        np.array(roots, np.int32),
        np.concatenate(nodes).astype(np.int32),
        tables,
    )


def _dither_cuts(positions: NDArray[np.float64]) -> NDArray[np.int32]:
    """Borders of the dither's bins that share out the latents evenly.

    A latent at fraction φ of its cell changes symbol at dither 1 - φ.
    """
    changes = 1 - positions % 1
    quantiles = np.quantile(changes, np.arange(1, _BINS) / _BINS)
    return np.clip(np.rint(quantiles * (1 << DITHER_BITS)), 0, 1 << DITHER_BITS).astype(np.int32)


def _grow(
    received: Words, positions: NDArray[np.float64], level: int, images: int
) -> NDArray[np.int64]:
    """A tree from received positions to where the latent lies."""
    fine = max(1, _CLASSES // (level - 1))
    count = fine * (level - 1)
    classes = np.minimum((positions * fine).astype(np.int64), count - 1)
    shift = _POSITION_BITS - _GRID_BITS
    return trees.grow(received >> shift, classes, count, images, shift)


def _counts(
    tree: NDArray[np.int64],
    received: Words,
    positions: NDArray[np.float64],
    cuts: NDArray[np.int32],
    level: int,
) -> NDArray[np.float64]:
    """How many latents of each node fall into each cell, averaged over the dithers of a bin.

    (nodes, bins, level).
    """
    at = trees.descend(tree, 0, received)
    lower = np.minimum(np.floor(positions), level - 1).astype(np.int64)
    change = 1 - (positions - lower)  # the dither from which on the upper cell is taken
    borders = np.concatenate([[0], cuts, [1 << DITHER_BITS]]) / (1 << DITHER_BITS)
    counts = np.zeros((len(tree), len(borders) - 1, level))
    for b, (low, high) in enumerate(zip(borders[:-1], borders[1:], strict=True)):
        stays = (
            np.clip((change - low) / (high - low), 0, 1)
            if high > low
            else (change > low).astype(np.float64)
        )
        for cell, share in ((lower, stays), (np.minimum(lower + 1, level - 1), 1 - stays)):
            counts[:, b] += np.bincount(at * level + cell, share, len(tree) * level).reshape(
                len(tree), level
            )
    trees.gather(tree, counts)
    return counts
