"""What `quadrate compress` reads: folders of images, images, arrays, data sets.

Batch by batch, so that memory does not grow with them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from quadrate.codecs import Batch
from quadrate.core.array_file import array_names, open_array, read_array
from quadrate.core.files import exists, is_folder
from quadrate.core.remote import Place, place_of
from quadrate.errors import QuadrateError
from quadrate.networks.compact import Shape
from quadrate.sources import SOURCES, load_source
from quadrate.sources.image_files import ARCHIVES, Images, find_images, holds_images
from quadrate.sources.images import SUFFIXES, read_image
from quadrate.sources.source import SPLIT_NAMES, to_eight_bits

_BATCH_PIXELS = 1 << 22
_ARRAYS = (".npy", ".npz")


_Piece = TypeVar("_Piece", covariant=True)


class _Part(Protocol[_Piece]):
    """An `Input` or `Images`."""

    @property
    def count(self) -> int: ...

    @property
    def part(self) -> Callable[[int, int], Iterator[_Piece]]: ...


@dataclass(frozen=True)
class Input:
    """One thing to compress.

    Attributes:
        name: What errors call it.
        count: How many samples it has.
        named: Whether its samples have names.
        classes: The names of its classes, where its labels are numbers of class folders.
        part: Gives the samples from one number to another, the last not included, in batches.
    """

    name: str
    count: int
    named: bool
    classes: tuple[str, ...] | None
    part: Callable[[int, int], Iterator[Batch]]


def open_inputs(texts: Sequence[str], shape: Sequence[int], labels: bool) -> list[Input]:
    """What the texts of a command line name.

    Args:
        texts: Folders, images, .npy and .npz files, and data sets with their split such as
            "mnist:test"; of features arrays only.
        shape: A sample's shape that the codec takes: (C, H, W) of images, (D,) of features.
        labels: Whether labels are wanted.

    Raises:
        QuadrateError: If something is missing, damaged, of another shape, or without labels where
            they are wanted; images are only looked at when the batches are.
    """
    inputs = [_open(text, tuple(shape), labels) for text in texts]
    if not inputs:
        raise QuadrateError(
            "name at least one folder of images, image, .npy or .npz file, or data set such as"
            " mnist:test"
        )
    other = next((each for each in inputs if each.named != inputs[0].named), None)
    if other:
        with_names, without = (inputs[0], other) if inputs[0].named else (other, inputs[0])
        raise QuadrateError(
            f"the images of {with_names.name} have names, those of {without.name} have none:"
            " compress them into two files"
        )
    check_classes(inputs)
    return inputs


def check_classes(inputs: Sequence[Input] | Sequence[Images]) -> None:
    """Raise a QuadrateError unless class folders of all inputs have the same numbers."""
    numbered = [each for each in inputs if each.classes is not None]
    for each in numbered[1:]:
        if each.classes != numbered[0].classes:
            ours, theirs = (", ".join(found.classes or ()) for found in (each, numbered[0]))
            raise QuadrateError(
                f"{each.name} has the classes {ours}; {numbered[0].name} has {theirs}: their"
                " numbers would not mean the same"
            )


def part_of(inputs: Sequence[_Part[_Piece]], start: int, stop: int) -> Iterator[_Piece]:
    """What several inputs give, one after another, from one sample's number to another."""
    for each in inputs:
        if start < min(stop, each.count):
            yield from each.part(start, min(stop, each.count))
        start, stop = max(0, start - each.count), max(0, stop - each.count)


def _open(text: str, shape: tuple[int, ...], labels: bool) -> Input:
    if len(shape) != 3:
        return _features(text, shape, labels)
    shape = (shape[0], shape[1], shape[2])
    if SOURCES.knows(text.partition(":")[0]):
        return _data_set(text, shape, labels)
    path = place_of(os.path.expanduser(text))
    if not exists(path):
        raise QuadrateError(
            f"{text}: no such file, folder or data set; data sets are {', '.join(SOURCES)},"
            " with a split, as in mnist:test"
        )
    if path.suffix.lower() in _ARRAYS and not is_folder(path):
        return _array_file(path, shape, labels)
    if not holds_images(path):
        raise QuadrateError(
            f"{path}: neither an image nor an array; expected a name that ends in"
            f" {', '.join(sorted(SUFFIXES))}, {', '.join(ARCHIVES)}, .npy or .npz"
        )
    return _images(find_images(path, labels), shape)


def _fit(
    name: str, found: tuple[int, ...], shape: tuple[int, ...], what: str = "its images are"
) -> None:
    if found != tuple(shape):
        raise QuadrateError(
            f"{name}: {what} {found} (C, H, W); the codec takes {tuple(shape)}: resize or convert"
            " them first"
        )


def _size(shape: tuple[int, ...]) -> int:
    """How many samples make a batch."""
    return max(1, _BATCH_PIXELS // math.prod(shape))


def _pieces(start: int, stop: int, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """The first sample of each batch, and how many it has."""
    size = _size(shape)
    for place in range(start, stop, size):
        yield place, min(size, stop - place)


def _features(text: str, shape: tuple[int, ...], labels: bool) -> Input:
    path = place_of(os.path.expanduser(text))
    if path.suffix.lower() not in _ARRAYS or not exists(path):
        raise QuadrateError(
            f"{text}: this codec takes features (N, {shape[0]}), from an .npy or .npz file that is"
            " there"
        )
    return _array_file(path, shape, labels)


# --- data sets ---


def _data_set(text: str, shape: Shape, labels: bool) -> Input:
    name, _, split = text.partition(":")
    if split not in SPLIT_NAMES:
        raise QuadrateError(
            f"{text}: name a split of the data set:"
            f" {', '.join(f'{name}:{each}' for each in SPLIT_NAMES)}"
        )
    part = getattr(load_source(name), split)
    _fit(text, tuple(part.images.shape[1:]), shape)
    whole = Batch(part.images, part.labels.numpy() if labels else None)

    def batches(start: int, stop: int) -> Iterator[Batch]:
        for place, count in _pieces(start, stop, shape):
            yield whole[place : place + count]

    return Input(text, len(whole), False, None, batches)


# --- folders and images ---


def _images(found: Images, shape: Shape) -> Input:
    def part(start: int, stop: int) -> Iterator[Batch]:
        files = found.part(start, stop)
        while some := tuple(islice(files, _size(shape))):
            images = np.stack([read_image(each.file, shape, "the codec takes") for each in some])
            labels = None if some[0].label is None else np.array([each.label for each in some])
            yield Batch(images, labels, [each.name for each in some])

    return Input(found.name, found.count, True, found.classes, part)


# --- arrays ---


def _array_file(path: Place, shape: tuple[int, ...], labels: bool) -> Input:
    if labels and path.suffix.lower() == ".npy":
        raise QuadrateError(
            f"{path}: an .npy file holds no labels; an .npz file with the arrays images and labels"
            " does"
        )
    name = _member(path, labels) if path.suffix.lower() == ".npz" else None
    with open_array(path, name) as array:
        whole, kind = array.shape, array.dtype
        if array.in_columns:
            raise ValueError("it is in Fortran's order; save numpy.ascontiguousarray of it")
    images = len(shape) == 3
    if kind.kind != "f" and (kind.str[1:] not in ("u1", "u2") if images else kind.kind == "b"):
        takes = (
            "images are uint8, uint16, or floating point in [0, 1]"
            if images
            else "features are real numbers"
        )
        raise QuadrateError(f"{path}: {takes}; it holds {kind}")
    if not images and whole[1:] != shape:
        raise QuadrateError(
            f"{path}: it holds an array {whole}; this codec takes features (N, {shape[0]})"
        )
    if images and len(whole) not in (3, 4):
        raise QuadrateError(
            f"{path}: expected images (N, C, H, W) or (N, H, W); it holds an array {whole}"
        )
    if images:
        _fit(str(path), (1, *whole[1:]) if len(whole) == 3 else whole[1:], shape)
    numbers = _labels(path, whole[0]) if labels else None

    def part(start: int, stop: int) -> Iterator[Batch]:
        return _array_batches(path, name, range(start, stop), shape, numbers)

    return Input(str(path), whole[0], False, None, part)


def _member(path: Place, labels: bool) -> str:
    """Which array of an .npz file holds the samples."""
    names = array_names(path)
    others = [name for name in names if name != "labels"]
    if "images" not in names and len(others) != 1:
        raise QuadrateError(
            f"{path}: not a readable array file (it holds"
            f" {', '.join(map(ascii, names)) or 'nothing'}; expected an array images)"
        )
    if labels and "labels" not in names:
        raise QuadrateError(
            f"{path}: not a readable array file (it holds no array labels, but"
            f" {', '.join(map(ascii, names))})"
        )
    return "images" if "images" in names else others[0]


def _labels(path: Place, count: int) -> NDArray[Any]:
    """The labels of the samples in an .npz file."""
    with open_array(path, "labels") as array:
        shape, kind = array.shape, array.dtype
    if shape != (count,) or kind.kind not in "iu":
        raise QuadrateError(
            f"{path}: its labels are {kind} {shape}; {count} images take {count} integers"
        )
    return read_array(path, "labels")


def _array_batches(
    path: Place,
    name: str | None,
    wanted: range,
    shape: tuple[int, ...],
    labels: NDArray[Any] | None,
) -> Iterator[Batch]:
    with open_array(path, name) as array:
        array.skip(wanted.start * math.prod(shape))
        for start, some in _pieces(wanted.start, wanted.stop, shape):
            images = array.read(some * math.prod(shape)).reshape(some, *shape)
            if len(shape) == 3 and images.dtype == np.uint16:
                images = to_eight_bits(images)
            if (
                len(shape) == 3
                and images.dtype.kind == "f"
                and not ((images >= 0) & (images <= 1)).all()
            ):  # false for NaN too
                raise ValueError(
                    f"floating-point images lie in [0, 1]; images {start} to {start + some - 1}"
                    " reach beyond, or are not numbers"
                )
            yield Batch(images, None if labels is None else labels[start : start + some])
