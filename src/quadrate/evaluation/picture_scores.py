"""How much a picture looks like its original: multi-scale structural similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first
_SIDE, _DEVIATION = 11, 1.5  # of the Gaussian window, in pixels
_LEAST = (_SIDE - 1) * 2 ** (len(_WEIGHTS) - 1) + 1  # pixels a side
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ms_ssim(original: Tensor, other: Tensor) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), 1 for equal pictures.

    Args:
        original: uint8 (C, H, W); channels are compared by themselves, and averaged.
        other: Of the same shape.

    Returns:
        NaN if a side has fewer than 161 pixels, as the coarsest scale then has no whole window.
    """
    if min(original.shape[1:]) < _LEAST:
        return math.nan
    x, y = original.double()[:, None], other.double()[:, None]  # (C, 1, H, W)
    found = torch.ones(len(x), dtype=torch.float64)
    for scale, weight in enumerate(_WEIGHTS):
        luminance, contrast = _similarity(x, y)
        last = scale == len(_WEIGHTS) - 1
        kept = (luminance * contrast if last else contrast).mean((1, 2, 3))
        found = found * kept.clamp(min=0) ** weight
        odd = x.shape[2] % 2, x.shape[3] % 2
        x, y = (avg_pool2d(each, 2, padding=odd) for each in (x, y))
    return float(found.mean())


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Similarities of luminance, and of contrast and structure, of each window."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance, (2 * covariance + _C2) / (var_x + var_y + _C2)


def _blurred(pictures: Tensor) -> Tensor:
    """Means under a Gaussian window, where it lies inside."""
    away = torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2
    window = torch.exp(-(away**2) / (2 * _DEVIATION**2))
    window = window / window.sum()
    return conv2d(conv2d(pictures, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
