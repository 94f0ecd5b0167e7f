"""The parts that the readers of published data sets share.

They return images as uint8 (N, C, H, W) with labels as int64 (N,). Files are not trusted: nothing
is unpickled or unpacked to disk, and no file makes a reader take more than a few GiB. A
`QuadrateError` names the file and what is wrong with it.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quadrate.core.files import open_regular
from quadrate.errors import QuadrateError

# The most bytes of an unpacked file; the largest published one, SVHN's training set, takes 225 MB.
MAX_BYTES = 2**30

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def contents(path: Path) -> bytes:
    """All bytes of a file, gunzipped if it starts like a gzip file.

    Raises:
        QuadrateError: If the file cannot be read, or holds too much.
    """
    try:
        with open_regular(path) as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if zipped else file as stream:
                data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise QuadrateError(f"{path}: cannot be read ({reason})") from error
    if len(data) > MAX_BYTES:
        raise QuadrateError(
            f"{path}: holds more than {MAX_BYTES} bytes, more than any known data set"
        )
    return data


def checked_labels(path: Path, labels: NDArray[np.generic], allowed: range) -> NDArray[np.int64]:
    """The labels as int64.

    Raises:
        QuadrateError: If one is not in the allowed range.
    """
    valid = np.isin(labels, allowed)
    if not valid.all():
        raise QuadrateError(
            f"{path}: labels must lie in {allowed[0]}..{allowed[-1]}; found {labels[~valid][0]}"
        )
    return labels.astype(np.int64)
