"""The base of all sources, and the constraints on a codec; everything is in nats."""

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
    """The constraints on a codec: arrays of one common shape, `inf` without a constraint.

    Attributes:
        distortion: The largest E Δ(X,X̂).
        perception: The largest divergence of p_X̂ from p_X; nats for "kl".
        classification: The largest H(S|X̂), nats.
        divergence: Name of the perception measure.
        common_randomness: Rate of the randomness that encoder and decoder share, nats a sample.
        classifier_sees_randomness: Whether the classifier is given that randomness: H(S|X̂,U)
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
        """Yield each point as (index, (distortion, perception, classification))."""
        arrays = self.distortion, self.perception, self.classification
        for index in np.ndindex(self.shape):
            distortion, perception, classification = (float(array[index]) for array in arrays)
            yield index, (distortion, perception, classification)

    def at(self, *bounds: FloatArray) -> Constraints:
        """The same constraints at another (distortion, perception, classification)."""
        distortion, perception, classification = bounds
        return replace(
            self, distortion=distortion, perception=perception, classification=classification
        )

    def refuse_randomness(self, source: str, *, seen: bool = True) -> None:
        """Raise a ValueError if the common randomness is limited or, if `seen`, classifiers see it.

        Args:
            source: Name of the source that has no such rate function.
            seen: Also refuse classifiers that see the randomness.
        """
        if self.common_randomness < math.inf:
            raise ValueError(
                f"common_randomness must be inf for a {source}; got {self.common_randomness:g} nats"
            )
        if seen and self.classifier_sees_randomness:
            raise ValueError(
                f"classifier_sees_randomness must be False for a {source}: only binary sources have"
                " that variant"
            )


class Source(ABC):
    """A memoryless source X with a distortion measure and, where it has one, a label S.

    Its solvers are methods in nats, called by `rate`, `distortion` and `classification`.

    Attributes:
        divergences: Names of the perception measures that the source has a rate function for.
    """

    divergences: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def distortion_ceiling(self) -> float:
        """A distortion that is never a constraint, whatever the others are."""

    @property
    @abstractmethod
    def label_entropies(self) -> tuple[float, float] | None:
        """(H(S|Y), H(S)) in nats, the range of the classification constraint; None without a label.

        Y is what the encoder sees.
        """

    @abstractmethod
    def solve(self, constraints: Constraints) -> tuple[FloatArray, Channel]:
        """The least rate in nats and a channel that attains it; inf and NaN where infeasible."""

    @abstractmethod
    def measure(self, channel: Channel, divergence: str) -> Point:
        """The four quantities of a channel, from their definitions, however it was found."""

    def solve_distortion(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion at a rate of at most `rate` nats; `inf` where infeasible.

        By bisection on the rate function.
        """

        def enough(distortion: FloatArray) -> Any:
            needed, _ = self.solve(replace(constraints, distortion=distortion))
            return (needed <= rate) & np.isfinite(needed)

        return _least(enough, 0.0, self.distortion_ceiling, constraints.shape)

    def solve_classification(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least H(S|X̂) in nats at a rate of at most `rate` nats; `inf` where infeasible.

        By bisection on the rate function.
        """
        entropies = self.label_entropies
        assert entropies is not None, "the caller checks for a label"

        def enough(classification: FloatArray) -> Any:
            needed, _ = self.solve(replace(constraints, classification=classification))
            return (needed <= rate) & np.isfinite(needed)

        return _least(enough, *entropies, constraints.shape)


def bisect(
    holds: Callable[[FloatArray], Any], outside: FloatArray, inside: FloatArray, steps: int = 52
) -> FloatArray:
    """The end, approached from within, of the interval at `inside` on which a test holds.

    Elementwise; either argument may be the larger.
    """
    for _ in range(steps):
        middle = (outside + inside) / 2
        done = np.asarray(holds(middle))
        outside, inside = np.where(done, outside, middle), np.where(done, middle, inside)
    return inside


def _least(
    enough: Callable[[FloatArray], Any], low: float, high: float, shape: tuple[int, ...]
) -> FloatArray:
    """The least value in [low, high] that is enough, elementwise; `inf` where `high` is not."""
    lows, highs = np.full(shape, low), np.full(shape, high)
    return np.where(np.asarray(enough(highs)), bisect(enough, lows, highs, 60), np.inf)
