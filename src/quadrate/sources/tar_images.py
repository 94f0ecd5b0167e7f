"""Images in tar archives of WebDataset form.

A sample is the files next to each other that share their name up to the first dot of its last part:
`000123.jpg` and `000123.cls`, whose text is the label.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import IO

from quadrate.core.files import open_regular
from quadrate.core.names import is_printable
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError
from quadrate.sources.image_files import ImageFile, Images
from quadrate.sources.images import SUFFIXES, ImageBytes
from quadrate.sources.tree import is_image_name

_LABEL = ".cls"
_MOST_BYTES = 1 << 30  # of a member
_MOST_LABEL_BYTES = 32


@dataclass(frozen=True)
class _Member:
    """A file in an archive.

    Attributes:
        name: Its name.
        start: Where its contents begin.
        size: How many bytes it has.
    """

    name: str
    start: int
    size: int

    @property
    def key(self) -> str:
        """What the files of a sample share."""
        folder, slash, last = self.name.rpartition("/")
        return folder + slash + last.partition(".")[0]


def find_tar_images(path: Place, labels: bool) -> Images:
    """Find the images in a tar archive; its headers are read, and none of its images.

    Raises:
        QuadrateError: If it is damaged, has no images, two images for one sample, or one without a
            label where labels are wanted.
    """
    with _opened(path) as (file, size):
        count = sum(1 for _ in _samples(path, file, size, labels))
    if not count:
        raise QuadrateError(
            f"{path}: no images; expected files that end in {', '.join(sorted(SUFFIXES))}"
        )

    def part(start: int, stop: int) -> Iterator[ImageFile]:
        with _opened(path) as (file, size):
            for number, (image, label) in enumerate(_samples(path, file, size, labels)):
                if number >= stop:
                    return
                if number >= start:
                    where = f"{path}: {image.name}"
                    data = ImageBytes(where, _contents(file, image))
                    yield ImageFile(data, image.name, _label(file, label, path))

    return Images(str(path), count, part)


@contextmanager
def _opened(path: Place) -> Iterator[tuple[IO[bytes], int]]:
    """An archive and its size; what is wrong with it becomes one line."""
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            yield file, size
        except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise QuadrateError(f"{path}: not a readable tar archive ({reason})") from None


def _samples(
    path: Place, file: IO[bytes], size: int, labels: bool
) -> Iterator[tuple[_Member, _Member | None]]:
    """The image and the label of each sample."""
    image: _Member | None = None
    label: _Member | None = None
    key = None
    for member in chain(_members(path, file, size), [None]):
        if member is None or member.key != key:
            if image is not None:
                yield _checked(path, image, label, labels)
            image = label = None
            key = member.key if member else None
        if member is None:
            return
        if is_image_name(member.name):
            if image is not None:
                raise QuadrateError(
                    f"{path}: {image.name} and {member.name} are images of one sample, which has"
                    " one; rename them"
                )
            image = member
        elif member.name.endswith(_LABEL):
            label = member


def _checked(
    path: Place, image: _Member, label: _Member | None, labels: bool
) -> tuple[_Member, _Member | None]:
    if labels and label is None:
        raise QuadrateError(f"{path}: {image.name} has no label; expected {image.key}{_LABEL}")
    return image, label if labels else None


def _members(path: Place, file: IO[bytes], size: int) -> Iterator[_Member]:
    """The regular files of an archive in their order, without hidden ones, in constant memory."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # which grows with the archive
            last = member.name.rpartition("/")[2]
            if not member.isreg() or member.issparse() or last.startswith("."):
                continue
            if not is_printable(member.name):
                raise QuadrateError(f"{path}: {ascii(member.name)[:80]} is not a printable name")
            if not 0 <= member.size <= min(size - member.offset_data, _MOST_BYTES):
                raise QuadrateError(
                    f"{path}: {member.name} has {member.size} bytes, which is more than an image"
                    " has, or than follow: the archive is damaged"
                )
            yield _Member(member.name, member.offset_data, member.size)


def _contents(file: IO[bytes], member: _Member) -> bytes:
    file.seek(member.start)  # the archive finds its own place again
    return file.read(member.size)


def _label(file: IO[bytes], member: _Member | None, path: Place) -> int | None:
    if member is None:
        return None
    where = f"{path}: {member.name}"
    text = b"" if member.size > _MOST_LABEL_BYTES else _contents(file, member).strip()
    if not text.removeprefix(b"-").isdigit():
        raise QuadrateError(f"{where}: a label is a whole number as text")
    return int(text)
