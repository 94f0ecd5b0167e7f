"""Sample grids: images and their reconstructions, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quadrate.core.files import write_atomically
from quadrate.errors import QuadrateError

_LEGIBLE = 64  # pixels of an image's longer side, at least
_SEPARATOR = 2  # pixels between images
_GREY = 160  # stands out from the black ground of digits and from white paper


def save_grid(path: Path, rows: Sequence[Tensor]) -> None:
    """Write images as one PNG, small ones enlarged by a whole factor, which keeps pixels square.

    Args:
        path: The PNG.
        rows: One tensor a row of the grid, float (N, C, H, W) in [0, 1], all of one shape, C 1 or
            3; by custom the first holds the originals.

    Raises:
        QuadrateError: If the rows are not such images, or the file cannot be written.
    """
    from PIL import Image

    grid = Image.fromarray(mosaic(rows))
    write_atomically(path, lambda temporary: grid.save(temporary, format="PNG"))


def mosaic(rows: Sequence[Tensor]) -> NDArray[np.uint8]:
    """The grid that `save_grid` writes, uint8 (height, width, 3).

    Raises:
        QuadrateError: If the rows are not images of one shape.
    """
    shapes = [tuple(row.shape) for row in rows]
    if (
        not rows
        or len(set(shapes)) != 1
        or len(shapes[0]) != 4
        or shapes[0][0] == 0
        or shapes[0][1] not in (1, 3)
    ):
        raise QuadrateError(
            f"a grid takes rows of one shape (N, C, H, W) with C 1 or 3; got {shapes}"
        )
    count, channels, height, width = shapes[0]
    factor = max(1, -(-_LEGIBLE // max(height, width)))
    down, right = height * factor + _SEPARATOR, width * factor + _SEPARATOR
    grid = np.full((len(rows) * down - _SEPARATOR, count * right - _SEPARATOR, 3), _GREY, np.uint8)
    for i, row in enumerate(rows):
        images = (row.detach().float().clamp(0, 1) * 255).round().byte().cpu()
        images = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)  # (N, H, W, 3)
        enlarged = images.repeat_interleave(factor, 1).repeat_interleave(factor, 2).numpy()
        for j, image in enumerate(enlarged):
            grid[i * down : i * down + height * factor, j * right : j * right + width * factor] = (
                image
            )
    return grid


def cut_mosaic(grid: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The images in a grid that `mosaic` made, uint8 (rows, N, height, width, 3).

    Raises:
        QuadrateError: If it is not a grid of images of that size.
    """
    factor = max(1, -(-_LEGIBLE // max(height, width)))
    down, right = height * factor + _SEPARATOR, width * factor + _SEPARATOR
    rows, count = (grid.shape[0] + _SEPARATOR) // down, (grid.shape[1] + _SEPARATOR) // right
    if grid.shape != (rows * down - _SEPARATOR, count * right - _SEPARATOR, 3) or rows * count == 0:
        raise QuadrateError(
            f"a picture of {grid.shape[1]}x{grid.shape[0]} is not a grid of images of"
            f" {width}x{height}"
        )
    tiles = (
        np.pad(grid, ((0, _SEPARATOR), (0, _SEPARATOR), (0, 0)))
        .reshape(rows, down, count, right, 3)
        .transpose(0, 2, 1, 3, 4)
    )
    return tiles[:, :, : height * factor : factor, : width * factor : factor]
