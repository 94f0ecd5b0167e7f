"""One bottleneck for all sites of a feature map: a site is a vector of channels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrate.bottlenecks.bottleneck import Bottleneck
from quadrate.bottlenecks.by_name import Shape
from quadrate.bottlenecks.frozen import FrozenBottleneck
from quadrate.coding.symbols import NO_DITHER, Words, layer_bits
from quadrate.coding.tables import Tables
from quadrate.errors import QuadrateError

MAX_SITES = 1 << 16


class SpatialBottleneck(nn.Module):
    """A bottleneck of vectors, shared by the sites of maps.

    A hyperprior's side symbols are sent site by site (Dubois et al. 2021, H_spatial).

    Args:
        bottleneck: Of c dimensions.
        shape: Of the maps that are received, (c, h, w).

    Raises:
        QuadrateError: If the bottleneck is not of c dimensions.
    """

    def __init__(self, bottleneck: Bottleneck, shape: Shape) -> None:
        super().__init__()
        if bottleneck.shape != shape[:1]:
            raise QuadrateError(
                f"maps of {shape[0]} channels need a bottleneck of as many dimensions; this one has"
                f" {bottleneck.shape[0]}"
            )
        self.bottleneck, self.shape = bottleneck, shape
        self.latent_shape = (*bottleneck.latent_shape, *shape[1:])
        self.noise_columns = shape[1] * shape[2] * bottleneck.noise_columns
        self.has_learned_rate = bottleneck.has_learned_rate
        self.surrogate_is_exact = bottleneck.surrogate_is_exact

    def forward(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Maps to what is received, and the rate.

        Args:
            latents: (..., n, *latent_shape).
            noise: Uniform on [-1/2, 1/2), (..., n, noise_columns), site by site.

        Returns:
            (..., n, c, h, w), and nats a sample (..., n) if the rate is learned.

        Raises:
            QuadrateError: If latents are not such maps.
        """
        if latents.shape[-3:] != self.latent_shape:
            raise QuadrateError(
                f"this bottleneck takes maps (n, {', '.join(map(str, self.latent_shape))}); got"
                f" {tuple(latents.shape)}"
            )
        sites = latents.movedim(-3, -1)  # (..., n, h, w, c)
        received, nats = self.bottleneck(
            sites, self._by_site(noise)
        )  # (..., n, h, w, c), (..., n, h, w)
        return received.movedim(-1, -3), None if nats is None else nats.sum((-2, -1))

    def _by_site(self, noise: Tensor) -> Tensor:
        return noise.unflatten(-1, (*self.shape[1:], -1))  # (..., n, h, w, columns of a site)

    def quantize(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, *latent_shape) and noise to symbols, site by site, int64 (n, columns)."""
        return self.bottleneck.quantize(latents.movedim(-3, -1), self._by_site(noise)).flatten(-3)

    def dequantize(self, symbols: Tensor, noise: Tensor) -> Tensor:
        """Symbols (n, columns) and the same noise to what is received, (n, c, h, w)."""
        sites = self.bottleneck.dequantize(self._by_site(symbols), self._by_site(noise))
        return sites.movedim(-1, -3)

    def freeze(
        self, latents: NDArray[np.float32] | None = None, before: Sequence[int] = ()
    ) -> SpatialModel:
        """The frozen bottleneck, site by site; arguments and errors as that of vectors.

        Sites are coded as if there were no layers before.
        """
        if latents is not None:
            maps = latents.reshape(len(latents), -1)[:, len(before) :]  # (n, c·h·w)
            latents = _sites(maps, self.latent_shape[0])
        return SpatialModel(self.bottleneck.freeze(latents), self.shape, len(before))


@dataclass(frozen=True, eq=False)
class SpatialModel:
    """A frozen bottleneck of vectors, shared by the sites of maps.

    Columns are those of the first site, then those of the next, row by row.

    Attributes:
        model: Of c dimensions, alone in its layer.
        shape: Of the maps, (c, h, w).
        first: The layer's first column.

    Raises:
        QuadrateError: If they do not fit together.
    """

    model: FrozenBottleneck
    shape: Shape
    first: int = 0
    bits = layer_bits

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        if (channels,) != self.model.shape or not 1 <= height * width <= MAX_SITES or height < 1:
            raise QuadrateError(
                f"maps are {self.model.shape[0]} channels at 1 to {MAX_SITES} sites for this"
                f" bottleneck; got {self.shape}"
            )

    @property
    def name(self) -> str:
        """That of the bottleneck of vectors; the arrays say that it is of maps."""
        return self.model.name

    @property
    def sites(self) -> int:
        """h·w."""
        return self.shape[1] * self.shape[2]

    @property
    def columns(self) -> int:
        """Symbols a sample."""
        return self.sites * self.model.columns

    @property
    def dither_columns(self) -> int:
        """Columns of dither, site by site."""
        return self.sites * self.model.dither_columns

    @property
    def tables(self) -> Tables:
        """The same for all sites."""
        return self.model.tables

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same symbols would give another stream or numbers."""
        return hashlib.sha256(f"spatial {self.shape}".encode() + self.model.identity).digest()[:16]

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,), from the symbols of its own site."""
        site, own = divmod(column - self.first, self.model.columns)
        start = self.first + site * self.model.columns
        part = slice(start, start + self.model.columns)
        return self.model.indices(own, symbols[:, part], dither[:, part])

    def quantize(self, latents: NDArray[Any], dither: Words = NO_DITHER) -> Words:
        """Maps, (n, c, h, w) or flat (n, c·h·w), to symbols, int64 (n, columns)."""
        symbols = self.model.quantize(_sites(latents, self.shape[0]), self._by_site(dither))
        return symbols.reshape(len(latents), self.columns)

    def dequantize(self, symbols: Words, dither: Words = NO_DITHER) -> NDArray[Any]:
        """Symbols, int64 (n, columns), to what a receiver reads, (n, c, h, w)."""
        sites = self.model.dequantize(
            symbols.reshape(-1, self.model.columns), self._by_site(dither)
        )  # (n·h·w, c)
        flat = sites.reshape(len(symbols), self.sites, self.shape[0]).transpose(0, 2, 1)
        return flat.reshape(len(symbols), *self.shape)

    def _by_site(self, dither: Words) -> Words:
        return dither.reshape(-1, self.model.dither_columns) if self.dither_columns else NO_DITHER

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but `first`, for a codec's file."""
        return self.model.arrays() | {"map_shape": np.array(self.shape, np.int32)}


def _sites(maps: NDArray[Any], channels: int) -> NDArray[Any]:
    """Maps (n, c, h, w) or (n, c·h·w) to vectors, (n·h·w, c)."""
    flat = maps.reshape(len(maps), channels, math.prod(maps.shape[1:]) // channels)  # (n, c, h·w)
    return flat.transpose(0, 2, 1).reshape(-1, channels)
