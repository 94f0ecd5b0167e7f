"""Pictures in the page, as data URIs.

Those of a point are cut from its `samples.png` and put side by side at their own size.
"""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quadrate.core.files import read_bytes
from quadrate.errors import QuadrateError
from quadrate.experiments.reports.grids import cut_mosaic

_CAPTIONS = {
    "trade-off": "What is kept against bits on disk.",
    "samples": "What the codecs make of samples.",
    "contours": "Contours of the rate functions.",
}
_LARGEST = 64  # pixels of an image's longer side in the page, at most


def strips(place: Path, shape: tuple[int, int, int]) -> tuple[str, str] | None:
    """The originals and the reconstructions of a scored point, each as one row of images.

    Grey images become PNG, exact to the pixel; colour images JPEG. The page enlarges them.

    Args:
        place: The point's folder.
        shape: The images' shape (C, H, W).

    Returns:
        Two data URIs; None if the point has no `samples.png`.

    Raises:
        QuadrateError: If the file is not such a grid.
    """
    found = samples(place, shape)
    return found and (_data_uri(found[0], shape[0] == 1), _data_uri(found[1], shape[0] == 1))


def samples(
    place: Path, shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """The originals and the reconstructions of a scored point, uint8 (N, H, W, 3) each.

    Arguments and errors as in `strips`.
    """
    from PIL import Image, UnidentifiedImageError

    path = place / "samples.png"
    if not path.exists():
        return None
    try:
        with Image.open(path, formats=["PNG"]) as image:
            grid = np.asarray(image.convert("RGB"))
        originals, reconstructions = cut_mosaic(grid, *shape[1:])
    except (
        OSError,
        ValueError,
        QuadrateError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ):
        size = f"{shape[2]}x{shape[1]}"
        raise QuadrateError(
            f"{path} is not a grid of images of {size} and their reconstructions; delete the"
            " evaluation.json next to it and run `quadrate evaluate`"
        ) from None
    return originals, reconstructions


def data_uri(content: bytes, kind: str) -> str:
    """A file's bytes as a data URI of the type image/`kind`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def pictures(folder: Path) -> str:
    """The pictures in a run's folder as HTML, the trade-off first.

    Raises:
        QuadrateError: If a picture cannot be read.
    """
    figures = []
    for path in sorted(folder.glob("*.png"), key=lambda path: path.stem != "trade-off"):
        caption = escape(_CAPTIONS.get(path.stem, path.stem))
        picture = data_uri(read_bytes(path), "png")
        figures.append(
            f'<figure class="picture"><img src="{picture}"'
            f' alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        )
    return "\n".join(figures)


def _data_uri(images: NDArray[np.uint8], grey: bool) -> str:
    """Images, uint8 (N, H, W, 3), in a row."""
    from PIL import Image

    count, height, width = images.shape[:3]
    shrink = min(1.0, _LARGEST / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    strip = Image.new("RGB", (count * size[0], size[1]))
    for i, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        strip.paste(
            image if image.size == size else image.resize(size, Image.Resampling.LANCZOS),
            (i * size[0], 0),
        )
    file = io.BytesIO()
    if grey:
        strip.convert("L").save(file, "PNG", optimize=True)
    else:
        strip.save(file, "JPEG", quality=90, subsampling=0)
    return data_uri(file.getvalue(), "png" if grey else "jpeg")
