"""A source from a folder of labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError
from quadrate.sources.images import image_to_array
from quadrate.sources.source import Source, fixed_permutation, from_arrays

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})

Sample = tuple[Path, int]


def from_folder(root: Path | str) -> Source:
    """A source from a folder of images, one folder a class.

    Two layouts are read:

    - `<root>/<class>/<image>`: split 80/10/10 into train, validation and test by a fixed permutation of the files in sorted order;
    - `<root>/train/<class>/<image>` and `<root>/test/<class>/<image>`, with or without `<root>/validation`: split as it stands; a missing
      validation set is split off the training set as in `from_arrays`.

    Class k is the k-th class folder in sorted order (of `train`). Images are made gray if they are gray, otherwise RGB, and must then agree in shape.
    Hidden folders, and files that do not end like an image's name, are left out.

    Raises:
        QuadrateError: when no or too few images are found, one cannot be read or differs from the first one in shape, or `test` or `validation` has
            a class that `train` lacks.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise QuadrateError(f"{root}: no such folder")
    name = root.resolve().name
    if (root / "train").is_dir() and (root / "test").is_dir():
        classes = _class_names(root / "train")
        shape = _shape(_samples(root / "train", classes))
        read = {split: _read(_samples(root / split, classes), shape) for split in ("train", "validation", "test") if (root / split).is_dir()}
        return from_arrays(name, read["train"], read["test"], read.get("validation"), len(classes))
    classes = _class_names(root)
    samples = _samples(root, classes)
    held_out = len(samples) // 10
    if held_out == 0:
        raise QuadrateError(f"{root}: a split into train, validation and test takes at least 10 images; found {len(samples)}")
    images, labels = _read(samples, _shape(samples))
    order = fixed_permutation(len(samples))
    train, validation, test = ((images[part], labels[part]) for part in np.split(order, [len(samples) - 2 * held_out, len(samples) - held_out]))
    return from_arrays(name, train, test, validation, len(classes))


def _class_names(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise QuadrateError(f"{folder}: no class folders; expected {folder.name}/<class>/<image>, or train and test folders of that form")
    return names


def _samples(folder: Path, classes: list[str]) -> list[Sample]:
    """Every image of `folder` with its class index, in sorted order."""
    samples: list[Sample] = []
    for name in _class_names(folder):
        if name not in classes:
            raise QuadrateError(f"{folder / name}: a class that the training set lacks; it has {', '.join(classes)}")
        paths = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
        if not paths:
            raise QuadrateError(f"{folder / name}: no images; expected files that end in {', '.join(sorted(SUFFIXES))}")
        samples.extend((path, classes.index(name)) for path in paths)
    return samples


def _shape(samples: list[Sample]) -> tuple[int, ...]:
    """The shape (C, H, W) of the first image, which all others must share."""
    return _read_image(samples[0][0]).shape


def _read(samples: list[Sample], shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = np.empty((len(samples), *shape), np.uint8)
    for row, (path, _) in zip(images, samples, strict=True):
        image = _read_image(path)
        if image.shape != shape:
            raise QuadrateError(f"{path}: all images must have one shape (C, H, W); this one has {image.shape}, the first {shape}")
        row[:] = image
    return images, np.array([label for _, label in samples], np.int64)


def _read_image(path: Path) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image_to_array(image, str(path))
    except QuadrateError:
        raise
    except Exception as error:  # PIL's decoders raise a dozen kinds of exception on broken files
        raise QuadrateError(f"{path}: not a readable image ({type(error).__name__}: {error})") from error
