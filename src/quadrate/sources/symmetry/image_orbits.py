"""The augmentations of MNIST and CIFAR-10 in Dubois et al. 2021, as groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from quadrate.core.resample import Padding, resample
from quadrate.errors import QuadrateError
from quadrate.sources.source import SPLIT_NAMES, Source, Split, fingerprint_of, pixels
from quadrate.sources.symmetry.augment import (
    Affine,
    Colour,
    ColourJitter,
    Geometry,
    HorizontalFlip,
    RandomGrey,
    ResizedCrop,
    compose,
)
from quadrate.sources.symmetry.group import Group, LabelOrbitSet, OrbitSet, OrbitSplits, prototypes


@dataclass(frozen=True)
class Augmentation(Group):
    """Random changes of images that keep their content.

    A member of an orbit is a change of the original image, which is the representative.

    Images are uint8, or floating point in [0, 1], (N, C, H, W); the result is float32 in [0, 1] of
    the same shape. All geometry is one bilinear resampling, so that images are not blurred twice or
    cut off in between. An image does not determine its original: M(x) is only known for the samples
    of an `OrbitSet`, as the sample's index.

    Attributes:
        geometry: The changes of geometry, in order.
        colour: The changes of colour, which come after them.
        padding: The values outside an image: zeros, or its nearest border pixel.
    """

    geometry: tuple[Geometry, ...] = ()
    colour: tuple[Colour, ...] = ()
    padding: Padding = "zeros"

    def sample_orbit(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Each image under its own random change, float32 (N, C, H, W).

        Raises:
            QuadrateError: If `x` is not images, or has no colours to change.
        """
        images = self.representative(x)
        if self.colour and images.shape[1] != 3:
            raise QuadrateError(
                "this augmentation changes colours, of images (N, 3, H, W); got"
                f" {tuple(images.shape)}"
            )
        if self.geometry:
            count, _, height, width = images.shape
            maps = [change.inverse(count, height, width, generator) for change in self.geometry]
            images = resample(images, compose(maps).to(images.device), self.padding)
            images = images.clamp_(0, 1)  # weights only sum to 1 up to rounding
        for change in self.colour:
            images = change(images, generator)
        return images

    def representative(self, x: Tensor) -> Tensor:
        """The images without changes, as float32 (N, C, H, W) in [0, 1].

        Raises:
            QuadrateError: If `x` is not images.
        """
        if x.ndim != 4 or not (x.dtype == torch.uint8 or x.is_floating_point()):
            raise QuadrateError(
                "augmentations take images (N, C, H, W), uint8 or floating point in [0, 1]; got"
                f" {x.dtype} {tuple(x.shape)}"
            )
        return pixels(x) if x.dtype == torch.uint8 else x.float()

    def invariant(self, x: Tensor) -> None:
        """None: an image does not determine its orbit."""
        return None


AUGMENTATIONS = {
    "mnist-aug": Augmentation(
        (Affine(translate=0.25, degrees=45, scale=(0.6, 1.4), shear_degrees=25),)
    ),
    "mnist-less": Augmentation(
        (Affine(translate=0.15, degrees=15, scale=(0.8, 1.2), shear_degrees=15),)
    ),
    "cifar": Augmentation(
        (ResizedCrop((0.3, 1.0), (0.7, 1.4)), HorizontalFlip(0.5)),
        (ColourJitter(0.4, 0.4, 0.4, 0.2, 0.8), RandomGrey(0.2)),
        "border",
    ),
}


def orbit_splits(
    source: Source, augmentation: str | Augmentation, by_label: bool = False
) -> OrbitSplits:
    """A source's images as the representatives of their orbits.

    Args:
        source: The images; see `padded`.
        augmentation: An augmentation, or the name of one of `AUGMENTATIONS`.
        by_label: Whether all images of a label are equivalent too (the "sup" of the paper, with
            "mnist-aug"); representatives are training images.

    Raises:
        QuadrateError: If the augmentation is unknown or, with `by_label`, a split has a label that
            no training image has.
    """
    if isinstance(augmentation, str):
        if augmentation not in AUGMENTATIONS:
            raise QuadrateError(
                f"unknown augmentation {augmentation!r}: expected one of {', '.join(AUGMENTATIONS)}"
            )
        augmentation = AUGMENTATIONS[augmentation]
    make: Callable[..., OrbitSet] = OrbitSet
    if by_label:
        shared = prototypes(source.train.images, source.train.labels)
        make = partial(LabelOrbitSet, prototypes=shared)
    splits = _splits(source)
    return OrbitSplits(
        **{name: make(each.images, augmentation, each.labels) for name, each in splits.items()}
    )


def padded(source: Source, side: int = 32) -> Source:
    """The source with black borders of equal widths, so that its images are side × side.

    An odd row or column is added below or to the right.

    Raises:
        QuadrateError: If the images are larger.
    """
    _, height, width = source.shape
    if side < max(height, width):
        raise QuadrateError(
            f"{source.name}: images of {height}x{width} do not fit into {side}x{side}"
        )
    above, left = (side - height) // 2, (side - width) // 2
    borders = (left, side - width - left, above, side - height - above)
    splits: dict[str, Any] = {
        name: Split(F.pad(split.images, borders), split.labels)
        for name, split in _splits(source).items()
    }
    name, fingerprint = f"{source.name}-{side}", fingerprint_of(**splits)
    return dataclasses.replace(source, name=name, fingerprint=fingerprint, **splits)


def _splits(source: Source) -> dict[str, Split]:
    return {name: getattr(source, name) for name in SPLIT_NAMES}
