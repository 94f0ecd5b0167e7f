"""What a bottleneck is in training, and all of them by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from quadrate.bottlenecks.frozen import FROZEN, FrozenBottleneck, Shape, find_lazily
from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class Bottleneck(Protocol):
    """A bottleneck in training; it is also an `nn.Module`.

    Attributes:
        shape: What a receiver reads of one sample, (d,) or (c, h, w).
        latent_shape: What the encoder gives of one sample. It is `shape`, except where the encoder
            gives more than one number for each that is received, as means and deviations.
        noise_columns: How many uniform numbers a sample the surrogate takes.
        has_learned_rate: Whether the surrogate gives a rate; the rate of the others is fixed.
        surrogate_is_exact: Whether the surrogate's output is distributed exactly as what a
            receiver reads, as with dither. Otherwise decoders on a frozen encoder are trained on
            `dequantize(quantize(…))`.
    """

    @property
    def shape(self) -> Shape: ...  # noqa: D102
    @property
    def latent_shape(self) -> Shape: ...  # noqa: D102
    @property
    def noise_columns(self) -> int: ...  # noqa: D102
    @property
    def has_learned_rate(self) -> bool: ...  # noqa: D102
    @property
    def surrogate_is_exact(self) -> bool: ...  # noqa: D102

    def __call__(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Replace quantization by something differentiable.

        Args:
            latents: (..., n, *latent_shape).
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

    def freeze(
        self, latents: NDArray[np.float32] | None = None, before: Sequence[int] = ()
    ) -> FrozenBottleneck:
        """Fit or compute the integer tables.

        Args:
            latents: Of training samples, for bottlenecks whose tables are counted: (n, *shape), or
                flat with those of the layers before it, (n, len(before) + d). Columns of earlier
                layers that have no levels are not looked at.
            before: In a refinement, the levels of each column of the layers before; 0 for a column
                of a bottleneck that has no levels. The frozen model's `first` is its length.
        """
        ...


def _of_levels(path: str) -> Callable[..., Any]:
    """A builder that gives the levels of each dimension to a class in a module of bottlenecks."""

    def build(shape: Shape, levels: Sequence[int] = ()) -> Any:
        if levels and len(levels) != shape[0]:
            raise QuadrateError(f"latents of shape {shape} need {shape[0]} levels; got {levels}")
        return _at_sites(find_lazily(path)(levels), shape)

    return build


def _of_dims(path: str) -> Callable[[Shape], Any]:
    """A builder that gives d to a class in a module of bottlenecks."""
    return lambda shape: _at_sites(find_lazily(path)(shape[0]), shape)


def _at_sites(bottleneck: Any, shape: Shape) -> Any:
    """A bottleneck of vectors, or of maps, which share it among their sites."""
    if len(shape) == 1:
        return bottleneck
    return find_lazily("spatial:SpatialBottleneck")(bottleneck, shape)


BOTTLENECKS: Registry[Callable[..., Any]] = Registry(
    "bottleneck",
    {
        "dithered": _of_levels("dithered:DitheredQuantizer"),
        "factorized": _of_dims("factorized:FactorizedBottleneck.of_dims"),
        "hyperprior": _of_dims("hyperprior:HyperpriorBottleneck"),
        "lattice-z": _of_dims("lattice:ZBottleneck.of_dims"),
        "lattice-d4": _of_dims("lattice:D4Bottleneck.of_dims"),
        "lattice-e8": _of_dims("lattice:E8Bottleneck.of_dims"),
        "unit-gaussian": _of_dims("unit_gaussian:UnitGaussianBottleneck"),
    },
)
"""What builds a bottleneck from the shape of its latents, and from levels if its rate is fixed."""


def build_bottleneck(name: str, shape: Shape, levels: Sequence[int] = ()) -> Any:
    """Build the bottleneck of a name.

    Args:
        name: In the registry.
        shape: What a receiver reads of one sample, (d,) or (c, h, w).
        levels: The levels of each dimension or channel where they fix the rate; otherwise empty.

    Returns:
        An `nn.Module` that keeps the protocol `Bottleneck`.

    Raises:
        QuadrateError: If the name is unknown, or shape and levels are not right for it.
    """
    build = BOTTLENECKS.find(name)
    if not levels:
        return build(shape)
    if not takes_levels(name):
        raise QuadrateError(
            f"bottleneck {name!r} learns its rate: give dims instead of levels; got"
            f" levels={tuple(levels)}"
        )
    return build(shape, levels)


def takes_levels(name: str) -> bool:
    """Whether levels fix the rate of the bottleneck of a name, rather than that it is learned.

    Raises:
        QuadrateError: If the name is unknown.
    """
    try:
        inspect.signature(BOTTLENECKS.find(name)).bind((1,), (2,))
    except TypeError:
        return False
    return True


def register_bottleneck(
    name: str, build: Callable[..., Any], load: Callable[..., Any] | None = None
) -> None:
    """Register a bottleneck of your own under a name that configurations can give.

    Args:
        name: The name.
        build: Takes the shape of what is received of one sample, (d,) or (c, h, w), and the levels
            of each dimension if these fix the rate; returns an `nn.Module` that keeps the protocol
            `Bottleneck`.
        load: Takes a frozen model's arrays, its first column, and the levels of all columns;
            returns the model. Codec files find it by the model's `name`, which must be `name`. Not
            needed if `freeze` gives one of Quadrate's own models.

    Raises:
        QuadrateError: If the name is taken, or is not fit for a file.
    """
    BOTTLENECKS.register(name, build)
    if load:
        FROZEN.register(name, load)
