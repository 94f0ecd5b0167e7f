"""The variational bottleneck with a unit Gaussian as its prior: a penalty without a code."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.errors import QuadrateError

_LEAST_STD = 1e-5


class UnitGaussianBottleneck(nn.Module):
    """Send a sample of N(mean, std²), priced by the divergence from N(0, I).

    This rate bounds I(X;Z) from above (Alemi et al. 2017).

    Args:
        dims: d; latents have 2d numbers, the means and then those that a softplus turns into
            standard deviations.
    """

    has_learned_rate = True
    surrogate_is_exact = True

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.shape, self.latent_shape = (dims,), (2 * dims,)
        self.noise_columns = dims

    def forward(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents to what is received, and the rate.

        Args:
            latents: (..., n, 2d).
            noise: Uniform on [-1/2, 1/2), (..., n, d).

        Returns:
            (..., n, d), and nats a sample (..., n).

        Raises:
            QuadrateError: If latents are not (..., n, 2d).
        """
        if latents.shape[-1:] != self.latent_shape:
            raise QuadrateError(
                f"this bottleneck takes means and deviations, (n, {self.latent_shape[0]}); got"
                f" {tuple(latents.shape)}"
            )
        mean, raw = latents.chunk(2, dim=-1)  # (..., n, d) each
        std = F.softplus(raw) + _LEAST_STD
        nats = 0.5 * (mean.square() + std.square() - 1) - torch.log(std)
        tiny = torch.finfo(noise.dtype).eps / 4  # so that no end of the interval is infinitely far
        normal = torch.special.ndtri((noise + 0.5).clamp(tiny, 1 - 2 * tiny))  # (..., n, d)
        return mean + std * normal, nats.sum(-1)

    def quantize(self, latents: Tensor, noise: Tensor) -> NoReturn:
        """Raise a QuadrateError: there are no symbols."""
        self.freeze()

    def dequantize(self, symbols: Tensor, noise: Tensor) -> NoReturn:
        """Raise a QuadrateError: there are no symbols."""
        self.freeze()

    def freeze(self, latents: object = None, before: object = ()) -> NoReturn:
        """Raise a QuadrateError: there is nothing to freeze."""
        raise QuadrateError(
            "a unit-Gaussian bottleneck has no code: its rate is a divergence between densities,"
            " and its samples are real numbers, not symbols; train a factorized or a hyperprior"
            " bottleneck for files"
        )
