"""A source: labelled images in memory, in three fixed splits, with optional source noise."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import operator
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.core.devices import find_device
from quadrate.errors import QuadrateError, QuadrateWarning

# The key of every fixed split. Changing it changes every published number, so it never changes.
SPLIT_KEY = 1948
SPLIT_NAMES = ("train", "validation", "test")
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64] | None]  # images (N, C, H, W) and labels (N,)
# Limits: of the bytes of a source, which is in memory, twice while it is split; and of its classes,
# as a judge has an output for each.
MAX_BYTES = 1 << 32
MAX_CLASSES = 1 << 16


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels, on one device.

    Attributes:
        images: uint8, (N, C, H, W), N at least 1.
        labels: int64, (N,), class indices from 0.

    Raises:
        QuadrateError: If the shape or dtype is another.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.numel() == 0:
            raise QuadrateError(
                "the images of a split must be uint8 (N, C, H, W), and not empty; got"
                f" {_describe(self.images)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise QuadrateError(
                f"the labels of {len(self.images)} images must be int64 ({len(self.images)},); got"
                f" {_describe(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Split:
        """The same split on `device`, a device or a name for `find_device`."""
        device = find_device(device) if isinstance(device, str) else device
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Source:
    """Three disjoint splits, and the noise between a sample and the encoder.

    Without labels, all labels are 0 and there is one class. Codecs whose points have lambda_c = 0
    train on such a source; code that needs labels (judges, accuracies, points with lambda_c > 0)
    checks `is_labelled`.

    Attributes:
        name: The data set's name, for tables and figures.
        train: The split to fit codecs, critics and judges to.
        validation: The split for choices.
        test: The split for final evaluation only.
        classes: The number of classes K, at most 65,536; labels lie in 0..K-1, and not every class
            need occur. 1 without labels.
        fingerprint: Sha256 (hex) of the three splits' contents; see `fingerprint_of`.
        noise_std: Standard deviation of the noise that `observe` adds, on the scale of pixels in
            [0, 1].

    Raises:
        QuadrateError: If the splits differ in image shape, or a label, the class count or
            `noise_std` is out of range.
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
            raise QuadrateError(
                f"{self.name}: noise_std must be finite and not negative; got {self.noise_std}"
            )
        object.__setattr__(self, "classes", _class_count(self.name, self.classes))
        for name in SPLIT_NAMES:
            split: Split = getattr(self, name)
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise QuadrateError(
                    f"{self.name}: all images must have one shape (C, H, W); train has"
                    f" {self.shape}, {name} {tuple(split.images.shape[1:])}"
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.classes:
                raise QuadrateError(
                    f"{self.name}: labels of {self.classes} classes must lie in"
                    f" 0..{self.classes - 1}; {name} has {low}..{high}"
                )

    @property
    def is_labelled(self) -> bool:
        """Whether there is more than one class."""
        return self.classes > 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one sample."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> Source:
        """The same source on `device`."""
        splits: dict[str, Any] = {name: getattr(self, name).to(device) for name in SPLIT_NAMES}
        return dataclasses.replace(self, **splits)

    def observe(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The encoder's input Y = X + noise_std·N(0, 1), or `x` itself for a source without noise.

        The target of compression stays clean; the noise makes it a restoration, the setting in
        which RDPC finds a trade-off between classification and perception ("source noise plays a
        decisive role"). The result is not clipped to [0, 1]: clipping would change the Gaussian
        channel of the theory where pixels are black or white, which on MNIST is nearly everywhere.

        Args:
            x: Floating point, (..., C, H, W), in [0, 1].
            generator: Generator of the noise. It may be on another device: the noise is drawn
                there, and depends on its seed only.

        Returns:
            A tensor of the shape, dtype and device of `x`.

        Raises:
            QuadrateError: If `x` is not floating point; see `pixels`.
        """
        if not x.is_floating_point():
            raise QuadrateError(
                "observe takes floating-point images in [0, 1], as pixels() returns them; got"
                f" {x.dtype}"
            )
        if self.noise_std == 0:
            return x
        noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return x + self.noise_std * noise.to(x.device)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 images of any shape as float32 in [0, 1].

    Raises:
        QuadrateError: If `images` is not uint8, so that pixels are never scaled twice.
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
        name: The source's name.
        train: Images and labels. Images are (N, C, H, W) of any number of channels, or (N, H, W);
            uint8, uint16 (scaled to 8 bits), or floating point in [0, 1] (rounded to 256 levels).
            Labels are class numbers from 0, (N,); or None in every split, for a source without
            labels.
        test: The same for the test set.
        validation: The same for the validation set. By default, the last n/12 (rounded down) of the
            n training samples after a fixed permutation: 5,000 of MNIST's 60,000.
        classes: The number of classes; by default one more than the largest label.

    Raises:
        QuadrateError: If images or labels have another shape, dtype or range, only some splits have
            labels, or there are too few samples to split.
    """
    given = {"train": train, "test": test}
    if validation is not None:
        given["validation"] = validation
    arrays = {split: _checked(name, split, pair) for split, pair in given.items()}
    # Later writes to the caller's arrays must not change the source; splitting copies anyway.
    for split in arrays if validation is not None else ("test",):
        images, labels = arrays[split]
        arrays[split] = np.array(images, order="C"), None if labels is None else np.array(labels)
    return assemble(name, arrays, classes)


def assemble(name: str, arrays: dict[str, Arrays], classes: int | None = None) -> Source:
    """Make a source of checked arrays, which it keeps; arguments and errors as in `from_arrays`."""
    unlabelled = [split for split, (_, labels) in arrays.items() if labels is None]
    if len(unlabelled) not in (0, len(arrays)):
        raise QuadrateError(
            f"{name}: {unlabelled[0]} has no labels, but other splits have some; either all splits"
            " have labels, or no split"
        )
    if "validation" not in arrays:
        images, labels = arrays["train"]
        held_out = len(images) // 12
        if held_out == 0:
            raise QuadrateError(
                f"{name}: splitting off a validation set takes at least 12 training samples; got"
                f" {len(images)}"
            )
        order = fixed_permutation(len(images))
        parts = {"train": order[:-held_out], "validation": order[-held_out:]}
        arrays = arrays | {
            split: (images[part], None if labels is None else labels[part])
            for split, part in parts.items()
        }
    splits: dict[str, Any] = {}
    for split, (images, labels) in arrays.items():
        numbers = np.zeros(len(images), np.int64) if labels is None else labels
        pair = torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(numbers)
        splits[split] = Split(*pair)
    if classes is None:
        classes = 1 + max(int(split.labels.max()) for split in splits.values())
    return Source(name, classes=classes, fingerprint=fingerprint_of(**splits), **splits)


def fixed_permutation(n: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1 that is the same on every machine and under every version of NumPy.

    It sorts raw Philox words: NumPy promises to keep those, but not the stream behind
    `Generator.permutation` (NEP 19).
    """
    return np.argsort(np.random.Philox(key=SPLIT_KEY).random_raw(n), kind="stable")


def fingerprint_of(train: Split, validation: Split, test: Split) -> str:
    """Sha256 (hex) over each split's name, shape, images and labels.

    Labels are hashed as little-endian 64-bit integers.
    """
    digest = hashlib.sha256()
    for name, split in zip(SPLIT_NAMES, (train, validation, test), strict=True):
        digest.update(f"{name} {tuple(split.images.shape)}\n".encode())
        digest.update(split.images.cpu().numpy().ravel().data)
        digest.update(split.labels.cpu().numpy().astype("<i8").data)
    return digest.hexdigest()


def with_true_fingerprint(source: Source) -> Source:
    """A user's source with the fingerprint computed from its contents."""
    held = fingerprint_of(source.train, source.validation, source.test)
    return source if source.fingerprint == held else dataclasses.replace(source, fingerprint=held)


def to_uint8(images: Any, where: str) -> NDArray[np.uint8]:
    """Pixels as uint8: uint16 scaled by 1/257, floating point in [0, 1] by 255, both rounded.

    Raises:
        QuadrateError: If the dtype is another, or values are outside [0, 1].
    """
    images = _numpy(images, f"{where}: pixels")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "u" and images.dtype.itemsize == 2:
        if 0 < images.max(initial=0) <= 255:
            text = (
                f"{where}: uint16 pixels span 0..65535, and these only reach {images.max()}: make"
                " them uint8 if they are 8 bits"
            )
            warnings.warn(text, QuadrateWarning, stacklevel=2)
        return to_eight_bits(images)
    if images.dtype.kind != "f":
        raise QuadrateError(
            f"{where}: pixels must be uint8, uint16, or floating point in [0, 1]; got"
            f" {images.dtype}"
        )
    if not (images.min(initial=0.0) >= 0 and images.max(initial=1.0) <= 1):
        raise QuadrateError(
            f"{where}: floating-point pixels must lie in [0, 1], not be normalized; got"
            f" {images.min():g} to {images.max():g}"
        )
    return np.rint(images * 255).astype(np.uint8)


def to_eight_bits(images: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Pixels in 0..65535 as the nearest of 256 levels; 65535 = 257 · 255."""
    return ((images.astype(np.int32) + 128) // 257).astype(np.uint8)


def _class_count(name: str, classes: Any) -> int:
    try:
        count = operator.index(classes)
    except TypeError:
        raise QuadrateError(
            f"{name}: the number of classes must be a whole number; got {classes!r}"
        ) from None
    if not 1 <= count <= MAX_CLASSES:
        raise QuadrateError(
            f"{name}: a source has 1 to {MAX_CLASSES} classes, and labels are their numbers from 0;"
            f" got {count} classes"
        )
    return count


def check_labels(where: str, low: int, high: int) -> None:
    """Check that labels from `low` to `high` are class numbers.

    Raises:
        QuadrateError: If one is not in 0..65535.
    """
    if low < 0 or high >= MAX_CLASSES:
        raise QuadrateError(
            f"{where}: labels are class numbers, which must lie in 0..{MAX_CLASSES - 1}; found"
            f" {low if low < 0 else high}: number the classes from 0, as numpy.unique(labels,"
            " return_inverse=True)[1] does"
        )


def _checked(name: str, split: str, pair: Any) -> Arrays:
    """Images as uint8 (N, C, H, W) and labels as int64 (N,), or None."""
    where = f"{name}, {split}"
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise QuadrateError(
            f"{where}: expected a pair (images, labels), or (images, None); got"
            f" {type(pair).__name__}"
        )
    images = to_uint8(pair[0], where)
    labels = None if pair[1] is None else _numpy(pair[1], f"{where}: labels")
    if images.ndim == 3:
        images = images[:, np.newaxis]
    if images.ndim != 4 or images.size == 0:
        raise QuadrateError(
            f"{where}: images must be (N, C, H, W) or (N, H, W), and not empty; got {images.shape}"
        )
    if labels is None:
        return images, None
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise QuadrateError(
            f"{where}: the labels of {len(images)} images must be {len(images)} integers; got"
            f" {labels.dtype} {labels.shape}"
        )
    check_labels(where, int(labels.min()), int(labels.max()))
    return images, labels.astype(np.int64)


def _numpy(array: Any, what: str) -> NDArray[Any]:
    try:
        if isinstance(array, torch.Tensor):
            return (array.float() if array.dtype == torch.bfloat16 else array).numpy(force=True)
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise QuadrateError(f"{what} are not an array: {' '.join(str(error).split())}") from None


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
