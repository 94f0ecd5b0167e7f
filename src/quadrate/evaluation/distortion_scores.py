"""Distortion: how far reconstructions are from their images, pixel by pixel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadrate.evaluation.estimate import Estimate, mean_estimate
from quadrate.sources.source import pixels


def distortion_mse(images: Tensor, reconstructions: Tensor, batch: int = 1000) -> Estimate:
    """Mean squared error per pixel and channel, on the scale where pixels lie in [0, 1].

    The standard error is over images.

    Args:
        images: uint8 (N, C, H, W).
        reconstructions: float32 (N, C, H, W).
        batch: Images in memory as floats at a time.
    """
    chunks = zip(images.split(batch), reconstructions.split(batch), strict=True)
    return mean_estimate(
        torch.cat([(y - pixels(x)).square().flatten(1).mean(1) for x, y in chunks])
    )


def psnr_db(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error where the peak is 1.

    Infinite where there is no error.
    """
    return -10 * math.log10(mse) if mse > 0 else math.inf
