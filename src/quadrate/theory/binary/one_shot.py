"""One binary symbol at a time, with unlimited common randomness and perfect perception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from quadrate.theory.any_source import Constraints, Source
from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.binary.joint import convolve, entropy
from quadrate.theory.channels import Channel, FloatArray, MixedChannel, Point
from quadrate.theory.checks import number

# Rounding of a share: the end of a range must be met even if it comes from another unit.
_SLACK = 1e-12
# p(x̂|x) of the maps of {0, 1} to itself: identity, flip, constant 0, constant 1.
_MAPS = np.eye(2)[[[0, 1], [1, 0], [0, 0], [1, 1]]]


@dataclass(frozen=True)
class OneShotBernoulli(Source):
    """X ~ Bern(p), S = X xor Bern(label_flip), X̂ = f_U(X) with the law of X.

    Hamming distortion (the ICLR 2026 paper's Definitions 1 and 2).

    The common randomness U, independent of X, selects one of the four maps f of {0, 1} to itself,
    the rate is H(X̂|U), the classifier sees U too, so that the classification is H(S|X̂,U), and the
    perception is always perfect. All costs are linear in the weights of the maps, so the best
    mixture takes the identity with weight t, and otherwise a constant drawn from the law of X: rate
    t H_b(p), distortion 2p(1-p)(1-t) and classification t H(S|X) + (1-t) H(S). So D(R, C) =
    2p(1-p)(1 - min(1, R/H_b(p))), infeasible for C < H(S) - min(1, R/H_b(p)) I(S;X). The paper's
    Theorem 2 continues to smaller C and to negative distortions.

    Attributes:
        p: P(X=1).
        label_flip: P(S != X).

    Raises:
        ValueError: If one of them is not a probability.
    """

    p: float
    label_flip: float

    divergences: ClassVar[tuple[str, ...]] = Bernoulli.divergences

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", number("p", self.p, 0, 1))
        object.__setattr__(self, "label_flip", number("label_flip", self.label_flip, 0, 1))

    @property
    def distortion_ceiling(self) -> float:
        """P(X̂ != X) of an independent X̂."""
        return 2 * self.p * (1 - self.p)

    @property
    def label_entropies(self) -> tuple[float, float]:
        """H(S|X) and H(S) in nats."""
        return float(entropy(self.label_flip)), float(entropy(convolve(self.p, self.label_flip)))

    def solve(self, constraints: Constraints) -> tuple[FloatArray, Channel]:
        """The least H(X̂|U) in nats and a `MixedChannel` that attains it.

        Its maps are the identity, the flip and the constants 0 and 1.

        Raises:
            ValueError: If the common randomness is finite.
        """
        constraints.refuse_randomness("OneShotBernoulli", seen=False)
        faithful = self._share_for_distortion(constraints.distortion)
        needed = np.maximum(faithful, self._share_for_classification(constraints.classification))
        possible = (needed <= 1 + _SLACK) & (constraints.perception >= 0)
        share = np.where(possible, np.clip(needed, 0, 1), np.nan)
        constants = (1 - share) * (1 - self.p), (1 - share) * self.p
        weights = np.stack([share, 0 * share, *constants], axis=-1)
        channel = MixedChannel(weights, np.broadcast_to(_MAPS, (*weights.shape, 2, 2)))
        return np.where(possible, share * entropy(self.p), np.inf), channel

    def solve_distortion(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion at a rate of at most `rate` nats; `inf` where infeasible."""
        share = self._share_at(rate)
        needed = self._share_for_classification(constraints.classification)
        possible = self._possible(share, needed, rate, constraints)
        return np.where(possible, self.distortion_ceiling * (1 - share), np.inf)

    def solve_classification(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least H(S|X̂,U) in nats at a rate of at most `rate` nats; `inf` where infeasible."""
        share = self._share_at(rate)
        needed = self._share_for_distortion(constraints.distortion)
        possible = self._possible(share, needed, rate, constraints)
        coded, independent = self.label_entropies
        return np.where(possible, share * coded + (1 - share) * independent, np.inf)

    def measure(self, channel: Channel, divergence: str) -> Point:
        """The quantities of a mixture of maps (..., k, 2, 2); its rate H(X̂|U) is I(X;X̂|U).

        Raises:
            ValueError: If the channel is not a `MixedChannel` of maps.
        """
        if not isinstance(channel, MixedChannel) or not np.isin(channel.matrices, (0.0, 1.0)).all():
            raise ValueError(
                "channel must be a MixedChannel of maps, matrices of zeros and ones, for a"
                " OneShotBernoulli"
            )
        return Bernoulli(self.p, self.label_flip).measure(channel, divergence)

    def _share_for_distortion(self, distortion: FloatArray) -> FloatArray:
        """The least weight of the identity, above 1 where infeasible."""
        ceiling = self.distortion_ceiling
        return np.where(distortion < 0, np.inf, 1 - distortion / ceiling if ceiling else 0.0)

    def _share_for_classification(self, classification: FloatArray) -> FloatArray:
        """The least weight of the identity, above 1 where infeasible."""
        coded, independent = self.label_entropies
        if independent - coded < _SLACK:  # the label is independent of the source
            return np.where(classification < independent - _SLACK, np.inf, 0.0)
        return (independent - classification) / (independent - coded)

    def _share_at(self, rate: FloatArray) -> FloatArray:
        """The largest weight of the identity."""
        full = entropy(self.p)
        return np.clip(rate / full, 0, 1) if full else np.ones_like(rate)

    def _possible(
        self, share: FloatArray, needed: FloatArray, rate: FloatArray, constraints: Constraints
    ) -> Any:
        constraints.refuse_randomness("OneShotBernoulli", seen=False)
        return (share >= needed - _SLACK) & (rate >= 0) & (constraints.perception >= 0)
