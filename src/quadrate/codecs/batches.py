"""Samples as callers have them, of many types, to samples as codecs take them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.errors import QuadrateError
from quadrate.sources.source import pixels

Blend = str | Mapping[str, float] | None
"""A decoder's name, or the weights of several by name; None means the first."""


# Samples that go through a network side by side: fewer are slower, and more slow one sample down.
_BLOCK = 32
_BLOCK_NUMBERS = 1 << 24  # and the numbers that they have together


@dataclass(frozen=True, eq=False)
class Batch:
    """Images, or features, with their labels and names.

    Attributes:
        images: uint8, or floating point in [0, 1], (n, C, H, W), or of gray images (n, H, W); or
            features, real numbers (n, D); a tensor or an array.
        labels: Integers (n,), or None.
        names: n texts without control characters, or None.
    """

    images: Any
    labels: Any = None
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(
            self.images[part],
            *(None if side is None else side[part] for side in (self.labels, self.names)),
        )


def of_images(shape: Sequence[int]) -> bool:
    """Whether samples of a shape are images, (C, H, W), rather than features, (D,)."""
    return len(shape) == 3


def checked(batch: Batch, shape: Sequence[int]) -> Batch:
    """Check a batch: samples of as many dimensions as the shape has, a label and a name for each.

    Samples come back as a tensor or an array; nothing is copied. Gray images may
    come without their channel, (N, H, W).

    Raises:
        QuadrateError: If samples have other dimensions, or labels or names are not one for each.
    """
    images, labels, names = batch.images, batch.labels, batch.names
    noun, what = (
        ("images", "images come as (N, C, H, W)")
        if of_images(shape)
        else ("features", "features come as (N, D)")
    )
    if not isinstance(images, Tensor):
        images = _array(images, what)
    if of_images(shape) and shape[0] == 1 and images.ndim == 3:
        images = images[:, None]
    if images.ndim != 1 + len(shape):
        raise QuadrateError(f"{what}; got shape {tuple(images.shape)}")
    if labels is not None:
        labels = _array(labels, "labels are integers")
        if labels.shape != (len(images),) or (labels.dtype.kind not in "iu" and len(labels)):
            raise QuadrateError(
                f"labels of {len(images)} {noun} are {len(images)} integers; got {labels.dtype}"
                f" {labels.shape}"
            )
    if names is not None and not (
        isinstance(names, Sequence)
        and len(names) == len(images)
        and all(isinstance(name, str) for name in names)
    ):
        raise QuadrateError(
            f"names of {len(images)} {noun} are a sequence of {len(images)} texts; got something"
            " else, or another number"
        )
    return Batch(images, labels, names)


def _array(values: Any, what: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise QuadrateError(f"{what}; got no array: {error}") from None


def in_blocks(
    network: Callable[..., Tensor], inputs: Sequence[Tensor], shape: Sequence[int]
) -> Tensor:
    """Run a network on samples in blocks of one size, the last one filled up with zeros.

    A matrix product of another size may add up in another order, and even a sigmoid rounds
    differently at the end of a row: so the last bit of a sample would depend on the samples next to
    it. Here it does not, on one machine with the same number of threads.

    Args:
        network: In evaluation mode, so that samples of a batch do not know of each other.
        inputs: What the network takes of the samples, (n, …) each, on the network's device.
        shape: Of a sample of the codec; large samples go one by one.
    """
    size = _BLOCK if _BLOCK * math.prod(shape) <= _BLOCK_NUMBERS else 1
    parts = []
    for block in zip(*(samples.split(size) for samples in inputs), strict=True):
        count = len(block[0])
        parts.append(network(*(_filled_up(part, size) for part in block))[:count])
    return torch.cat(parts)


def _filled_up(part: Tensor, size: int) -> Tensor:
    missing = part.new_zeros((size - len(part), *part.shape[1:]))
    return torch.cat([part, missing]) if len(missing) else part


def joined(batches: Sequence[Batch], shape: Sequence[int]) -> Batch:
    """Join batches into one.

    Raises:
        QuadrateError: If some have labels or names and others do not, or samples are not as
            `tensor_of` wants them.
    """
    if len(batches) == 1:
        return batches[0]
    if len({(batch.labels is None, batch.names is None) for batch in batches}) > 1:
        raise QuadrateError("either all batches have labels (or names), or none")
    first = batches[0]
    labels = None if first.labels is None else np.concatenate([batch.labels for batch in batches])
    names = (
        None if first.names is None else [name for batch in batches for name in batch.names or ()]
    )
    images = [tensor_of(batch.images, shape) for batch in batches]
    if len({part.dtype for part in images}) > 1:
        images = [pixels(part) if part.dtype == torch.uint8 else part for part in images]
    return Batch(torch.cat(images), labels, names)


def tensor_of(samples: Any, shape: Sequence[int]) -> Tensor:
    """Samples as the codec takes them: images uint8, or float32 in [0, 1].

    Features float32, or float64 where they come so.

    Raises:
        QuadrateError: If they are of another type, or images leave [0, 1].
    """
    return _images(samples) if of_images(shape) else _features(samples)


def array_of(features: Any) -> Any:
    """Features whose numbers float32 does not hold as float64, and tensors as arrays.

    Anything else as it is.
    """
    if isinstance(features, Tensor):
        # NumPy lacks some of the narrow types.
        narrow = features.is_floating_point() and features.itemsize <= 2
        features = (features.float() if narrow else features).detach().cpu().numpy()
    if isinstance(features, np.ndarray) and features.dtype.kind in "iu" and features.itemsize >= 4:
        return features.astype(np.float64)
    return features


def _features(features: Any) -> Tensor:
    features = array_of(features)
    if features.dtype.kind not in "fiu":
        raise QuadrateError(f"features are real numbers; got {features.dtype}")
    converted = features.astype(np.float64 if features.itemsize > 4 else np.float32, copy=False)
    return torch.from_numpy(
        converted
        if converted.flags.writeable and min(converted.strides, default=0) >= 0
        else converted.copy()
    )


def _images(images: Any) -> Tensor:
    kind = (
        images.dtype if isinstance(images, np.ndarray) else str(images.dtype).removeprefix("torch.")
    )
    if kind == "uint8":
        return images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    if isinstance(images, np.ndarray) and images.dtype.kind == "f":  # of any width and byte order
        images = torch.from_numpy(images.astype(np.float32 if images.itemsize <= 4 else np.float64))
    # Numbers in float64 are compared as such; the comparison is false for NaN too.
    if (
        not isinstance(images, Tensor)
        or not images.is_floating_point()
        or not bool(((images >= 0) & (images <= 1)).all())
    ):
        raise QuadrateError(
            f"images are uint8, or floating point in [0, 1]; got {kind}, or values beyond"
        )
    return images.detach().float()
