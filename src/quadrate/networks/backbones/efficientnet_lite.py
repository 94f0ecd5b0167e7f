"""EfficientNet-Lite0: a small ImageNet network whose 1280 pooled features run on one CPU core.

Tan and Le, "EfficientNet" (2019), in the Lite form of the TensorFlow model zoo (2020): inverted
residual blocks without squeeze-and-excitation, and ReLU6 for swish. The published weights were
trained in TensorFlow, whose "same" padding puts the odd pixel of a strided convolution right and
below; with PyTorch's symmetric padding the same weights see a picture shifted by half a pixel at
every stride.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

# (expansion, output channels, repeats, stride of the first, kernel)
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _FEATURES, _CLASSES = 32, 1280, 1000
_BATCH_NORM_EPS = 1e-3  # TensorFlow's, not PyTorch's 1e-5


class EfficientNetLite0(nn.Module):
    """Images (N, 3, H, W), pixels (v - 127) / 128 with v in 0..255, to features.

    Made for 224x224, and takes any size from 32 up.

    Attributes:
        body: The convolutions, to (N, 1280, H/32, W/32).
        head: The linear ImageNet classifier, (N, 1280) to (N, 1000).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, _STEM, 3, stride=2)]
        channels = _STEM
        for expansion, width, repeats, stride, kernel in _STAGES:
            for repeat in range(repeats):
                own = stride if repeat == 0 else 1
                layers.append(_Block(channels, width, expansion, kernel, own))
                channels = width
        self.body = nn.Sequential(*layers, _convolution(channels, _FEATURES, 1))
        self.head = nn.Linear(_FEATURES, _CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to the globally pooled activations (N, 1280), each in [0, 6]."""
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to ImageNet logits (N, 1000)."""
        return self.head(self.features(x))


class _Block(nn.Module):
    """MobileNetV2's inverted residual: expand 1x1, filter each channel, project 1x1.

    There is a bypass where shapes allow, and no activation at the end.
    """

    def __init__(self, fan_in: int, fan_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = fan_in * expansion
        expand = [_convolution(fan_in, wide, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            _convolution(wide, wide, kernel, stride, groups=wide),
            _convolution(wide, fan_out, 1, active=False),
        )
        self.bypass = stride == 1 and fan_in == fan_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.bypass else y


def _convolution(
    fan_in: int, fan_out: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    convolution = _SamePadded if stride > 1 else nn.Conv2d
    layers = [
        convolution(fan_in, fan_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(fan_out, eps=_BATCH_NORM_EPS),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if active else []))


class _SamePadded(nn.Conv2d):
    """A strided convolution, padded for ceil(size / stride) outputs as TensorFlow pads."""

    def forward(self, x: Tensor) -> Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        down, right = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:]
        )
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
