"""The published networks of uRDP (Zhang et al. 2021) and RDPC (Wang et al. 2025).

Both share their encoders, decoders and critics. There are two sets: one for 1×28×28 images (MNIST,
Fashion-MNIST) and one for 3×32×32 (SVHN). Every layer stands in the published order, which is how
published checkpoints are read (`quadrate.networks.published_weights`).
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from quadrate.errors import QuadrateError
from quadrate.networks.classifiers import Classifier, DenseClassifier
from quadrate.networks.compact import Shape
from quadrate.networks.layers import dense

MNIST: Shape = (1, 28, 28)
SVHN: Shape = (3, 32, 32)


def encoder(shape: Shape, dim: int) -> nn.Module:
    """Images (N, C, H, W) in [0, 1] to latents (N, dim) in [-1, 1].

    585,097 parameters for MNIST and dim 3, 1,070,218 for SVHN and dim 10.

    Raises:
        QuadrateError: If there is no published network for this shape.
    """
    if _published(shape, "encoder") == MNIST:
        widths = [784, 512, 256, 128, 128]
        layers = [layer for pair in pairwise(widths) for layer in _dense(*pair)]
        # The norm before the tanh keeps the latents spread over all levels of the quantizer.
        return nn.Sequential(nn.Flatten(), *layers, *dense(128, dim, nn.Tanh, bias=True))
    return nn.Sequential(*_strided(3), nn.Linear(4096, dim), nn.Tanh())


def decoder(shape: Shape, dim: int) -> nn.Module:
    """Received latents z - u (N, dim) to images (N, C, H, W) in [0, 1].

    326,465 parameters for MNIST and dim 3, 645,383 for SVHN and dim 10.

    Raises:
        QuadrateError: If there is no published network for this shape.
    """
    growing: list[nn.Module]  # 4×4 to 25×25 or 29×29
    if _published(shape, "decoder") == MNIST:
        growing = [*_transposed(32, 64, stride=2), *_transposed(64, 128, stride=2)]
    else:
        growing = [*_transposed(32, 64, stride=2), *_transposed(64, 108, stride=2)]
        growing += _transposed(108, 128, stride=1)
    start = [*_dense(dim, 128), *_dense(128, 512), nn.Unflatten(1, (32, 4, 4))]
    last = nn.ConvTranspose2d(128, shape[0], kernel_size=4)
    return nn.Sequential(*start, *growing, last, nn.Sigmoid())


def critic(shape: Shape) -> nn.Module:
    """Images (N, C, H, W) to scores (N,), without normalisation.

    1,030,145 parameters for MNIST, 1,033,345 for SVHN.

    Raises:
        QuadrateError: If there is no published network for this shape.
    """
    channels = _published(shape, "critic")[0]
    return nn.Sequential(*_strided(channels), nn.Linear(4096, 1), nn.Flatten(0))


def classifier(shape: Shape, classes: int) -> Classifier:
    """RDPC's classifiers: images (N, C, H, W) in [0, 1] to logits (N, classes).

    The MNIST original gives their log-softmax instead.

    MNIST: fully connected 784-128-64-classes; SVHN: six 3×3 convolutions in pairs before each
    halving, then 4096-1024-512-classes.

    Raises:
        QuadrateError: If there is no published network for this shape.
    """
    if _published(shape, "classifier") == MNIST:
        return DenseClassifier(shape, classes, widths=(128, 64))
    layers: list[nn.Module] = []
    for fan_in, middle, fan_out in [(3, 32, 64), (64, 128, 128), (128, 256, 256)]:
        layers += [
            nn.Conv2d(fan_in, middle, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(middle, fan_out, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    layers += [nn.Flatten(), nn.Linear(4096, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU()]
    return Classifier(nn.Sequential(*layers), nn.Linear(512, classes))


def _published(shape: Shape, what: str) -> Shape:
    if shape not in (MNIST, SVHN):
        size = "x".join(map(str, shape))
        other = "the family `compact` takes"
        if what == "classifier":
            other = "the classifiers `conv` and `dense` take"
        raise QuadrateError(
            f"there is a published {what} for images of 1x28x28 and of 3x32x32 only, not of {size};"
            f" {other} any shape"
        )
    return shape


def _dense(fan_in: int, fan_out: int) -> list[nn.Module]:
    return dense(fan_in, fan_out, nn.LeakyReLU, bias=True)


def _transposed(fan_in: int, fan_out: int, stride: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(fan_in, fan_out, kernel_size=5, stride=stride),
        nn.BatchNorm2d(fan_out),
        nn.LeakyReLU(),
    ]


def _strided(channels: int) -> list[nn.Module]:
    """Images to 4096 numbers, 256 channels of 4×4: the start of critics and the SVHN encoder."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in [(channels, 64), (64, 128), (128, 256)]:
        layers += [nn.Conv2d(fan_in, fan_out, kernel_size=5, stride=2, padding=2), nn.LeakyReLU()]
    return [*layers, nn.Flatten()]
