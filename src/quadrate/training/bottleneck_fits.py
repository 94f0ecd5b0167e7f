"""Fits of learned bottlenecks to cached features: squared error + beta · nats a sample."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from quadrate.bottlenecks.factorized import FactorizedBottleneck, LogisticMixture, MonotoneNetwork
from quadrate.bottlenecks.hyperprior import HyperpriorBottleneck
from quadrate.core import draws
from quadrate.errors import QuadrateError


def fit_factorized(
    features: Tensor,
    beta: float,
    *,
    density: str = "logistics",
    epochs: int = 10,
    batch: int = 128,
    learning_rate: float = 0.1,
    annealing: float = 0.0,
    seed: int = 0,
) -> FactorizedBottleneck:
    """Trains a factorized bottleneck on cached features.

    Squared error + beta · nats a sample, by Adam, the learning rate a third every two epochs.

    Args:
        features: Training features, float32 (n, d).
        beta: The trade-off.
        density: "logistics" or "network".
        epochs: Passes over the features.
        batch: Samples a step.
        learning_rate: At first.
        annealing: The share of the steps in which beta grows linearly from 0 to its value.
        seed: Of order and noise.

    Raises:
        QuadrateError: If there are no features, or beta is not positive.
    """
    check_fit(features, beta)
    spread = features.std(0, correction=0).clamp(min=1e-6)
    kind = LogisticMixture if density == "logistics" else MonotoneNetwork
    model = draws.build_with_seed(lambda: kind(features.shape[1]), draws.key(seed, "bottleneck"))
    # dD/dR = -step^2 / 6 a nat where cells are small, so the step that beta asks for is known to
    # begin with.
    start = torch.log((math.sqrt(6 * beta) / spread).clamp(max=4.0))
    bottleneck = FactorizedBottleneck(model, features.mean(0), spread, start)
    descend(
        bottleneck,
        features,
        beta,
        torch.optim.Adam(bottleneck.parameters(), lr=learning_rate),
        epochs,
        batch,
        annealing,
        seed,
    )
    return bottleneck.requires_grad_(False)


def fit_hyperprior(
    features: Tensor,
    beta: float,
    *,
    side_dims: int | None = None,
    width: int = 128,
    epochs: int = 10,
    batch: int = 128,
    learning_rate: float = 2e-3,
    step_learning_rate: float = 0.03,
    annealing: float = 0.3,
    seed: int = 0,
) -> HyperpriorBottleneck:
    """Trains a hyperprior on cached features as `fit_factorized` does its bottleneck.

    Squared error + beta · nats a sample.

    Args:
        features: Training features, float32 (n, d).
        beta: The trade-off.
        side_dims: As `HyperpriorBottleneck`; `width` likewise.
        width: Of the hidden layers.
        epochs: Passes over the features.
        batch: Samples a step.
        learning_rate: Of the networks, at first.
        step_learning_rate: Of steps and of the side density, at first.
        annealing: The share of the steps in which beta grows linearly from 0 to its value.
        seed: Of initial weights, order and noise.

    Raises:
        QuadrateError: If there are no features, or beta is not positive.
    """
    check_fit(features, beta)
    spread = features.std(0, correction=0).clamp(min=1e-6)
    start = torch.log((math.sqrt(6 * beta) / spread).clamp(max=4.0))
    build = partial(
        HyperpriorBottleneck, features.shape[1], side_dims, width, features.mean(0), spread, start
    )
    bottleneck = draws.build_with_seed(build, draws.key(seed, "bottleneck"))
    networks = itertools.chain(bottleneck.analysis.parameters(), bottleneck.synthesis.parameters())
    others = itertools.chain([bottleneck.log_step], bottleneck.side.parameters())
    optimizer = torch.optim.Adam(
        [
            {"params": list(networks), "lr": learning_rate},
            {"params": list(others), "lr": step_learning_rate},
        ]
    )
    descend(bottleneck, features, beta, optimizer, epochs, batch, annealing, seed)
    return bottleneck.requires_grad_(False)


def check_fit(features: Tensor, beta: float) -> None:
    """Raises a QuadrateError unless features and beta are such that a bottleneck can be trained."""
    if features.ndim != 2 or not len(features) or not bool(torch.isfinite(features).all()):
        raise QuadrateError(
            f"a bottleneck is trained on finite features (n, d); got shape {tuple(features.shape)},"
            " or some that are not finite"
        )
    if not beta > 0:
        raise QuadrateError(f"beta is {beta}; it must be positive")


class Noisy(Protocol):
    """A bottleneck in training.

    Latents (n, d) and noise in [-½, ½), (n, noise_columns), to what is received (n, d) and nats a
    sample (n,).
    """

    @property
    def noise_columns(self) -> int:
        """Columns of the noise."""
        ...

    def __call__(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What is received, and nats."""
        ...


def descend(
    bottleneck: Noisy,
    features: Tensor,
    beta: float,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    batch: int,
    annealing: float,
    seed: int,
) -> None:
    """Minimizes squared error + beta · nats a sample, the learning rates a third every two epochs.

    Arguments as in `fit_factorized`.
    """
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=1 / 3)
    steps, done = epochs * math.ceil(len(features) / batch), 0
    generator = draws.generator(seed, "bottleneck noise")
    for epoch in range(epochs):
        for part in draws.permutation(seed, "order", epoch, n=len(features)).split(batch):
            latent = features[part]
            weight = beta * min(1.0, done / (annealing * steps)) if annealing else beta
            received, rate_nats = bottleneck(
                latent,
                torch.rand((len(latent), bottleneck.noise_columns), generator=generator) - 0.5,
            )
            loss = ((received - latent).square().sum(1) + weight * rate_nats).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
        schedule.step()
