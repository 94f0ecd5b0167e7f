"""What a bottleneck is in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from quadrate.bottlenecks.by_name import Shape
from quadrate.bottlenecks.frozen import FrozenBottleneck

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
