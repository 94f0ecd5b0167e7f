"""The bottlenecks that invariant codecs are trained with, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from quadrate.bottlenecks.factorized import FactorizedBottleneck, LogisticMixture
from quadrate.bottlenecks.hyperprior import HyperpriorBottleneck
from quadrate.bottlenecks.unit_gaussian import UnitGaussianBottleneck
from quadrate.core.registry import Registry


class LearnedBottleneck(Protocol):
    """What training needs of a bottleneck, beside its being an `nn.Module`.

    Attributes:
        noise_columns: Columns of the noise that `__call__` takes.
    """

    @property
    def noise_columns(self) -> int: ...  # noqa: D102

    def __call__(self, latent: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents (n, d) and noise on [-1/2, 1/2), (n, noise_columns), to what is received, (n, d), and nats a sample, (n,)."""
        ...

    def freeze(self) -> Any:
        """The frozen bottleneck, one of `quadrate.bottlenecks.frozen.from_arrays`."""
        ...


def _factorized(dims: int) -> FactorizedBottleneck:
    return FactorizedBottleneck(LogisticMixture(dims), torch.zeros(dims), torch.ones(dims))


BOTTLENECKS: Registry[Callable[[int], Any]] = Registry(
    "bottleneck",
    {
        "factorized": _factorized,
        "hyperprior": HyperpriorBottleneck,
        "unit-gaussian": UnitGaussianBottleneck,
    },
)


def register_bottleneck(name: str, build: Callable[[int], Any]) -> None:
    """Makes a bottleneck of one's own known by a name, as `InvariantConfig.bottleneck` gives it.

    Args:
        name: The name.
        build: From the latent dimensions d to an `nn.Module` that is a `LearnedBottleneck`.

    Raises:
        QuadrateError: If the name is taken, or cannot be that of a file.
    """
    BOTTLENECKS.register(name, build)
