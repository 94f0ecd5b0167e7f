"""Perception without a critic: sliced W2² of images, kernel distance of a judge's features.

Both are *crossed*: the test set is cut into halves A and B, and pictures of each half are compared
with reconstructions of the other. The two sides are then independent samples, which makes the
kernel distance unbiased, and a perfect codec scores exactly the real-against-real floor.
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

    It is the mean over directions of the one-dimensional W2², whose optimal coupling sorts both
    samples. An image's influence on the distance is the Kantorovich potential at its place, so for
    many images the variance of the distance follows from that of the potentials (del Barrio and
    Loubes 2019).

    Args:
        real: float32 (N, D).
        fake: float32 (N, D).
        directions: Unit vectors, float32 (P, D).

    Returns:
        The distance, and the potentials of `real` and of `fake`, float64 (N,), each of mean 0.
    """
    total = torch.zeros((), dtype=torch.float64, device=real.device)
    potentials = torch.zeros(2, len(real), dtype=torch.float64, device=real.device)
    for block in directions.split(_DIRECTIONS_AT_A_TIME):
        a, place_a = (block @ real.T).sort(dim=1)  # (p, N)
        b, place_b = (block @ fake.T).sort(dim=1)
        excess = (a - b).double()
        total += excess.square().sum()
        potentials[0] += _potential(a, excess, place_a)
        potentials[1] += _potential(b, -excess, place_b)
    potential_real, potential_fake = potentials / len(directions)
    return total.item() / (len(directions) * len(real)), potential_real, potential_fake


def crossed_sliced_w2sq(real: Tensor, fake: Tensor, directions: Tensor) -> Estimate:
    """Sliced W2² between pictures and reconstructions of N images in random order, crossed.

    The standard error is over images.

    Args:
        real: float32 (N, D).
        fake: float32 (N, D), row i the reconstruction of row i of `real`.
        directions: Unit vectors, float32 (P, D).
    """
    half = len(real) // 2
    first, second = slice(0, half), slice(half, 2 * half)
    one, real_first, fake_second = sliced_w2sq(real[first], fake[second], directions)
    other, real_second, fake_first = sliced_w2sq(real[second], fake[first], directions)
    # An image counts twice, by its picture and by its reconstruction, which depend on each other.
    influence = torch.cat([real_first + fake_first, real_second + fake_second])
    return Estimate((one + other) / 2, mean_estimate(influence).stderr)


def kid(real: Tensor, fake: Tensor) -> Tensor:
    """Kernel distance by blocks: the unbiased squared MMD with the kernel (x·y/F + 1)³.

    It may be negative (Bińkowski et al. 2018).

    Args:
        real: Features (blocks, M, F), M at least 2.
        fake: Features (blocks, M, F), independent of `real`.

    Returns:
        One estimate for each block, float64 (blocks,).
    """
    # In double precision: third powers lose too many digits in single precision.
    real, fake = real.double(), fake.double()
    own = _mean_off_diagonal(_kernel(real, real)) + _mean_off_diagonal(_kernel(fake, fake))
    return own - 2 * _kernel(real, fake).mean((1, 2))


def crossed_kid(real: Tensor, fake: Tensor, blocks: int) -> Estimate:
    """Kernel distance between features of pictures and of reconstructions, crossed.

    The standard error is over blocks.

    Args:
        real: Features (N, F) of N images in random order.
        fake: Features (N, F), row i those of the reconstruction of row i of `real`.
        blocks: Blocks in each half; each has N / (2 blocks) images, rounded down.
    """
    size = len(real) // (2 * blocks)
    one, other = (
        features[: 2 * blocks * size].view(2, blocks, size, -1) for features in (real, fake)
    )
    return mean_estimate((kid(one[0], other[1]) + kid(one[1], other[0])) / 2)


def frechet(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance of features: squared W2 between Gaussians of their moments.

    ‖μ - μ̂‖² + tr(Σ + Σ̂ - 2 (Σ Σ̂)^½) (Heusel et al. 2017). It is biased: few samples make it
    larger, so only distances of equally many are to be compared.

    Args:
        real: Features (N, F), N at least 2.
        fake: Features (M, F), M at least 2.
    """
    real, fake = real.double(), fake.double()
    one, other = (features - features.mean(0) for features in (real, fake))
    # The trace of the root is the sum of the singular values of Ŷ Yᵀ, without a product of
    # covariances, which would square the rounding.
    product = (other / (len(other) - 1) ** 0.5) @ (one / (len(one) - 1) ** 0.5).T
    spread = one.square().sum() / (len(one) - 1) + other.square().sum() / (len(other) - 1)
    apart = (real.mean(0) - fake.mean(0)).square().sum()
    return float(apart + spread - 2 * torch.linalg.svdvals(product).sum())


def _potential(positions: Tensor, excess: Tensor, place: Tensor) -> Tensor:
    """Potentials summed over directions, in the order of the images.

    dφ/dt = 2 (t - T(t)) along each sorted line, by the trapezoid rule.

    Args:
        positions: Sorted projections (p, N).
        excess: The distance of each from its partner, t - T(t), float64 (p, N).
        place: The image at each rank, int64 (p, N).
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
