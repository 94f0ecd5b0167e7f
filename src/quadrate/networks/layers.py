"""Layers that several networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

Activation = Callable[[], nn.Module]


def dense(
    fan_in: int, fan_out: int, activation: Activation = nn.ReLU, bias: bool = False
) -> list[nn.Module]:
    """A linear layer, batch norm (whose shift makes a bias needless) and activation."""
    return [nn.Linear(fan_in, fan_out, bias=bias), nn.BatchNorm1d(fan_out), activation()]


def convolution(
    fan_in: int, fan_out: int, kernel: int, stride: int = 1, activation: Activation = nn.ReLU
) -> list[nn.Module]:
    """A convolution to ceil(size / stride) pixels, batch norm and activation."""
    return [
        nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(fan_out),
        activation(),
    ]


def perceptron(widths: Sequence[int], activation: Activation = nn.ReLU) -> list[nn.Module]:
    """Linear layers, each with its activation, without normalization."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return layers
