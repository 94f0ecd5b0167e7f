"""Folders of photographs of any sizes, read one by one, and crops of them for training."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quadrate.core import draws
from quadrate.core.files import exists
from quadrate.errors import QuadrateError
from quadrate.sources.images import read_image
from quadrate.sources.tree import walk

_CACHE_BYTES = 1 << 30
_NAMED = {
    "photographs": "photographs/train",
    "kodak": "photographs/kodak",
    "clothing": "clothing",
}


class Photographs:
    """A folder of photographs of any sizes, with all sub-folders.

    Args:
        source: "photographs", "kodak" or "clothing", which are looked for in the folder that the
            environment variable QUADRATE_DATA names; or the path of a folder.
        skip: Photographs whose file names match this pattern are left out; "" leaves out none.
        only: Those whose names do not match are left out; "" leaves out none.

    Attributes:
        root: The folder.
        names: Of the photographs inside it, in order.

    Raises:
        QuadrateError: If there is no such folder, or no photograph in it.
    """

    def __init__(self, source: str | Path, skip: str = "", only: str = "") -> None:
        self.root = find_folder(source)
        self.names = [
            name
            for name in walk(self.root)
            if not (skip and fnmatch.fnmatchcase(Path(name).name, skip))
            and (not only or fnmatch.fnmatchcase(Path(name).name, only))
        ]
        if not self.names:
            raise QuadrateError(f"{self.root}: no photographs there")
        self._cached: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names and contents of all files, in hexadecimal digits."""
        sha = hashlib.sha256()
        for name in self.names:
            sha.update(f"{name}\x1f".encode())
            with (self.root / name).open("rb") as file:
                sha.update(hashlib.file_digest(file, "sha256").digest())
        return sha.hexdigest()

    def read(self, number: int) -> NDArray[np.uint8]:
        """Read a photograph, uint8 (C, H, W), upright; those read last stay in memory.

        Raises:
            QuadrateError: If it cannot be read.
        """
        if number in self._cached:
            self._cached.move_to_end(number)
            return self._cached[number]
        pixels = np.array(read_image(self.root / self.names[number]))  # PyTorch wants to write
        self._cached[number] = pixels
        while len(self._cached) > 1 and self._cached_bytes() > _CACHE_BYTES:
            self._cached.popitem(last=False)
        return pixels

    def _cached_bytes(self) -> int:
        return sum(pixels.nbytes for pixels in self._cached.values())

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Read all photographs in order, as colours, (3, H, W)."""
        for number in range(len(self)):
            yield _colours(self.read(number))

    def crops(self, count: int, side: int, *key: object) -> Iterator[NDArray[np.uint8]]:
        """Draw crops (3, side, side), some of them mirrored, under a key.

        Photographs are drawn alike, whatever their sizes; those smaller than a crop are left out.
        Crops come in the order of the photographs, so that each is read once.

        Raises:
            QuadrateError: If no photograph is large enough.
        """
        drawn = draws.words("photographs", *key, count=4 * count).reshape(count, 4)
        order = np.argsort(drawn[:, 0] * len(self) >> 24, kind="stable")
        for row in drawn[order].tolist():
            pixels = self._large(row[0] * len(self) >> 24, side)
            top, left = (
                word * (size - side + 1) >> 24
                for word, size in zip(row[1:3], pixels.shape[1:], strict=True)
            )
            crop = pixels[:, top : top + side, left : left + side]
            yield np.ascontiguousarray(_colours(crop[:, :, ::-1] if row[3] & 1 else crop))

    def _large(self, number: int, side: int) -> NDArray[np.uint8]:
        """The photograph of a number, or the next one that is large enough."""
        for ahead in range(len(self)):
            pixels = self.read((number + ahead) % len(self))
            if min(pixels.shape[1:]) >= side:
                return pixels
        raise QuadrateError(f"{self.root}: no photograph of {side} x {side} pixels or more")


def _colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.broadcast_to(pixels, (3, *pixels.shape[1:]))


def find_folder(source: str | Path) -> Path:
    """Find the folder of a source of `Photographs`.

    Raises:
        QuadrateError: If there is no such folder.
    """
    named = _NAMED.get(str(source))
    if named is not None:
        data = os.environ.get("QUADRATE_DATA")
        if not data:
            raise QuadrateError(
                f"{source}: set QUADRATE_DATA to the folder that has {named}, or give a folder of"
                " photographs"
            )
        root = Path(data) / named
    else:
        root = Path(os.path.expanduser(source))
    if not (exists(root) and root.is_dir()):
        raise QuadrateError(f"{root}: no such folder of photographs")
    return root
