"""Classification: what judges read in reconstructions, and the judge that is retrained on them."""

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
    """How well a classifier reads a set of images.

    The share it gets right, and its mean cross-entropy in nats.
    """

    accuracy: float
    cross_entropy_nats: float


@torch.no_grad()
def recognition(
    classifier: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, batch: int = 1000
) -> Recognition:
    """Scores a classifier.

    Args:
        classifier: Images (N, C, H, W) in [0, 1] to logits or log-probabilities (N, K).
        images: uint8 or float32 (N, C, H, W).
        labels: int64 (N,).
        batch: Images at a time.
    """
    logits = torch.cat([classifier(as_pixels(chunk)) for chunk in images.split(batch)]).double()
    return Recognition(
        (logits.argmax(1) == labels).double().mean().item(), F.cross_entropy(logits, labels).item()
    )


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
    """A fully connected classifier (LeakyReLU) of the images that it is given.

    Reconstructions, or clean ones for comparison.

    It sees each image less the mean of its training images. Without that it can stay at chance
    where images differ most in brightness, as SVHN's do.

    On reconstructions, its held-out cross-entropy is an upper estimate of H(S|X̂), the uncertainty
    in nats about the class that a codec leaves.

    Args:
        images: uint8 or float32 (N, C, H, W).
        labels: int64 (N,).
        classes: Number of classes.
        steps: Training steps.
        batch: Images a step.
        learning_rate: Of the first step; it falls linearly to 0.
        widths: Hidden widths.
        seed: Keys all that is drawn.
    """
    key = ("evaluation", seed, "retrained judge")
    network = fully_connected(
        (images[0].numel(), *widths, classes), _SLOPE, *key, "weights", device=images.device
    )
    mean = torch.stack([as_pixels(chunk).sum(0) for chunk in images.split(1000)]).sum(0) / len(
        images
    )
    judge = nn.Sequential(_Centre(mean), network)
    chosen = batches(len(images), steps, batch, *key, "images", device=images.device)

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
