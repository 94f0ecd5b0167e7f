"""The classical image codecs, as baselines: sizes of their files, and decoded images.

Pillow has PNG, JPEG, WebP and AVIF; imagecodecs (the extra `baselines`) has JPEG 2000 and JPEG XL.
Settings are those of slow encoding and small files. Headers dominate small images (three fifths of
a file of 32x32 pixels at JPEG quality 50), so many images may share a file, as a mosaic.
"""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.errors import QuadrateError

_Pixels = NDArray[np.uint8]  # (H, W) or (H, W, 3)


@dataclass(frozen=True)
class ClassicalCodec:
    """A classical codec.

    Attributes:
        name: The name in `CLASSICAL`.
        scale: The name of the quality's scale.
        lowest: The lowest quality; 0 for a lossless codec.
        highest: The highest quality; 0 for a lossless codec.
        encode: From pixels and quality to a file's bytes.
        decode: From a file's bytes to pixels, uint8.
    """

    name: str
    scale: str
    lowest: float
    highest: float
    encode: Callable[[_Pixels, float], bytes]
    decode: Callable[[bytes], _Pixels]


@dataclass(frozen=True, eq=False)
class Coded:
    """Images coded by a classical codec.

    Attributes:
        images: The decoded images, uint8 (N, C, H, W).
        file_bytes: The size of each file, int64, header included.
    """

    images: Tensor
    file_bytes: NDArray[np.int64]

    @property
    def bits_per_image(self) -> float:
        """Bits of all files over the number of images."""
        return 8 * float(self.file_bytes.sum()) / len(self.images)


def code_images(images: Tensor, codec: str, quality: float = 0, grid: int = 1) -> Coded:
    """Encode and decode images with a classical codec.

    Args:
        images: uint8 (N, 1 or 3, H, W), N at least 1.
        codec: One of `CLASSICAL`.
        quality: On the codec's own scale: 0 to 100 for JPEG, WebP and AVIF (more is better), PSNR
            in dB for JPEG 2000 (more is better), Butteraugli distance for JPEG XL (less is better;
            about 1 is visually lossless). PNG is lossless: 0.
        grid: A file holds grid x grid images, side by side; the last one is padded with black.

    Raises:
        QuadrateError: If the codec is unknown, the quality out of range, the images are of another
            kind, or imagecodecs is needed and missing.
    """
    if codec not in CLASSICAL:
        raise QuadrateError(
            f"unknown classical codec {codec!r}: expected one of {', '.join(CLASSICAL)}"
        )
    method = CLASSICAL[codec]
    if not method.lowest <= quality <= method.highest:
        raise QuadrateError(
            f"{codec}: the quality is {method.scale}, from {method.lowest:g} to {method.highest:g},"
            f" not {quality:g}"
        )
    batched = images.ndim == 4 and images.shape[1] in (1, 3) and images.numel() > 0
    if images.dtype != torch.uint8 or not batched:
        raise QuadrateError(
            f"classical codecs take uint8 images (N, 1 or 3, H, W), not {images.dtype}"
            f" {tuple(images.shape)}"
        )
    if grid < 1:
        raise QuadrateError(f"a file holds at least 1x1 images, not {grid}x{grid}")
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    sizes, decoded = [], []
    for first in range(0, len(arrays), grid**2):
        part = arrays[first : first + grid**2]
        file = method.encode(_mosaic(part, grid), quality)
        sizes.append(len(file))
        decoded.append(_tiles(method.decode(file), part.shape, grid))
    back = torch.from_numpy(np.concatenate(decoded)).permute(0, 3, 1, 2).contiguous()
    return Coded(back, np.array(sizes, dtype=np.int64))


def _mosaic(images: _Pixels, grid: int) -> _Pixels:
    """(n, H, W, C), n at most grid², to one picture (rows·H, grid·W, 3) or (rows·H, grid·W)."""
    count, height, width, channels = images.shape
    rows = math.ceil(count / grid)
    full = np.zeros((rows * grid, height, width, channels), dtype=np.uint8)
    full[:count] = images
    table = full.reshape(rows, grid, height, width, channels).swapaxes(1, 2)
    picture = table.reshape(rows * height, grid * width, channels)
    return np.ascontiguousarray(picture[:, :, 0] if channels == 1 else picture)


def _tiles(picture: _Pixels, shape: tuple[int, ...], grid: int) -> _Pixels:
    """The images of a mosaic, (n, H, W, C)."""
    count, height, width, channels = shape
    grey = picture.ndim == 2
    if channels == 1 and not grey:  # WebP and AVIF store grey images as colour
        picture = np.rint(picture.mean(2)).astype(np.uint8)
    table = picture.reshape(-1, height, grid, width, channels).swapaxes(1, 2)
    return table.reshape(-1, height, width, channels)[:count]


def _pillow(
    form: str, lossless: bool = False, **settings: Any
) -> tuple[Callable[[_Pixels, float], bytes], Callable[[bytes], _Pixels]]:
    def encode(pixels: _Pixels, quality: float) -> bytes:
        from PIL import Image

        file = io.BytesIO()
        options = settings if lossless else settings | {"quality": round(quality)}
        Image.fromarray(pixels).save(file, form, **options)
        return file.getvalue()

    def decode(file: bytes) -> _Pixels:
        from PIL import Image

        with Image.open(io.BytesIO(file), formats=[form]) as image:
            return np.array(image)

    return encode, decode


def _imagecodecs(
    kind: str, quality: str, **settings: Any
) -> tuple[Callable[[_Pixels, float], bytes], Callable[[bytes], _Pixels]]:
    def module() -> Any:
        try:
            return importlib.import_module("imagecodecs")
        except ImportError:
            raise QuadrateError(
                f"{kind} needs imagecodecs, which is missing: pip install 'quadrate[baselines]' -c"
                " constraints.txt"
            ) from None

    def encode(pixels: _Pixels, value: float) -> bytes:
        return bytes(getattr(module(), f"{kind}_encode")(pixels, **{quality: value}, **settings))

    def decode(file: bytes) -> _Pixels:
        return np.asarray(getattr(module(), f"{kind}_decode")(file))

    return encode, decode


_J2K = _imagecodecs("jpeg2k", "level", codecformat="j2k")
_JXL = _imagecodecs("jpegxl", "distance", effort=7, numthreads=1)
CLASSICAL = {
    codec.name: codec
    for codec in (
        ClassicalCodec("png", "none", 0, 0, *_pillow("PNG", lossless=True, optimize=True)),
        ClassicalCodec("jpeg", "JPEG quality", 0, 100, *_pillow("JPEG", optimize=True)),
        ClassicalCodec("webp", "WebP quality", 0, 100, *_pillow("WEBP", method=6)),
        ClassicalCodec("avif", "AVIF quality", 0, 100, *_pillow("AVIF", speed=4, max_threads=1)),
        ClassicalCodec("jpeg2000", "PSNR in dB", 10, 100, *_J2K),
        ClassicalCodec("jpegxl", "Butteraugli distance", 0.01, 25, *_JXL),
    )
}
