"""Backbones with made-up weights, and images for them."""

import functools

import numpy as np
import torch
from torch import nn

from quadrate.networks.backbones import (
    EfficientNetLite0,
    ResNet50,
)


def images(count: int = 3, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    )


def varied(network: nn.Module) -> nn.Module:
    """The network with batch norms that have seen something, so that leaving one out shows."""
    generator = torch.Generator().manual_seed(1)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor, low, high in (
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.2, 0.2),
            (norm.running_mean, -0.2, 0.2),
            (norm.running_var, 0.5, 2),
        ):
            tensor.data.uniform_(low, high, generator=generator)
    return network.eval()


@functools.cache
def lite() -> EfficientNetLite0:
    torch.manual_seed(0)
    return varied(EfficientNetLite0())


@functools.cache
def resnet() -> ResNet50:
    torch.manual_seed(0)
    return varied(ResNet50())
