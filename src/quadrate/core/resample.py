"""Images under affine maps."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Padding = Literal["zeros", "border"]


def resample(x: Tensor, inverse: Tensor, padding: Padding = "zeros") -> Tensor:
    """Move images by affine maps, with bilinear interpolation.

    An image spans [-1, 1] each way, x to the right and y down.

    Args:
        x: float32 (N, C, H, W).
        inverse: From a point of each result to where its colour is found, (N, 2, 3).
        padding: What lies outside an image: zeros, or its nearest border pixel.

    Returns:
        (N, C, H, W).
    """
    height, width = x.shape[2:]
    columns = (2 * torch.arange(width, device=x.device) + 1) / width - 1  # (W,)
    rows = (2 * torch.arange(height, device=x.device) + 1) / height - 1  # (H,)
    across, down, shift = inverse.unbind(2)  # (N, 2) each
    # As two outer sums this takes a fifth of affine_grid's time.
    vertical = rows[:, None] * down[:, None] + shift[:, None]  # (N, H, 2)
    horizontal = columns[:, None] * across[:, None]  # (N, W, 2)
    grid = vertical[:, :, None] + horizontal[:, None]  # (N, H, W, 2)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)
