"""One image, in whatever form it comes, as uint8 (C, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.errors import QuadrateError
from quadrate.sources.source import to_uint8

GRAY_MODES = frozenset({"1", "L", "LA"})
COLOR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


def image_to_array(image: Any, where: str) -> NDArray[np.uint8]:
    """A PIL image, a tensor or an array as uint8 (C, H, W).

    A PIL image becomes gray (L) if it is gray, otherwise RGB; transparency is dropped. Tensors and arrays are uint8 or floating point in [0, 1], and
    (H, W), (C, H, W) or (H, W, C) with C 1 or 3. Where both ends could be channels, a tensor is read as (C, H, W) and an array as (H, W, C), as
    is the custom of each.

    Args:
        image: the image.
        where: what an error calls it.

    Raises:
        QuadrateError: for anything else.
    """
    if hasattr(image, "convert"):  # a PIL image, told by its method so that PIL need not be imported
        return _from_pil(image, where)
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise QuadrateError(f"{where}: an image must be a PIL image, a tensor or an array; got {type(image).__name__}")
    array = to_uint8(image, where)
    channels_first, channels_last = array.shape[:1] in ((1,), (3,)), array.shape[-1:] in ((1,), (3,))
    if array.ndim == 2:
        return array[np.newaxis]
    if array.ndim == 3 and channels_first and (isinstance(image, torch.Tensor) or not channels_last):
        return array
    if array.ndim == 3 and channels_last:
        return array.transpose(2, 0, 1)
    raise QuadrateError(f"{where}: an image must be (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels; got {array.shape}")


def _from_pil(image: Any, where: str) -> NDArray[np.uint8]:
    if image.mode in GRAY_MODES:
        return np.asarray(image.convert("L"))[np.newaxis]
    if image.mode in COLOR_MODES:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    # 16-bit and floating-point modes have no agreed range, and PIL clips them in silence.
    raise QuadrateError(f"{where}: an image must be gray or colour with 8 bits a channel; got PIL mode {image.mode}")
