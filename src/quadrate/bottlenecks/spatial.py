"""One bottleneck for all sites of a feature map: a site is a vector of channels."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrate.bottlenecks.factorized import FactorizedBottleneck
from quadrate.bottlenecks.hyperprior import HyperpriorBottleneck
from quadrate.bottlenecks.hyperprior_model import HyperpriorModel
from quadrate.bottlenecks.joint_tables import JointModel
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.coding.streams import Words
from quadrate.coding.tables import Tables
from quadrate.errors import QuadrateError

MAX_SITES = 1 << 16


class SpatialBottleneck(nn.Module):
    """A bottleneck of vectors, shared by the sites of maps.

    A hyperprior's side symbols are sent site by site (Dubois et al. 2021, H_spatial).

    Args:
        bottleneck: Of c dimensions.
        shape: Of the maps, (c, h, w).

    Raises:
        QuadrateError: If the bottleneck is not of c dimensions.
    """

    def __init__(
        self, bottleneck: HyperpriorBottleneck | FactorizedBottleneck, shape: tuple[int, int, int]
    ) -> None:
        super().__init__()
        if len(bottleneck.step) != shape[0]:
            raise QuadrateError(
                f"maps of {shape[0]} channels need a bottleneck of as many dimensions; this one has"
                f" {len(bottleneck.step)}"
            )
        self.bottleneck, self.shape = bottleneck, shape

    @property
    def noise_columns(self) -> int:
        """Columns of the noise that training takes."""
        return self.shape[1] * self.shape[2] * self.bottleneck.noise_columns

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps to what is received, and the rate.

        Args:
            latent: (n, c, h, w).
            noise: Uniform on [-1/2, 1/2), (n, noise_columns), for training; by default latents are
                rounded.

        Returns:
            (n, c, h, w), and nats a sample (n,).
        """
        if latent.shape[1:] != self.shape:
            raise QuadrateError(
                f"this bottleneck takes maps (n, {', '.join(map(str, self.shape))}); got"
                f" {tuple(latent.shape)}"
            )
        sites = latent.permute(0, 2, 3, 1)  # (n, h, w, c)
        received, nats = self.bottleneck(
            sites.flatten(0, 2),
            None if noise is None else noise.reshape(-1, self.bottleneck.noise_columns),
        )
        return received.reshape(sites.shape).permute(0, 3, 1, 2), nats.reshape(len(latent), -1).sum(
            1
        )

    def freeze(self) -> SpatialModel:
        """The frozen bottleneck, site by site; errors as that of vectors."""
        return SpatialModel(self.bottleneck.freeze(), self.shape)


@dataclass(frozen=True, eq=False)
class SpatialModel:
    """A frozen bottleneck of vectors, shared by the sites of maps.

    Columns are those of the first site, then those of the next, row by row.

    Attributes:
        model: Of c dimensions.
        shape: Of the maps, (c, h, w).

    Raises:
        QuadrateError: If they do not fit together.
    """

    model: RoundingModel | JointModel | HyperpriorModel
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        if channels != self.model.dims or height < 1 or width < 1 or height * width > MAX_SITES:
            raise QuadrateError(
                f"maps are {self.model.dims} channels at 1 to {MAX_SITES} sites for this"
                f" bottleneck; got {self.shape}"
            )

    @property
    def first(self) -> int:
        """The layer's first column."""
        return 0

    @property
    def dims(self) -> int:
        """Real numbers a sample, c·h·w."""
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Symbols a sample."""
        return self.shape[1] * self.shape[2] * self.model.columns

    @property
    def tables(self) -> Tables:
        """The same for all sites."""
        return self.model.tables

    @cached_property
    def identity(self) -> bytes:
        """16 bytes that differ whenever the same symbols would give another stream, or be received as other numbers."""
        return hashlib.sha256(f"spatial {self.shape}".encode() + self.model.identity).digest()[:16]

    def indices(self, column: int, symbols: Words, dither: Words) -> Words:
        """The table of each sample's symbol in a column, (n,), from the symbols of its own site."""
        site, own = divmod(column, self.model.columns)
        return self.model.indices(
            own, symbols[:, site * self.model.columns : (site + 1) * self.model.columns], dither
        )

    def quantize(self, values: NDArray[Any]) -> Words:
        """Maps, flat (n, c·h·w) or (n, c, h, w), to symbols, int64 (n, columns).

        Errors as that of vectors.
        """
        sites = values.reshape(len(values), self.shape[0], -1).transpose(0, 2, 1)  # (n, h·w, c)
        return self.model.quantize(sites.reshape(-1, self.shape[0])).reshape(
            len(values), self.columns
        )

    def dequantize(self, symbols: Words) -> NDArray[Any]:
        """Symbols, int64 (n, columns), to what a receiver reads, (n, c·h·w)."""
        sites = self.model.dequantize(symbols.reshape(-1, self.model.columns)).reshape(
            len(symbols), -1, self.shape[0]
        )
        return sites.transpose(0, 2, 1).reshape(len(symbols), self.dims)

    def bits(self, symbols: Words) -> float:
        """The ideal code length of symbols (n, columns), in bits."""
        return self.model.bits(symbols.reshape(-1, self.model.columns))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, for a codec's file."""
        return self.model.arrays() | {"map_shape": np.array(self.shape, np.int32)}
