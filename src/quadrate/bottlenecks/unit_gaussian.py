"""The variational bottleneck with a unit Gaussian as its prior.

A bound on the information, and no code.
"""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.errors import QuadrateError

_LEAST_STD = 1e-5


class UnitGaussianBottleneck(nn.Module):
    """Sends a sample of N(mean, std²), priced by the divergence from N(0, I), which bounds I(X;Z)
    from above (Alemi et al. 2017).

    Args:
        dims: d; latents have 2d numbers, the means and then what a softplus makes the standard
            deviations of.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims

    @property
    def noise_columns(self) -> int:
        """Columns of the noise that training takes, d."""
        return self.dims

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents to what is received, and the rate.

        Args:
            latent: (n, 2d).
            noise: Uniform on [-1/2, 1/2), (n, d), for training; by default the means are received.

        Returns:
            (n, d), and nats a sample (n,).

        Raises:
            QuadrateError: If latents are not (n, 2d).
        """
        if latent.ndim != 2 or latent.shape[1] != 2 * self.dims:
            raise QuadrateError(
                f"this bottleneck takes means and deviations, (n, {2 * self.dims}); got"
                f" {tuple(latent.shape)}"
            )
        mean, raw = latent.chunk(2, dim=1)
        std = F.softplus(raw) + _LEAST_STD
        nats = 0.5 * (mean.square() + std.square() - 1) - torch.log(std)
        if noise is None:
            return mean, nats.sum(1)
        tiny = (
            torch.finfo(noise.dtype).eps / 4
        )  # so that neither end of the interval is infinitely far away
        return mean + std * torch.special.ndtri((noise + 0.5).clamp(tiny, 1 - 2 * tiny)), nats.sum(
            1
        )

    def freeze(self) -> NoReturn:
        """Raises a QuadrateError: there is nothing to freeze."""
        raise QuadrateError(
            "a unit-Gaussian bottleneck has no code: its rate is a divergence between densities,"
            " and its samples are real numbers, not symbols; train a factorized or a hyperprior"
            " bottleneck for files"
        )
