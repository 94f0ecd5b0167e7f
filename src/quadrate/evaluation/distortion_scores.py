"""Distortion: the pixelwise error of reconstructions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadrate.evaluation.estimate import Estimate, mean_estimate
from quadrate.sources.source import pixels


def distortion_mse(images: Tensor, reconstructions: Tensor, batch: int = 1000) -> Estimate:
    """Mean squared error per pixel and channel, for pixels in [0, 1]; standard error over images.

    Args:
        images: uint8 (N, C, H, W).
        reconstructions: float32 (N, C, H, W).
        batch: Images to convert to floats at a time.
    """
    chunks = zip(images.split(batch), reconstructions.split(batch), strict=True)
    errors = [(y - pixels(x)).square().flatten(1).mean(1) for x, y in chunks]
    return mean_estimate(torch.cat(errors))


def psnr_db(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error, for a peak of 1; inf at 0."""
    return -10 * math.log10(mse) if mse > 0 else math.inf
