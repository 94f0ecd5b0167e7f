"""A scalar Gaussian source under squared error: all its rate functions in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from quadrate.theory import checks
from quadrate.theory.any_source import Constraints, Source, bisect
from quadrate.theory.channels import Channel, FloatArray, GaussianChannel, Point

# A constraint at the edge of feasibility may be missed by this much, for rounding in units: nats of
# classification, a fraction of the distortion.
_ROUNDING = 1e-12
# KL divergences beyond which the deviation of X̂ may be so small that it underflows.
_KL_CEILING = 1000.0


@dataclass(frozen=True)
class ScalarGaussian(Source):
    """X ~ N(0, variance) with a jointly Gaussian label S.

    The encoder sees Y = X + N(0, noise_variance).

    A jointly Gaussian X̂ is optimal: among all X̂ with the same second moments it has the least
    I(Y;X̂) and the least divergence from X, and by the conditional entropy-power inequality no
    other X̂ of the same rate leaves S less uncertain. Two numbers describe it. The fraction `lost`
    of Y's variance that it leaves unexplained sets the rate, -½ ln(lost), and h(S|X̂); its
    deviation alone sets the perception; E(X-X̂)² depends on both. Hence R(D,P,C) = max(R(D,P),
    R(C)), with R(D,P) of Zhang et al. 2021 (Theorem 1; "kl" by the same rule) and R(C) of Wang et
    al. 2025.

    Classification and perception do not compete, not even under source noise: X̂ can be rescaled to
    the distribution of X, which changes neither I(Y;X̂) nor h(S|X̂), so that R(P,C) = R(C) for
    every P >= 0. With noise, no rate brings h(S|X̂) below h(S|Y), or the distortion below the MMSE
    of X given Y plus what the rescaling adds to it.

    Attributes:
        variance: Of X, above 0.
        label_variance: Of S, above 0; None without a label.
        correlation: Coefficient between X and S, in [-1, 1]; None without a label.
        noise_variance: Of the noise that the encoder sees X through; 0 without noise.

    Raises:
        ValueError: If a number is out of its range, or only one of label_variance and correlation
            is given.
    """

    divergences: ClassVar[tuple[str, ...]] = ("w2", "kl")

    variance: float = 1.0
    label_variance: float | None = None
    correlation: float | None = None
    noise_variance: float = 0.0

    def __post_init__(self) -> None:
        checked = {
            "variance": checks.number("variance", self.variance, 0, open_low=True),
            "noise_variance": checks.number("noise_variance", self.noise_variance, 0),
        }
        if (self.label_variance is None) != (self.correlation is None):
            raise ValueError(
                "label_variance and correlation must be given together, or neither of them; "
                f"got label_variance={self.label_variance!r}, correlation={self.correlation!r}"
            )
        if self.label_variance is not None:
            variance = checks.number("label_variance", self.label_variance, 0, open_low=True)
            checked["label_variance"] = variance
            checked["correlation"] = checks.number("correlation", self.correlation, -1, 1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def distortion_ceiling(self) -> float:
        """2 · variance, the distortion of an independent X̂ with the distribution of X."""
        return 2 * self.variance

    @property
    def label_entropies(self) -> tuple[float, float] | None:
        """(h(S|Y), h(S)) in nats; h(S|Y) is -inf if Y determines S."""
        if self.label_variance is None:
            return None
        entropy = 0.5 * math.log(2 * math.pi * math.e * self.label_variance)
        unseen = 1 - self._label_seen
        return (entropy + 0.5 * math.log(unseen) if unseen > 0 else -math.inf), entropy

    def solve(self, constraints: Constraints) -> tuple[FloatArray, Channel]:
        """The least rate in nats, and the channel of least distortion among those that attain it.

        The channel is NaN where the rate is infinite.

        With limited common randomness (a finite `common_randomness`) the perception constraint is
        on blocks, W2²(X^n, X̂^n) <= nP (Saldi, Linder & Yüksel 2015 for P = 0; Qu et al. 2025), and
        no single test channel describes the codec: the channel is NaN throughout.

        Raises:
            ValueError: If the classifier is to see the common randomness; if this is limited and
                the divergence is not "w2", classification is constrained, or the source is noisy.
        """
        self._check_options(constraints, (constraints.classification < np.inf).any())
        if constraints.common_randomness < math.inf:
            lost, spread = self._lost_of_blocks(constraints), np.full(constraints.shape, np.nan)
        else:
            spread = self._least_spread(constraints)
            lost = np.minimum(
                self._lost_by_distortion(constraints.distortion, spread),
                self._lost_by_classification(constraints.classification),
            )
        lost = np.where(constraints.perception >= 0, lost, 0.0)
        correlation = np.sqrt(1 - lost)
        spread = np.maximum(spread, math.sqrt(self._seen) * correlation)
        deviation = np.where(lost > 0, math.sqrt(self.variance) * spread, np.nan)
        with np.errstate(divide="ignore"):
            rate = np.asarray(-0.5 * np.log(lost) + 0.0)
        gain = correlation * deviation / math.sqrt(self.variance + self.noise_variance)
        return rate, GaussianChannel(gain, lost * deviation**2)

    def solve_distortion(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion at a rate of at most `rate` nats; `inf` where infeasible.

        Raises:
            ValueError: As `solve`.
        """
        self._check_options(constraints, (constraints.classification < np.inf).any())
        lost = np.exp(-2 * np.maximum(rate, 0))
        classified = constraints.classification >= self._classification(lost) - _ROUNDING
        feasible = (rate >= 0) & (constraints.perception >= 0) & classified
        return np.where(feasible, self._distortion(lost, constraints), np.inf)

    def solve_classification(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least h(S|X̂) in nats at a rate of at most `rate` nats; `inf` where infeasible.

        Raises:
            ValueError: As `solve`.
        """
        self._check_options(constraints, True)
        lost = np.exp(-2 * np.maximum(rate, 0))
        faithful = constraints.distortion >= self._distortion(lost, constraints) * (1 - _ROUNDING)
        feasible = (rate >= 0) & (constraints.perception >= 0) & faithful
        return np.where(feasible, self._classification(lost), np.inf)

    def measure(self, channel: Channel, divergence: str) -> Point:
        """The quantities of a channel, from the covariances of (S, X, Y, X̂); NaN where it is NaN.

        Raises:
            ValueError: If the channel is not a GaussianChannel, gain and noise differ in shape, or
                a noise variance is negative.
        """
        if not isinstance(channel, GaussianChannel):
            raise ValueError(
                "channel must be a GaussianChannel for a ScalarGaussian; got a"
                f" {type(channel).__name__}"
            )
        gain, noise = np.asarray(channel.gain, np.float64), np.asarray(channel.noise, np.float64)
        if gain.shape != noise.shape:
            raise ValueError(
                f"channel must have gain and noise of one shape; got {gain.shape} and {noise.shape}"
            )
        if (noise < 0).any():
            raise ValueError(f"channel must have noise variances >= 0; got {np.nanmin(noise):g}")
        carried = gain**2 * (self.variance + self.noise_variance)
        variance = carried + noise
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where(carried == 0, 0.0, 0.5 * np.log1p(carried / noise))
            ratio = variance / self.variance
            perception = (
                self.variance * (1 - np.sqrt(ratio)) ** 2
                if divergence == "w2"
                else (ratio - 1 - np.log(ratio)) / 2
            )
            classification = np.full(gain.shape, np.nan)
            if self.label_variance is not None and self.correlation is not None:
                unseen = self.variance * (1 - self.correlation**2) + self.noise_variance
                fraction = np.where(variance == 0, 1.0, (gain**2 * unseen + noise) / variance)
                classification = 0.5 * np.log(2 * math.pi * math.e * self.label_variance * fraction)
        distortion = (1 - gain) ** 2 * self.variance + gain**2 * self.noise_variance + noise
        return Point(rate, distortion, perception, classification)

    @property
    def _seen(self) -> float:
        """The squared correlation of X and Y."""
        return self.variance / (self.variance + self.noise_variance)

    @property
    def _label_seen(self) -> float:
        """The squared correlation of S and Y; 0 without a label."""
        return 0.0 if self.correlation is None else self.correlation**2 * self._seen

    def _check_options(self, constraints: Constraints, classifies: bool | np.bool_) -> None:
        if constraints.classifier_sees_randomness:
            raise ValueError(
                "classifier_sees_randomness must be False for a ScalarGaussian: its classification"
                " does not conflict with perception"
            )
        if constraints.common_randomness == math.inf:
            return
        if constraints.divergence != "w2":
            raise ValueError(
                f"common_randomness must be inf with divergence={constraints.divergence!r}: the"
                " rate with limited randomness is only known for 'w2'"
            )
        if classifies:
            raise ValueError(
                "common_randomness must be inf where classification is constrained or asked for"
            )
        if self.noise_variance > 0:
            raise ValueError("common_randomness must be inf for a source with noise_variance > 0")

    def _slack(self, constraints: Constraints) -> FloatArray:
        """The W2 distance from X that the perception constraint allows, over the deviation of X.

        At most 1, the distance of a constant.
        """
        perception = np.clip(constraints.perception, 0, self.variance)
        return np.asarray(np.sqrt(perception / self.variance))

    def _least_spread(self, constraints: Constraints) -> FloatArray:
        """The least deviation of X̂ that the perception constraint allows, over that of X."""
        if constraints.divergence == "w2":
            return 1 - self._slack(constraints)
        # With y = -2 ln(spread) it solves y + exp(-y) - 1 = 2P: convex, increasing, and Newton's
        # method descends from a point above the root.
        perception = np.clip(constraints.perception, np.finfo(np.float64).tiny, _KL_CEILING)
        y = 2 * perception + 2 * np.sqrt(perception)
        for _ in range(8):
            y = y + (y + np.expm1(-y) - 2 * perception) / np.expm1(-y)
        return np.asarray(np.exp(-y / 2))

    def _lost_by_distortion(self, distortion: FloatArray, spread: FloatArray) -> FloatArray:
        """The largest fraction of Y's variance that X̂ may lose; 0 where even Y is not enough."""
        distortion = np.clip(distortion, 0, 2 * self.variance) / self.variance
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            # 1 - corr(X,X̂)² where X̂ must spread more than the MMSE estimate does; as a product
            # where the correlation is near one.
            correlation = np.maximum((1 - distortion + spread**2) / (2 * spread), 0)
            product = (distortion - (1 - spread) ** 2) * ((1 + spread) ** 2 - distortion)
            product /= (2 * spread) ** 2
        spreading = np.where(distortion < 0.5, product, 1 - correlation**2)
        unexplained = np.where(spread**2 > 1 - distortion, spreading, np.minimum(distortion, 1))
        return np.clip((unexplained - (1 - self._seen)) / self._seen, 0, 1)

    def _lost_by_classification(self, classification: FloatArray) -> FloatArray:
        """As `_lost_by_distortion`, for a bound on h(S|X̂)."""
        if self.label_entropies is None:
            return np.ones(classification.shape)
        least, most = self.label_entropies
        classification = np.minimum(classification, most)
        if least == -math.inf:
            return np.exp(2 * (classification - most))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = np.divide(1 - self._label_seen, self._label_seen)
            lost = np.expm1(2 * (classification - least)) * ratio
        return np.where(classification == most, 1.0, np.clip(lost, 0, 1))

    def _distortion(self, lost: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion of an X̂ that loses `lost` and meets the perception constraint."""
        if constraints.common_randomness < math.inf:
            slack = self._slack(constraints)
            blocks = _distortion_of_blocks(lost, slack, constraints.common_randomness)
            return self.variance * blocks
        missing = np.maximum(self._least_spread(constraints) - np.sqrt(self._seen * (1 - lost)), 0)
        return np.asarray(self.variance * (1 - self._seen + self._seen * lost + missing**2))

    def _classification(self, lost: FloatArray) -> FloatArray:
        """h(S|X̂) of an X̂ that loses `lost`; -inf without a label, below any constraint."""
        _, entropy = self.label_entropies or (-math.inf, -math.inf)
        fraction = 1 - self._label_seen + self._label_seen * lost
        with np.errstate(divide="ignore"):
            return np.asarray(entropy + 0.5 * np.log(fraction))

    def _lost_of_blocks(self, constraints: Constraints) -> FloatArray:
        """As `_lost_by_distortion`, with limited common randomness: by bisection."""
        distortion = np.clip(constraints.distortion, 0, 2 * self.variance) / self.variance
        slack = self._slack(constraints)

        def meets(lost: FloatArray) -> Any:
            return _distortion_of_blocks(lost, slack, constraints.common_randomness) <= distortion

        # Perfect perception without common randomness at most doubles the distortion, which
        # brackets the answer within a factor of two.
        high = np.minimum(distortion, 1)
        return bisect(meets, high, np.where(meets(high), high, distortion / 2), 53)


def _distortion_of_blocks(
    lost: FloatArray, slack: FloatArray, common_randomness: float
) -> FloatArray:
    """The least distortion of a unit variance, lost = exp(-2R), at a W2 per letter up to `slack`.

    D(R,Rc,P) = lost + (W - slack)₊², with W the distance from the MMSE estimate to the closest
    output with X's own distribution that the randomness allows: lost + W² = 2 - 2√((1 - lost)(1 -
    lost · exp(-2Rc))), here without the cancellation.
    """
    fresh = lost * math.exp(-2 * common_randomness)
    distance = np.hypot(np.sqrt(1 - fresh) - np.sqrt(1 - lost), np.sqrt(fresh))
    return np.asarray(lost + np.maximum(distance - slack, 0) ** 2)
