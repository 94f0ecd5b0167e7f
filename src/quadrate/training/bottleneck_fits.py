"""Fits of learned bottlenecks to cached features: squared error + beta · nats a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quadrate.bottlenecks.bottleneck import Bottleneck
from quadrate.bottlenecks.factorized import FactorizedBottleneck, LogisticMixture, MonotoneNetwork
from quadrate.bottlenecks.hyperprior import HyperpriorBottleneck
from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.training.loop import Descent, check_finite, ramp, run, scheduled


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
    """Fit a factorized bottleneck to cached features by Adam.

    Args:
        features: Training features, float32 (n, d).
        beta: The trade-off.
        density: "logistics" or "network".
        epochs: Passes over the features; the learning rate becomes a third every two.
        batch: Samples a step.
        learning_rate: At first.
        annealing: The share of the steps in which beta grows linearly from 0 to its value.
        seed: Of order and noise.

    Raises:
        QuadrateError: If there are no features, beta is not positive, or the loss is not finite.
    """
    centre, spread, start = _start(features, beta)
    kind = LogisticMixture if density == "logistics" else MonotoneNetwork
    model = draws.build_with_seed(lambda: kind(features.shape[1]), draws.key(seed, "bottleneck"))
    bottleneck = FactorizedBottleneck(model, centre, spread, start)
    optimizer = torch.optim.Adam(bottleneck.parameters(), lr=learning_rate)
    _descend(bottleneck, features, beta, optimizer, epochs, batch, annealing, seed)
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
    """Fit a hyperprior to cached features.

    Further arguments and errors as those of `fit_factorized`.

    Args:
        features: Training features, float32 (n, d).
        beta: The trade-off.
        side_dims: As that of `HyperpriorBottleneck`.
        width: Of the hidden layers.
        epochs: Passes over the features.
        batch: Samples a step.
        learning_rate: Of the networks, at first.
        step_learning_rate: Of steps and of the side density, at first.
        annealing: The share of the steps in which beta grows.
        seed: Of initial weights, order and noise.
    """
    build = partial(
        HyperpriorBottleneck, features.shape[-1], side_dims, width, *_start(features, beta)
    )
    bottleneck = draws.build_with_seed(build, draws.key(seed, "bottleneck"))
    networks = [*bottleneck.analysis.parameters(), *bottleneck.synthesis.parameters()]
    others = [bottleneck.log_step, *bottleneck.side.parameters()]
    groups = [
        {"params": networks, "lr": learning_rate},
        {"params": others, "lr": step_learning_rate},
    ]
    optimizer = torch.optim.Adam(groups)
    _descend(bottleneck, features, beta, optimizer, epochs, batch, annealing, seed)
    return bottleneck.requires_grad_(False)


FITS: dict[str, Callable[..., Any]] = {
    "factorized": partial(fit_factorized, learning_rate=0.03),
    "hyperprior": fit_hyperprior,
}
"""How a bottleneck is fitted to the latents of a trained encoder, by its name."""


def _start(features: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, spread and log of the step in spreads, (d,), to begin with."""
    if features.ndim != 2 or not len(features) or not bool(torch.isfinite(features).all()):
        raise QuadrateError(
            f"a bottleneck is trained on finite features (n, d); got shape {tuple(features.shape)},"
            " or some that are not finite"
        )
    if not beta > 0:
        raise QuadrateError(f"beta is {beta}; it must be positive")
    spread = features.std(0, correction=0).clamp(min=1e-6)  # (d,)
    # Where cells are small dD/dR = -step^2 / 6 a nat, which tells the step that beta asks for.
    return features.mean(0), spread, torch.log((math.sqrt(6 * beta) / spread).clamp(max=4.0))


def _descend(
    bottleneck: Bottleneck,
    features: Tensor,
    beta: float,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    batch: int,
    annealing: float,
    seed: int,
) -> None:
    in_epoch = math.ceil(len(features) / batch)
    thirds = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=1 / 3)
    descent = Descent(optimizer, scheduled(thirds, in_epoch))
    generator = draws.generator(seed, "bottleneck noise")

    def advance(epoch: int) -> None:
        order = draws.permutation(seed, "order", epoch, n=len(features))
        for step, part in enumerate(order.split(batch), epoch * in_epoch):
            latent = features[part]  # (B, d)
            weight = beta * ramp(step, annealing * (epochs * in_epoch))
            shape = (len(latent), bottleneck.noise_columns)
            received, nats = bottleneck(latent, torch.rand(shape, generator=generator) - 0.5)
            assert nats is not None
            error = (received - latent).square().sum(1)  # (B,)
            loss = (error + weight * nats).mean()
            descent.step(step, loss)
        check_finite("a bottleneck", f"epoch {epoch + 1}", {"loss": loss.item()})

    run(advance, epochs)
