"""The networks of invariant compressors, by name.

Vectors and small patterns take perceptrons, images convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from quadrate.config import InvariantNetwork
from quadrate.errors import QuadrateError
from quadrate.sources.symmetry.augment import resample


class _Centred(nn.Module):
    """Images in [0, 1] to rows of numbers in [-1, 1]; other samples to rows as they are."""

    def __init__(self, images: bool) -> None:
        super().__init__()
        self.images = images

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1).float()
        return rows * 2 - 1 if self.images else rows


class Upright(nn.Module):
    """A spatial transformer (Jaderberg et al. 2015).

    Images under an affine map each that a small network chooses, at first none.

    What is encoded for invariant tasks has no pose, so the encoder had best undo it first: with it
    VIC reaches on augmented MNIST in 12 epochs what takes the convolutions alone more than twice as
    many.

    Args:
        shape: (C, H, W) of the images.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        channels, cells = _image("convolutional", shape)
        body = _convolutions([(channels, 16, 5, 2), (16, 32, 3, 2), (32, 32, 3, 2)])
        self.pose = nn.Sequential(*body, nn.Flatten(), *_normed(32 * cells, 64), nn.Linear(64, 6))
        for parameter in self.pose[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W), float32."""
        maps = self.pose(x)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would move pixels
            inverse = maps.float().unflatten(1, (2, 3)) + torch.eye(2, 3, device=x.device)
            return resample(x.float(), inverse).contiguous(memory_format=torch.channels_last)


def encoder(name: InvariantNetwork, shape: Sequence[int], dims: int) -> nn.Module:
    """Samples (n, *shape), images in [0, 1], to latents (n, dims).

    Raises:
        QuadrateError: If there is no such network, or it does not take samples of that shape.
    """
    if name == "perceptron":
        return nn.Sequential(
            _Centred(len(shape) == 3), *_perceptron(math.prod(shape), dims, (256, 256))
        )
    channels, cells = _image(name, shape)
    body = _convolutions(
        [(channels, 32, 5, 2), (32, 64, 3, 2), (64, 64, 3, 1), (64, 128, 3, 2), (128, 128, 3, 1)]
    )
    return nn.Sequential(
        Upright(shape), *body, nn.Flatten(), *_normed(128 * cells, 256), nn.Linear(256, dims)
    )


def decoder(name: InvariantNetwork, shape: Sequence[int], dims: int) -> nn.Module:
    """What is received, (n, dims), to samples (n, *shape); of images logits."""
    if name == "perceptron":
        layers = _perceptron(dims, math.prod(shape), (256, 256))
    else:
        _image(name, shape)
        # A representative has a place and a pose of its own, so what convolutions are good for is
        # not needed: a dense one is as good, and cheaper.
        layers = [*_normed(dims, 256), *_normed(256, 512), nn.Linear(512, math.prod(shape))]
    return nn.Sequential(*layers, nn.Unflatten(1, tuple(shape)))


def _perceptron(fan_in: int, fan_out: int, widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in zip((fan_in, *widths[:-1]), widths, strict=True):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return [*layers, nn.Linear(widths[-1], fan_out)]


def _convolutions(layers: Sequence[tuple[int, int, int, int]]) -> list[nn.Module]:
    """Channels in, channels out, kernel and stride of each."""
    modules: list[nn.Module] = []
    for fan_in, fan_out, kernel, stride in layers:
        modules += [
            nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(),
        ]
    return modules


def _normed(fan_in: int, fan_out: int) -> list[nn.Module]:
    return [nn.Linear(fan_in, fan_out, bias=False), nn.BatchNorm1d(fan_out), nn.ReLU()]


def _image(name: str, shape: Sequence[int]) -> tuple[int, int]:
    """Channels, and the cells that three strides of two leave."""
    if name != "convolutional":
        raise QuadrateError(
            f"unknown network {name!r} of an invariant compressor; known: perceptron, convolutional"
        )
    if len(shape) != 3:
        raise QuadrateError(
            "the convolutional network takes images (C, H, W); got samples of shape"
            f" {tuple(shape)}: use the perceptron"
        )
    return shape[0], math.ceil(shape[1] / 8) * math.ceil(shape[2] / 8)
