"""What `quadrate compress` reads: folders of images, images, arrays, data sets; batch by batch, so that memory does not grow with them."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError
from quadrate.networks.compact import Shape
from quadrate.quad import Batch
from quadrate.sources import SOURCE_NAMES, load_source
from quadrate.sources.folder import SUFFIXES
from quadrate.sources.images import GRAY_MODES, image_to_array
from quadrate.sources.load import is_source_name
from quadrate.sources.source import SPLIT_NAMES

_BATCH_PIXELS = 1 << 22
_ARRAYS = (".npy", ".npz")
_BAD_ARRAY = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Input:
    """One thing to compress.

    Attributes:
        name: What errors call it.
        count: How many samples it has.
        named: Whether its samples have names.
        classes: The names of its classes, where its labels are numbers of class folders.
        batches: Its samples.
    """

    name: str
    count: int
    named: bool
    classes: tuple[str, ...] | None
    batches: Iterator[Batch]


def open_inputs(texts: Sequence[str], shape: Sequence[int], labels: bool) -> list[Input]:
    """What the texts of a command line name.

    Args:
        texts: Folders, images, .npy and .npz files, and data sets with their split such as "mnist:test"; of features arrays only.
        shape: A sample's shape that the codec takes: (C, H, W) of images, (D,) of features.
        labels: Whether labels are wanted.

    Raises:
        QuadrateError: If something is missing, damaged, of another shape, or without labels where they are wanted; images are only looked at
            when the batches are.
    """
    inputs = [_open(text, tuple(shape), labels) for text in texts]
    if not inputs:
        raise QuadrateError("name at least one folder of images, image, .npy or .npz file, or data set such as mnist:test")
    other = next((each for each in inputs if each.named != inputs[0].named), None)
    if other:
        with_names, without = (inputs[0], other) if inputs[0].named else (other, inputs[0])
        raise QuadrateError(f"the images of {with_names.name} have names, those of {without.name} have none: compress them into two files")
    numbered = [each for each in inputs if each.classes is not None]
    for each in numbered[1:]:
        if each.classes != numbered[0].classes:
            ours, theirs = (", ".join(found.classes or ()) for found in (each, numbered[0]))
            raise QuadrateError(f"{each.name} has the classes {ours}; {numbered[0].name} has {theirs}: their numbers would not mean the same")
    return inputs


def _open(text: str, shape: tuple[int, ...], labels: bool) -> Input:
    if len(shape) != 3:
        return _features(text, shape, labels)
    shape = (shape[0], shape[1], shape[2])
    if is_source_name(text.partition(":")[0]):
        return _data_set(text, shape, labels)
    path = Path(text).expanduser()
    if path.is_dir():
        return _folder(path, shape, labels)
    if not path.exists():
        raise QuadrateError(f"{text}: no such file, folder or data set; data sets are {', '.join(SOURCE_NAMES)}, with a split, as in mnist:test")
    if path.suffix.lower() in _ARRAYS:
        return _array_file(path, shape, labels)
    if path.suffix.lower() not in SUFFIXES:
        raise QuadrateError(f"{path}: neither an image nor an array; expected a name that ends in {', '.join(sorted(SUFFIXES))}, .npy or .npz")
    if labels:
        raise QuadrateError(f"{path}: an image alone has no label; labels come from class folders, .npz files and data sets")
    return Input(str(path), 1, True, None, _image_batches(path.parent, iter([path.name]), shape, None))


def _fit(name: str, found: tuple[int, ...], shape: tuple[int, ...], what: str = "its images are") -> None:
    if found != tuple(shape):
        raise QuadrateError(f"{name}: {what} {found} (C, H, W); the codec takes {tuple(shape)}: resize or convert them first")


def _size(shape: tuple[int, ...]) -> int:
    """How many samples make a batch."""
    return max(1, _BATCH_PIXELS // math.prod(shape))


def _features(text: str, shape: tuple[int, ...], labels: bool) -> Input:
    path = Path(text).expanduser()
    if path.suffix.lower() not in _ARRAYS or not path.exists():
        raise QuadrateError(f"{text}: this codec takes features (N, {shape[0]}), from an .npy or .npz file that is there")
    return _array_file(path, shape, labels)


# --- data sets ---


def _data_set(text: str, shape: Shape, labels: bool) -> Input:
    name, _, split = text.partition(":")
    if split not in SPLIT_NAMES:
        raise QuadrateError(f"{text}: name a split of the data set: {', '.join(f'{name}:{each}' for each in SPLIT_NAMES)}")
    part = getattr(load_source(name), split)
    _fit(text, tuple(part.images.shape[1:]), shape)
    whole = Batch(part.images, part.labels.numpy() if labels else None)
    size = _size(shape)
    return Input(text, len(whole), False, None, (whole[i : i + size] for i in range(0, len(whole), size)))


# --- folders and images ---


def _folder(root: Path, shape: Shape, labels: bool) -> Input:
    count = sum(1 for _ in _walk(root))
    if not count:
        raise QuadrateError(f"{root}: no images; expected files that end in {', '.join(sorted(SUFFIXES))}")
    classes = tuple(sorted({name.partition("/")[0] for name in _walk(root) if "/" in name})) if labels else None
    bare = next((name for name in _walk(root) if "/" not in name), None) if labels else None
    if bare:
        raise QuadrateError(f"{root / bare}: it lies in no class folder, so it has no label; expected {root}/<class>/<image>")
    return Input(str(root), count, True, classes, _image_batches(root, _walk(root), shape, classes))


def _walk(root: Path) -> Iterator[str]:
    """The images under a folder, relative to it, in the same order everywhere; hidden ones and links to folders are left out."""

    def fail(error: OSError) -> None:
        raise QuadrateError(f"cannot read {error.filename}: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(folder).relative_to(root)
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield (place / name).as_posix()


def _image_batches(root: Path, names: Iterator[str], shape: Shape, classes: tuple[str, ...] | None) -> Iterator[Batch]:
    numbers = {name: number for number, name in enumerate(classes or ())}
    while some := tuple(islice(names, _size(shape))):
        images = np.stack([_read_image(root / name, shape) for name in some])
        labels = None if classes is None else np.array([numbers[name.partition("/")[0]] for name in some])
        yield Batch(images, labels, some)


def _read_image(path: Path, shape: Shape) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a picture of another size is not decoded
            image = Image.open(path)
        with image:
            if (image.height, image.width) != tuple(shape[1:]):
                _fit(str(path), (1 if image.mode in GRAY_MODES else 3, image.height, image.width), shape, "its shape is")
            array = image_to_array(image, str(path))
    except QuadrateError:
        raise
    except Exception as error:  # PIL's decoders raise a dozen kinds of exception on broken files
        raise QuadrateError(f"{path}: not a readable image ({type(error).__name__}: {error})") from None
    _fit(str(path), array.shape, shape, "its shape is")
    return array


# --- arrays ---


def _array_file(path: Path, shape: tuple[int, ...], labels: bool) -> Input:
    if labels and path.suffix.lower() == ".npy":
        raise QuadrateError(f"{path}: an .npy file holds no labels; an .npz file with the arrays images and labels does")
    try:
        name, numbers = _members(path, labels)
        with _opened(path, name) as file:
            whole, kind = _array_header(file)
    except _BAD_ARRAY as error:
        raise QuadrateError(f"{path}: not a readable array file ({error})") from None
    images = len(shape) == 3
    if kind.kind != "f" and (images and kind != np.uint8 or not images and kind.kind not in "iu"):
        raise QuadrateError(f"{path}: {'images are uint8, or floating point in [0, 1]' if images else 'features are real numbers'}; it holds {kind}")
    if not images and whole[1:] != shape:
        raise QuadrateError(f"{path}: it holds an array {whole}; this codec takes features (N, {shape[0]})")
    if images and len(whole) not in (3, 4):
        raise QuadrateError(f"{path}: expected images (N, C, H, W) or (N, H, W); it holds an array {whole}")
    count = whole[0]
    if images:
        _fit(str(path), (1, *whole[1:]) if len(whole) == 3 else whole[1:], shape)
    if numbers is not None and (numbers.shape != (count,) or numbers.dtype.kind not in "iu"):
        raise QuadrateError(f"{path}: its labels are {numbers.dtype} {numbers.shape}; {count} images take {count} integers")
    return Input(str(path), count, False, None, _array_batches(path, name, kind, count, shape, numbers))


def _members(path: Path, labels: bool) -> tuple[str | None, NDArray[Any] | None]:
    """Which member of an .npz file holds the images, and its labels if they are wanted."""
    if path.suffix.lower() == ".npy":
        return None, None
    with np.load(path, allow_pickle=False) as archive:
        others = [name for name in archive.files if name != "labels"]
        if "images" not in archive.files and len(others) != 1:
            raise ValueError(f"it holds {', '.join(archive.files) or 'nothing'}; expected an array images")
        if labels and "labels" not in archive.files:
            raise ValueError(f"it holds no array labels, but {', '.join(archive.files)}")
        return "images" if "images" in archive.files else others[0], archive["labels"] if labels else None


def _opened(path: Path, member: str | None) -> IO[bytes]:
    if member is None:
        return path.open("rb")
    return zipfile.ZipFile(path).open(f"{member}.npy")  # the member keeps the archive open, and closes it


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array in an .npy stream, which then stands at the array's first byte."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format is for tables, not images")
    shape, transposed, kind = readers[version](file)
    if transposed and len(shape) > 1:
        raise ValueError("it is in Fortran's order; save numpy.ascontiguousarray of it")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, kind


def _array_batches(
    path: Path, member: str | None, kind: np.dtype[Any], count: int, shape: tuple[int, ...], labels: NDArray[Any] | None
) -> Iterator[Batch]:
    size = _size(shape)
    try:
        with _opened(path, member) as file:
            _array_header(file)
            for start in range(0, count, size):
                some = min(size, count - start)
                wanted = some * math.prod(shape) * kind.itemsize
                data = file.read(wanted)
                if len(data) < wanted:
                    raise ValueError(f"it is cut short: image {start + len(data) * some // wanted} of {count} is not whole")
                images = np.frombuffer(data, kind).reshape(some, *shape).astype(kind.newbyteorder("="))
                if len(shape) == 3 and kind.kind == "f" and not ((images >= 0) & (images <= 1)).all():  # false for NaN too
                    raise ValueError(f"floating-point images lie in [0, 1]; images {start} to {start + some - 1} reach beyond, or are not numbers")
                yield Batch(images, None if labels is None else labels[start : start + some])
    except _BAD_ARRAY as error:
        raise QuadrateError(f"{path}: not a readable array file ({error})") from None
