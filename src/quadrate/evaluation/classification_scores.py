"""Classification: scores of judges on reconstructions, and the judge retrained on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.evaluation.yardsticks import as_pixels, batches, fully_connected, minimize

_BETAS = (0.9, 0.999)
_SLOPE = 0.01


class Recognition(NamedTuple):
    """A classifier's accuracy and mean cross-entropy on a set of images."""

    accuracy: float
    cross_entropy_nats: float


@torch.no_grad()
def recognition(
    classifier: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, batch: int = 1000
) -> Recognition:
    """Score a classifier on images.

    Args:
        classifier: Images (N, C, H, W) in [0, 1] to logits or log-probabilities (N, K).
        images: uint8 or float32 (N, C, H, W).
        labels: int64 (N,).
        batch: Images at a time.
    """
    logits = torch.cat([classifier(as_pixels(chunk)) for chunk in images.split(batch)]).double()
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    return Recognition(accuracy, F.cross_entropy(logits, labels).item())


def retrain_judge(
    images: Tensor,
    labels: Tensor,
    classes: int,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    widths: Sequence[int],
    seed: int,
) -> nn.Module:
    """Train a fully connected classifier (LeakyReLU) on reconstructions or clean images.

    It subtracts the mean of its training images; otherwise it can stay at chance on images that
    differ most in brightness, as in SVHN. On reconstructions, its held-out cross-entropy is an
    upper estimate of H(S|X̂), the remaining uncertainty in nats about the class.

    Args:
        images: uint8 or float32 (N, C, H, W).
        labels: int64 (N,).
        classes: Number of classes.
        steps: Training steps.
        batch: Images in a step.
        learning_rate: Learning rate of the first step; it falls linearly to 0.
        widths: Hidden widths.
        seed: Key of all draws.
    """
    key, device = ("evaluation", seed, "retrained judge"), images.device
    layers = images[0].numel(), *widths, classes
    network = fully_connected(layers, _SLOPE, *key, "weights", device=device)
    total = torch.stack([as_pixels(chunk).sum(0) for chunk in images.split(1000)]).sum(0)
    judge = nn.Sequential(_Centre(total / len(images)), network)
    chosen = batches(len(images), steps, batch, *key, "images", device=device)

    def loss(step: int) -> Tensor:
        return F.cross_entropy(judge(as_pixels(images[chosen[step]])), labels[chosen[step]])

    minimize(judge, loss, steps, learning_rate, _BETAS)
    return judge


class _Centre(nn.Module):
    """Subtracts a mean image (C, H, W)."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean
