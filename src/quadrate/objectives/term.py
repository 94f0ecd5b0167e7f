"""What a loss sees and what a loss is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One batch of K models side by side.

    Attributes:
        clean: The targets, float (K, B, C, H, W) in [0, 1].
        reconstruction: What the decoders made of them, of the same shape.
        labels: The classes, int64 (K, B).
        indices: Which training samples these are, int64 (K, B).
    """

    clean: Tensor
    reconstruction: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Term:
    """One term of an objective: `weight · loss(batch)`.

    Attributes:
        name: The column of the term in the metrics.
        weight: One weight for all models, or one a model.
        loss: From a `Batch` to one number a model, (K,); it must not mix the models.
        ramp: Whether annealing raises the weight from 0.
    """

    name: str
    weight: float | tuple[float, ...]
    loss: Callable[[Batch], Tensor]
    ramp: bool = False
