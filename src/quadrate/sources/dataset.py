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
from quadrate.sources.source import MAX_BYTES, Arrays, Source, assembled, check_labels


def from_dataset(
    name: str,
    train: Dataset[Any],
    test: Dataset[Any],
    validation: Dataset[Any] | None = None,
    classes: int | None = None,
) -> Source:
    """A source from data sets that yield (image, label).

    Each is read once, into memory, of which all together may take 4 GiB.

    Args:
        name: the source's name.
        train: the training set. Images are PIL images, tensors or arrays, all of one shape, gray or
            RGB (see `image_to_array`; `from_arrays` takes any number of channels); labels are class
            numbers from 0, or None for all samples, for a source without labels. Random
            augmentation is frozen at this one reading, so leave it out.
        test: the test set.
        validation: the validation set; split off the training set as in `from_arrays` if it is left
            out.
        classes: the number of classes; one more than the largest label if it is left out.

    Raises:
        QuadrateError: naming the first sample that is not an image with a class number, or whose
            shape differs from the first one's.
    """
    given = {"train": train, "test": test} | (
        {} if validation is None else {"validation": validation}
    )
    return assembled(
        name,
        {split: _read(dataset, f"{name}, {split}") for split, dataset in given.items()},
        classes,
    )


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
                f"{here}: either all samples have labels, or none; this one has {labels[-1]}, the"
                f" first {labels[0]}"
            )
        if labels[-1] is not None:
            check_labels(here, labels[-1], labels[-1])
        images.append(image_to_array(image, here, images[0].shape if images else None))
        if len(images) * images[0].nbytes > MAX_BYTES:
            raise QuadrateError(
                f"{here}: the data set takes more than {MAX_BYTES} bytes, which is the most that is"
                " read into memory"
            )
    if not images:
        raise QuadrateError(f"{where}: the data set is empty")
    return np.stack(images), None if labels[0] is None else np.array(labels, np.int64)


def _samples(dataset: Any) -> Iterable[Any]:
    if isinstance(dataset, IterableDataset):
        return dataset
    # Not `for sample in dataset`: that ends at the first IndexError, which many data sets never
    # raise.
    return (dataset[index] for index in range(len(dataset)))


def _summary(sample: Any) -> str:
    if isinstance(sample, tuple | list):
        return f"({', '.join(type(part).__name__ for part in sample)})"
    return type(sample).__name__
