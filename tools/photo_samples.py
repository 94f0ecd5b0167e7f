"""Draws parts of Kodak's photographs as several codecs give them back from files of equal bytes.

python tools/photo_samples.py CODEC BITS_PER_PIXEL -o results/photo-kodak/samples.png
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.codecs import PhotoCodec, PhotoFile, Photograph, Rate
from quadrate.codecs.photo_quad import compress, psnr
from quadrate.evaluation.classical import CLASSICAL, code_images
from quadrate.experiments.reports.panels import new_figure, save_figure
from quadrate.sources.photographs import Photographs

# A face with hair, a fine texture, and a smooth sky beside edges: number, top, left.
_PARTS = ((14, 130, 300), (7, 200, 330), (20, 60, 190))
_SIDE = 176
_OTHERS = ("jpeg", "webp")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codec")
    parser.add_argument("bits_per_pixel", type=float)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    codec, kodak = PhotoCodec.load(arguments.codec), Photographs("kodak")
    columns = 1 + len(_OTHERS) + len(codec.decoders)
    figure, axes = new_figure(len(_PARTS), columns, 2.6, 2.75)
    for row, (number, top, left) in zip(axes, _PARTS, strict=True):
        original = kodak.read(number)
        most = int(arguments.bits_per_pixel * original[0].size / 8)
        shown = [("original", original, 0)]
        shown += [(name, *_classical(name, original, most)) for name in _OTHERS]
        shown += _ours(codec, original, most)
        for axis, (name, pixels, size) in zip(row, shown, strict=True):
            part = pixels[:, top : top + _SIDE, left : left + _SIDE]
            axis.imshow(part.transpose(1, 2, 0), interpolation="nearest")
            quality = f"\n{size:,} bytes, {psnr(original, pixels):.2f} dB" if size else "\n"
            axis.set_title(name + quality, fontsize=8)
            axis.set_axis_off()
    save_figure(figure, arguments.output)


def _ours(
    codec: PhotoCodec, original: NDArray[np.uint8], most: int
) -> list[tuple[str, NDArray[np.uint8], int]]:
    """One file, by each decoder."""
    file = io.BytesIO()
    compress(codec, [Photograph(original)], file, Rate(size=most))
    size = len(file.getvalue())
    with PhotoFile(file.getvalue(), codec) as opened:
        return [
            (f"photo, {name}", opened.photograph(0, name).pixels, size) for name in codec.decoders
        ]


def _classical(name: str, original: NDArray[np.uint8], most: int) -> tuple[NDArray[np.uint8], int]:
    """The best quality whose file is not larger."""
    worse, better = CLASSICAL[name].lowest, CLASSICAL[name].highest
    if name == "jpegxl":  # distances: less is better
        worse, better = better, worse
    found = None
    for _ in range(12):
        middle = (worse + better) / 2
        coded = code_images(torch.from_numpy(original)[None], name, middle)
        size = int(coded.file_bytes.sum())
        if size <= most:
            found, worse = (coded.images[0].numpy(), size), middle
        else:
            better = middle
    if found is None:
        raise SystemExit(f"{name}: no file of {most} bytes")
    return found


if __name__ == "__main__":
    main()
