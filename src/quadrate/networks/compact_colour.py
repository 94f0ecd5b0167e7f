"""Our family for small colour images: a convolutional encoder, and decoder and critic of `compact`.

On CIFAR-10 at 60 bits, after 124 seconds of one core, its validation MSE is .01759 (13 epochs);
that of `compact` is .01982 (30 epochs).
"""

from __future__ import annotations

import math

from torch import nn

from quadrate.errors import QuadrateError
from quadrate.networks import compact
from quadrate.networks.compact import Shape
from quadrate.networks.layers import convolution, dense

decoder = compact.decoder
critic = compact.critic

_WIDTHS = (32, 64, 128)  # channels at a half, a quarter and an eighth of the size


def encoder(shape: Shape, dim: int) -> nn.Module:
    """Images (N, C, H, W) in [0, 1] to latents (N, dim) in [-1, 1].

    Raises:
        QuadrateError: If height and width are not even, or are below 8.
    """
    channels, height, width = shape
    if height % 2 or width % 2 or min(height, width) < 8:
        raise QuadrateError(
            "the family `compact-colour` takes images of even sizes from 8x8 on, not of"
            f" {height}x{width}; `compact` takes any shape"
        )
    cells = math.ceil(height / 8) * math.ceil(width / 8)
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        *convolution(4 * channels, _WIDTHS[0], 3, 1, nn.LeakyReLU),
        *convolution(_WIDTHS[0], _WIDTHS[1], 3, 2, nn.LeakyReLU),
        *convolution(_WIDTHS[1], _WIDTHS[2], 3, 2, nn.LeakyReLU),
        nn.Flatten(),
        *dense(_WIDTHS[2] * cells, 256, nn.LeakyReLU),
        *dense(256, dim, nn.Tanh),
    )
