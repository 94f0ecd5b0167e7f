"""Distortion: how far the pixels are."""

from __future__ import annotations

from torch import Tensor

from quadrate.objectives.term import Batch


def squared_error(batch: Batch) -> Tensor:
    """The mean squared error per pixel and channel on the [0, 1] scale, (K,)."""
    return (batch.reconstruction - batch.clean).square().flatten(1).mean(1)
