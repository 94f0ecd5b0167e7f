"""What every source answers to, and the constraints it is asked under.

Everything here is in nats.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from quadrate.theory.channels import Channel, FloatArray, Point


@dataclass(frozen=True)
class Constraints:
    """What is asked of a codec; arrays of one common shape, `inf` where nothing is asked.

    Attributes:
        distortion: the largest E Δ(X,X̂).
        perception: the largest divergence of p_X̂ from p_X; nats for "kl".
        classification: the largest H(S|X̂), nats.
        divergence: name of the perception measure.
        common_randomness: rate of the randomness that encoder and decoder share, nats a sample.
        classifier_sees_randomness: whether the classifier is given that randomness: H(S|X̂,U)
            instead of H(S|X̂).
    """

    distortion: FloatArray
    perception: FloatArray
    classification: FloatArray
    divergence: str = "w2"
    common_randomness: float = math.inf
    classifier_sees_randomness: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape of the three arrays."""
        return self.distortion.shape

    def each(self) -> Iterator[tuple[tuple[int, ...], tuple[float, float, float]]]:
        """One (index, (distortion, perception, classification)) after another, for solvers that take single points."""
        for index in np.ndindex(self.shape):
            yield (
                index,
                (
                    float(self.distortion[index]),
                    float(self.perception[index]),
                    float(self.classification[index]),
                ),
            )


class Source(ABC):
    """A memoryless source X with a distortion measure and, where it has one, a label S.

    Solvers are methods in nats; `rate` and its like call them.

    Attributes:
        divergences: names of the perception measures that the source has a rate function for.
    """

    divergences: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def distortion_ceiling(self) -> float:
        """A distortion at which the distortion constraint no longer binds, whatever the others are."""

    @property
    @abstractmethod
    def label_entropies(self) -> tuple[float, float] | None:
        """(H(S|Y), H(S)) in nats, Y what the encoder sees.

        The range of the classification constraint. None without a label.
        """

    @abstractmethod
    def solve(self, constraints: Constraints) -> tuple[FloatArray, Channel]:
        """The least rate in nats, `inf` where infeasible, and a channel that attains it (NaN there)."""

    @abstractmethod
    def measure(self, channel: Channel, divergence: str) -> Point:
        """Where a channel stands, from the definitions of the four quantities and independently of how it was found."""

    def solve_distortion(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion at a rate of at most `rate` nats, by bisection on the rate function.

        `inf` where infeasible.
        """

        def enough(distortion: FloatArray) -> Any:
            needed, _ = self.solve(replace(constraints, distortion=distortion))
            return (needed <= rate) & np.isfinite(needed)

        return _least(enough, 0.0, self.distortion_ceiling, constraints.shape)

    def solve_classification(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least H(S|X̂) in nats at a rate of at most `rate` nats, by bisection on the rate function; `inf` where infeasible."""
        entropies = self.label_entropies
        assert entropies is not None, "the caller checks for a label"

        def enough(classification: FloatArray) -> Any:
            needed, _ = self.solve(replace(constraints, classification=classification))
            return (needed <= rate) & np.isfinite(needed)

        return _least(enough, *entropies, constraints.shape)


def _least(
    enough: Callable[[FloatArray], Any],
    low: float,
    high: float,
    shape: tuple[int, ...],
    steps: int = 60,
) -> FloatArray:
    """The least value in [low, high] that is enough, elementwise, for a monotone test.

    `inf` where not even `high` is.
    """
    lows, highs = np.full(shape, low), np.full(shape, high)
    feasible = np.asarray(enough(highs))
    for _ in range(steps):
        middles = (lows + highs) / 2
        done = np.asarray(enough(middles))
        highs, lows = np.where(done, middles, highs), np.where(done, lows, middles)
    return np.where(feasible, highs, np.inf)
