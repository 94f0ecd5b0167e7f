"""A source from a folder of images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quadrate.core.files import exists
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.sources.images import read_image
from quadrate.sources.source import (
    MAX_BYTES,
    SPLIT_NAMES,
    Arrays,
    Source,
    assemble,
    fixed_permutation,
)
from quadrate.sources.tree import Survey, folders_in, survey, walk

_SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}

Sample = tuple[Place, int | None]


def from_folder(root: Path | str) -> Source:
    """A source from a folder of images; docs/data.md describes the images.

    Two layouts are read:

    - `<root>/<class>/<image>`: split 80/10/10 into train, validation and test by a fixed
      permutation of the files in sorted order;
    - `<root>/train/<class>/<image>` and `<root>/test/<class>/<image>`, with or without
      `<root>/validation` (or val, valid, dev, in any case): these splits; a missing validation set
      is split off the training set as in `from_arrays`.

    Class k is the k-th class folder in sorted order (of `train`); an image may lie deeper in it. If
    images lie outside class folders, or there is only one class, the source has no labels.

    Raises:
        QuadrateError: If there are no or too few images, they take more than 4 GiB, one cannot be
            read or differs from the first one in shape, a folder of splits is unknown, or `test` or
            `validation` has a class that `train` lacks.
    """
    root = Path(os.path.expanduser(root))
    if not (exists(root) and root.is_dir()):
        raise QuadrateError(f"{root}: no such folder")
    name = root.resolve().name
    if splits := _split_folders(root):
        found = {split: survey(folder) for split, folder in splits.items()}
        classes = _classes_of_splits(found)
        parts = {split: _samples(each.root, classes) for split, each in found.items()}
        first, _ = parts["train"][0]
    else:
        classes = _classes(survey(root))
        samples = _samples(root, classes)
        first, _ = samples[0]
        held_out = len(samples) // 10
        if held_out == 0:
            raise QuadrateError(
                f"{root}: a split into train, validation and test takes at least 10 images; found"
                f" {len(samples)}"
            )
        ends = [len(samples) - 2 * held_out, len(samples) - held_out]
        cuts = zip(SPLIT_NAMES, np.split(fixed_permutation(len(samples)), ends), strict=True)
        parts = {split: [samples[i] for i in part] for split, part in cuts}
    shape = _shape(first, sum(map(len, parts.values())))
    arrays = {split: _read(part, shape) for split, part in parts.items()}
    return assemble(name, arrays, len(classes) if classes else 1)


def _split_folders(root: Path) -> dict[str, Path] | None:
    """The folders of the splits, or None if the folders are classes."""
    folders = folders_in(root)
    named = {name: split for name in folders if (split := _SPLIT_OF.get(name.casefold()))}
    if not named or (len(named) < len(folders) and not {"train", "test"} <= set(named.values())):
        return None
    splits = {split: root / name for name, split in named.items()}
    if missing := sorted({"train", "test"} - splits.keys()):
        has = ", ".join(named)
        raise QuadrateError(
            f"{root}: it has {has}, but no {' and no '.join(missing)}; a split folder has train and"
            " test, and may have validation"
        )
    if len(splits) < len(named):
        raise QuadrateError(
            f"{root}: two of {', '.join(named)} are the same split; keep one of them"
        )
    if unknown := [name for name in folders if name not in named]:
        raise QuadrateError(
            f"{root / unknown[0]}: a folder next to train and test that is not a known split;"
            " expected validation (or val, valid, dev), or move it away"
        )
    return splits


def _classes(found: Survey) -> dict[str, int] | None:
    """The numbers of the class folders, or None if images have no classes."""
    if found.stray is None:
        return found.class_numbers()
    if len(found.classes):
        stray = found.root / found.stray
        warnings.warn(
            f"{stray} is not in a class folder, so the images of {found.root} have no labels; as"
            " <class>/<image> they all would",
            QuadrateWarning,
            stacklevel=4,
        )
    return None


def _classes_of_splits(found: dict[str, Survey]) -> dict[str, int] | None:
    """The same for splits, which must all have the classes of the training set, or no classes."""
    classes = _classes(found["train"])
    for each in found.values():
        if classes is None and each.stray is None:
            raise QuadrateError(
                f"{each.root}: it has class folders, and {found['train'].root} has none"
            )
        for name in each.classes if classes else ():
            if name not in (classes or ()):
                raise QuadrateError(
                    f"{each.root / name}: a class that the training set lacks; it has"
                    f" {', '.join(classes or ())}"
                )
        if classes:
            each.class_numbers()
    return classes


def _samples(folder: Place, classes: dict[str, int] | None) -> list[Sample]:
    """Every image of a folder with its class number, in sorted order."""
    names = walk(folder)
    return [(folder / name, classes[name.split("/")[0]] if classes else None) for name in names]


def _shape(path: Place, count: int) -> tuple[int, int, int]:
    """The shape (C, H, W) of the first image, which all others must share.

    Raises:
        QuadrateError: If `count` such images take more memory than a source may.
    """
    channels, height, width = read_image(path).shape
    if (total := count * channels * height * width) > MAX_BYTES:
        raise QuadrateError(
            f"{count} images like {path}, {channels} x {height} x {width}, take {total} bytes; a"
            f" source takes at most {MAX_BYTES}"
        )
    return channels, height, width


def _read(samples: Sequence[Sample], shape: tuple[int, int, int]) -> Arrays:
    images = np.empty((len(samples), *shape), np.uint8)
    for row, (path, _) in zip(images, samples, strict=True):
        row[:] = read_image(path, shape, "the first has")
    labels = [label for _, label in samples]
    return images, None if None in labels else np.array(labels, np.int64)
