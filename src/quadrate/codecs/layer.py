"""How the latents of one encoder are coded: a layer of a trade-off codec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.codecs.codec_file import read_levels, whole_numbers
from quadrate.coding.container.layout import MAX_COLUMNS
from quadrate.coding.symbols import Words, dither_noise
from quadrate.config import OperatingPoint
from quadrate.core.names import check_text


@dataclass(frozen=True)
class Layer:
    """How the latents of one encoder are coded; the fields are those of `OperatingPoint`.

    Attributes:
        levels: The quantizer's levels of each latent dimension; empty where the rate is learned.
        dims: Latent dimensions, or channels of maps, where the rate is learned, else 0.
        bottleneck: The bottleneck's name.
    """

    levels: tuple[int, ...] = (3, 3, 3)
    dims: int = 0
    bottleneck: str = "dithered"

    @classmethod
    def of(cls, point: OperatingPoint) -> Layer:
        """The layer that an operating point trains."""
        return cls(point.levels, point.dims, point.bottleneck)

    @property
    def latent_dims(self) -> int:
        """Latent dimensions that the encoder gives, or channels of latent maps."""
        return self.dims or len(self.levels)


class Unfrozen:
    """A layer without tables, which rounds as its frozen bottleneck will."""

    def __init__(self, bottleneck: Any) -> None:
        self.shape, self.columns = bottleneck.shape, bottleneck.noise_columns
        self.dither_columns = self.columns
        self.freeze = bottleneck.freeze
        self._bottleneck = bottleneck

    def quantize(self, latents: NDArray[np.float32], dither: Words) -> Words:
        """As of a `FrozenBottleneck`."""
        noise = torch.from_numpy(dither_noise(dither))
        symbols: Tensor = self._bottleneck.quantize(torch.from_numpy(latents), noise)
        return symbols.numpy()

    def dequantize(self, symbols: Words, dither: Words) -> NDArray[np.float32]:
        """As of a `FrozenBottleneck`."""
        noise = torch.from_numpy(dither_noise(dither))
        latents: Tensor = self._bottleneck.dequantize(torch.from_numpy(symbols), noise)
        return latents.numpy()


def read_layers(metadata: Mapping[str, str]) -> list[Layer]:
    """The layers in a file of any version."""
    before = "levels" in metadata  # up to format 3 all layers were dithered
    found = json.loads(metadata["levels" if before else "layers"])
    if not isinstance(found, list) or not found:
        raise ValueError("it has no list of layers, one for each encoder")
    layers = []
    for entry in found:
        fields = {"levels": entry} if before else dict(entry)
        levels = read_levels(fields.pop("levels"))
        (dims,) = whole_numbers([fields.pop("dims", 0)], "dims", 0, MAX_COLUMNS)
        name = check_text("the name of a bottleneck", fields.pop("bottleneck", "dithered"))
        if fields or bool(levels) == bool(dims):
            raise ValueError("a layer has levels, or dims and the name of a bottleneck")
        layers.append(Layer(levels, dims, name))
    if sum(layer.latent_dims for layer in layers) > MAX_COLUMNS:
        raise ValueError(f"its encoders give more than {MAX_COLUMNS} symbols")
    return layers
