"""Wasserstein-1 by a critic: a fresh one, scored on held-out images, and the run's own one.

The latter gives the figure of the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from quadrate.core import draws
from quadrate.evaluation.estimate import mean_estimate
from quadrate.evaluation.yardsticks import as_pixels, batches, fully_connected, minimize

_BETAS = (0.5, 0.9)
_SLOPE = 0.01


class CriticGap(NamedTuple):
    """A critic's gap and its standard error, divided by `gradient_norm` if that exceeds 1."""

    value: float
    stderr: float
    gradient_norm: float


def fresh_critic_w1(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    penalty: float,
    widths: Sequence[int],
    seed: int,
) -> CriticGap:
    """A lower-bound estimate of W1 between pictures and reconstructions.

    In units of the Euclidean norm of an image in [0, 1]^CHW. By Kantorovich and Rubinstein, W1 is
    the largest gap E D(x) - E D(x̂) over 1-Lipschitz D. A fully connected critic is trained on
    training images (WGAN-GP, Gulrajani et al. 2017), and its gap is measured on test images: on
    average no more than W1 times the critic's Lipschitz constant. The penalty keeps gradients near
    norm 1, not below it, so the gap is divided by the largest norm found between test images and
    reconstructions if that exceeds 1.

    Args:
        train: Pictures and reconstructions to learn from, uint8 or float32, (N, C, H, W) each; the
            two may differ in number.
        test: Pictures and reconstructions to score, N of each; row i of one may belong to row i of
            the other, which the standard error respects.
        steps: Training steps.
        batch: Pictures in a step, and as many reconstructions.
        learning_rate: Learning rate of the first step; it falls linearly to 0.
        penalty: Weight of the gradient penalty.
        widths: Hidden widths.
        seed: Key of all draws.
    """
    real, fake = train
    device, dims = real.device, real[0].numel()
    key = ("evaluation", seed, "critic")
    critic = fully_connected((dims, *widths, 1), _SLOPE, *key, "weights", device=device)
    chosen_real = batches(len(real), steps, batch, *key, "real", device=device)
    chosen_fake = batches(len(fake), steps, batch, *key, "fake", device=device)
    share = draws.uniform(*key, "share", shape=(steps, batch, 1)).to(device)

    def loss(step: int) -> Tensor:
        x = as_pixels(real[chosen_real[step]]).flatten(1)  # (B, CHW)
        y = as_pixels(fake[chosen_fake[step]]).flatten(1)  # (B, CHW)
        scores = critic(torch.cat([x, y])).squeeze(1)  # (2B,)
        norms = _gradient_norms(critic, torch.lerp(y, x, share[step]), create_graph=True)
        return scores[batch:].mean() - scores[:batch].mean() + penalty * (norms - 1).square().mean()

    minimize(critic, loss, steps, learning_rate, _BETAS)
    partner = draws.permutation(*key, "test", n=len(test[0])).to(device)
    share = draws.uniform(*key, "test share", shape=(len(test[0]), 1)).to(device)
    return _measure(critic, *test, partner, share)


def legacy_w1(
    critic: Callable[[Tensor], Tensor], images: Tensor, reconstructions: Tensor, batch: int = 1000
) -> float:
    """The papers' perception figure: mean D(x) - mean D(x̂) with the critic that trained the codec.

    The codec may have learned to deceive this critic.

    Args:
        critic: Images (N, C, H, W) in [0, 1] to N scores.
        images: uint8 (N, C, H, W).
        reconstructions: float32, of the same shape.
        batch: Images at a time.
    """
    return mean_estimate(_gaps(critic, images, reconstructions, batch)).value


def _measure(
    critic: nn.Module, real: Tensor, fake: Tensor, partner: Tensor, share: Tensor, batch: int = 1000
) -> CriticGap:
    """The gap on held-out images, and the largest gradient norm between real and fake images.

    It is taken on segments from each picture to the reconstruction of another one.
    """
    gap = mean_estimate(_gaps(critic, real, fake, batch))
    largest = 0.0
    rows = zip(real.split(batch), partner.split(batch), share.split(batch), strict=True)
    for x, other, part in rows:
        ends = as_pixels(fake[other]).flatten(1), as_pixels(x).flatten(1)
        norms = _gradient_norms(critic, torch.lerp(*ends, part))
        largest = max(largest, norms.max().item())
    scale = max(1.0, largest)
    return CriticGap(gap.value / scale, gap.stderr / scale, largest)


@torch.no_grad()
def _gaps(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, batch: int) -> Tensor:
    """D(x_i) - D(x̂_i), float32 (N,)."""
    rows = zip(real.split(batch), fake.split(batch), strict=True)
    return torch.cat([(critic(as_pixels(x)) - critic(as_pixels(y))).flatten() for x, y in rows])


def _gradient_norms(critic: nn.Module, points: Tensor, create_graph: bool = False) -> Tensor:
    """The Euclidean norm of the critic's gradient at each of the points (N, CHW): (N,)."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=create_graph)
    return gradient.norm(dim=1)
