"""SVHN's cropped digits, in MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quadrate.errors import QuadrateError
from quadrate.sources.downloads import DataFile, DataSet
from quadrate.sources.matlab import matlab_arrays
from quadrate.sources.readers import MAX_BYTES, Arrays, checked_labels, contents


def read_svhn(path: Path) -> Arrays:
    """Colour images and their labels from a MATLAB file with X (32, 32, 3, N) and y (N, 1).

    In the file the digit 0 has the label 10; here it has 0.

    Raises:
        QuadrateError: If the file is damaged, or X or y is missing or has another shape, type or
            range.
    """
    try:
        arrays = matlab_arrays(contents(path), ("X", "y"), MAX_BYTES)
    except ValueError as error:
        raise QuadrateError(f"{path}: not a readable MATLAB file: {error}") from error
    images, labels = arrays.get("X"), arrays.get("y")
    if (
        images is None
        or labels is None
        or images.shape != (32, 32, 3, labels.size)
        or labels.shape != (labels.size, 1)
        or images.dtype != np.uint8
    ):
        found = [f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()]
        raise QuadrateError(
            f"{path}: expected the arrays X uint8 (32, 32, 3, N) and y (N, 1); found"
            f" {', '.join(found) or 'neither'}"
        )
    numbers = checked_labels(path, labels[:, 0], range(1, 11)) % 10
    return images.transpose(3, 2, 0, 1).astype(np.uint8, order="C"), numbers


SVHN = DataSet(
    "svhn",
    (
        DataFile("train_32x32.mat", "md5:e26dedcc434d2e4c54c9b2d4a06d8373"),
        DataFile("test_32x32.mat", "md5:eb5a983be6a315427106f1b164d9cef3"),
    ),
    ("http://ufldl.stanford.edu/housenumbers/",),
    lambda paths: (read_svhn(paths[0]), read_svhn(paths[1])),
)
