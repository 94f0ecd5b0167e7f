"""Batched geometry and colour on the images' device.

Random parameters for each image, one resampling, operations in RGB float32 in [0, 1].

Geometry works in coordinates where an image spans [-1, 1] each way, x to the right and y down, and
pixel i of W lies at (2i + 1)/W − 1. Interpolation is bilinear, without antialiasing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL converts to grey
# at a crop that fits into the image; with CIFAR's ranges all fail once in some three million crops
_ATTEMPTS = 10


class Geometry(ABC):
    """A random affine map of the plane."""

    @abstractmethod
    def inverse(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """`count` draws of the map from a point of the result to where its colour is found, (count, 2, 3), on the generator's device."""


class Colour(ABC):
    """A random change of an image's colours."""

    @abstractmethod
    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, 3, H, W), each under its own draw; `x` stays as it is."""


@dataclass(frozen=True)
class Affine(Geometry):
    """Translation, then rotation, scaling and horizontal shear about the middle, each uniform.

    Attributes:
        translate: Most, either way, as a share of the width and of the height.
        degrees: Most, either way.
        scale: Least and most.
        shear_degrees: Most, either way: x moves by tan(shear)·y.
    """

    translate: float = 0.0
    degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear_degrees: float = 0.0

    def inverse(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """See `Geometry`."""
        shift_x, shift_y, turn, lean = (2 * _uniform((4, count), generator) - 1).unbind(0)
        low, high = self.scale
        shrink = 1 / (low + (high - low) * _uniform((count,), generator))
        angle = math.radians(self.degrees) * turn
        shear = torch.tan(math.radians(self.shear_degrees) * lean)
        cosine, sine = shrink * angle.cos(), shrink * angle.sin()
        aspect = height / width  # turns and shears are of square pixels
        first = torch.stack(
            [cosine, (sine - cosine * shear) * aspect, -2 * self.translate * shift_x], dim=1
        )
        second = torch.stack(
            [-sine / aspect, cosine + sine * shear, -2 * self.translate * shift_y], dim=1
        )
        return torch.stack([first, second], dim=1)


@dataclass(frozen=True)
class ResizedCrop(Geometry):
    """A random box inside the image, enlarged to the whole.

    Share of the area uniform, aspect ratio log-uniform, place uniform, not on whole pixels.

    Boxes that do not fit are drawn again.

    Attributes:
        scale: Least and most share of the area.
        ratio: Least and most ratio of width to height.
    """

    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (0.7, 1.4)

    def inverse(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """See `Geometry`."""
        area, ratio = _uniform((2, count, _ATTEMPTS), generator).unbind(0)
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * area
        ratio = self.ratio[0] * (self.ratio[1] / self.ratio[0]) ** ratio * (height / width)
        sizes = torch.stack(
            [(area * ratio).sqrt(), (area / ratio).sqrt()], dim=2
        )  # (count, attempts, 2) shares of width and height
        fits = (sizes <= 1).all(2)
        chosen = sizes[
            torch.arange(count, device=sizes.device), fits.int().argmax(1)
        ]  # the first that fits
        chosen = torch.where(fits.any(1)[:, None], chosen, 1.0)
        middles = (1 - chosen) * (2 * _uniform((count, 2), generator) - 1)
        return torch.cat([torch.diag_embed(chosen), middles[:, :, None]], dim=2)


@dataclass(frozen=True)
class HorizontalFlip(Geometry):
    """A reflection, with some probability."""

    probability: float = 0.5

    def inverse(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """See `Geometry`."""
        flipped = _uniform((count,), generator) < self.probability
        matrices = torch.eye(2, 3, device=generator.device).repeat(count, 1, 1)
        matrices[:, 0, 0] = torch.where(flipped, -1.0, 1.0)
        return matrices


@dataclass(frozen=True)
class ColourJitter(Colour):
    """Brightness, contrast, saturation and hue in a random order, with some probability of any of
    it.

    Attributes:
        brightness: Factors are uniform on [max(0, 1 − brightness), 1 + brightness].
        contrast: Likewise.
        saturation: Likewise.
        hue: Shifts are uniform on [−hue, hue], in turns of the colour circle.
        probability: Of a change.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.2
    probability: float = 0.8

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """See `Colour`."""
        lows = torch.tensor(
            [
                *(
                    max(0.0, 1 - spread)
                    for spread in (self.brightness, self.contrast, self.saturation)
                ),
                -self.hue,
            ]
        )
        highs = torch.tensor(
            [1 + self.brightness, 1 + self.contrast, 1 + self.saturation, self.hue]
        )
        amounts = lows.to(generator.device) + (highs - lows).to(generator.device) * _uniform(
            (len(x), 4), generator
        )
        order = _uniform((len(x), 4), generator).argsort(dim=1)
        order[_uniform((len(x),), generator) >= self.probability] = -1  # no operation
        amounts, order, x = amounts.to(x.device), order.to(x.device), x.clone()
        for turn in range(4):
            for which, operation in enumerate((brightness, contrast, saturation, hue)):
                rows = (order[:, turn] == which).nonzero()[:, 0]
                x[rows] = operation(x[rows], amounts[rows, which])
        return x


@dataclass(frozen=True)
class RandomGrey(Colour):
    """All three channels to the luma, with some probability."""

    probability: float = 0.2

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """See `Colour`."""
        chosen = (_uniform((len(x),), generator) < self.probability).to(x.device)
        return torch.where(chosen[:, None, None, None], luma(x), x)


def compose(maps: Sequence[Tensor]) -> Tensor:
    """The inverse map of several, the first of which acts on the image first.

    (N, 2, 3) each, and (N, 2, 3).
    """
    total = maps[0]
    for matrix in maps[1:]:
        product = (total[:, :, :2, None] * matrix[:, None]).sum(
            2
        )  # not a matrix product, which autocast would round
        total = torch.cat([product[:, :, :2], product[:, :, 2:] + total[:, :, 2:]], dim=2)
    return total


def luma(x: Tensor) -> Tensor:
    """The grey of images (N, 3, H, W), (N, 1, H, W)."""
    red, green, blue = x.split(1, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Images (N, 3, H, W) times their factors (N,), clipped.

    0 is black, 1 changes nothing (PIL's ImageEnhance.Brightness).
    """
    return (x * _each(factor)).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Differences from the mean luma of each image times its factor, clipped.

    0 is flat grey, 1 changes nothing (ImageEnhance.Contrast).
    """
    mean = luma(x).mean(dim=(1, 2, 3))
    return torch.addcmul(_each((1 - factor) * mean), x, _each(factor)).clamp_(0, 1)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Differences from each pixel's luma times its image's factor, clipped.

    0 is a grey image, 1 changes nothing (ImageEnhance.Color).
    """
    return torch.addcmul(luma(x) * _each(1 - factor), x, _each(factor)).clamp_(0, 1)


def hue(x: Tensor, turns: Tensor) -> Tensor:
    """The hue of HSV shifted by (N,) turns of the colour circle, value and saturation kept.

    0 and 1 change nothing.
    """
    red, green, blue = x.unbind(1)
    highest = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = highest - lowest
    scale = 1 / chroma.clamp(min=1e-12)  # where there is no chroma the hue does not matter
    angle = torch.where(highest == blue, (red - green) * scale + 4, 0)
    angle = torch.where(highest == green, (blue - red) * scale + 2, angle)
    angle = torch.where(highest == red, (green - blue) * scale, angle)
    angle = (angle + 6 * turns[:, None, None]).remainder_(6)
    # The share of the chroma in each channel around the circle: a trapezium of height 1, centred on
    # 0, 2 and 4 sixths of a turn.
    shares = torch.stack(
        [(angle - 3).abs_() - 1, 2 - (angle - 2).abs_(), 2 - (angle - 4).abs_()], dim=1
    ).clamp_(0, 1)
    return torch.addcmul(lowest[:, None], chroma[:, None], shares).clamp_(0, 1)


def _each(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)
