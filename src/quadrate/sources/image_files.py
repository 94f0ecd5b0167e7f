"""Images to compress, one after another: those of a folder or an archive, or one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice

from quadrate.core.files import is_folder
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError
from quadrate.sources.images import ImageBytes
from quadrate.sources.tree import is_image_name, survey, walk


@dataclass(frozen=True)
class ImageFile:
    """An image that is not read yet.

    Attributes:
        file: Its file, or its bytes.
        name: A text to store with it.
        label: Its label, where labels are wanted.
    """

    file: Place | ImageBytes
    name: str
    label: int | None = None


@dataclass(frozen=True)
class Images:
    """Images that are read when they are wanted.

    Attributes:
        name: What errors call them.
        count: How many there are.
        part: Gives the images from one number to another, the last not included.
        classes: The names of their classes, where their labels are numbers of class folders.
    """

    name: str
    count: int
    part: Callable[[int, int], Iterator[ImageFile]]
    classes: tuple[str, ...] | None = None


ARCHIVES = {
    ".tar": ("quadrate.sources.tar_images", "find_tar_images"),
    ".parquet": ("quadrate.sources.parquet_images", "find_parquet_images"),
}
"""Where to find what reads archives of images, by their endings."""


def holds_images(path: Place) -> bool:
    """Whether `find_images` takes a path that is there: a folder, or a name that ends like one."""
    return is_folder(path) or is_image_name(path.name) or path.suffix.lower() in ARCHIVES


def find_images(path: Place, labels: bool) -> Images:
    """Find the images of a folder with all its sub-folders or of an archive, or one in a file.

    Raises:
        QuadrateError: If there are none, or labels are wanted where there are none: images alone,
            folders without class folders, archives without labels.
    """
    if not is_folder(path) and path.suffix.lower() in ARCHIVES:
        module, name = ARCHIVES[path.suffix.lower()]
        archive: Images = getattr(import_module(module), name)(path, labels)
        return archive
    if not is_folder(path):
        if labels:
            raise QuadrateError(
                f"{path}: an image alone has no label; labels come from class folders, .npz files"
                " and data sets"
            )
        alone = ImageFile(path, path.name)
        return Images(str(path), 1, lambda start, stop: islice(iter([alone]), start, stop))
    found = survey(path)
    numbers = found.class_numbers() if labels else None

    def part(start: int, stop: int) -> Iterator[ImageFile]:
        for name in islice(walk(path), start, stop):
            label = None if numbers is None else numbers[name.partition("/")[0]]
            yield ImageFile(path / name, name, label)

    return Images(str(path), found.count, part, None if numbers is None else tuple(numbers))
