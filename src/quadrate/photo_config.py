"""Settings of the training of codecs of photographs; made without PyTorch, as `config` is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckerboardConfig:
    """How a checkerboard model is fitted.

    Attributes:
        ends: Where the groups of channels end, rising.
        hidden: Of each group, the hidden units of its networks of spreads.
        predicted: How many groups have a linear prediction.
        rounds: How often symbols are chosen, networks trained and tables counted. In the first,
            symbols are rounded; later ones choose them by their bits under the tables so far.
        steps: Of Adam, in each round.
        batch: Sites a step.
        learning_rate: At most.
        rate_weight: The worth of a bit in squared steps, for the choice of symbols.
    """

    ends: tuple[int, ...] = (3, 12, 28, 60, 124, 252, 512)
    hidden: tuple[int, ...] = (16, 32, 48, 48, 64, 64, 48)
    predicted: int = 4
    rounds: int = 2
    steps: int = 2000
    batch: int = 1024
    learning_rate: float = 3e-3
    rate_weight: float = 0.12


@dataclass(frozen=True)
class RestorationConfig:
    """How a restoration network is trained.

    Attributes:
        width: Its hidden maps.
        steps: Of Adam.
        batch: Crops a step.
        crop: Pixels a side, a multiple of 16.
        learning_rate: At most.
    """

    width: int = 32
    steps: int = 3000
    batch: int = 16
    crop: int = 96
    learning_rate: float = 2e-3
