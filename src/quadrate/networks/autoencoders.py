"""The networks of invariant compressors: perceptrons for vectors, convolutions for images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from quadrate.config import InvariantNetwork
from quadrate.core.resample import resample
from quadrate.errors import QuadrateError
from quadrate.networks.layers import convolution, dense, perceptron


class _Centred(nn.Module):
    """Images in [0, 1] to rows of numbers in [-1, 1]; other samples to rows as they are."""

    def __init__(self, images: bool) -> None:
        super().__init__()
        self.images = images

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1).float()
        return rows * 2 - 1 if self.images else rows


class SpatialTransformer(nn.Module):
    """Move each image by an affine map that a small network chooses (Jaderberg et al. 2015).

    What is encoded for invariant tasks has no pose, so the encoder does well to undo it first. VIC
    on augmented MNIST then reaches in 12 epochs what convolutions alone reach in more than twice
    as many. Maps start as the identity.

    Args:
        shape: (C, H, W) of the images.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        channels, cells = _image("convolutional", shape)
        self.pose = nn.Sequential(
            *convolution(channels, 16, 5, 2),
            *convolution(16, 32, 3, 2),
            *convolution(32, 32, 3, 2),
            nn.Flatten(),
            *dense(32 * cells, 64),
            nn.Linear(64, 6),
        )
        for parameter in self.pose[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W), float32."""
        maps = self.pose(x)  # (N, 6)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would move pixels
            inverse = maps.float().unflatten(1, (2, 3)) + torch.eye(2, 3, device=x.device)
            return resample(x.float(), inverse).contiguous(memory_format=torch.channels_last)


def encoder(name: InvariantNetwork, shape: Sequence[int], dims: int) -> nn.Module:
    """Samples (n, *shape), images in [0, 1], to latents (n, dims).

    Raises:
        QuadrateError: If the network is unknown, or does not take samples of that shape.
    """
    if name == "perceptron":
        layers = perceptron((math.prod(shape), 256, 256), nn.SiLU)
        return nn.Sequential(_Centred(len(shape) == 3), *layers, nn.Linear(256, dims))
    channels, cells = _image(name, shape)
    body = [
        *convolution(channels, 32, 5, 2),
        *convolution(32, 64, 3, 2),
        *convolution(64, 64, 3),
        *convolution(64, 128, 3, 2),
        *convolution(128, 128, 3),
    ]
    upright = SpatialTransformer(shape)
    end = [nn.Flatten(), *dense(128 * cells, 256), nn.Linear(256, dims)]
    return nn.Sequential(upright, *body, *end)


def decoder(name: InvariantNetwork, shape: Sequence[int], dims: int) -> nn.Module:
    """What is received, (n, dims), to samples (n, *shape); of images logits."""
    if name == "perceptron":
        layers = perceptron((dims, 256, 256), nn.SiLU)
    else:
        _image(name, shape)
        # A representative has its own place and pose, so convolutions would be of no use; dense
        # layers are as good, and cheaper.
        layers = dense(dims, 256) + dense(256, 512)
    last = nn.Linear(256 if name == "perceptron" else 512, math.prod(shape))
    return nn.Sequential(*layers, last, nn.Unflatten(1, tuple(shape)))


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
