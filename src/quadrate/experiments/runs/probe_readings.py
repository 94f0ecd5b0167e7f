"""What is read of stored photographs: coefficients, features of what is decoded, and bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from quadrate.codecs.photo_codec import PhotoCodec
from quadrate.codecs.photo_quad import PhotoFile, Photograph, Rate, compress
from quadrate.core.array_file import read_array
from quadrate.core.files import write_atomically
from quadrate.networks.backbones import Backbone
from quadrate.networks.latent_reader import on_a_grid
from quadrate.sources.photographs import Photographs
from quadrate.sources.tree import survey

_POOLED = 4  # sites a side
_TOGETHER = 32  # photographs decoded before the backbone sees them


@dataclass(frozen=True, eq=False)
class Readings:
    """What is read of the photographs of a split, which are stored at one quality.

    Attributes:
        base: The base's coefficients on a grid, float16 (n, c, 16, 16), as `on_a_grid` makes them.
        magnitudes: The mean size of each channel's coefficients, float32 (n, c).
        pixels_1: The backbone's features of what the base alone shows, float32 (n, d).
        pixels_2: Of what both layers show.
        bytes_1: Of the base's payload, int64 (n,).
        bytes_2: Of both payloads.
        pixels: Of each photograph, int64 (n,).
        file_bytes: Of the whole .quad file, int64 (1,).
    """

    base: NDArray[np.float16]
    magnitudes: NDArray[np.float32]
    pixels_1: NDArray[np.float32]
    pixels_2: NDArray[np.float32]
    bytes_1: NDArray[np.int64]
    bytes_2: NDArray[np.int64]
    pixels: NDArray[np.int64]
    file_bytes: NDArray[np.int64]

    def pooled(self, layers: int) -> NDArray[np.float32]:
        """Latents as a linear probe takes them, (n, d).

        The base's on a coarser grid, and the logarithm of the mean size of each channel, of the
        base alone or of all.
        """
        base = torch.from_numpy(self.base).float()
        known = base.shape[1]
        grid = adaptive_avg_pool2d(base, _POOLED).flatten(1).numpy()
        sizes = self.magnitudes[:, :known] if layers == 1 else self.magnitudes
        return np.concatenate([grid, np.log1p(sizes)], axis=1)

    def save(self, path: Path) -> None:
        """Write the arrays as one .npz file."""
        write_arrays(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Readings:
        """Read what `save` wrote.

        Raises:
            QuadrateError: If the file is missing or damaged.
        """
        return cls(**{name: read_array(path, name) for name in cls.__dataclass_fields__})


def write_arrays(path: Path, **arrays: NDArray[np.generic]) -> None:
    """Write arrays as one .npz file."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    write_atomically(path, write)


def labelled(photographs: Photographs) -> Iterator[Photograph]:
    """Read the photographs of a folder of class folders, each with its class's number.

    Raises:
        QuadrateError: If one cannot be read, or has no class.
    """
    numbers = survey(photographs.root).class_numbers()
    for number, name in enumerate(photographs.names):
        # Without its name, which takes bits that no reader of labels needs.
        yield Photograph(photographs.read(number), label=numbers[name.partition("/")[0]])


def features_and_labels(
    photographs: Photographs, backbone: Backbone
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The backbone's features of photographs as they are, (n, d), and their labels, (n,)."""
    features, labels = [], []
    for photograph in labelled(photographs):
        features.append(backbone.features([torch.from_numpy(photograph.pixels)])[0].numpy())
        labels.append(photograph.label)
    return np.stack(features), np.array(labels, np.int64)


def store(codec: PhotoCodec, photographs: Photographs, quality: float, path: Path) -> None:
    """Write photographs with their labels as one .quad file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compress(codec, labelled(photographs), path, Rate(quality=quality))


def read(codec: PhotoCodec, path: Path, backbone: Backbone) -> Readings:
    """Read the photographs of a .quad file in every way.

    Raises:
        QuadrateError: If the file is damaged, or another codec's.
    """
    known = codec.model.ends[codec.model.base - 1]  # channels of the base
    base, magnitudes, sizes = [], [], []
    features: dict[int, list[NDArray[np.float32]]] = {1: [], 2: []}
    waiting: dict[int, list[torch.Tensor]] = {1: [], 2: []}

    def see() -> None:
        for layers, pictures in waiting.items():
            features[layers].append(backbone.features(pictures).numpy())
            pictures.clear()

    with PhotoFile(path, codec) as file:
        for number in range(len(file)):
            chunk = file.reader.read(number)
            assert chunk.shapes is not None
            shape = chunk.shapes[0].tolist()
            whole, exponent = codec.coefficients(chunk.payloads, shape)
            first = whole.copy()
            first[:, :, known:] = 0  # as `coefficients` gives them of the base alone
            base.append(on_a_grid(torch.from_numpy(first[:, :, :known])).numpy())
            magnitudes.append(np.abs(whole).mean((0, 1)))
            lengths = [len(payload) for payload in chunk.payloads]
            sizes.append((lengths[0], sum(lengths), shape[1] * shape[2]))
            for layers, coefficients in ((1, first), (2, whole)):
                decoded = codec.reconstruct(coefficients, exponent, shape)
                waiting[layers].append(torch.from_numpy(decoded))
            if len(waiting[1]) == _TOGETHER:
                see()
        see()
    table = np.array(sizes, np.int64)
    return Readings(
        np.stack(base).astype(np.float16),
        np.stack(magnitudes),
        np.concatenate(features[1]),
        np.concatenate(features[2]),
        table[:, 0],
        table[:, 1],
        table[:, 2],
        np.array([path.stat().st_size], np.int64),
    )
