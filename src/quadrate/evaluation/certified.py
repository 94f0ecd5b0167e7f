"""Wasserstein-1 from below, without a network: by functions that are 1-Lipschitz whatever the data.

By Kantorovich and Rubinstein, W1 is the largest gap |E D(x) - E D(x̂)| over 1-Lipschitz D, so each
such D bounds it from below. Here D is the distance from a point μ beside k orthonormal axes, ‖Q(x -
μ)‖ with Q the projection onto their complement, and so 1-Lipschitz. With μ the mean of
reconstructions and their k leading principal axes it asks how much there is of what the decoder
hardly ever makes. For codecs trained with a distortion term it finds more than the trained critic
of this protocol, and on CIFAR-10 several times as much; without such a term less.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quadrate.evaluation.estimate import Estimate, mean_estimate
from quadrate.evaluation.yardsticks import as_pixels

_BATCH = 1000


def certified_w1(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    axes_images: int,
    ladder: tuple[int, ...],
) -> Estimate:
    """The gap of the best function of the family, a lower bound of W1 in expectation, in units of
    the Euclidean norm of an image in [0, 1]^CHW.

    Which k is best, and the sign, is decided on training images; the gap is measured on test
    images, so that it is no maximum over chance.

    Args:
        train: Pictures and reconstructions to choose by, uint8 or float32, (N, C, H, W) each; the
            two may differ in number.
        test: Pictures and reconstructions to score, N of each; row i of one may belong to row i of
            the other, which the standard error respects.
        axes_images: How many of the training reconstructions, from the first on, mean and axes are
            taken from.
        ladder: The numbers of axes to choose among, rising from 0; those that are not below the
            number of axes there are drop out.
    """
    made = as_pixels(train[1][:axes_images]).flatten(1)
    mean = made.mean(0)
    axes = torch.linalg.svd(
        made - mean, full_matrices=False
    ).Vh  # (K, CHW), orthonormal rows, leading first
    counts = [k for k in ladder if k < len(axes)]
    axes = axes[: counts[-1]]
    real, fake = (_distances(images, mean, axes, counts).mean(0) for images in train)
    best = int((real - fake).abs().argmax())
    sign = 1.0 if real[best] >= fake[best] else -1.0
    pair = (_distances(images, mean, axes, counts)[:, best] for images in test)
    return mean_estimate(sign * (next(pair) - next(pair)))


def _distances(images: Tensor, mean: Tensor, axes: Tensor, counts: list[int]) -> Tensor:
    """‖Q(x - μ)‖ of each image beside each number of the leading axes, float64 (N, len(counts))."""
    chunks = []
    for chunk in images.split(_BATCH):
        centred = as_pixels(chunk).flatten(1) - mean
        along = (centred @ axes.T).double().square().cumsum(1)
        along = torch.cat([along.new_zeros(len(along), 1), along], 1)[:, counts]
        chunks.append((centred.double().square().sum(1, keepdim=True) - along).clamp(min=0).sqrt())
    return torch.cat(chunks)
