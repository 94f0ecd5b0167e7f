"""Rates, judges, settings and the choice of a grid, shared by the recipes of the papers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Literal, TypedDict, TypeVar, get_args

from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.errors import QuadrateError

Grid = Literal["quick", "published"]
"""The weights and settings of a recipe: those that two cores finish, or the paper's own."""

Levels = tuple[int, ...]
T = TypeVar("T")

RATE_3x3: Levels = (3, 3, 3)  # 4.75 bits
MNIST_RATES: tuple[Levels, ...] = (RATE_3x3, (4,) * 3, (4,) * 4, (4,) * 5)  # 4.75, 6, 8 and 10 bits
COLOUR_RATES: tuple[Levels, ...] = ((8,) * 10, (8,) * 15, (8,) * 20)  # 30, 45 and 60 bits
RDPC_JUDGE = "rdpc/q-mnist.ckpt"  # the classifier that trained and scored the published codecs
PER_BIT = 1 / math.log(2)  # RDPC's cross-entropy is in bits: its λc times this is ours, for nats

PLAIN = TrainingConfig(epochs=28)
SHORT = TrainingConfig(epochs=14)
CRITIC = TrainingConfig(epochs=8, critic_learning_rate=3e-3)
COLOUR_PLAIN = TrainingConfig(epochs=16)
COLOUR_CRITIC = TrainingConfig(epochs=10, critic_learning_rate=3e-3)


class Networks(TypedDict):
    """A recipe's networks and judges by name."""

    family: str
    judge: str
    independent_judge: str


COLOUR_NETWORKS = Networks(family="compact-colour", judge="conv", independent_judge="residual")


def as_published(epochs: int, batch: int, colour: bool = False) -> TrainingConfig:
    """The published settings.

    Alternating steps and the soft surrogate, in float32, with one set of rates for MNIST and one
    for SVHN.

    With two differences. The published learning rates are constant and fall to a fifth at epoch 20
    (MNIST) or 25 (SVHN); here they fall along a cosine without a warm-up, the critic's from the
    middle on. On SVHN the published surrogate has sharpness 2/L, here 1.
    """
    rate, critic_rate, betas = (1e-4, 1e-4, (0.5, 0.999)) if colour else (1e-2, 2e-4, (0.5, 0.9))
    return TrainingConfig(
        epochs=epochs,
        batch=batch,
        learning_rate=rate,
        betas=betas,
        critic_learning_rate=critic_rate,
        critic_betas=betas,
        warmup=0.0,
        surrogate="soft",
        alternate=True,
        precision="float32",
    )


def choose(grid: Grid, quick: T, published: T) -> T:
    """The value for a grid.

    Raises:
        QuadrateError: If the grid is unknown.
    """
    if grid not in get_args(Grid):
        raise QuadrateError(f"unknown grid {grid!r}; known: {', '.join(get_args(Grid))}")
    return published if grid == "published" else quick


def sweep(
    rates: Iterable[Levels], weights: Iterable[tuple[float, float, float]], seeds: int
) -> tuple[OperatingPoint, ...]:
    """Every rate with every (λd, λp, λc) and every seed."""
    return tuple(
        OperatingPoint(levels, *weight, seed)
        for levels, weight, seed in product(rates, weights, range(seeds))
    )


def perception(weights: Iterable[float]) -> list[tuple[float, float, float]]:
    """λp as (1, λp, 0)."""
    return [(1.0, p, 0.0) for p in weights]


def classification(weights: Iterable[float], p: float = 0.0) -> list[tuple[float, float, float]]:
    """λc as (1, λp, λc)."""
    return [(1.0, p, c) for c in weights]


def crossed(
    d: Iterable[float], p: Iterable[float], c: Iterable[float]
) -> list[tuple[float, float, float]]:
    """Every λd with every λp and every λc."""
    return list(product(d, p, c))


def per_bit(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights of a cross-entropy in bits as weights of one in nats."""
    return tuple(weight * PER_BIT for weight in weights)
