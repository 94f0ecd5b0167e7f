"""What all frozen bottlenecks of real numbers have in common, and their arrays back to what they were."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quadrate.bottlenecks.hyperprior_model import HyperpriorModel
from quadrate.bottlenecks.joint_tables import JointModel
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.bottlenecks.spatial import SpatialModel
from quadrate.coding.streams import SymbolModel, Words
from quadrate.errors import QuadrateError


class FrozenBottleneck(SymbolModel, Protocol):
    """A symbol model that rounds.

    Attributes:
        dims: Real numbers a sample, d; there may be more symbols.
    """

    @property
    def dims(self) -> int: ...  # noqa: D102

    def quantize(self, values: NDArray[Any]) -> Words:
        """Real numbers (n, d) to symbols, int64 (n, columns)."""
        ...

    def dequantize(self, symbols: Words) -> NDArray[Any]:
        """Symbols, int64 (n, columns), to what a receiver reads, (n, d)."""
        ...

    def bits(self, symbols: Words) -> float:
        """The ideal code length of symbols (n, columns), in bits."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, for a codec's file."""
        ...


def from_arrays(arrays: dict[str, NDArray[Any]]) -> FrozenBottleneck:
    """The bottleneck whose `arrays` these are.

    Raises:
        QuadrateError: If they are of none.
    """
    model = _maps(arrays) if "map_shape" in arrays else _flat(arrays)
    if other := sorted(set(arrays) - set(model.arrays())):
        raise QuadrateError(
            f"the tables have parts of another bottleneck: {', '.join(other)[:200]}"
        )
    return model


def _maps(arrays: dict[str, NDArray[Any]]) -> SpatialModel:
    shape = np.asarray(arrays["map_shape"])
    inner = _flat({name: array for name, array in arrays.items() if name != "map_shape"})
    if shape.shape != (3,) or shape.dtype.kind not in "iu":
        raise QuadrateError("a map's shape is three integers: channels, height, width")
    return SpatialModel(inner, (int(shape[0]), int(shape[1]), int(shape[2])))


def _flat(arrays: dict[str, NDArray[Any]]) -> RoundingModel | JointModel | HyperpriorModel:
    if "roots" in arrays:
        return JointModel.from_arrays(arrays)
    return (
        HyperpriorModel.from_arrays(arrays)
        if "gaussian_lows" in arrays
        else RoundingModel.from_arrays(arrays)
    )
