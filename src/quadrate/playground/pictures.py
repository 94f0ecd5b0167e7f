"""Pictures as people give them to pictures as codecs take them, and some to begin with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError

Pixels = NDArray[np.uint8]

_MOST_PIXELS = 1 << 19  # a photograph of the page; larger ones are scaled down
_DIGIT = 20  # MNIST's digits lie in a box of 20 of 28 pixels
_INK = 40  # pixels below are ground


def fitted(picture: Pixels, shape: Sequence[int]) -> Pixels:
    """Bring a picture to a codec's shape.

    Photographs (a shape with zeros) are scaled down to half a million pixels. For gray codecs of
    28 × 28 pixels what is drawn is put as MNIST has it: bright on black, in a box of 20 × 20
    pixels, its centre of mass in the middle. For other shapes the middle of the picture is taken
    and scaled.

    Args:
        picture: uint8 (H, W), (H, W, 3) or (H, W, 4); transparent pixels show white.
        shape: (C, H, W) of the codec; zeros mean any size.

    Returns:
        uint8 (C, H, W).

    Raises:
        QuadrateError: If there is nothing in the picture.
    """
    if not picture.size:
        raise QuadrateError("the picture has no pixels")
    channels, height, width = shape
    if not height:
        return _photograph(picture)
    if (channels, height, width) == (1, 28, 28):
        return picture[None] if picture.shape == (28, 28) else _digit(_gray(picture))[None]
    image = _image(picture).convert("L" if channels == 1 else "RGB")
    side = min(image.width / width, image.height / height)
    left, top = (image.width - side * width) / 2, (image.height - side * height) / 2
    box = (left, top, left + side * width, top + side * height)
    scaled = np.asarray(image.resize((width, height), box=box))
    return scaled[None] if channels == 1 else np.moveaxis(scaled, 2, 0)


def demo_picture(shape: Sequence[int], number: int = 0) -> Pixels:
    """Return a picture that comes with scikit-learn: a digit, or a photograph for any size.

    Args:
        shape: (C, H, W) of the codec; zeros mean any size.
        number: Which; they come in turns.

    Returns:
        uint8 (160, 160), or (H, W, 3).
    """
    from PIL import Image
    from sklearn.datasets import load_digits, load_sample_image

    if not shape[1]:
        return np.asarray(load_sample_image(("flower.jpg", "china.jpg")[number % 2]))
    digits = load_digits().images  # 8 × 8, from 0 to 16
    small = Image.fromarray(np.rint(digits[number % len(digits)] * (255 / 16)).astype(np.uint8))
    return np.asarray(small.resize((160, 160), Image.Resampling.BICUBIC))


def _image(picture: Pixels):  # type: ignore[no-untyped-def]  # Pillow is imported when it is needed
    from PIL import Image

    image = Image.fromarray(picture)
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    return image


def _photograph(picture: Pixels) -> Pixels:
    image = _image(picture)
    if (pixels := image.width * image.height) > _MOST_PIXELS:
        scale = (_MOST_PIXELS / pixels) ** 0.5
        image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    values = np.asarray(image)
    return np.ascontiguousarray(values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0))


def _gray(picture: Pixels) -> Pixels:
    """Gray, bright on a black ground, whichever the ground was."""
    gray = np.asarray(_image(picture).convert("L"))
    rim = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    return 255 - gray if np.median(rim) > 127 else gray


def _digit(gray: Pixels) -> Pixels:
    from PIL import Image

    rows, columns = np.flatnonzero(gray.max(1) > _INK), np.flatnonzero(gray.max(0) > _INK)
    canvas = np.zeros((28, 28), np.uint8)
    if not len(rows):
        raise QuadrateError("there is nothing in the picture: draw a digit, or choose a picture")
    ink = gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _DIGIT / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    small = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC))
    mass = small.astype(float) / small.sum()
    middle = (mass.sum(1) @ np.arange(height), mass.sum(0) @ np.arange(width))
    top, left = (
        int(np.clip(round(13.5 - centre), 0, 28 - side))
        for centre, side in zip(middle, small.shape, strict=True)
    )
    canvas[top : top + height, left : left + width] = small
    return canvas
