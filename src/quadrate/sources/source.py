"""A source: labelled images in memory, in three fixed splits, and what an encoder gets to see of them."""

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
MAX_BYTES = (
    1 << 32
    # of a folder's or a data set's pixels: a source lives in memory, and splitting takes as much
    # again
)
MAX_CLASSES = (
    1 << 16
)  # a judge has an output for each, so a label that is no class number would take all memory


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
            raise QuadrateError(
                "the images of a split must be uint8 (N, C, H, W), none of them 0; got"
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
        """The same split on `device`; a name is one of those that `find_device` knows."""
        device = find_device(device) if isinstance(device, str) else device
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Source:
    """Where samples come from.

    Three disjoint splits, and the noise between a sample and the encoder.

    Where samples have no labels, all are 0 and there is one class: labels that tell nothing apart
    are none. Codecs whose points have lambda_c = 0 train on such a source; whatever needs labels
    (judges, accuracies, points with lambda_c > 0) asks `is_labelled`.

    Attributes:
        name: the data set's name, for tables and figures.
        train: what codecs, critics and judges are fitted to.
        validation: what choices are made on.
        test: only for final evaluation.
        classes: the number of classes K, at most 65,536; labels lie in 0..K-1, and not every class
            need occur. 1 where there are no labels.
        fingerprint: sha256 (hex) of the three splits' contents; see `fingerprint_of`.
        noise_std: standard deviation of the noise that `observe` adds, on the scale where pixels
            lie in [0, 1].

    Raises:
        QuadrateError: when the splits differ in image shape or a label, the class count or
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
        """Whether there are classes to tell apart."""
        return self.classes > 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one sample."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> Source:
        """The same source on `device`."""
        return dataclasses.replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
        )

    def observe(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What the encoder sees of `x`.

        Y = X + noise_std·N(0, 1), or `x` itself for a noise-free source.

        The target of compression stays clean; the noise makes it a restoration, the setting in
        which RDPC finds a trade-off between classification and perception ("source noise plays a
        decisive role"). The result is not clipped to [0, 1]: clipping would turn the Gaussian
        channel of the theory into another one, biased where pixels are black or white, which on
        MNIST is nearly everywhere.

        Args:
            x: floating point, (..., C, H, W), in [0, 1].
            generator: source of the noise. It may live on another device; the noise is drawn there,
                so its seed alone decides what is drawn.

        Returns:
            A tensor of the shape, dtype and device of `x`.

        Raises:
            QuadrateError: when `x` is not floating point; see `pixels`.
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
        train: images and labels. Images are (N, C, H, W) of any number of channels, or (N, H, W);
            uint8, uint16 (made 8 bits), or floating point in [0, 1] (rounded to 256 levels). Labels
            are class numbers from 0, (N,); or None in every split, for a source without labels.
        test: the same for the test set.
        validation: the same for the validation set. If it is left out, the last n/12 (rounded down)
            of the n training samples after a fixed permutation become the validation set: 5,000 of
            MNIST's 60,000.
        classes: the number of classes; one more than the largest label if it is left out.

    Raises:
        QuadrateError: when images or labels have another shape, dtype or range, only some splits
            have labels, or there are too few to split.
    """
    given = {"train": train, "test": test} | (
        {} if validation is None else {"validation": validation}
    )
    checked = {split: _checked(name, split, pair) for split, pair in given.items()}
    # Copies, because later writes to the caller's arrays would make the fingerprint a lie;
    # splitting copies by itself.
    uncopied = ["train"] if validation is None else []
    return assembled(
        name,
        {split: pair if split in uncopied else _copied(*pair) for split, pair in checked.items()},
        classes,
    )


def assembled(name: str, arrays: dict[str, Arrays], classes: int | None = None) -> Source:
    """A source of checked arrays that nobody writes to later.

    Arguments and errors as in `from_arrays`.
    """
    if len(
        unlabelled := [split for split, (_, labels) in arrays.items() if labels is None]
    ) not in (0, len(arrays)):
        raise QuadrateError(
            f"{name}: {unlabelled[0]} has no labels, but other splits have some; either all have"
            " labels, or none"
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
        train, validation = [
            (images[part], None if labels is None else labels[part])
            for part in (order[:-held_out], order[-held_out:])
        ]
        arrays = {**arrays, "train": train, "validation": validation}
    splits = {
        split: Split(
            torch.from_numpy(np.ascontiguousarray(images)),
            torch.from_numpy(np.zeros(len(images), np.int64) if labels is None else labels),
        )
        for split, (images, labels) in arrays.items()
    }
    if classes is None:
        classes = 1 + max(int(split.labels.max()) for split in splits.values())
    return Source(
        name,
        splits["train"],
        splits["validation"],
        splits["test"],
        classes,
        fingerprint_of(**splits),
    )


def fixed_permutation(n: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1 that is the same on every machine and under every version of NumPy.

    It sorts raw Philox words: NumPy promises to keep those, but not the stream behind
    `Generator.permutation` (NEP 19).
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


def as_it_is(source: Source) -> Source:
    """A user's source under the fingerprint of what it holds, whatever it says."""
    held = fingerprint_of(source.train, source.validation, source.test)
    return source if source.fingerprint == held else dataclasses.replace(source, fingerprint=held)


def to_uint8(images: Any, where: str) -> NDArray[np.uint8]:
    """uint8 pixels as they are.

    Uint16 scaled by 1/257, and floating point in [0, 1] by 255, both rounded to the nearest.

    Raises:
        QuadrateError: for any other dtype, and for values outside [0, 1].
    """
    images = _numpy(images, f"{where}: pixels")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "u" and images.dtype.itemsize == 2:
        if 0 < images.max(initial=0) <= 255:
            text = (
                f"{where}: uint16 pixels span 0..65535, and these reach {images.max()} only: make"
                " them uint8 if they are 8 bits"
            )
            warnings.warn(text, QuadrateWarning, stacklevel=2)
        return eight_bits(images)
    if images.dtype.kind != "f":
        raise QuadrateError(
            f"{where}: pixels must be uint8, uint16, or floating point in [0, 1]; got"
            f" {images.dtype}"
        )
    if not (images.min(initial=0.0) >= 0 and images.max(initial=1.0) <= 1):
        raise QuadrateError(
            f"{where}: floating-point pixels must lie in [0, 1], not normalized; got"
            f" {images.min():g} to {images.max():g}"
        )
    return np.rint(images * 255).astype(np.uint8)


def eight_bits(images: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Pixels in 0..65535 as the nearest of 256 levels; 65535 = 257 · 255."""
    return ((images.astype(np.int32) + 128) // 257).astype(np.uint8)


def _class_count(name: str, classes: Any) -> int:
    try:
        count = operator.index(classes)
    except TypeError:
        raise QuadrateError(
            f"{name}: the number of classes is a whole number; got {classes!r}"
        ) from None
    if not 1 <= count <= MAX_CLASSES:
        raise QuadrateError(
            f"{name}: a source has 1 to {MAX_CLASSES} classes, and labels are their numbers from 0;"
            f" got {count} classes"
        )
    return count


def check_labels(where: str, low: int, high: int) -> None:
    """Refuses labels that are no class numbers, by the lowest and the highest of them.

    Raises:
        QuadrateError: when one is not in 0..65535.
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
            f"{where}: images must be (N, C, H, W) or (N, H, W), none of them 0; got {images.shape}"
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


def _copied(images: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> Arrays:
    return np.array(images, order="C"), None if labels is None else np.array(labels)


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
