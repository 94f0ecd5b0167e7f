"""A source from any `torch.utils.data.Dataset`."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset

from quadrate.errors import QuadrateError
from quadrate.sources.images import image_to_array
from quadrate.sources.source import MAX_BYTES, Arrays, Source, assemble, check_labels


def from_dataset(
    name: str,
    train: Dataset[Any],
    test: Dataset[Any],
    validation: Dataset[Any] | None = None,
    classes: int | None = None,
) -> Source:
    """A source from data sets that yield (image, label).

    Each is read once, into memory; all together may take 4 GiB.

    Args:
        name: The source's name.
        train: The training set. Images are PIL images, tensors or arrays, all of one shape, gray or
            RGB (see `image_to_array`; `from_arrays` takes any number of channels); labels are class
            numbers from 0, or None for all samples, for a source without labels. Random
            augmentation would be frozen at this one reading, so leave it out.
        test: The test set.
        validation: The validation set; by default split off the training set as in `from_arrays`.
        classes: The number of classes; by default one more than the largest label.

    Raises:
        QuadrateError: If a sample is not an image with a class number, or its shape differs from
            the first one's.
    """
    given = {"train": train, "test": test}
    if validation is not None:
        given["validation"] = validation
    arrays = {split: _read(each, f"{name}, {split}") for split, each in given.items()}
    return assemble(name, arrays, classes)


def _read(dataset: Dataset[Any], where: str) -> Arrays:
    images: list[NDArray[np.uint8]] = []
    labels: list[int | None] = []
    for index, sample in enumerate(_samples(dataset)):
        here = f"{where}, sample {index}"
        try:
            image, label = sample
            labels.append(None if label is None else operator.index(label))
        except (TypeError, ValueError):
            raise QuadrateError(
                f"{here}: expected a pair (image, integer label), or (image, None); got"
                f" {_summary(sample)}"
            ) from None
        if (labels[-1] is None) != (labels[0] is None):
            raise QuadrateError(
                f"{here}: either all samples have labels, or no sample; this one has {labels[-1]},"
                f" the first {labels[0]}"
            )
        if labels[-1] is not None:
            check_labels(here, labels[-1], labels[-1])
        images.append(image_to_array(image, here, images[0].shape if images else None))
        if len(images) * images[0].nbytes > MAX_BYTES:
            raise QuadrateError(
                f"{here}: the data set takes more than {MAX_BYTES} bytes, the limit of what is read"
                " into memory"
            )
    if not images:
        raise QuadrateError(f"{where}: the data set is empty")
    return np.stack(images), None if labels[0] is None else np.array(labels, np.int64)


def _samples(dataset: Any) -> Iterable[Any]:
    if isinstance(dataset, IterableDataset):
        return dataset
    # `for sample in dataset` would end at the first IndexError, which many data sets never raise.
    return (dataset[index] for index in range(len(dataset)))


def _summary(sample: Any) -> str:
    if isinstance(sample, tuple | list):
        return f"({', '.join(type(part).__name__ for part in sample)})"
    return type(sample).__name__
