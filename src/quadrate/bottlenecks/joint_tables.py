"""Rounding whose symbols are coded given those before them.

For latents that are few and depend on each other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks import trees
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.coding.symbols import NO_DITHER, Words, layer_bits
from quadrate.coding.tables import Tables, integer_frequencies
from quadrate.errors import QuadrateError

MAX_LEVELS = 256  # of a column that trees are grown for


@dataclass(frozen=True, eq=False)
class JointModel:
    """A rounding bottleneck with tables for p(s_i | s_1 … s_{i-1}), where a decision tree on the
    symbols before makes the context.

    A factorized density pays the sum of the symbols' entropies, this the joint one: as much as the
    code tells. Quantization is the rounding model's; only the tables differ.

    Attributes:
        rounding: Steps and offsets, and the tables of the columns alone, which decide
            rate-optimized choices of symbols.
        roots: (d,) int32, each column's tree.
        nodes: (nodes, 4) int32, rows for `trees.descend`, leaves with the number of their table.
        tables: A table a leaf, with an escape.

    Raises:
        QuadrateError: If the parts do not fit together.
    """

    rounding: RoundingModel
    roots: NDArray[np.int32]
    nodes: NDArray[np.int32]
    tables: Tables
    name = "joint"
    dither_columns = 0

    def __post_init__(self) -> None:
        if not self.tables.escape or self.roots.shape != (self.rounding.columns,):
            raise QuadrateError(
                f"a joint model of {self.rounding.columns} columns needs a tree for each, and"
                " tables with an escape"
            )
        if fault := trees.faults(self.nodes, self.roots, 0, len(self.tables.lows)):
            raise QuadrateError(f"a joint model is damaged: {fault}")

    @property
    def first(self) -> int:
        """The layer's first column."""
        return self.rounding.first

    @property
    def shape(self) -> tuple[int]:
        """Of one sample's latents, (d,)."""
        return self.rounding.shape

    @property
    def columns(self) -> int:
        """Symbols a sample."""
        return self.rounding.columns

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same symbols would give another stream, or be received as other numbers."""
        sha = hashlib.sha256(b"joint" + self.rounding.identity + self.tables.digest)
        for array in (self.roots, self.nodes):
            sha.update(np.ascontiguousarray(array, "<i4").tobytes())
        return sha.digest()[:16]

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,)."""
        root = int(self.roots[column - self.first])
        leaves = trees.descend(self.nodes, root, symbols[:, self.first : column])
        return self.nodes[leaves, 1].astype(np.int64)

    def quantize(self, values: NDArray[Any], dither: Words | None = None) -> Words:
        """As `RoundingModel.quantize`."""
        return self.rounding.quantize(values)

    def dequantize(self, symbols: Words, dither: Words | None = None) -> NDArray[Any]:
        """As `RoundingModel.dequantize`."""
        return self.rounding.dequantize(symbols)

    def bits(self, symbols: Words, dither: Words = NO_DITHER) -> float:
        """The ideal code length in bits; arguments as of `encode_layer`."""
        return layer_bits(self, symbols, dither)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, for a codec's file.

        The rounding model's arrays, and the trees' with their tables.
        """
        own: dict[str, NDArray[Any]] = {
            "roots": self.roots,
            "nodes": self.nodes,
            "joint_frequencies": self.tables.frequencies,
            "joint_lows": self.tables.lows,
        }
        return self.rounding.arrays() | own

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[Any]], first: int = 0, levels: object = ()
    ) -> JointModel:
        """The inverse of `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a joint model.
        """
        try:
            kinds = {"roots": "i4", "nodes": "i4", "joint_frequencies": "u2", "joint_lows": "i4"}
            roots, nodes, frequencies, lows = (
                np.asarray(arrays[name]).astype(kind, casting="safe")
                for name, kind in kinds.items()
            )
        except (KeyError, TypeError) as error:
            raise QuadrateError(f"the tables are not those of a joint model: {error}") from None
        return cls(
            RoundingModel.from_arrays(arrays, first),
            roots,
            nodes,
            Tables(frequencies, lows, escape=True),
        )


def fit_joint(rounding: RoundingModel, values: NDArray[Any]) -> JointModel:
    """Fits contexts and tables to what a rounding bottleneck makes of training values, real numbers
    (n, d).

    Raises:
        QuadrateError: If there are no values, they do not fit, or a column takes more than 256
            symbols.
    """
    symbols = rounding.quantize(values)
    if not len(symbols):
        raise QuadrateError("tables are fitted to training values; got none")
    lows, highs = symbols.min(axis=0), symbols.max(axis=0)
    if (highs - lows >= MAX_LEVELS).any():
        raise QuadrateError(
            f"a column takes {int((highs - lows).max()) + 1} symbols; joint tables are for at most"
            f" {MAX_LEVELS}"
        )
    roots, grown, weights = [], [], []
    offset = leaves = 0
    for i in range(rounding.columns):
        level = int(highs[i] - lows[i]) + 1
        own = symbols[:, i] - lows[i]
        tree = trees.grow(symbols[:, :i] - lows[:i], own, level, len(symbols))
        counts = np.zeros((len(tree), level))
        np.add.at(counts, (trees.descend(tree, 0, symbols[:, :i] - lows[:i]), own), 1.0)
        trees.gather(tree, counts)
        shares = trees.shrink(tree, counts)
        leaf = tree[:, 0] < 0
        tree[~leaf, 1] += lows[tree[~leaf, 0]]  # thresholds on symbols as they are
        # What no training value did, the next one does with about this chance; the least frequency
        # is the floor.
        weights.append(
            (
                int(lows[i]),
                np.append(shares[leaf], np.full((leaf.sum(), 1), 0.5 / (len(symbols) + 1)), axis=1),
            )
        )
        trees.number_leaves(tree, leaves, offset)
        roots.append(offset)
        grown.append(tree)
        offset, leaves = offset + len(tree), leaves + int(leaf.sum())
    frequencies = np.zeros(
        (leaves, max(max(rows.shape[1] for _, rows in weights), 2)), dtype=np.uint16
    )
    starts = np.zeros(leaves, np.int32)
    row = 0
    for low, rows in weights:
        frequencies[row : row + len(rows), : rows.shape[1]] = integer_frequencies(rows)
        starts[row : row + len(rows)] = low
        row += len(rows)
    nodes = np.concatenate(grown).astype(np.int32)
    return JointModel(
        rounding, np.array(roots, np.int32), nodes, Tables(frequencies, starts, escape=True)
    )
