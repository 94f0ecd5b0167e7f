"""Classifiers, cheap enough to be trained afresh as independent judges.

All give logits, and the activations just before them.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from quadrate.errors import QuadrateError
from quadrate.networks.compact import Shape
from quadrate.networks.layers import convolution, dense, perceptron


class Classifier(nn.Module):
    """A body that makes features, and a linear head that reads the class off them.

    Args:
        body: Images (N, C, H, W) in [0, 1] to features (N, F).
        head: The linear layer from F features to the logits of the classes.
    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the penultimate activations (N, F)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        return self.head(self.body(x))


class ConvClassifier(Classifier):
    """Two strided convolutions, a third, and one hidden layer, all with batch norm and ReLU.

    On MNIST an epoch takes 7 s of one core, and five of them reach 99.4 %. Strides rather than
    max-pooling: cheaper here, and without the scattered additions that make training on a GPU
    differ from run to run.

    Raises:
        QuadrateError: If the images are smaller than 8×8.
    """

    def __init__(self, shape: Shape, classes: int) -> None:
        channels, height, width = _checked(shape, "conv")
        cells = math.ceil(height / 4) * math.ceil(width / 4)
        body = nn.Sequential(
            *convolution(channels, 16, 5, 2),
            *convolution(16, 32, 3, 2),
            *convolution(32, 64, 3),
            nn.Flatten(),
            *dense(64 * cells, 128),
        )
        super().__init__(body, nn.Linear(128, classes))


class DenseClassifier(Classifier):
    """Fully connected with ReLU and without normalization.

    With widths (128, 64) on 28×28 it is the MNIST classifier of RDPC (Wang et al. 2025).
    """

    def __init__(self, shape: Shape, classes: int, widths: tuple[int, ...] = (512, 256)) -> None:
        body = nn.Sequential(nn.Flatten(), *perceptron((math.prod(shape), *widths)))
        super().__init__(body, nn.Linear(widths[-1], classes))


class ResidualClassifier(Classifier):
    """A strided convolution and three residual blocks (He et al. 2016), for colour images.

    On CIFAR-10 six epochs take 163 s of one core and reach 77.6 %, where the conv classifier
    reaches 73.1 % in 40 s.

    Raises:
        QuadrateError: If the images are smaller than 8×8.
    """

    def __init__(self, shape: Shape, classes: int) -> None:
        body = nn.Sequential(
            *convolution(_checked(shape, "residual")[0], 32, 5, 2),
            _Residual(32, 64, 2),
            _Residual(64, 128, 2),
            _Residual(128, 128, 1),
            _Mean(),
        )
        super().__init__(body, nn.Linear(128, classes))


class StridedClassifier(Classifier):
    """Three 3×3 convolutions with stride 2 and ReLU, without normalization or a hidden layer.

    The cheapest one that sees shapes.

    Raises:
        QuadrateError: If the images are smaller than 8×8.
    """

    def __init__(self, shape: Shape, classes: int) -> None:
        channels, *sides = _checked(shape, "strided")
        widths = (channels, 16, 32, 64)
        layers = [
            layer
            for pair in pairwise(widths)
            for layer in (nn.Conv2d(*pair, 3, stride=2, padding=1), nn.ReLU())
        ]
        features = widths[-1] * math.prod(math.ceil(side / 8) for side in sides)
        super().__init__(nn.Sequential(*layers, nn.Flatten()), nn.Linear(features, classes))


class LeNetClassifier(Classifier):
    """LeNet-5 of LeCun, Bottou, Bengio and Haffner (1998), as it is mostly built today.

    Pixels between -0.1 and 1.175, 5×5 convolutions to 6 and 16 channels, each with tanh and 2×2
    average pooling, then 120-84-classes with tanh: neither batch norm nor ReLU. Unlike in the
    original, pooling has no weights, every channel sees all channels before it, and the last layer
    gives logits; that makes 61,706 weights for 28×28 pixels and 10 classes. In images below 16
    pixels the second convolution pads, too, since it would leave nothing of them otherwise.

    On MNIST ten epochs take 85 s of one core of a busy machine, and reach 98.8 to 98.9 %.

    Raises:
        QuadrateError: If the images are smaller than 8×8.
    """

    def __init__(self, shape: Shape, classes: int) -> None:
        channels, *sides = _checked(shape, "lenet")
        padding = 0 if min(sides) >= 16 else 2
        cells = math.prod((side // 2 - 4 + 2 * padding) // 2 for side in sides)
        body = nn.Sequential(
            _Scaled(),
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5, padding=padding),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            *perceptron((16 * cells, 120, 84), nn.Tanh),
        )
        super().__init__(body, nn.Linear(84, classes))


def _checked(shape: Shape, name: str) -> Shape:
    if min(shape[1:]) < 8:
        raise QuadrateError(
            f"the {name} classifier needs images of at least 8x8 pixels, not"
            f" {shape[1]}x{shape[2]}; the dense one takes any shape"
        )
    return shape


class _Scaled(nn.Module):
    """Pixels from [0, 1] to [-0.1, 1.175], which gives digits about mean 0 and variance 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.275 * x - 0.1


class _Mean(nn.Module):
    """(N, C, H, W) to means over the pixels (N, C); adaptive pooling would scatter its sums."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class _Residual(nn.Module):
    """relu(x + f(x)), f two convolutions; x goes through a 1×1 convolution where shapes change."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        both = convolution(fan_in, fan_out, 3, stride) + convolution(fan_out, fan_out, 3)
        self.body = nn.Sequential(*both[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or fan_in != fan_out:
            self.shortcut = nn.Sequential(*convolution(fan_in, fan_out, 1, stride)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, fan_out, H / stride, W / stride)."""
        return functional.relu(self.shortcut(x) + self.body(x))
