"""A source: labelled images in memory, in three fixed splits, and what an encoder gets to see of them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.devices import find_device
from quadrate.errors import QuadrateError

# The key of every fixed split. Changing it changes every published number, so it never changes.
SPLIT_KEY = 1948
SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels, on one device.

    Attributes:
        images: uint8, (N, C, H, W), N at least 1.
        labels: int64, (N,), class indices from 0.

    Raises:
        QuadrateError: for any other shape or dtype.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.numel() == 0:
            raise QuadrateError(f"the images of a split must be uint8 (N, C, H, W), none of them 0; got {_describe(self.images)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise QuadrateError(f"the labels of {len(self.images)} images must be int64 ({len(self.images)},); got {_describe(self.labels)}")

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Split:
        """The same split on `device`."""
        device = find_device(device)
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Source:
    """Where samples come from: three disjoint splits, and the noise between a sample and the encoder.

    Attributes:
        name: the data set's name, for tables and figures.
        train: what codecs, critics and judges are fitted to.
        validation: what choices are made on.
        test: only for final evaluation.
        classes: the number of classes K; labels lie in 0..K-1.
        fingerprint: sha256 (hex) of the three splits' contents; see `fingerprint_of`.
        noise_std: standard deviation of the noise that `observe` adds, on the scale where pixels lie in [0, 1].

    Raises:
        QuadrateError: when the splits differ in image shape or a label, the class count or `noise_std` is out of range.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    fingerprint: str
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_std) and self.noise_std >= 0):
            raise QuadrateError(f"{self.name}: noise_std must be finite and not negative; got {self.noise_std}")
        for name in SPLIT_NAMES:
            split: Split = getattr(self, name)
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise QuadrateError(
                    f"{self.name}: all images must have one shape (C, H, W); train has {self.shape}, {name} {tuple(split.images.shape[1:])}"
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.classes:
                raise QuadrateError(f"{self.name}: labels of {self.classes} classes must lie in 0..{self.classes - 1}; {name} has {low}..{high}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one sample."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> Source:
        """The same source on `device`."""
        return dataclasses.replace(self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device))

    def observe(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What the encoder sees of `x`: Y = X + noise_std·N(0, 1), or `x` itself for a noise-free source.

        The target of compression stays clean; the noise makes it a restoration, the setting in which RDPC finds a trade-off between classification
        and perception ("source noise plays a decisive role"). The result is not clipped to [0, 1]: clipping would turn the Gaussian channel of the
        theory into another one, biased where pixels are black or white, which on MNIST is nearly everywhere.

        Args:
            x: floating point, (..., C, H, W), in [0, 1].
            generator: source of the noise. It may live on another device; the noise is drawn there, so its seed alone decides what is drawn.

        Returns:
            A tensor of the shape, dtype and device of `x`.

        Raises:
            QuadrateError: when `x` is not floating point; see `pixels`.
        """
        if not x.is_floating_point():
            raise QuadrateError(f"observe takes floating-point images in [0, 1], as pixels() returns them; got {x.dtype}")
        if self.noise_std == 0:
            return x
        noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return x + self.noise_std * noise.to(x.device)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 images of any shape as float32 in [0, 1].

    Raises:
        QuadrateError: when `images` is not uint8, so that nothing is scaled twice.
    """
    if images.dtype != torch.uint8:
        raise QuadrateError(f"pixels takes uint8 images; got {images.dtype}")
    return images.to(torch.float32) / 255


def from_arrays(
    name: str,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    validation: tuple[Any, Any] | None = None,
    classes: int | None = None,
) -> Source:
    """A source from arrays or tensors, which are copied.

    Args:
        name: the source's name.
        train: images and labels. Images are (N, C, H, W) or (N, H, W), uint8 or floating point in [0, 1] (rounded to 256 levels); labels are
            integers, (N,).
        test: the same for the test set.
        validation: the same for the validation set. If it is left out, the last n/12 (rounded down) of the n training samples after a fixed
            permutation become the validation set: 5,000 of MNIST's 60,000.
        classes: the number of classes; one more than the largest label if it is left out.

    Raises:
        QuadrateError: when images or labels have another shape, dtype or range, or when there are too few to split.
    """
    arrays = {"train": _checked(name, "train", *train), "test": _checked(name, "test", *test)}
    if validation is not None:
        arrays["validation"] = _checked(name, "validation", *validation)
    else:
        images, labels = arrays["train"]
        held_out = len(images) // 12
        if held_out == 0:
            raise QuadrateError(f"{name}: splitting off a validation set takes at least 12 training samples; got {len(images)}")
        order = fixed_permutation(len(images))
        arrays["train"], arrays["validation"] = [(images[part], labels[part]) for part in (order[:-held_out], order[-held_out:])]
    # Copies, because later writes to the caller's arrays would make the fingerprint a lie.
    splits = {split: Split(_copied(images), _copied(labels)) for split, (images, labels) in arrays.items()}
    if classes is None:
        classes = 1 + max(int(split.labels.max()) for split in splits.values())
    return Source(name, splits["train"], splits["validation"], splits["test"], classes, fingerprint_of(**splits))


def fixed_permutation(n: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1 that is the same on every machine and under every version of NumPy.

    It sorts raw Philox words: NumPy promises to keep those, but not the stream behind `Generator.permutation` (NEP 19).
    """
    return np.argsort(np.random.Philox(key=SPLIT_KEY).random_raw(n), kind="stable")


def fingerprint_of(train: Split, validation: Split, test: Split) -> str:
    """Sha256 (hex) over each split's name, its shape, and the bytes of its images and labels (labels as little-endian 64-bit integers)."""
    digest = hashlib.sha256()
    for name, split in zip(SPLIT_NAMES, (train, validation, test), strict=True):
        digest.update(f"{name} {tuple(split.images.shape)}\n".encode())
        digest.update(split.images.cpu().numpy().ravel().data)
        digest.update(split.labels.cpu().numpy().astype("<i8").data)
    return digest.hexdigest()


def to_uint8(images: Any, where: str) -> NDArray[np.uint8]:
    """uint8 pixels as they are; floating point in [0, 1] rounded to 256 levels.

    Raises:
        QuadrateError: for any other dtype, and for values outside [0, 1].
    """
    images = _numpy(images)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise QuadrateError(f"{where}: pixels must be uint8, or floating point in [0, 1]; got {images.dtype}")
    if not (images.min(initial=0.0) >= 0 and images.max(initial=1.0) <= 1):
        raise QuadrateError(f"{where}: floating-point pixels must lie in [0, 1], not normalized; got {images.min():g} to {images.max():g}")
    return np.rint(images * 255).astype(np.uint8)


def _checked(name: str, split: str, images: Any, labels: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images as uint8 (N, C, H, W) and labels as int64 (N,)."""
    where = f"{name}, {split}"
    images, labels = to_uint8(images, where), _numpy(labels)
    if images.ndim == 3:
        images = images[:, np.newaxis]
    if images.ndim != 4 or images.size == 0:
        raise QuadrateError(f"{where}: images must be (N, C, H, W) or (N, H, W), none of them 0; got {images.shape}")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise QuadrateError(f"{where}: the labels of {len(images)} images must be {len(images)} integers; got {labels.dtype} {labels.shape}")
    return images, labels.astype(np.int64)


def _numpy(array: Any) -> NDArray[Any]:
    return array.numpy(force=True) if isinstance(array, torch.Tensor) else np.asarray(array)


def _copied(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array, order="C"))


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
