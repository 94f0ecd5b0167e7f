"""Networks that read the base of photographs: what is in the picture, without a pixel."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate

from quadrate.networks.layers import convolution

SIDE = 16  # of the grid


def on_a_grid(base: Tensor) -> Tensor:
    """The base's coefficients of a photograph, (h, w, c), on a square grid, (c, 16, 16).

    A grid of one size lets photographs of any sizes stand in one batch; long ones are squeezed.
    """
    maps = base.permute(2, 0, 1)[None]
    return interpolate(maps, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[0]


class LatentReader(nn.Module):
    """The base of photographs to what is read from it: logits of classes, or a backbone's features.

    Six convolutions of 3 x 3, two of them with strides, and a mean over the sites: about six
    million multiplications a photograph.

    Args:
        channels: Of the base.
        outputs: How many numbers it reads.
        width: Maps of the first layers.
        mean: (c,), of each channel's coefficients.
        std: (c,), likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, outputs: int, width: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])
        widths = (channels, width, width, 2 * width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for number, (fan_in, fan_out) in enumerate(pairwise(widths)):
            layers += convolution(fan_in, fan_out, 3, 2 if number in (2, 4) else 1)
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, outputs)

    def forward(self, base: Tensor) -> Tensor:
        """Grids (n, c, 16, 16), in gray levels, to (n, outputs)."""
        return self.head(self.body((base - self.mean) / self.std).mean((2, 3)))
