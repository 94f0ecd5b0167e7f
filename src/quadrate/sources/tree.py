"""The images in a folder and their classes, for `from_folder` and `quadrate compress`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quadrate.core.remote import Place, Url
from quadrate.errors import QuadrateError
from quadrate.sources.images import SUFFIXES

# Names that systems leave behind and do not hide: macOS, Synology, Windows, Linux file systems.
_DROPPINGS = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)


def walk(root: Place) -> Iterator[str]:
    """The images under a folder, relative to it, with slashes, in the same order on all systems.

    An image is a file with an image's ending. Hidden names and those that systems leave behind are
    skipped; links are followed.

    Raises:
        QuadrateError: If a folder cannot be read, or is found twice because of links, or a name
            with an image's ending is not a regular file.
    """
    met: dict[tuple[int, int], Path] = {}
    places = [""]
    while places:
        place = places.pop()
        folder = root / place
        entries = _entries(folder)
        if not isinstance(folder, Url):  # behind which there are no links
            _meet(folder, met)
        folders = []
        for name, is_folder, is_file in entries:
            if is_folder:
                folders.append(place + name + "/")
            elif is_image_name(name):
                if not is_file:
                    raise QuadrateError(
                        f"{folder / name}: neither a file nor a link to a file, though its name"
                        " ends like an image's; remove it"
                    )
                yield place + name
        places.extend(reversed(folders))


def _meet(folder: Path, met: dict[tuple[int, int], Path]) -> None:
    """Raise a QuadrateError if a folder was met before.

    It would be read twice or, where a link leads back up, forever.
    """
    stat = os.stat(folder)
    if (first := met.setdefault((stat.st_dev, stat.st_ino), folder)) is not folder:
        raise QuadrateError(
            f"{folder} is the same folder as {first}, which a link leads to; remove the link"
        )


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def folders_in(root: Place) -> list[str]:
    """The names of the folders in a folder, in sorted order, without those that `walk` skips.

    Raises:
        QuadrateError: If the folder cannot be read.
    """
    return [name for name, is_folder, _ in _entries(root) if is_folder]


def _entries(folder: Place) -> list[tuple[str, bool, bool]]:
    """The sorted names in a folder, whether each is a folder, and whether it is a regular file."""
    if isinstance(folder, Url):
        found = folder.entries()
    else:
        try:
            with os.scandir(folder) as entries:
                found = sorted((each.name, each.is_dir(), each.is_file()) for each in entries)
        except OSError as error:
            raise QuadrateError(
                f"cannot read {error.filename or folder}: {error.strerror}"
            ) from None
    return [
        entry for entry in found if not (entry[0].startswith(".") or entry[0].lower() in _DROPPINGS)
    ]


@dataclass(frozen=True)
class Survey:
    """The images under a folder.

    Attributes:
        root: The folder.
        count: The number of images.
        classes: The names of the folders in it, in sorted order: class k is the k-th.
        stray: The first image outside these folders, if any.
        empty: The first of these folders without an image, if any.
    """

    root: Place
    count: int
    classes: tuple[str, ...]
    stray: str | None
    empty: str | None

    def class_numbers(self) -> dict[str, int]:
        """The number of each class folder.

        Raises:
            QuadrateError: If an image is not in a class folder, and so has no label, or a class has
                no images.
        """
        if self.stray is not None:
            raise QuadrateError(
                f"{self.root / self.stray}: it is not in a class folder, so it has no label;"
                f" expected {self.root}/<class>/<image>"
            )
        if self.empty is not None:
            raise QuadrateError(f"{self.root / self.empty}: no images; {_EXPECTED}")
        return {name: number for number, name in enumerate(self.classes)}


_EXPECTED = f"expected files that end in {', '.join(sorted(SUFFIXES))}"


def survey(root: Place) -> Survey:
    """Search a folder for images.

    Raises:
        QuadrateError: If there are no images; as `walk`.
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
    empty = next((name for name in folders if name not in filled), None)
    return Survey(root, count, folders, stray, empty)
