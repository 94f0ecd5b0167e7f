"""Our family for small colour images.

A convolutional encoder before the fully connected decoder and critic.

On CIFAR-10 at 60 bits, after 124 seconds of one core: validation MSE .01759 (13 epochs), where
`compact` has .01982 (30 epochs).
"""

from __future__ import annotations

import math

from torch import nn

from quadrate.errors import QuadrateError
from quadrate.networks import compact
from quadrate.networks.compact import Shape

decoder = compact.decoder
critic = compact.critic

_WIDTHS = (32, 64, 128)  # channels at a half, a quarter and an eighth of the size


def encoder(shape: Shape, dim: int) -> nn.Module:
    """Images (N, C, H, W) in [0, 1] to latents (N, dim) in [-1, 1].

    Raises:
        QuadrateError: Height and width are not even, or below 8.
    """
    channels, height, width = shape
    if height % 2 or width % 2 or min(height, width) < 8:
        raise QuadrateError(
            "the family `compact-colour` takes images of even sizes from 8x8 on, not of"
            f" {height}x{width}; `compact` takes any shape"
        )
    layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
    for fan_in, fan_out, stride in (
        (4 * channels, _WIDTHS[0], 1),
        (_WIDTHS[0], _WIDTHS[1], 2),
        (_WIDTHS[1], _WIDTHS[2], 2),
    ):
        layers += [
            nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.LeakyReLU(),
        ]
    cells = math.ceil(height / 8) * math.ceil(width / 8)
    layers += [
        nn.Flatten(),
        nn.Linear(_WIDTHS[2] * cells, 256, bias=False),
        nn.BatchNorm1d(256),
        nn.LeakyReLU(),
    ]
    return nn.Sequential(*layers, nn.Linear(256, dim, bias=False), nn.BatchNorm1d(dim), nn.Tanh())
