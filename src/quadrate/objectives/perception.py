"""Perception: the Wasserstein-1 distance of reconstructions from pictures, by a critic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quadrate.objectives.term import Batch

Critics = Callable[[Tensor], Tensor]


class Wasserstein:
    """The critics' part of the loss of the codecs, -E D(x̂).

    It falls as the reconstructions look real to them (WGAN, Arjovsky et al. 2017).

    Args:
        critics: Images (K, B, C, H, W) to scores (K, B).
    """

    def __init__(self, critics: Critics) -> None:
        self.critics = critics

    def __call__(self, batch: Batch) -> Tensor:
        """One number a model, (K,)."""
        return -self.critics(batch.reconstruction).float().mean(1)


def critic_losses(
    critics: Critics, clean: Tensor, reconstruction: Tensor, mix: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """Compute the loss of each critic and the gap it sees (WGAN-GP, Gulrajani et al. 2017).

    Args:
        critics: Images (K, B, C, H, W) to scores (K, B).
        clean: Pictures, (K, B, C, H, W).
        reconstruction: Reconstructions of the same shape, without gradient.
        mix: The share of the picture in each point at which the gradient is held near norm 1,
            (K, B).
        penalty: The weight of the gradient penalty.

    Returns:
        The losses and the gaps E D(x) - E D(x̂), (K,) each.
    """
    size = clean.shape[1]
    scores = critics(torch.cat([clean, reconstruction], dim=1)).float()
    gap = scores[:, :size].mean(1) - scores[:, size:].mean(1)
    share = mix[..., None, None, None]  # (K, B, 1, 1, 1)
    between = (share * clean + (1 - share) * reconstruction).requires_grad_()
    (slope,) = torch.autograd.grad(critics(between).float().sum(), between, create_graph=True)
    norms = slope.float().flatten(2).norm(dim=2)  # (K, B)
    return penalty * (norms - 1).square().mean(1) - gap, gap
