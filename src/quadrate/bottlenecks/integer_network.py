"""A small network of integers, so that sender and receiver agree on its output on any machine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks.frozen import read_arrays
from quadrate.coding.symbols import Words
from quadrate.errors import QuadrateError

Reals = NDArray[np.float64]
FRACTION_BITS = 12  # of whatever a layer gives
INPUT_LIMIT = 1 << 15  # inputs are clipped to it
_MOST = 1 << 28  # what a layer takes in, as an integer
_EXACT = 1 << 53  # up to here float64 holds all integers
_WEIGHT_BITS = 16  # of fraction, where sums leave room for them
_ROWS = 4096  # samples at a time
_KINDS = {"weights": "i4", "biases": "i8", "shifts": "i4"}


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Linear layers in integers, with rectifiers between them.

    A layer takes numbers in units of 2^-12 and gives (W h + b) >> s in the same units; hidden ones
    are clipped to 0 … 2^28 - 1. The products are carried in float64, where all sums stay below 2^53
    whatever the inputs: they are exact, so neither the order of summation nor the machine changes a
    bit.

    Attributes:
        weights: Of each layer, (out, in) int32.
        biases: (out,) int64.
        shifts: (out,) int32, from 0 to 52.

    Raises:
        QuadrateError: If layers do not fit together, or a sum could exceed 2^53.
    """

    weights: tuple[NDArray[np.int32], ...]
    biases: tuple[Words, ...]
    shifts: tuple[NDArray[np.int32], ...]

    def __post_init__(self) -> None:
        if not self.weights or not len(self.weights) == len(self.biases) == len(self.shifts):
            raise QuadrateError(
                "an integer network needs as many weights as biases and shifts, and at least one"
                " layer"
            )
        if any(weight.ndim != 2 or 0 in weight.shape for weight in self.weights):
            raise QuadrateError(
                "the weights of an integer network are matrices; got"
                f" {[weight.shape for weight in self.weights]}"
            )
        for layer, (weight, bias, shift) in enumerate(
            zip(self.weights, self.biases, self.shifts, strict=True)
        ):
            fan_in = len(self.weights[layer - 1]) if layer else weight.shape[1]
            if weight.shape[1] != fan_in or not bias.shape == shift.shape == weight.shape[:1]:
                raise QuadrateError(
                    f"layer {layer} of an integer network does not fit: weights {weight.shape}"
                    f" after {fan_in} outputs"
                )
            if not ((shift >= 0) & (shift <= 52)).all():
                raise QuadrateError(
                    f"layer {layer} of an integer network has shifts outside 0 to 52"
                )
            reach = np.abs(weight.astype(np.float64)).sum(axis=1) * _MOST
            reach += np.abs(bias.astype(np.float64))
            if not (reach < _EXACT).all():
                raise QuadrateError(
                    f"layer {layer} of an integer network could reach 2^53, beyond which sums are"
                    " not exact"
                )

    @classmethod
    def quantized(cls, layers: Sequence[tuple[Reals, Reals]]) -> IntegerNetwork:
        """The nearest one to a network of real weights (out, in) and biases (out,).

        Raises:
            QuadrateError: If weights are not finite, or too large to be carried exactly.
        """
        weights, biases, shifts = [], [], []
        for weight, bias in layers:
            reach = np.abs(weight).sum(axis=1) * _MOST + np.abs(bias) * 2.0**FRACTION_BITS
            if not (reach < _EXACT / 2).all():  # false for NaN too
                raise QuadrateError(
                    "the network's weights are not finite, or too large for exact integers: train"
                    " with a smaller learning rate"
                )
            room = np.floor(math.log2(_EXACT / 2) - np.log2(np.maximum(reach, 1.0)))
            shift = np.minimum(room, _WEIGHT_BITS)
            scale = 2.0**shift
            weights.append(np.rint(weight * scale[:, None]).astype(np.int32))
            # With the half that makes the shift round.
            biases.append(np.floor((bias * 2.0**FRACTION_BITS + 0.5) * scale).astype(np.int64))
            shifts.append(shift.astype(np.int32))
        return cls(tuple(weights), tuple(biases), tuple(shifts))

    @property
    def inputs(self) -> int:
        """How many numbers it takes."""
        return self.weights[0].shape[1]

    @property
    def outputs(self) -> int:
        """How many numbers it gives."""
        return len(self.weights[-1])

    def __call__(self, inputs: NDArray[np.integer[Any]]) -> Words:
        """Integers (n, in), clipped to ±2^15, to numbers in units of 2^-12, int64 (n, out)."""
        given = np.empty((len(inputs), self.outputs), np.int64)
        for start in range(0, len(inputs), _ROWS):
            block = np.clip(inputs[start : start + _ROWS], -INPUT_LIMIT, INPUT_LIMIT)  # (n, in)
            h = block.astype(np.float64) * 2.0**FRACTION_BITS
            for layer, (weight, bias, scale) in enumerate(self._carried):
                if layer:
                    np.clip(h, 0, _MOST - 1, out=h)
                h = h @ weight
                h += bias
                h *= scale
                np.floor(h, out=h)
            given[start : start + _ROWS] = h
        return given

    @cached_property
    def _carried(self) -> list[tuple[Reals, Reals, Reals]]:
        """Weights (in, out), biases, and factors instead of shifts, in float64."""
        weights = (np.ascontiguousarray(weight.T, np.float64) for weight in self.weights)
        biases = (bias.astype(np.float64) for bias in self.biases)
        factors = (2.0 ** -shift.astype(np.float64) for shift in self.shifts)
        return list(zip(weights, biases, factors, strict=True))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything."""
        sha = hashlib.sha256()
        for name, array in self.arrays().items():
            kind = _KINDS[name.rstrip("0123456789")]
            sha.update(repr((name, array.shape)).encode())
            sha.update(np.ascontiguousarray(array, f"<{kind}").tobytes())
        return sha.digest()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, for a codec's file: `weights0`, `biases0`, `shifts0`, `weights1`, ...."""
        layers = enumerate(zip(self.weights, self.biases, self.shifts, strict=True))
        return {
            f"{name}{layer}": part[i] for layer, part in layers for i, name in enumerate(_KINDS)
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> IntegerNetwork:
        """Build a network again from its `arrays`.

        Raises:
            QuadrateError: If the arrays are not those of an integer network.
        """
        depth = sum(name.startswith("weights") for name in arrays)
        layers = [
            {f"{name}{layer}": kind for name, kind in _KINDS.items()} for layer in range(depth)
        ]
        parts = [read_arrays(arrays, kinds, "an integer network") for kinds in layers]
        return cls(*(tuple(layer[i] for layer in parts) for i in range(len(_KINDS))))
