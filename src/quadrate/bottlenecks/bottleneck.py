"""What a bottleneck is in training, and all of them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from quadrate.core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from quadrate.bottlenecks.frozen import FrozenBottleneck

Shape = tuple[int, ...]
"""Of one sample's latents: (d,) for vectors, (c, h, w) for maps."""


class Bottleneck(Protocol):
    """A bottleneck in training; it is also an `nn.Module`.

    Attributes:
        shape: Of one sample's latents, (d,) or (c, h, w).
        noise_columns: How many uniform numbers a sample the surrogate takes.
        has_learned_rate: Whether the surrogate gives a rate; the rate of the others is fixed.
        surrogate_is_exact: Whether the surrogate's output is distributed exactly as what a
            receiver reads, as with dither. Otherwise decoders on a frozen encoder are trained on
            `dequantize(quantize(…))`.
    """

    @property
    def shape(self) -> Shape: ...  # noqa: D102
    @property
    def noise_columns(self) -> int: ...  # noqa: D102
    @property
    def has_learned_rate(self) -> bool: ...  # noqa: D102
    @property
    def surrogate_is_exact(self) -> bool: ...  # noqa: D102

    def __call__(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Replace quantization by something differentiable.

        Args:
            latents: (..., n, *shape).
            noise: Uniform on [-1/2, 1/2), (..., n, noise_columns).

        Returns:
            What is received, (..., n, *shape), and the rate in nats a sample, (..., n); None
            where the rate is fixed.
        """
        ...

    def quantize(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Latents (n, *shape) and the shared dither as `noise`, to symbols, int64 (n, columns)."""
        ...

    def dequantize(self, symbols: Tensor, noise: Tensor) -> Tensor:
        """Symbols (n, columns) and the same dither, to what is received, (n, *shape)."""
        ...

    def freeze(self, latents: NDArray[np.float32] | None = None) -> FrozenBottleneck:
        """Fit or compute the integer tables.

        Args:
            latents: Of training samples, (n, *shape), for bottlenecks whose tables are counted.
        """
        ...


def _factorized(shape: Shape) -> Any:
    import torch

    from quadrate.bottlenecks.factorized import FactorizedBottleneck, LogisticMixture

    (dims,) = shape
    return FactorizedBottleneck(LogisticMixture(dims), torch.zeros(dims), torch.ones(dims))


def _hyperprior(shape: Shape) -> Any:
    from quadrate.bottlenecks.hyperprior import HyperpriorBottleneck

    (dims,) = shape
    return HyperpriorBottleneck(dims)


def _unit_gaussian(shape: Shape) -> Any:
    from quadrate.bottlenecks.unit_gaussian import UnitGaussianBottleneck

    (dims,) = shape
    return UnitGaussianBottleneck(dims)


# Builders import what they need when they run: a configuration asks for names alone.
BOTTLENECKS: Registry[Callable[[Shape], Any]] = Registry(
    "bottleneck",
    {"factorized": _factorized, "hyperprior": _hyperprior, "unit-gaussian": _unit_gaussian},
)


def register_bottleneck(name: str, build: Callable[[Shape], Any]) -> None:
    """Register a bottleneck of your own under a name that configurations can give.

    Args:
        name: The name.
        build: Takes the shape of one sample's latents, (d,) or (c, h, w); returns an `nn.Module`
            that keeps the protocol `Bottleneck`.

    Raises:
        QuadrateError: If the name is taken, or is not fit for a file.
    """
    BOTTLENECKS.register(name, build)
