"""Readers of the files that image data sets are published in.

Idx (MNIST), .mat (SVHN) and binary batches (CIFAR-10).

Each takes paths and returns images as uint8 (N, C, H, W) with labels as int64 (N,). Files are not
trusted: nothing is unpickled, nothing is unpacked to disk, and no file makes a reader take more
than a few GiB. What is wrong with a file is said in a `QuadrateError` that names it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quadrate.core.files import open_regular
from quadrate.errors import QuadrateError
from quadrate.sources.matlab import matlab_arrays

MAX_BYTES = (
    2**30
)  # of a file's contents, unpacked; the most that is published, SVHN's training set, takes 225 MB
CIFAR_RECORD_BYTES = 1 + 3 * 32 * 32
CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST = ("test_batch.bin",)

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_idx(images: Path, labels: Path, classes: int) -> Arrays:
    """Gray images and their labels from two idx files, as MNIST is published
    (http://yann.lecun.com/exdb/mnist), gzipped or not.

    Raises:
        QuadrateError: for a missing, truncated, overlong or oversized file, a wrong magic number,
            another number of dimensions, different numbers of images and labels, or a label that is
            not below `classes`.
    """
    image_array, label_array = _idx_array(images, dimensions=3), _idx_array(labels, dimensions=1)
    if len(image_array) != len(label_array):
        raise QuadrateError(
            f"{labels}: holds {len(label_array)} labels for the {len(image_array)} images of"
            f" {images.name}"
        )
    return image_array[:, np.newaxis], _checked_labels(labels, label_array, range(classes))


def read_svhn(path: Path) -> Arrays:
    """Colour images and their labels from a MATLAB file with X (32, 32, 3, N) and y (N, 1), as
    SVHN's cropped digits are published.

    In the file the digit 0 has the label 10; here it has 0.

    Raises:
        QuadrateError: when the file is damaged, or X or y is missing or has another shape, type or
            range.
    """
    try:
        arrays = matlab_arrays(_contents(path), ("X", "y"), MAX_BYTES)
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
        found = (
            ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
            or "neither"
        )
        raise QuadrateError(
            f"{path}: expected the arrays X uint8 (32, 32, 3, N) and y (N, 1); found {found}"
        )
    return (
        images.transpose(3, 2, 0, 1).astype(np.uint8, order="C"),
        _checked_labels(path, labels[:, 0], range(1, 11)) % 10,
    )


def read_cifar(path: Path) -> tuple[Arrays, Arrays]:
    """Train and test of CIFAR-10 from `cifar-10-binary.tar.gz` or the folder `cifar-10-batches-bin`
    inside it.

    A record is one byte of label and 3072 bytes of image, plane by plane
    (https://www.cs.toronto.edu/~kriz/cifar.html).

    Raises:
        QuadrateError: when a batch is missing, is not a whole number of records, or has a label
            above 9, or the archive is broken.
    """
    wanted = {*CIFAR_TRAIN, *CIFAR_TEST}
    if path.is_dir():
        batches = {
            name: _contents(path / name) for name in sorted(wanted) if (path / name).is_file()
        }
    else:
        batches = {
            member.rsplit("/", 1)[-1]: data
            for member, data in _tar_members(path)
            if member.rsplit("/", 1)[-1] in wanted
        }
    if missing := sorted(wanted - batches.keys()):
        raise QuadrateError(f"{path}: lacks {', '.join(missing)}")
    return _cifar_arrays(path, batches, CIFAR_TRAIN), _cifar_arrays(path, batches, CIFAR_TEST)


def _contents(path: Path) -> bytes:
    """All bytes of a file, gunzipped if it starts like a gzip file."""
    try:
        with open_regular(path) as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if zipped else file as stream:
                data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise QuadrateError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from error
    if len(data) > MAX_BYTES:
        raise QuadrateError(
            f"{path}: holds more than {MAX_BYTES} bytes, which no data set known here does"
        )
    return data


def _idx_array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An idx file: a magic number (two zeros, the type 8 for uint8, the number of dimensions), big-endian 32-bit sizes, and the bytes in C order."""
    data = _contents(path)
    header_bytes = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if data[:4] != magic:
        raise QuadrateError(
            f"{path}: not an idx file of bytes in {dimensions} dimensions: expected the magic"
            f" number {magic.hex()}, found {data[:4].hex()}"
        )
    if len(data) < header_bytes:
        raise QuadrateError(
            f"{path}: truncated: {len(data)} bytes, where the header alone takes {header_bytes}"
        )
    shape = tuple(int(size) for size in np.frombuffer(data[4:header_bytes], ">u4"))
    if len(data) - header_bytes != math.prod(shape) or 0 in shape:
        fault = "truncated" if len(data) - header_bytes < math.prod(shape) else "wrong size"
        raise QuadrateError(
            f"{path}: {fault}: the header promises {shape}, {math.prod(shape)} bytes, and"
            f" {len(data) - header_bytes} follow"
        )
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(shape)


def _cifar_arrays(path: Path, batches: dict[str, bytes], names: Sequence[str]) -> Arrays:
    for name in names:
        size = len(batches[name])
        if size == 0 or size % CIFAR_RECORD_BYTES:
            raise QuadrateError(
                f"{path}: {name} is truncated or no batch: {size} bytes are not a whole number of"
                f" {CIFAR_RECORD_BYTES}-byte records"
            )
    records = np.frombuffer(b"".join(batches[name] for name in names), np.uint8).reshape(
        -1, CIFAR_RECORD_BYTES
    )
    return records[:, 1:].reshape(-1, 3, 32, 32), _checked_labels(path, records[:, 0], range(10))


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the regular files in a (gzipped) tar archive, read in memory.

    Not by the standard `tarfile`, which a crafted archive can send round in circles (CVE-2025-8194,
    unmended in older Pythons). What is needed of the format is little: 512-byte headers with the
    name, the size in octal, a checksum and a type, each followed by its file in whole blocks.
    """
    data = _contents(path)
    start = 0
    while start + 512 <= len(data) and data[start] != 0:  # a block of zeros ends the archive
        header = data[start : start + 512]
        try:
            size, checksum = (
                int(field.strip(b" \0"), 8) for field in (header[124:136], header[148:156])
            )
        except ValueError:
            size, checksum = -1, -1
        if size < 0 or checksum != sum(header) - sum(header[148:156]) + 8 * ord(
            " "
        ):  # the sum takes its own field as blanks
            raise QuadrateError(
                f"{path}: not a tar archive, or a damaged one: bad header at byte {start}"
            )
        start += 512
        if start + size > len(data):
            raise QuadrateError(
                f"{path}: truncated: its last file takes {size} bytes, and {len(data) - start}"
                " follow"
            )
        if header[156:157] in (b"0", b"\0"):
            yield header[:100].split(b"\0", 1)[0].decode("latin-1"), data[start : start + size]
        start += -(-size // 512) * 512


def _checked_labels(path: Path, labels: NDArray[np.generic], allowed: range) -> NDArray[np.int64]:
    if not np.isin(labels, allowed).all():
        raise QuadrateError(
            f"{path}: labels must lie in {allowed[0]}..{allowed[-1]}; found"
            f" {labels[~np.isin(labels, allowed)][0]}"
        )
    return labels.astype(np.int64)
