"""The reader of images for folders, data sets and the command line: any image as uint8 (C, H, W).

docs/data.md describes the rules for users.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.core.files import open_regular
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError
from quadrate.sources.source import to_eight_bits, to_uint8

Shape = tuple[int, int, int]

SUFFIXES = frozenset(".png .jpg .jpeg .bmp .gif .pgm .ppm .tif .tiff .webp".split())
# Pillow goes by contents, not by names; some of its other formats start a program (EPS:
# Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 1 << 26  # of one image: 8192 x 8192
MAX_PROFILE_BYTES = 1 << 20  # readers of PNG, Pillow among them, refuse larger ones
_PROFILE_HEADER = 128  # bytes
BACKGROUND = 255  # shows through transparent pixels: white, as on a page

_GRAY_8 = ("1", "L")
_GRAY_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GRAY = (*_GRAY_8, *_GRAY_16, "LA", "La", "F")
_WITH_ALPHA = ("P", "PA", "RGBA", "RGBa")  # a palette may be transparent too
_CONVERTED = ("CMYK", "YCbCr", "LAB", "HSV")  # to RGB
_COLOUR = ("RGB", "RGBX", *_CONVERTED)
# From the units of a PNG's transparent colour to those of 8 bits.
_FEWER_BITS = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}

# EXIF's orientations other than upright, as turns of (C, H, W).
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda image: image[:, :, ::-1],
    3: lambda image: image[:, ::-1, ::-1],
    4: lambda image: image[:, ::-1],
    5: lambda image: image.transpose(0, 2, 1),
    6: lambda image: image.transpose(0, 2, 1)[:, :, ::-1],
    7: lambda image: image.transpose(0, 2, 1)[:, ::-1, ::-1],
    8: lambda image: image.transpose(0, 2, 1)[:, ::-1],
}


@dataclass(frozen=True)
class ImageBytes:
    """The contents of an image's file that stands in an archive.

    Attributes:
        where: The archive and its place there, for errors.
        data: The contents.
    """

    where: str
    data: bytes

    def __str__(self) -> str:
        return self.where


def read_image(
    path: Place | ImageBytes, shape: Shape | None = None, wanted: str = "wanted is"
) -> NDArray[np.uint8]:
    """The image in a file, whose contents must be of a format in `FORMATS`.

    Args:
        path: The file, or its contents.
        shape: The required shape (C, H, W); an image of another size is not decoded.
        wanted: The words that introduce that shape in an error.

    Raises:
        QuadrateError: If the file is missing, not a regular file, or not a whole image of a known
            format, or `image_to_array` refuses the image.
    """
    with _opened(path) as image:
        return _from_pil(image, str(path), shape, wanted)


def read_photograph(path: Place | ImageBytes) -> tuple[NDArray[np.uint8], bytes]:
    """The image in a file, as `read_image` gives it, and the ICC profile of its pixels.

    Returns:
        uint8 (C, H, W), and a profile that `fitting_profile` has checked; empty if there is none.

    Raises:
        QuadrateError: As `read_image`.
    """
    with _opened(path) as image:
        pixels = _from_pil(image, str(path), None, "")
        converted = image.mode in _CONVERTED
        profile = None if converted else image.info.get("icc_profile")
    return pixels, fitting_profile(profile, len(pixels))


def fitting_profile(profile: Any, channels: int) -> bytes:
    """A profile that describes the colours of pixels of so many channels; otherwise empty.

    By its header (ICC.1:2022, section 7.2): it has the size that it says, and is one of gray
    pixels or of RGB. What else is in it is not looked at.
    """
    if not isinstance(profile, bytes):
        return b""
    profile = profile[: int.from_bytes(profile[:4], "big")]  # some are filled up with zeros
    fits = (
        _PROFILE_HEADER <= len(profile) <= MAX_PROFILE_BYTES
        and int.from_bytes(profile[:4], "big") == len(profile)
        and profile[16:20] == (b"GRAY" if channels == 1 else b"RGB ")
        and profile[36:40] == b"acsp"
    )
    return profile if fits else b""


@contextmanager
def _opened(path: Place | ImageBytes) -> Iterator[Any]:
    """A file as a PIL image, not yet decoded."""
    from PIL import Image

    with (
        BytesIO(path.data) if isinstance(path, ImageBytes) else open_regular(path) as file,
        _readable(str(path)),
        Image.open(file, formats=FORMATS) as image,
    ):
        yield image


def image_to_array(
    image: Any, where: str, shape: tuple[int, ...] | None = None
) -> NDArray[np.uint8]:
    """A PIL image, a tensor or an array as uint8 (C, H, W).

    A gray PIL image becomes gray, any other RGB; it is turned upright, transparent pixels show
    white, and 16 bits become 8. Tensors and arrays are uint8, uint16 or floating point in [0, 1],
    and (H, W), (C, H, W) or (H, W, C) with C 1 or 3. Where both ends could be channels, a tensor is
    read as (C, H, W) and an array as (H, W, C), the conventions of each.

    Args:
        image: The image.
        where: The name of the image in an error.
        shape: The required shape (C, H, W), that of the images before.

    Raises:
        QuadrateError: If it is not an image, has more than `MAX_PIXELS` pixels, or another shape.
    """
    if hasattr(image, "convert"):  # a PIL image, recognized without importing PIL
        with _readable(where):
            return _from_pil(image, where, shape, "the first has")
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise QuadrateError(
            f"{where}: an image must be a PIL image, a tensor or an array; got"
            f" {type(image).__name__}"
        )
    dims = tuple(image.shape)
    first, last = (len(dims) == 3 and dims[end] in (1, 3) for end in (0, -1))
    if len(dims) == 2:
        size, order = dims, None
    elif first and (isinstance(image, torch.Tensor) or not last):
        size, order = dims[1:], (0, 1, 2)
    elif last:
        size, order = dims[:2], (2, 0, 1)
    else:
        raise QuadrateError(
            f"{where}: an image must be (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels; got"
            f" {dims}"
        )
    _check_size(where, *size)
    array = to_uint8(image, where)
    array = array[np.newaxis] if order is None else array.transpose(order)
    if shape is not None:
        _check_shape(where, array.shape, shape, "the first has")
    return array


def _from_pil(
    image: Any, where: str, shape: tuple[int, ...] | None, wanted: str
) -> NDArray[np.uint8]:
    size = image.height, image.width
    _check_size(where, *size)
    if shape is not None and sorted(size) != sorted(shape[1:]):  # it may be turned by 90 degrees
        _check_shape(where, (1 if image.mode in _GRAY else 3, *size), shape, wanted)
    raw = _raw_mode(image)
    _load(image)
    array = _composited(*_channels(image, raw, where)).transpose(2, 0, 1)
    # Only a loaded PNG has its EXIF data, and a loaded TIFF is already upright.
    if turn := _UPRIGHT.get(_orientation(image)):
        array = turn(array)
    if shape is not None:
        _check_shape(where, array.shape, shape, wanted)
    return array


def _channels(
    image: Any, raw: str, where: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Gray or colour (H, W, 1 or 3), and the opacity (H, W), 255 if opaque; None if all are."""
    mode, key = image.mode, image.info.get("transparency")
    if raw == "LA;16B":  # Pillow loads it as RGBA
        values = np.asarray(image)
        return values[:, :, :1], values[:, :, 3]
    if mode in _GRAY_8:
        gray = np.asarray(image.convert("L"))[:, :, np.newaxis]
        return gray, _opacity(gray, key, raw)
    if mode in _GRAY_16:
        deep = _sixteen_bits(image, raw, where)[:, :, np.newaxis]
        return to_eight_bits(deep), _opacity(deep, key, raw)
    if mode in ("LA", "La"):
        values = np.asarray(image.convert("LA"))
        return values[:, :, :1], values[:, :, 1]
    if mode in _WITH_ALPHA:
        values = np.asarray(image.convert("RGBA"))
        return values[:, :, :3], values[:, :, 3]
    if mode in _COLOUR:
        colour = np.asarray(image.convert("RGB"))
        return colour, _opacity(colour, key, raw) if mode == "RGB" else None
    found = "floating-point pixels, whose range is not defined" if mode == "F" else f"mode {mode}"
    raise QuadrateError(
        f"{where}: an image must be gray or colour with 8 bits a channel, or gray with 16; it has"
        f" {found}"
    )


def _sixteen_bits(image: Any, raw: str, where: str) -> NDArray[np.int32]:
    """The pixels of a gray image of more than 8 bits, (H, W), in 0..65535."""
    values = np.asarray(image.convert("I"))
    low, high = int(values.min()), int(values.max())
    signed_or_deeper = bool(raw) and (not raw.startswith("I;16") or raw.endswith("S"))
    other_bits = image.format == "TIFF" and signed_or_deeper
    if other_bits or low < 0 or high > 65535:
        kind = f"pixels of the kind {raw}" if other_bits else f"pixels from {low} to {high}"
        raise QuadrateError(
            f"{where}: an image of more than 8 bits must be gray with 16, so that its pixels span"
            f" 0..65535; it has {kind}"
        )
    return values


def _opacity(values: NDArray[Any], key: Any, raw: str) -> NDArray[np.uint8] | None:
    """0 at pixels of a PNG's or GIF's transparent colour; values are (H, W, 1 or 3)."""
    if key is None:
        return None
    colour = np.array(key) if isinstance(key, int) else np.array(tuple(key))
    scaled = (colour * _FEWER_BITS.get(raw, 1)).astype(np.int64)
    return np.where((values == scaled).all(2), 0, 255).astype(np.uint8)


def _composited(
    channels: NDArray[np.uint8], opacity: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """The channels (H, W, C) over the background."""
    if opacity is None:
        return channels
    alpha = opacity.astype(np.uint16)[:, :, np.newaxis]
    return ((channels * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


def _load(image: Any) -> None:
    """Decode an image."""
    name = getattr(image, "filename", "")
    if image.format == "TIFF" and name:
        # With a file name, Pillow maps the file into memory, and mixes up the rows of a turned one
        # (13.0).
        image.filename = ""
    image.load()
    if name:
        image.filename = name


def _raw_mode(image: Any) -> str:
    """Pillow's name for the storage of the pixels in the file of an image not yet decoded."""
    try:
        arguments = image.tile[0][3]
        return str(arguments if isinstance(arguments, str) else arguments[0])
    except (AttributeError, IndexError, TypeError):
        return ""


def _orientation(image: Any) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF data are common, and ignored
        return 1


def _check_size(where: str, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise QuadrateError(
            f"{where}: {width} x {height} pixels; an image has at most {MAX_PIXELS}: cut or shrink"
            " it first"
        )


def _check_shape(where: str, found: tuple[int, ...], shape: tuple[int, ...], wanted: str) -> None:
    if tuple(found) != tuple(shape):
        raise QuadrateError(
            f"{where}: its shape is {tuple(found)} (C, H, W); {wanted} {tuple(shape)}: resize or"
            " convert them first"
        )


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn Pillow's many kinds of exceptions into a `QuadrateError` of one line."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except QuadrateError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise QuadrateError(
            f"{where}: an image has at most {MAX_PIXELS} pixels: cut or shrink it first"
        ) from None
    except UnidentifiedImageError:
        raise QuadrateError(
            f"{where}: not a readable image: its contents are not one of {', '.join(FORMATS)}"
        ) from None
    except Exception as error:
        raise QuadrateError(
            f"{where}: not a readable image ({type(error).__name__}:"
            f" {' '.join(str(error).split())})"
        ) from None
