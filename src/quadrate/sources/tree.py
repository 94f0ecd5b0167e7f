"""What counts as an image in a folder, for `from_folder` and `quadrate compress` alike, and which class it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quadrate.errors import QuadrateError
from quadrate.sources.images import SUFFIXES

# What systems leave behind, beside hidden names: archives of macOS, thumbnails of Synology, and
# folders of Windows and of Linux's file systems.
_DROPPINGS = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)


def walk(root: Path) -> Iterator[str]:
    """The images under a folder and its sub-folders, relative to it, with slashes, in the same
    order everywhere.

    An image is a file that ends like one. Hidden names and what systems leave behind are passed
    over; links are followed.

    Raises:
        QuadrateError: If a folder cannot be read or is met twice, as links make it, or what ends
            like an image is not a regular file.
    """
    met: dict[tuple[int, int], Path] = {}
    places = [""]
    while places:
        place = places.pop()
        folder = root / place
        entries = _entries(folder)
        # Met twice, a folder would be read twice or, where a link leads back up, for ever.
        stat = os.stat(folder)
        if (first := met.setdefault((stat.st_dev, stat.st_ino), folder)) is not folder:
            raise QuadrateError(
                f"{folder} is the same folder as {first}, which a link leads to; remove the link"
            )
        folders = []
        for name, is_folder, is_file in entries:
            if is_folder:
                folders.append(place + name + "/")
            elif is_image_name(name):
                if not is_file:
                    raise QuadrateError(
                        f"{folder / name}: neither a file nor a link to one, though it ends like an"
                        " image; remove it"
                    )
                yield place + name
        places.extend(reversed(folders))


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def folders_in(root: Path) -> list[str]:
    """The names of the folders in a folder, in sorted order, without those that `walk` passes over.

    Errors as `walk`.
    """
    return [name for name, is_folder, _ in _entries(root) if is_folder]


def _entries(folder: Path) -> list[tuple[str, bool, bool]]:
    """The entries of a folder in the order of their names.

    The name, whether it leads to a folder, and whether to a regular file.
    """
    try:
        with os.scandir(folder) as entries:
            kept = [
                entry
                for entry in entries
                if not (entry.name.startswith(".") or entry.name.lower() in _DROPPINGS)
            ]
            return sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in kept)
    except OSError as error:
        raise QuadrateError(f"cannot read {error.filename or folder}: {error.strerror}") from None


@dataclass(frozen=True)
class Survey:
    """What there is under a folder.

    Attributes:
        root: The folder.
        count: How many images.
        classes: The names of the folders in it, in sorted order: class k is the k-th.
        stray: The first image that lies in none of them, if any.
        empty: The first folder without an image, if any.
    """

    root: Path
    count: int
    classes: tuple[str, ...]
    stray: str | None
    empty: str | None

    def class_numbers(self) -> dict[str, int]:
        """The number of each class folder.

        Raises:
            QuadrateError: If an image lies in no class folder, so that it has no label, or a class
                has no images.
        """
        if self.stray is not None:
            raise QuadrateError(
                f"{self.root / self.stray}: it lies in no class folder, so it has no label;"
                f" expected {self.root}/<class>/<image>"
            )
        if self.empty is not None:
            raise QuadrateError(f"{self.root / self.empty}: no images; {_EXPECTED}")
        return {name: number for number, name in enumerate(self.classes)}


_EXPECTED = f"expected files that end in {', '.join(sorted(SUFFIXES))}"


def survey(root: Path) -> Survey:
    """Looks through a folder.

    Raises:
        QuadrateError: If there are no images, or as `walk`.
    """
    count, stray, filled = 0, None, set()
    for name in walk(root):
        count += 1
        first, slash, _ = name.partition("/")
        if slash:
            filled.add(first)
        elif stray is None:
            stray = name
    if not count:
        raise QuadrateError(f"{root}: no images; {_EXPECTED}")
    folders = tuple(folders_in(root))
    return Survey(
        root, count, folders, stray, next((name for name in folders if name not in filled), None)
    )
