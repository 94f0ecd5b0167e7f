"""Data sets in published files: where the files are found, and how they are downloaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from quadrate.core.files import exists
from quadrate.errors import QuadrateError
from quadrate.sources.readers import Arrays
from quadrate.sources.source import Source, from_arrays

# Seconds to connect to each address of a host, and between two packets: without a network a
# download must fail fast.
TIMEOUT_SECONDS = (3, 20)


@dataclass(frozen=True)
class DataFile:
    """One published file.

    Attributes:
        name: The file's name.
        checksum: The checksum in pooch's form.
        unpacked: The name of the file or folder that a user may have unpacked it to.
    """

    name: str
    checksum: str
    unpacked: str = ""


@dataclass(frozen=True)
class DataSet:
    """A data set in published files, of 10 classes; call it to load it.

    Attributes:
        name: The data set's name.
        files: Its files, in the order that `read` expects.
        addresses: Addresses that hold all files, tried in this order.
        read: The reader of the files, which returns train and test.
        system_folder: A folder of the operating system that may hold the files.
    """

    name: str
    files: tuple[DataFile, ...]
    addresses: tuple[str, ...]
    read: Callable[[list[Path]], tuple[Arrays, Arrays]]
    system_folder: str = ""

    def __call__(self, data_dir: Path | str | None = None) -> Source:
        """Load the data set; the validation set is split off as in `from_arrays`.

        Files are searched in `<data>/<name>/`, where `<data>` is `data_dir` or the folder that the
        environment variable QUADRATE_DATA names; then in the system's folder; then in the download
        cache; and are downloaded last. Only downloads must match the checksums: local files may
        have been packed anew.

        Raises:
            QuadrateError: If files are missing and cannot be downloaded, or are not valid.
        """
        train, test = self.read(self._locate(data_dir))
        return from_arrays(self.name, train, test, classes=10)

    def _locate(self, data_dir: Path | str | None) -> list[Path]:
        """A path for each file."""
        folders = [Path(self.system_folder)] if self.system_folder else []
        if root := data_dir or os.environ.get("QUADRATE_DATA"):
            root = Path(os.path.expanduser(root))
            if not (exists(root) and root.is_dir()):
                raise QuadrateError(
                    f"{self.name}: the data folder {root} does not exist; correct data_dir or"
                    " QUADRATE_DATA, or unset it to download the data"
                )
            folders.insert(0, root / self.name)
        found = {file: _find(file, folders) for file in self.files}
        missing = [file for file, path in found.items() if path is None]
        looked_in = ", ".join(map(str, folders)) or "no folder (QUADRATE_DATA is not set)"
        for file in missing:
            try:
                found[file] = _download(self.name, file, self.addresses)
            except QuadrateError as error:
                raise QuadrateError(
                    f"{self.name}: missing {', '.join(file.name for file in missing)}; looked in"
                    f" {looked_in}, and the download failed ({error}); put the files into"
                    f" <folder>/{self.name}/ and set QUADRATE_DATA=<folder>, or connect to the"
                    " network"
                ) from error
        return [path for path in found.values() if path is not None]


def _find(file: DataFile, folders: list[Path]) -> Path | None:
    names = [name for name in (file.name, file.unpacked) if name]
    paths = (folder / name for folder in folders for name in names)
    return next((path for path in paths if exists(path)), None)


def _download(name: str, file: DataFile, addresses: tuple[str, ...]) -> Path:
    """The file in pooch's cache, from the first address that gives it with the right checksum."""
    import pooch

    reasons = []
    cache = pooch.os_cache("quadrate") / name
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS, chunk_size=2**20)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch announces each download on stderr
    try:
        for address in addresses:
            url = address + file.name
            try:
                return Path(pooch.retrieve(url, file.checksum, file.name, cache, None, downloader))
            except (OSError, ValueError) as error:  # pooch raises ValueError for a wrong checksum
                reasons.append(f"{urlsplit(address).hostname}: {_reason(error)}")
    finally:
        logger.setLevel(level)
    raise QuadrateError(", ".join(reasons))


def _reason(error: Exception) -> str:
    """A few words for an error of requests, whose own text is a paragraph."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "no connection"
    if isinstance(error, ValueError):
        return "wrong checksum"
    return getattr(error, "strerror", None) or str(error)
