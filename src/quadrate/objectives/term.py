"""What a loss sees and what a loss is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from quadrate.errors import QuadrateError
from quadrate.registry import Registry


@dataclass(frozen=True)
class Batch:
    """One batch of K models side by side.

    Attributes:
        clean: The targets, float (K, B, C, H, W) in [0, 1].
        reconstruction: What the decoders made of them, of the same shape.
        labels: The classes, int64 (K, B).
        indices: Which training samples these are, int64 (K, B).
    """

    clean: Tensor
    reconstruction: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Term:
    """One term of an objective: `weight · loss(batch)`.

    Attributes:
        name: The column of the term in the metrics.
        weight: One weight for all models, or one a model.
        loss: From a `Batch` to one number a model, (K,); it must not mix the models.
        ramp: Whether annealing raises the weight from 0.
    """

    name: str
    weight: float | tuple[float, ...]
    loss: Callable[[Batch], Tensor]
    ramp: bool = False


@dataclass(frozen=True)
class Loss:
    """A term without its weight; attributes as those of `Term`."""

    loss: Callable[[Batch], Tensor]
    ramp: bool = False


_TAKEN = ("mse", "wasserstein", "cross_entropy_nats", "critic_gap", "epoch", "epochs", "stage", "point", "cpu_seconds")
TERMS: Registry[Loss] = Registry("loss term", {})
"""Losses that recipes name (`Recipe.terms`)."""


def register_term(name: str, loss: Callable[[Batch], Tensor], ramp: bool = False) -> None:
    """Makes a loss of one's own known by a name, so that recipes and `quadrate train --term NAME=WEIGHT` find it.

    Args:
        name: The name, which becomes a column of the metrics.
        loss: From a `Batch` to one number a model, (K,); it must not mix the models.
        ramp: Whether annealing raises the weight from 0.

    Raises:
        QuadrateError: If the name is taken, or cannot be that of a file.
    """
    if name in _TAKEN or name.startswith("validation_"):
        raise QuadrateError(f"a loss term cannot be called {name!r}: the metrics have a column of that name; give yours another name")
    TERMS.register(name, Loss(loss, ramp))


def find_term(name: str, weight: float) -> Term:
    """The term of a registered loss with its weight.

    Raises:
        QuadrateError: If there is no loss of that name.
    """
    found = TERMS.find(name)
    return Term(name, weight, found.loss, found.ramp)
