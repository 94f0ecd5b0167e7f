"""Our default family: fully connected, so that a step on a CPU costs a few matrix products."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from quadrate.networks.layers import dense, perceptron

Shape = tuple[int, int, int]


def encoder(shape: Shape, dim: int) -> nn.Module:
    """Images (N, C, H, W) in [0, 1] to latents (N, dim) in [-1, 1]."""
    widths = [math.prod(shape), 512, 256, 128, 128]
    layers = [layer for pair in pairwise(widths) for layer in dense(*pair, nn.LeakyReLU)]
    return nn.Sequential(nn.Flatten(), *layers, *dense(widths[-1], dim, nn.Tanh))


def decoder(shape: Shape, dim: int) -> nn.Module:
    """Received latents (N, dim) to images (N, C, H, W) in [0, 1]."""
    widths = [dim, 128, 256, 512]
    layers = [layer for pair in pairwise(widths) for layer in dense(*pair, nn.LeakyReLU)]
    return nn.Sequential(
        *layers, nn.Linear(widths[-1], math.prod(shape)), nn.Sigmoid(), nn.Unflatten(1, shape)
    )


class Critic(nn.Module):
    """A critic without normalization over the batch, as the gradient penalty is one per sample.

    Args:
        shape: (C, H, W) of the images.
        widths: Of the hidden layers.
    """

    def __init__(self, shape: Shape, widths: tuple[int, ...] = (512, 256)) -> None:
        super().__init__()
        layers = perceptron((math.prod(shape), *widths), partial(nn.LeakyReLU, 0.2))
        self.body = nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N,)."""
        return self.body(x).squeeze(-1)


def critic(shape: Shape) -> nn.Module:
    """Images (N, C, H, W) to scores (N,)."""
    return Critic(shape)
