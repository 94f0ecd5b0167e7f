"""A frozen hyperprior: side symbols choose, by an integer network, the tables of the main ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.bottlenecks.frozen import read_arrays, stream_identity
from quadrate.bottlenecks.integer_network import FRACTION_BITS, INPUT_LIMIT, IntegerNetwork
from quadrate.bottlenecks.rounding import Reals, RoundingModel, check_grid, make_tables
from quadrate.coding.symbols import NO_DITHER, Words, layer_bits
from quadrate.coding.tables import Tables, stacked
from quadrate.errors import QuadrateError

LEAST_SCALE, MOST_SCALE, LEVELS = 0.11, 256.0, 64  # of the Gaussians, in steps; their number
_REACH = 8.0  # standard deviations that tables are made from
_FAR = 1 << 30  # steps from an offset, and of a mean: their difference fits into 32 bits
_ROWS = 1 << 14  # samples at a time


@dataclass(frozen=True, eq=False)
class HyperpriorModel:
    """Rounds d numbers to k side symbols and d main ones, read as (symbol + mean)·step + offset.

    The side symbols are coded first, each under its column's own table. From them an integer
    network predicts the mean, in units of 2^-12 step, and the table of each main symbol; so both
    sides know them to the bit. Means move the zero-mean Gaussians of the tables; only the tables
    decide the stream, so it is read correctly whatever the means.

    Attributes:
        analysis: Layers (weights (out, in), biases (out,)) of the sender's network, with rectifiers
            between, from z - offset to side latents.
        side: The rounding of the side latents, k columns.
        network: From k side symbols to d table indices and then d means.
        gaussians: The tables it chooses from, with an escape.
        steps: (d,) positive.
        offsets: (d,)
        first: The layer's first column.

    Raises:
        QuadrateError: If the parts do not fit together.
    """

    analysis: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    side: RoundingModel
    network: IntegerNetwork
    gaussians: Tables
    steps: Reals
    offsets: Reals
    first: int = 0
    name = "hyperprior"
    dither_columns = 0
    bits = layer_bits

    def __post_init__(self) -> None:
        one_each = self.steps.ndim == 1 and self.steps.shape == self.offsets.shape
        if not (one_each and self.gaussians.escape):
            raise QuadrateError(
                "a hyperprior has a step and an offset for each dimension, and tables with an"
                " escape"
            )
        check_grid(self.steps, self.offsets)
        if (self.network.inputs, self.network.outputs) != (self.side.columns, 2 * self.dims):
            raise QuadrateError(
                f"the network of a hyperprior takes {self.side.columns} side symbols and gives"
                f" {2 * self.dims} numbers; this one takes {self.network.inputs} and gives"
                f" {self.network.outputs}"
            )
        fan_in = self.dims
        for weight, bias in self.analysis:
            if weight.ndim != 2 or weight.shape[1] != fan_in or bias.shape != weight.shape[:1]:
                raise QuadrateError(
                    f"the side encoder's layers do not fit: weights {weight.shape} and biases"
                    f" {bias.shape} after {fan_in} numbers"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise QuadrateError("the side encoder's weights must be finite")
            fan_in = len(weight)
        if fan_in != self.side.columns:
            raise QuadrateError(
                f"the side encoder gives {fan_in} numbers; there are {self.side.columns} side"
                " columns"
            )

    @property
    def shape(self) -> tuple[int]:
        """The shape of one sample's latents, (d,)."""
        return self.steps.shape

    @property
    def dims(self) -> int:
        """Real numbers a sample, d."""
        return len(self.steps)

    @property
    def columns(self) -> int:
        """Symbols a sample, k + d."""
        return self.side.columns + self.dims

    @cached_property
    def tables(self) -> Tables:
        """The side columns' tables, then the Gaussians."""
        parts = (self.side.tables, self.gaussians)
        lows = np.concatenate([part.lows for part in parts])
        return Tables(stacked([part.frequencies for part in parts]), lows, escape=True)

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same symbols would give another stream or numbers."""
        digests = self.side.identity + self.network.digest + self.gaussians.digest
        return stream_identity(b"hyperprior" + digests, "<f8", self.steps, self.offsets)

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,); arguments as of `SymbolModel`."""
        count, own = self.side.columns, column - self.first
        if own < count:
            return np.full(len(symbols), own)
        side = symbols[:, self.first : self.first + count]
        return self._predictions(side)[0][own - count] + count

    def _predictions(self, side: Words) -> tuple[Words, Reals]:
        """The numbers of Gaussians (d, n) and the means in steps (n, d), from side symbols (n, k).

        The last result is kept, since it is needed column by column.
        """
        kept = self.__dict__.get("_kept")
        if kept is None or not np.array_equal(kept[0], side):
            numbers = self.network(side)
            nearest = numbers[:, : self.dims] + (1 << FRACTION_BITS - 1) >> FRACTION_BITS
            chosen = np.ascontiguousarray(nearest.clip(0, len(self.gaussians.lows) - 1).T)
            means = (numbers[:, self.dims :] * 2.0**-FRACTION_BITS).clip(-_FAR, _FAR)
            kept = self.__dict__["_kept"] = (side.copy(), chosen, means)
        return kept[1], kept[2]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def quantize(self, latents: NDArray[Any], dither: Words = NO_DITHER) -> Words:
        """Round real numbers (n, d) to symbols, int64 (n, k + d).

        Raises:
            QuadrateError: If a number is not finite, or too far away to be coded.
        """
        symbols = np.empty((len(latents), self.columns), np.int64)
        for start in range(0, len(latents), _ROWS):
            part = slice(start, start + _ROWS)
            centred = latents[part].astype(np.float64) - self.offsets
            scaled = centred / self.steps
            if not (np.abs(scaled) < _FAR).all():  # false for NaN too
                raise QuadrateError(
                    "a feature is not finite, or 2^30 steps or more from its column's offset: such"
                    " numbers cannot be coded"
                )
            hidden = centred
            for layer, (weight, bias) in enumerate(self.analysis):
                hidden = np.maximum(hidden, 0) if layer else hidden
                hidden = hidden @ weight.T.astype(np.float64) + bias  # (n, out)
            reach = INPUT_LIMIT * self.side.steps
            side = self.side.quantize(hidden.clip(-reach, reach))  # (n, k)
            main = np.rint(scaled - self._predictions(side)[1])  # (n, d)
            symbols[part] = np.hstack([side, main])
        return symbols

    def dequantize(self, symbols: Words, dither: Words = NO_DITHER) -> Reals:
        """Give what a receiver reads, (n, d), for symbols (n, k + d)."""
        side, main = np.split(symbols, [self.side.columns], axis=1)
        return (main + self._predictions(side)[1]) * self.steps + self.offsets

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but `first`, for a codec's file."""
        arrays: dict[str, NDArray[Any]] = {
            "steps": self.steps,
            "offsets": self.offsets,
            "gaussian_frequencies": self.gaussians.frequencies,
            "gaussian_lows": self.gaussians.lows,
        }
        for layer, (weight, bias) in enumerate(self.analysis):
            arrays |= {f"analysis_weights{layer}": weight, f"analysis_biases{layer}": bias}
        arrays |= {f"side_{name}": array for name, array in self.side.arrays().items()}
        return arrays | {f"network_{name}": array for name, array in self.network.arrays().items()}

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[Any]], first: int = 0, levels: object = ()
    ) -> HyperpriorModel:
        """Build a model again from its `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of a hyperprior.
        """
        kinds = {"steps": "f8", "offsets": "f8"} | {
            "gaussian_frequencies": "u2",
            "gaussian_lows": "i4",
        }
        steps, offsets, frequencies, lows = read_arrays(arrays, kinds, "a hyperprior")
        gaussians = Tables(frequencies, lows, escape=True)
        depth = sum(name.startswith("analysis_weights") for name in arrays)
        analysis = []
        for layer in range(depth):
            names = (f"analysis_weights{layer}", f"analysis_biases{layer}")
            weight, bias = read_arrays(arrays, dict.fromkeys(names, "f4"), "a hyperprior")
            analysis.append((weight, bias))
        side = RoundingModel.from_arrays(_group(arrays, "side_"))
        network = IntegerNetwork.from_arrays(_group(arrays, "network_"))
        return cls(tuple(analysis), side, network, gaussians, steps, offsets, first)


def _group(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names have a prefix, without it."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays[name] for name in names}


def gaussian_tables() -> Tables:
    """Zero-mean Gaussians over the integers, of 64 log-spaced scales."""
    parts = []
    for scale in np.geomspace(LEAST_SCALE, MOST_SCALE, LEVELS):
        reach = int(np.ceil(_REACH * scale)) + 1
        # Below the middle, where a CDF keeps its digits.
        edges = (torch.arange(-reach, 1, dtype=torch.float64) - 0.5) / scale
        cdf = torch.special.ndtr(edges).numpy()
        lower = np.diff(cdf)  # of -reach … -1
        parts.append((np.concatenate([lower, [1 - 2 * cdf[-1]], lower[::-1]])[None], -reach))
    return make_tables(parts)
