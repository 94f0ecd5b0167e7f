"""What a loss sees and what a loss is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from quadrate.config import WEIGHTS
from quadrate.core.fields import number, plain, shown
from quadrate.core.names import check_text
from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError


@dataclass(frozen=True)
class Batch:
    """One batch of K models side by side.

    Attributes:
        clean: The targets, float (K, B, C, H, W) in [0, 1].
        reconstruction: What the decoders made of them, of the same shape.
        labels: The classes, int64 (K, B).
        indices: Which training samples these are, int64 (K, B).
        rate_nats: What each sample costs, (K, B), where a bottleneck learns its rate.
        logits: Of the labels as decoders estimate them, (K, B, classes), where they do.
        step: The number of the step, for losses that draw.
    """

    clean: Tensor
    reconstruction: Tensor
    labels: Tensor
    indices: Tensor
    rate_nats: Tensor | None = None
    logits: Tensor | None = None
    step: int = 0


@dataclass(frozen=True)
class Term:
    """One term of an objective: `weight · loss(batch)`.

    Attributes:
        name: The column of the term in the metrics.
        weight: One weight for all models, or one a model.
        loss: From a `Batch` to one number a model, (K,); it must not mix the models.
        ramp: Whether annealing raises the weight from 0.
        version: What stands for the code of the loss in the name of a run's folder; without it, its
            code, constants and weights themselves. Give one where they cannot be read (as of
            TorchScript), or where what the loss computes is decided elsewhere (in a file, in the
            environment), and change it when the loss changes.

    Raises:
        QuadrateError: If the name or the version is not a printable text, or a weight is not a
            finite number.
    """

    name: str
    weight: float | tuple[float, ...]
    loss: Callable[[Batch], Tensor]
    ramp: bool = False
    version: str = ""

    def __post_init__(self) -> None:
        check_text("the name of a term", self.name)
        where = f"term {self.name!r}: "
        weights = self.weight if isinstance(self.weight, tuple | list) else (self.weight,)
        checked = tuple(float(number(f"{where}weight", weight)) for weight in weights)
        if not all(map(math.isfinite, checked)):
            raise QuadrateError(f"{where}weight must be finite; got {shown(self.weight)}")
        if not callable(self.loss):
            raise QuadrateError(
                f"{where}loss must be a function of a Batch; got {shown(self.loss)}"
            )
        object.__setattr__(
            self, "weight", checked if isinstance(self.weight, tuple | list) else checked[0]
        )
        object.__setattr__(self, "ramp", plain(f"{where}ramp", self.ramp, bool))
        check_text(f"{where}version", self.version)


_TAKEN = (
    *(weight.column for weight in WEIGHTS),
    "critic_gap",
    "reading_nats",
    "epoch",
    "epochs",
    "stage",
    "point",
    "cpu_seconds",
)
TERMS: Registry[Term] = Registry("loss term", {})
"""Losses that recipes name (`Recipe.terms`), with the weight 1."""


def register_term(
    name: str, loss: Callable[[Batch], Tensor], ramp: bool = False, version: str = ""
) -> None:
    """Register your own loss, so that recipes and `quadrate train --term NAME=WEIGHT` find it.

    Args:
        name: The name, which becomes a column of the metrics.
        loss: From a `Batch` to one number a model, (K,); it must not mix the models.
        ramp: Whether annealing raises the weight from 0.
        version: As that of a `Term`.

    Raises:
        QuadrateError: If the name is taken or not fit for a file, or an argument has a wrong type.
    """
    if name in _TAKEN or name.startswith("validation_"):
        raise QuadrateError(
            f"a loss term cannot be called {name!r}: the metrics have a column of that name; give"
            " yours another name"
        )
    TERMS.register(name, Term(name, 1.0, loss, ramp, version))


def find_term(name: str, weight: float) -> Term:
    """The term of a registered loss with its weight.

    Raises:
        QuadrateError: If there is no loss of that name.
    """
    return replace(TERMS.find(name), weight=weight)
