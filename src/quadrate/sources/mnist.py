"""MNIST and Fashion-MNIST, in idx files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError
from quadrate.sources.downloads import DataFile, DataSet
from quadrate.sources.readers import Arrays, checked_labels, contents


def read_idx(images: Path, labels: Path, classes: int = 10) -> Arrays:
    """Gray images and their labels from two idx files, gzipped or not.

    The format of MNIST (http://yann.lecun.com/exdb/mnist).

    Raises:
        QuadrateError: If a file is missing, truncated, too long or too large, has a wrong magic
            number or another number of dimensions; if there are not as many labels as images, or a
            label is not below `classes`.
    """
    image_array, label_array = _idx_array(images, dimensions=3), _idx_array(labels, dimensions=1)
    if len(image_array) != len(label_array):
        raise QuadrateError(
            f"{labels}: holds {len(label_array)} labels for the {len(image_array)} images of"
            f" {images.name}"
        )
    return image_array[:, np.newaxis], checked_labels(labels, label_array, range(classes))


def _idx_array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an idx file.

    A magic number (two zeros, the type 8 for uint8, the number of dimensions), big-endian 32-bit
    sizes, and the bytes in C order.
    """
    data = contents(path)
    header_bytes = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if data[:4] != magic:
        raise QuadrateError(
            f"{path}: not an idx file of bytes in {dimensions} dimensions: expected the magic"
            f" number {magic.hex()}, found {data[:4].hex()}"
        )
    if len(data) < header_bytes:
        raise QuadrateError(
            f"{path}: truncated: {len(data)} bytes, but the header alone takes {header_bytes}"
        )
    shape = tuple(int(size) for size in np.frombuffer(data[4:header_bytes], ">u4"))
    expected, found = math.prod(shape), len(data) - header_bytes
    if found != expected or 0 in shape:
        fault = "truncated" if found < expected else "wrong size"
        raise QuadrateError(
            f"{path}: {fault}: the header promises {shape}, {expected} bytes, and {found} follow"
        )
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(shape)


def _read(paths: list[Path]) -> tuple[Arrays, Arrays]:
    return read_idx(paths[0], paths[1]), read_idx(paths[2], paths[3])


def _files(*checksums: str) -> tuple[DataFile, ...]:
    names = [
        f"{part}-{kind}-ubyte"
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    ]
    pairs = zip(names, checksums, strict=True)
    return tuple(DataFile(f"{name}.gz", f"md5:{checksum}", name) for name, checksum in pairs)


MNIST = DataSet(
    "mnist",
    _files(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",  # last: it often refuses downloads
    ),
    _read,
)
FASHION_MNIST = DataSet(
    "fashion-mnist",
    _files(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    _read,
    system_folder="/usr/share/datasets/fashion-mnist",  # Debian's package dataset-fashion-mnist
)
