"""The binary source with Hamming distortion: exact rates under any mix of constraints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import rel_entr, xlogy

from quadrate.theory.any_source import Constraints, Source, bisect
from quadrate.theory.binary.joint import BinaryModel, symmetric_channel
from quadrate.theory.binary.rates import Limits, gerber_rates, least_rates
from quadrate.theory.binary.time_sharing import (
    CLASSIFICATION,
    DISTORTION,
    shared_inverse,
    shared_rates,
)
from quadrate.theory.channels import Channel, DiscreteChannel, FloatArray, MixedChannel, Point
from quadrate.theory.checks import number


@dataclass(frozen=True)
class Bernoulli(Source):
    """X ~ Bern(p) with label S = X xor Bern(label_flip), under the distortion P(X̂ != X).

    The encoder sees Y = X xor Bern(noise_flip).

    Without noise and perception the rate is H_b(p) - H_b(min(D, C1, p)) with H_b(C1 * label_flip) =
    C (Mrs. Gerber's lemma; Wang et al. 2025); otherwise it is found exactly, by searches over one
    number (`rates`). Perception matters to the label unless p = 1/2 or the classifier sees the
    common randomness: then the best channel for the label is mixed with its relabelled copy, which
    makes the perception perfect at no cost. Other mixtures come from a linear program
    (`time_sharing`), to 1e-7 nats, and take some tenths of a second a point.

    On {0, 1} the squared 2-Wasserstein distance is the total variation, |P(X̂=1) - p|.

    Attributes:
        p: P(X=1).
        label_flip: P(S != X); None without a label.
        noise_flip: P(Y != X).

    Raises:
        ValueError: If one of them is not a probability.
    """

    p: float
    label_flip: float | None = None
    noise_flip: float = 0.0

    divergences: ClassVar[tuple[str, ...]] = ("w2", "tv", "kl")

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", number("p", self.p, 0, 1))
        if self.label_flip is not None:
            object.__setattr__(self, "label_flip", number("label_flip", self.label_flip, 0, 1))
        object.__setattr__(self, "noise_flip", number("noise_flip", self.noise_flip, 0, 1))

    @property
    def distortion_ceiling(self) -> float:
        """1, since the distortion is a probability."""
        return 1.0

    @property
    def label_entropies(self) -> tuple[float, float] | None:
        """H(S|Y) and H(S) in nats; None without a label."""
        return None if self.label_flip is None else self._model.label_entropies

    def solve(self, constraints: Constraints) -> tuple[FloatArray, Channel]:
        """The least rate in nats, and a `DiscreteChannel` (..., 2, 2) that attains it.

        If the classifier sees the randomness, the channel is a `MixedChannel` of four.

        Raises:
            ValueError: If the common randomness is finite.
            ArithmeticError: If the search for a mixture does not come within 1e-7 nats of its
                bound.
        """
        limits = self._limits(constraints)
        shape = constraints.shape
        if constraints.classifier_sees_randomness:
            rates, weights, channels = shared_rates(self._model, limits)
            weights = weights.reshape(*shape, -1)
            matrices = self._matrices(channels[..., 0], channels[..., 1]).reshape(*shape, -1, 2, 2)
            return rates.reshape(shape), MixedChannel(weights, matrices)
        if self._model.noise == 0 and np.isinf(constraints.perception).all():
            rates, q, m = gerber_rates(self._model, limits)
        else:
            rates, q, m = least_rates(self._model, limits)
        return rates.reshape(shape), DiscreteChannel(self._matrices(q, m).reshape(*shape, 2, 2))

    def solve_distortion(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion at a rate of at most `rate` nats; `inf` where infeasible."""
        if not constraints.classifier_sees_randomness:
            return super().solve_distortion(rate, constraints)
        limits = self._limits(replace(constraints, distortion=np.full(rate.shape, np.inf)))
        return shared_inverse(self._model, DISTORTION, rate.ravel(), limits).reshape(rate.shape)

    def solve_classification(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least H(S|X̂), or H(S|X̂,U), in nats at a rate of at most `rate` nats, or inf."""
        if not constraints.classifier_sees_randomness:
            return super().solve_classification(rate, constraints)
        limits = self._limits(replace(constraints, classification=np.full(rate.shape, np.inf)))
        return shared_inverse(self._model, CLASSIFICATION, rate.ravel(), limits).reshape(rate.shape)

    def measure(self, channel: Channel, divergence: str) -> Point:
        """The quantities of a `DiscreteChannel` (..., 2, 2) or a `MixedChannel` (..., k, 2, 2).

        Raises:
            ValueError: If the channel is of another type or shape.
        """
        if isinstance(channel, DiscreteChannel):
            matrices = np.asarray(channel.matrix)[..., None, :, :]
            weights = np.ones(matrices.shape[:-2])
        elif isinstance(channel, MixedChannel):
            weights, matrices = np.asarray(channel.weights), np.asarray(channel.matrices)
        else:
            raise ValueError(
                "channel must be a DiscreteChannel or a MixedChannel for a Bernoulli; got a"
                f" {type(channel).__name__}"
            )
        if matrices.shape != (*weights.shape, 2, 2):
            raise ValueError(
                "channel must have 2 x 2 matrices, one for each weight; got weights"
                f" {weights.shape}, matrices {matrices.shape}"
            )
        rate, distortion, classification, output = (
            (weights * values).sum(axis=-1) for values in self._definitions(matrices)
        )
        if divergence == "kl":
            perception = rel_entr(output, self.p) + rel_entr(1 - output, 1 - self.p)
        else:
            perception = np.abs(output - self.p)
        return Point(rate, distortion, perception, classification)

    @cached_property
    def _model(self) -> BinaryModel:
        """The source with X, Y and S relabelled so that no probability is above 1/2."""
        flip = 0.5 if self.label_flip is None else self.label_flip
        return BinaryModel(*(min(value, 1 - value) for value in (self.p, self.noise_flip, flip)))

    def _limits(self, constraints: Constraints) -> Limits:
        """The constraints as limits, in the model's labels."""
        constraints.refuse_randomness("Bernoulli", seen=False)
        perception = constraints.perception.ravel()
        a = np.full(perception.shape, self._model.a)
        if constraints.divergence == "kl":

            def near(q: FloatArray) -> FloatArray:
                return np.asarray(rel_entr(q, a) + rel_entr(1 - q, 1 - a) <= perception)

            low, high = (
                np.where(near(end), end, bisect(near, end, a))
                for end in (np.zeros_like(a), np.ones_like(a))
            )
        else:
            low, high = np.maximum(a - perception, 0), np.minimum(a + perception, 1)
        # A negative perception is as infeasible as a negative distortion.
        distortion = np.where(perception >= 0, np.maximum(constraints.distortion.ravel(), -1), -1)
        return Limits(distortion, low, high, constraints.classification.ravel())

    def _matrices(self, q: FloatArray, m: FloatArray) -> FloatArray:
        """p(x̂|y), (..., 2, 2), in the source's own labels, of channels (q, m) in the model's."""
        ones = self._model.transitions(q, m)
        matrices = np.stack([1 - ones, ones], axis=-1)
        if self.p > 0.5:
            matrices = matrices[..., ::-1, ::-1]
        if self.noise_flip > 0.5:
            matrices = matrices[..., ::-1, :]
        return matrices

    def _definitions(
        self, matrices: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """I(Y;X̂), P(X̂ != X), H(S|X̂) and P(X̂=1), (...) each, of p(x̂|y), (..., 2, 2)."""
        joint = np.array([[1 - self.p], [self.p]]) * symmetric_channel(self.noise_flip)  # p(x, y)
        seen = joint.sum(axis=0)[:, None] * matrices  # p(y, x̂), (..., 2, 2)
        coded = joint @ matrices  # p(x, x̂)
        output = seen.sum(axis=-2)  # p(x̂), (..., 2)
        rate = rel_entr(seen, joint.sum(axis=0)[:, None] * output[..., None, :]).sum(axis=(-2, -1))
        distortion = coded[..., 0, 1] + coded[..., 1, 0]
        if self.label_flip is None:
            return rate, distortion, np.full_like(rate, np.nan), output[..., 1]
        labelled = symmetric_channel(self.label_flip) @ coded  # p(s, x̂)
        letters, pairs = xlogy(output, output), xlogy(labelled, labelled)
        classification = letters.sum(axis=-1) - pairs.sum(axis=(-2, -1))
        return rate, distortion, classification, output[..., 1]
