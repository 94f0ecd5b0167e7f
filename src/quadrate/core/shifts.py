"""Training images moved by some pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from quadrate.core import draws


def random_shifts(most: int, steps: int, *key: object) -> Tensor:
    """Pixels down and right for each step, from -most to most, int64 (steps, 2), under a key."""
    if not most:
        return torch.zeros(steps, 2, dtype=torch.long)
    return (draws.uniform(*key, shape=(steps, 2)) * (2 * most + 1)).long() - most


def moved(images: Tensor, shifts: Tensor) -> Tensor:
    """Move images (K, B, C, H, W) by pixels (K, 2), down and right; their edges are repeated."""
    if not shifts.any():
        return images
    most = int(shifts.abs().max())
    height, width = images.shape[3:]
    wide = F.pad(images.flatten(0, 1), (most,) * 4, mode="replicate").view(
        *images.shape[:3], height + 2 * most, width + 2 * most
    )
    cuts = [
        own[:, :, most - down : most - down + height, most - right : most - right + width]
        for own, (down, right) in zip(wide, shifts.tolist(), strict=True)
    ]
    return torch.stack(cuts)
