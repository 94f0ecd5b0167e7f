"""Batched random changes of geometry and colour, on the device of the images.

Each image has its own random parameters; geometry is one resampling, colours are RGB float32 in [0,
1]. Coordinates span [-1, 1] in both directions, x to the right and y down: pixel i of W is at (2i +
1)/W − 1. Interpolation is bilinear, without antialiasing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL converts to grey
# Draws of a crop until one fits; with CIFAR's ranges all fail once in some three million crops.
_ATTEMPTS = 10


class Geometry(ABC):
    """A random affine map of the plane."""

    @abstractmethod
    def inverse(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Draw `count` maps from points of the result to points of the image, (count, 2, 3).

        On the generator's device.
        """


class Colour(ABC):
    """A random change of an image's colours."""

    @abstractmethod
    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Change each image of (N, 3, H, W) by its own draw; `x` itself is not changed."""


@dataclass(frozen=True)
class Affine(Geometry):
    """Translation, then rotation, scaling and horizontal shear about the middle, each uniform.

    Attributes:
        translate: The largest, in both directions, as a share of the width and of the height.
        degrees: The largest rotation, in both directions.
        scale: The least and the largest.
        shear_degrees: The largest, in both directions: x moves by tan(shear)·y.
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
        first = [cosine, (sine - cosine * shear) * aspect, -2 * self.translate * shift_x]
        second = [-sine / aspect, cosine + sine * shear, -2 * self.translate * shift_y]
        return torch.stack([torch.stack(first, 1), torch.stack(second, 1)], 1)


@dataclass(frozen=True)
class ResizedCrop(Geometry):
    """A random box inside the image, enlarged to its size.

    The share of the area is uniform, the aspect ratio log-uniform, the place uniform and not on
    whole pixels. Boxes that do not fit are drawn again.

    Attributes:
        scale: The least and the largest share of the area.
        ratio: The least and the largest ratio of width to height.
    """

    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (0.7, 1.4)

    def inverse(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """See `Geometry`."""
        area, ratio = _uniform((2, count, _ATTEMPTS), generator).unbind(0)
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * area
        ratio = self.ratio[0] * (self.ratio[1] / self.ratio[0]) ** ratio * (height / width)
        # Shares of width and height, (count, attempts, 2).
        sizes = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=2)
        fits = (sizes <= 1).all(2)
        first = fits.int().argmax(1)
        chosen = sizes[torch.arange(count, device=sizes.device), first]
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
    """Brightness, contrast, saturation and hue in a random order, with some probability.

    Attributes:
        brightness: Factors are uniform on [max(0, 1 − brightness), 1 + brightness].
        contrast: As brightness.
        saturation: As brightness.
        hue: Shifts are uniform on [−hue, hue], in turns of the colour circle.
        probability: The probability that an image is changed.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.2
    probability: float = 0.8

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """See `Colour`."""
        spreads = self.brightness, self.contrast, self.saturation
        lows = torch.tensor([*(max(0.0, 1 - spread) for spread in spreads), -self.hue])
        highs = torch.tensor([*(1 + spread for spread in spreads), self.hue])
        lows, spans = lows.to(generator.device), (highs - lows).to(generator.device)
        amounts = lows + spans * _uniform((len(x), 4), generator)
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
    """The inverse map (N, 2, 3) of several (N, 2, 3); the first acts on the image first."""
    total = maps[0]
    for matrix in maps[1:]:
        # Not as a matrix product, which autocast would round.
        product = (total[:, :, :2, None] * matrix[:, None]).sum(2)
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
    """The hue of HSV shifted by (N,) turns of the colour circle; 0 and 1 change nothing."""
    red, green, blue = x.unbind(1)
    highest = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = highest - lowest
    scale = 1 / chroma.clamp(min=1e-12)  # without chroma the hue does not matter
    angle = torch.where(highest == blue, (red - green) * scale + 4, 0)
    angle = torch.where(highest == green, (blue - red) * scale + 2, angle)
    angle = torch.where(highest == red, (green - blue) * scale, angle)
    angle = (angle + 6 * turns[:, None, None]).remainder_(6)
    # The share of the chroma in each channel around the circle: a trapezium of height 1, centred on
    # 0, 2 and 4 sixths of a turn.
    sides = [(angle - 3).abs_() - 1, 2 - (angle - 2).abs_(), 2 - (angle - 4).abs_()]
    shares = torch.stack(sides, dim=1).clamp_(0, 1)
    return torch.addcmul(lowest[:, None], chroma[:, None], shares).clamp_(0, 1)


def _each(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)
