"""Perception without a critic.

Sliced W2² between images, and the kernel distance between a judge's features of them.

Both are *crossed*: the test set is cut in halves A and B, and pictures of one half are held against
reconstructions of the other, both ways. The two sides are then independent samples, as the kernel
distance needs to be unbiased, and a perfect codec scores exactly the real-against-real floor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from quadrate.evaluation.estimate import Estimate, mean_estimate

_DIRECTIONS_AT_A_TIME = 32


def random_directions(count: int, dims: int, generator: torch.Generator) -> Tensor:
    """Directions uniform on the unit sphere, float32 (count, dims)."""
    return F.normalize(torch.randn(count, dims, generator=generator), dim=1)


def sliced_w2sq(real: Tensor, fake: Tensor, directions: Tensor) -> tuple[float, Tensor, Tensor]:
    """Sliced squared Wasserstein-2 distance between two samples (Rabin et al. 2011).

    The mean over directions of the one-dimensional W2².

    In one dimension the optimal coupling sorts both samples. An image's influence on the distance
    is the Kantorovich potential at its place, so for many images the variance of the distance
    follows from that of the potentials (del Barrio and Loubes 2019).

    Args:
        real: float32 (N, D).
        fake: float32 (N, D).
        directions: unit vectors, float32 (P, D).

    Returns:
        The distance, and the potentials of `real` and of `fake`, float64 (N,), each of mean 0.
    """
    total = torch.zeros((), dtype=torch.float64, device=real.device)
    potential_real, potential_fake = torch.zeros(
        2, len(real), dtype=torch.float64, device=real.device
    )
    for block in directions.split(_DIRECTIONS_AT_A_TIME):
        a, place_a = (block @ real.T).sort(dim=1)  # (p, N)
        b, place_b = (block @ fake.T).sort(dim=1)
        excess = (a - b).double()
        total += excess.square().sum()
        potential_real += _potential(a, excess, place_a)
        potential_fake += _potential(b, -excess, place_b)
    return (
        total.item() / (len(directions) * len(real)),
        potential_real / len(directions),
        potential_fake / len(directions),
    )


def crossed_sliced_w2sq(real: Tensor, fake: Tensor, directions: Tensor) -> Estimate:
    """Sliced W2² between pictures and reconstructions of N images in random order, crossed.

    The standard error is over images.

    Args:
        real: float32 (N, D).
        fake: float32 (N, D), row i the reconstruction of row i of `real`.
        directions: unit vectors, float32 (P, D).
    """
    half = len(real) // 2
    first, second = slice(0, half), slice(half, 2 * half)
    one, real_first, fake_second = sliced_w2sq(real[first], fake[second], directions)
    other, real_second, fake_first = sliced_w2sq(real[second], fake[first], directions)
    # An image counts once by its picture and once by its reconstruction, which are not independent
    # of each other.
    influence = torch.cat([real_first + fake_first, real_second + fake_second])
    return Estimate((one + other) / 2, mean_estimate(influence).stderr)


def kid(real: Tensor, fake: Tensor) -> Tensor:
    """Kernel distance by blocks.

    The unbiased squared MMD with the kernel (x·y/F + 1)³ (Bińkowski et al. 2018); it may fall below
    0.

    Args:
        real: features (blocks, M, F), M at least 2.
        fake: features (blocks, M, F), independent of `real`.

    Returns:
        One estimate a block, float64 (blocks,).
    """
    real, fake = (
        real.double(),
        fake.double(),
    )  # third powers of features lose too many digits in single precision
    return (
        _mean_off_diagonal(_kernel(real, real))
        + _mean_off_diagonal(_kernel(fake, fake))
        - 2 * _kernel(real, fake).mean((1, 2))
    )


def crossed_kid(real: Tensor, fake: Tensor, blocks: int) -> Estimate:
    """Kernel distance between features of pictures and of reconstructions of N images in random
    order, crossed; the standard error is over blocks.

    Args:
        real: features (N, F).
        fake: features (N, F), row i the features of the reconstruction of row i of `real`.
        blocks: Blocks a half; each holds N / (2 blocks) images, rounded down.
    """
    size = len(real) // (2 * blocks)
    real, fake = (
        real[: 2 * blocks * size].view(2, blocks, size, -1),
        fake[: 2 * blocks * size].view(2, blocks, size, -1),
    )
    return mean_estimate((kid(real[0], fake[1]) + kid(real[1], fake[0])) / 2)


def _potential(positions: Tensor, excess: Tensor, place: Tensor) -> Tensor:
    """Potentials summed over directions.

    Dφ/dt = 2 (t - T(t)) along each sorted line, by the trapezoid rule, back in the images' order.

    Args:
        positions: sorted projections (p, N).
        excess: how far each lies beyond its partner, t - T(t), float64 (p, N).
        place: which image stands at each rank, int64 (p, N).
    """
    steps = (excess[:, 1:] + excess[:, :-1]) * positions.double().diff(dim=1)
    potential = F.pad(steps.cumsum(1), (1, 0))
    potential = potential - potential.mean(1, keepdim=True)
    return torch.zeros_like(potential).scatter_(1, place, potential).sum(0)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.transpose(1, 2) / x.shape[2] + 1) ** 3


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    size = kernel.shape[1]
    return (kernel.sum((1, 2)) - kernel.diagonal(dim1=1, dim2=2).sum(1)) / (size * (size - 1))
