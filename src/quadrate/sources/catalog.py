"""The data sets known by name, and where their files are found.

All have 10 classes. The test set is as published; the validation set is the last n/12 of the
published training set after a fixed permutation (`from_arrays`): 5,000 of MNIST's and
Fashion-MNIST's 60,000, 6,104 of SVHN's 73,257, 4,166 of CIFAR-10's 50,000.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from quadrate.core.files import exists
from quadrate.errors import QuadrateError
from quadrate.sources.readers import Arrays, read_cifar, read_idx, read_svhn
from quadrate.sources.source import Source, fixed_permutation, from_arrays

CLASSES = 10
DIGITS_TRAIN, DIGITS_VALIDATION = 1197, 200  # of 1797; the other 400 are the test set
TIMEOUT_SECONDS = (
    3,
    20,
    # to connect, to each of a host's addresses, and between two packets: without a network, fail
    # fast
)


@dataclass(frozen=True)
class DataFile:
    """One published file.

    Its name, its checksum as pooch takes it, and the name it has when a user has unpacked it.
    """

    name: str
    checksum: str
    unpacked: str = ""


@dataclass(frozen=True)
class DataSet:
    """A data set to download.

    Its files in the order that `read` takes them, the addresses that hold them all, and where a
    system may have them.
    """

    files: tuple[DataFile, ...]
    addresses: tuple[str, ...]
    read: Callable[[list[Path]], tuple[Arrays, Arrays]]
    system_folder: str = ""


def _idx_files(
    train_images: str, train_labels: str, test_images: str, test_labels: str
) -> tuple[DataFile, ...]:
    stems = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    checksums = (train_images, train_labels, test_images, test_labels)
    return tuple(
        DataFile(f"{stem}.gz", f"md5:{checksum}", stem)
        for stem, checksum in zip(stems, checksums, strict=True)
    )


def _read_idx_files(paths: list[Path]) -> tuple[Arrays, Arrays]:
    return read_idx(paths[0], paths[1], CLASSES), read_idx(paths[2], paths[3], CLASSES)


# Addresses are tried in this order. MNIST's author's own is last: it often turns downloads away.
DOWNLOADS = {
    "mnist": DataSet(
        files=_idx_files(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        addresses=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        read=_read_idx_files,
    ),
    "fashion-mnist": DataSet(
        files=_idx_files(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        addresses=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        read=_read_idx_files,
        system_folder="/usr/share/datasets/fashion-mnist",  # Debian's package dataset-fashion-mnist
    ),
    "svhn": DataSet(
        files=(
            DataFile("train_32x32.mat", "md5:e26dedcc434d2e4c54c9b2d4a06d8373"),
            DataFile("test_32x32.mat", "md5:eb5a983be6a315427106f1b164d9cef3"),
        ),
        addresses=("http://ufldl.stanford.edu/housenumbers/",),
        read=lambda paths: (read_svhn(paths[0]), read_svhn(paths[1])),
    ),
    "cifar-10": DataSet(
        files=(
            DataFile(
                "cifar-10-binary.tar.gz",
                "md5:c32a1d4ab5d03f1284b67883e8d87530",
                "cifar-10-batches-bin",
            ),
        ),
        addresses=("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        read=lambda paths: read_cifar(paths[0]),
    ),
}
SOURCE_NAMES = ("digits", *DOWNLOADS)
ALIASES = {"cifar10": "cifar-10", "fashionmnist": "fashion-mnist"}


def load_named(name: str, data_dir: Path | str | None = None) -> Source:
    """The data set called `name`, one of `SOURCE_NAMES`.

    Files are looked for in `<data>/<name>/`, where `<data>` is `data_dir` or else the folder that
    the environment variable QUADRATE_DATA names; then where the system's packages put them; then in
    the download cache; and are downloaded at last. Only downloads are held against checksums: local
    files may have been packed anew. `digits` is scikit-learn's and needs no files.

    Raises:
        QuadrateError: when files are missing and cannot be downloaded, or are not what they should
            be.
    """
    if name == "digits":
        return _digits()
    train, test = DOWNLOADS[name].read(_locate(name, DOWNLOADS[name], data_dir))
    return from_arrays(name, train, test, classes=CLASSES)


def _digits() -> Source:
    """Scikit-learn's 1797 digits, 8x8, their 17 levels 0..16 spread over 0..255, split by a fixed permutation."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target
    parts = np.split(
        fixed_permutation(len(images)), [DIGITS_TRAIN, DIGITS_TRAIN + DIGITS_VALIDATION]
    )
    train, validation, test = ((images[part], labels[part]) for part in parts)
    return from_arrays("digits", train, test, validation, CLASSES)


def _locate(name: str, data_set: DataSet, data_dir: Path | str | None) -> list[Path]:
    """A path for each of the data set's files."""
    folders = [Path(data_set.system_folder)] if data_set.system_folder else []
    if root := data_dir or os.environ.get("QUADRATE_DATA"):
        root = Path(os.path.expanduser(root))
        if not (exists(root) and root.is_dir()):
            raise QuadrateError(
                f"{name}: the data folder {root} does not exist; mend data_dir or QUADRATE_DATA, or"
                " unset it to download the data"
            )
        folders.insert(0, root / name)
    paths = {file.name: _find(file, folders) for file in data_set.files}
    missing = [file for file in data_set.files if paths[file.name] is None]
    looked_in = ", ".join(map(str, folders)) or "no folder (QUADRATE_DATA is not set)"
    for file in missing:
        try:
            paths[file.name] = _download(name, file, data_set.addresses)
        except QuadrateError as error:
            raise QuadrateError(
                f"{name}: missing {', '.join(file.name for file in missing)}; looked in"
                f" {looked_in}, and the download failed ({error}); put the files into"
                f" <folder>/{name}/ and set QUADRATE_DATA=<folder>, or connect to the network"
            ) from error
    return [path for path in paths.values() if path is not None]


def _find(file: DataFile, folders: list[Path]) -> Path | None:
    candidates = (
        folder / name for folder in folders for name in (file.name, file.unpacked) if name
    )
    return next((path for path in candidates if exists(path)), None)


def _download(name: str, file: DataFile, addresses: tuple[str, ...]) -> Path:
    """The file in pooch's cache, downloaded from the first address that gives it, with the right checksum."""
    import pooch

    reasons = []
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch announces each download on stderr
    try:
        for address in addresses:
            try:
                return Path(
                    pooch.retrieve(
                        address + file.name,
                        known_hash=file.checksum,
                        fname=file.name,
                        path=pooch.os_cache("quadrate") / name,
                        downloader=pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS, chunk_size=2**20),
                    )
                )
            except (
                OSError,
                ValueError,
                # requests' exceptions are OSErrors; pooch raises ValueError for a wrong checksum
            ) as error:
                reasons.append(f"{urlsplit(address).hostname}: {_reason(error)}")
    finally:
        logger.setLevel(level)
    raise QuadrateError(", ".join(reasons))


def _reason(error: Exception) -> str:
    """A few words for what requests says in a paragraph."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "no connection"
    if isinstance(error, ValueError):
        return "wrong checksum"
    return getattr(error, "strerror", None) or str(error)
