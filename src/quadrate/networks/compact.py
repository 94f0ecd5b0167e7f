"""Our default family: fully connected, so that a step on a CPU costs a few matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

Shape = tuple[int, int, int]


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear, batch norm, LeakyReLU for each pair of neighbouring widths.

    The norm's shift makes a bias needless.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out, bias=False), nn.BatchNorm1d(fan_out), nn.LeakyReLU()]
    return layers


def encoder(shape: Shape, dim: int) -> nn.Module:
    """Images (N, C, H, W) in [0, 1] to latents (N, dim) in [-1, 1]."""
    widths = [math.prod(shape), 512, 256, 128, 128]
    return nn.Sequential(
        nn.Flatten(),
        *_layers(widths),
        nn.Linear(widths[-1], dim, bias=False),
        nn.BatchNorm1d(dim),
        nn.Tanh(),
    )


def decoder(shape: Shape, dim: int) -> nn.Module:
    """Received latents (N, dim) to images (N, C, H, W) in [0, 1]."""
    widths = [dim, 128, 256, 512]
    return nn.Sequential(
        *_layers(widths),
        nn.Linear(widths[-1], math.prod(shape)),
        nn.Sigmoid(),
        nn.Unflatten(1, shape),
    )


class Critic(nn.Module):
    """Images (N, C, H, W) to scores (N,).

    Without normalisation over the batch, as the gradient penalty is one per sample.
    """

    def __init__(self, shape: Shape, widths: tuple[int, ...] = (512, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in zip((math.prod(shape), *widths[:-1]), widths, strict=True):
            layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N,)."""
        return self.body(x).squeeze(-1)


def critic(shape: Shape) -> nn.Module:
    """Images (N, C, H, W) to scores (N,)."""
    return Critic(shape)
