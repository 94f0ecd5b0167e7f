"""Rounding whose symbols are coded given those before them, for few latents that are dependent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks import trees
from quadrate.bottlenecks.frozen import read_arrays, stream_identity
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.coding.symbols import NO_DITHER, Words, layer_bits
from quadrate.coding.tables import Tables
from quadrate.errors import QuadrateError

MAX_LEVELS = 256  # of a column that trees are grown for


@dataclass(frozen=True, eq=False)
class JointModel:
    """A rounding bottleneck with tables for p(s_i | s_1 … s_{i-1}).

    A decision tree on the symbols before makes the context. A factorized density pays the sum of
    the symbols' entropies, this the joint entropy. Quantization is the rounding model's; only the
    tables differ.

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
    bits = layer_bits

    def __post_init__(self) -> None:
        if not self.tables.escape or self.roots.shape != self.shape:
            raise QuadrateError(
                f"a joint model of {self.columns} columns needs a tree for each, and tables with an"
                " escape"
            )
        if fault := trees.faults(self.nodes, self.roots, 0, len(self.tables.lows)):
            raise QuadrateError(f"a joint model is damaged: {fault}")

    @property
    def first(self) -> int:
        """The layer's first column."""
        return self.rounding.first

    @property
    def shape(self) -> tuple[int]:
        """The shape of one sample's latents, (d,)."""
        return self.rounding.shape

    @property
    def columns(self) -> int:
        """Symbols a sample, d."""
        return self.rounding.columns

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same symbols would give another stream or numbers."""
        start = b"joint" + self.rounding.identity + self.tables.digest
        return stream_identity(start, "<i4", self.roots, self.nodes)

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,)."""
        root = int(self.roots[column - self.first])
        at = trees.descend(self.nodes, root, symbols[:, self.first : column])
        return self.nodes[at, 1].astype(np.int64)

    def quantize(self, latents: NDArray[Any], dither: Words = NO_DITHER) -> Words:
        """Round as `RoundingModel.quantize`."""
        return self.rounding.quantize(latents)

    def dequantize(self, symbols: Words, dither: Words = NO_DITHER) -> NDArray[Any]:
        """Give back numbers as `RoundingModel.dequantize`."""
        return self.rounding.dequantize(symbols)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but `first`, for a codec's file: the rounding model, the trees, the tables."""
        return self.rounding.arrays() | {
            "roots": self.roots,
            "nodes": self.nodes,
            "joint_frequencies": self.tables.frequencies,
            "joint_lows": self.tables.lows,
        }

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[Any]], first: int = 0, levels: object = ()
    ) -> JointModel:
        """Build a model again from its `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a joint model.
        """
        kinds = {"roots": "i4", "nodes": "i4", "joint_frequencies": "u2", "joint_lows": "i4"}
        roots, nodes, frequencies, lows = read_arrays(arrays, kinds, "a joint model")
        rounding = RoundingModel.from_arrays(arrays, first)
        return cls(rounding, roots, nodes, Tables(frequencies, lows, escape=True))


def fit_joint(rounding: RoundingModel, latents: NDArray[Any]) -> JointModel:
    """Fit contexts and tables to the symbols that training latents (n, d) are rounded to.

    Raises:
        QuadrateError: If there are no latents, they do not fit, or a column takes more than 256
            symbols.
    """
    symbols = rounding.quantize(latents)
    if not len(symbols):
        raise QuadrateError("tables are fitted to training latents; got none")
    lows = symbols.min(axis=0)
    symbols = symbols - lows
    levels = symbols.max(axis=0) + 1
    if (levels > MAX_LEVELS).any():
        raise QuadrateError(
            f"a column takes {levels.max()} symbols; joint tables are for at most {MAX_LEVELS}"
        )
    # A symbol that no training latent took has about this chance to be the next one.
    unseen, forest = 0.5 / (len(symbols) + 1), trees.Forest()
    for i, level in enumerate(levels.tolist()):
        tree = trees.grow(symbols[:, :i], symbols[:, i], level, len(symbols))
        counts = np.zeros((len(tree), level))
        np.add.at(counts, (trees.descend(tree, 0, symbols[:, :i]), symbols[:, i]), 1.0)
        shares = trees.shares(tree, counts)
        inner = tree[:, 0] >= 0
        tree[inner, 1] += lows[tree[inner, 0]]  # thresholds on symbols, not on their ranks
        forest.add(tree, np.pad(shares, ((0, 0), (0, 1)), constant_values=unseen), int(lows[i]))
    return JointModel(rounding, *forest.finish(escape=True))
