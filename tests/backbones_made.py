"""Backbones with made-up weights, and images for them."""

import functools

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from quadrate.networks.backbones import (
    BackboneSpec,
    EfficientNetLite0,
    Preprocessing,
    ResNet50,
    Weights,
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


def lite() -> EfficientNetLite0:
    torch.manual_seed(0)
    return varied(EfficientNetLite0())


@functools.cache
def resnet() -> ResNet50:
    torch.manual_seed(0)
    return varied(ResNet50())


class Thumbnail(nn.Module):
    """A backbone whose features are a picture of 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * avg_pool2d(x, 8).flatten(1)


THUMBNAIL = BackboneSpec(
    "thumbnail",
    48,
    Preprocessing(32, (0.0,) * 3, (1.0,) * 3),
    Weights("none", "0" * 64),
    lambda place: Thumbnail(),
)
