"""A fixed encoder: the region Ω(p_{Z|X}) that the decoders of its representation Z reach."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import entr, rel_entr, xlogy

from quadrate.theory import checks
from quadrate.theory.any_source import Source
from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.binary.joint import symmetric_channel
from quadrate.theory.channels import Channel, DiscreteChannel, FloatArray, GaussianChannel
from quadrate.theory.discrete import Discrete
from quadrate.theory.discrete.transport import transport_cost
from quadrate.theory.functions import check_names
from quadrate.theory.gaussian.scalar import ScalarGaussian
from quadrate.theory.gaussian.vector import VectorGaussian
from quadrate.theory.units import Unit, nats_per, nats_per_perception
from quadrate.theory.universality.decoders import DecoderProblem

# A point may miss the region's edge by this part of its size, for the rounding of points on it.
_ROUNDING = 1e-9
# Eigenvalues of a correlation matrix that count as zero.
_SINGULAR = 1e-13


@dataclass(frozen=True, eq=False)
class Representation(ABC):
    """The representation Z of a fixed encoder, for any decoder; made by `representation`.

    A real reconstruction can hide any function of Z at no distortion, X̂ = X̃ + ε·code(Z) with ε →
    0. So, up to its edge, the region is a quadrant in (distortion, classification): least
    distortion and least H(S|X̂) = H(S|Z) come together, and there is no trade-off between the two
    unless the classifier is frozen.

    Attributes:
        rate: I(Y;Z), in `unit`.
        classification: The least that any decoder reaches, in `unit`: H(S|Z), or the frozen
            classifier's cross-entropy; NaN without a label.
        divergence: The perception measure.
        unit: Of rate, classification and a KL perception.
    """

    rate: float
    classification: float
    divergence: str
    unit: Unit

    def distortion(
        self, perception: ArrayLike = math.inf, classification: ArrayLike = math.inf
    ) -> float | FloatArray:
        """The least distortion of any decoder of Z: the region's lower edge.

        Args:
            perception: The largest d(p_X̂, p_X), inf for any.
            classification: The largest H(S|X̂), or cross-entropy of the frozen classifier, inf for
                any.

        Returns:
            A float, or an array of the broadcast shape; `inf` where no decoder meets the bounds.

        Raises:
            ValueError: If an argument is not a number, a perception is negative, or shapes do not
                broadcast; if classification is bounded for a source without a label.
        """
        perceptions, classifications = checks.broadcast(
            perception=perception, classification=classification
        )
        if math.isnan(self.classification) and (classifications < np.inf).any():
            raise ValueError("classification must be inf: the source was made without a label")
        scale = nats_per(self.unit)
        distortions = np.empty(perceptions.shape)
        for index in np.ndindex(distortions.shape):
            bound = float(perceptions[index]) * nats_per_perception(self.divergence, self.unit)
            distortions[index] = self._least(bound, float(classifications[index]) * scale)
        return checks.plain(distortions)

    def contains(
        self,
        distortion: ArrayLike = math.inf,
        perception: ArrayLike = math.inf,
        classification: ArrayLike = math.inf,
    ) -> bool | FloatArray:
        """Whether decoders of Z come arbitrarily close to meeting all three bounds.

        (D, P, C) ∈ cl Ω(p_{Z|X}), up to 1e-9.

        Returns:
            A bool, or an array of the broadcast shape.

        Raises:
            ValueError: As `distortion`.
        """
        distortions, perceptions, classifications = checks.broadcast(
            distortion=distortion, perception=perception, classification=classification
        )
        least = np.asarray(self.distortion(perceptions, classifications))
        finite = np.isfinite(least)
        slack = _ROUNDING * np.maximum(1, np.where(finite, least, 1))
        inside = finite & (least <= distortions + slack)
        return bool(inside) if inside.ndim == 0 else inside

    def _refuses(self, classification: float) -> bool:
        """Whether a bound in nats is below the least of any decoder by more than rounding."""
        least = self.classification * nats_per(self.unit)
        return classification < least and not math.isclose(
            classification, least, rel_tol=_ROUNDING, abs_tol=_ROUNDING
        )

    @abstractmethod
    def _least(self, perception: float, classification: float) -> float:
        """`distortion` in nats, at one point."""


@dataclass(frozen=True, eq=False)
class SquaredErrorRepresentation(Representation):
    """Real reconstructions under squared error, of a Gaussian source or of points in space.

    With X̃ = E[X|Z] and W2 the distance of its law from p_X, the least distortion at a squared
    distance P is mmse + (W2 − √P)₊² (Zhang et al. 2021; Freirich et al. 2021). The ends of that
    curve are (D_a, P_a) = (mmse, W2²) and (D_b, 0) with D_b = mmse + W2² <= 2 D_a, since an X̂
    drawn from p(x|z) has twice the mmse and the law of X.

    Attributes:
        mmse: E‖X−X̃‖².
        transport: W2²(p_X̃, p_X).
    """

    mmse: float
    transport: float
    # The W2 distance from p_X that a bound on the perception allows.
    reach: Callable[[float], float] = field(default=math.sqrt, repr=False)

    def interpolation(self, weight: ArrayLike) -> tuple[float | FloatArray, float | FloatArray]:
        """The (distortion, squared W2 distance) of X̂_α = α X̃ + (1−α) X̂_b.

        Two decoders are enough for the whole curve (Yan et al. 2022).

        Args:
            weight: α within [0, 1] of the MMSE estimate X̃; X̂_b is its optimal transport to p_X.

        Returns:
            mmse + (1−α)² W2² and α² W2².

        Raises:
            ValueError: If weight is not within [0, 1].
        """
        (weights,) = checks.broadcast(weight=weight)
        if (weights > 1).any():
            raise ValueError(f"weight must be within [0, 1]; got {weight!r}")
        distortions = self.mmse + (1 - weights) ** 2 * self.transport
        return checks.plain(distortions), checks.plain(weights**2 * self.transport)

    def _least(self, perception: float, classification: float) -> float:
        if perception < 0 or self._refuses(classification):
            return math.inf
        return self.mmse + max(0.0, math.sqrt(self.transport) - self.reach(perception)) ** 2


@dataclass(frozen=True, eq=False)
class AlphabetRepresentation(Representation):
    """Reconstructions in the letters of a discrete source, by linear programs over p(x̂|z).

    One program for a "w2" or "tv" bound, many for an f-divergence: seconds beyond some ten letters.
    A frozen classifier reads X̂, and its cross-entropy is one more expected cost. Without one,
    `classification` is H(S|Z), the uncertainty of a classifier of Z, or of an X̂ with room to hide
    Z; with few letters H(S|X̂) may be larger.

    Attributes:
        problem: The program; its costs are E[Δ(X,x̂)|Z=z], its penalties those of the frozen
            classifier.
        frozen: Whether there is a frozen classifier.
    """

    problem: DecoderProblem
    frozen: bool

    def decoder(
        self, perception: float = math.inf, classification: float = math.inf
    ) -> FloatArray | None:
        """The decoder (m, n) p(x̂|z) that attains `distortion`; None where that is `inf`.

        It has a row for each of the m letters z that occur.

        Raises:
            ValueError: As `distortion`.
        """
        checks.broadcast(perception=perception, classification=classification)
        nats = perception * nats_per_perception(self.divergence, self.unit)
        return self._best(nats, classification * nats_per(self.unit))

    def _best(self, perception: float, classification: float) -> FloatArray | None:
        if perception < math.inf and len(self.problem.law) != self.problem.costs.shape[1]:
            raise ValueError(
                "perception must be inf for a source whose X and X̂ differ in their letters"
            )
        if self._refuses(classification):
            return None
        # Rounding may have put the bound below the least cross-entropy.
        least = self.classification * nats_per(self.unit)
        limit = max(classification, least) if self.frozen else math.inf
        return self.problem.solve(self.divergence, perception, limit)

    def _least(self, perception: float, classification: float) -> float:
        decoder = self._best(perception, classification)
        if decoder is None:
            return math.inf
        costs = decoder * np.where(decoder > 0, self.problem.costs, 0)
        return float(self.problem.weights @ costs.sum(axis=1))


def representation(
    source: Source,
    channel: Channel,
    *,
    points: ArrayLike | None = None,
    divergence: str = "w2",
    unit: Unit = "bits",
) -> SquaredErrorRepresentation | AlphabetRepresentation:
    """The representation of a source by a fixed encoder.

    Args:
        source: The source: scalar or vector Gaussian, discrete or binary.
        channel: p(z|y) of one encoder: a GaussianChannel for a Gaussian source, a DiscreteChannel
            of any number of letters z for the others.
        points: (n,) or (n, d) coordinates of a discrete source's letters: then X̂ may be any real
            vector, under squared error instead of the source's own distortion. With None, X̂ is one
            of the letters.
        divergence: The perception measure, as in `rate`: one of the source's; "w2" with points and
            for vectors.
        unit: "bits" or "nats": of rate, classification and a KL perception.

    Raises:
        ValueError: If the channel or the points do not fit the source, or the divergence is not
            available.
    """
    check_names(source, divergence, unit)
    if isinstance(source, ScalarGaussian | VectorGaussian):
        if points is not None:
            raise ValueError(
                f"points must be None for a {type(source).__name__}, whose reconstructions are real"
            )
        return _of_gaussian(source, channel, divergence, unit)
    if not isinstance(source, Bernoulli | Discrete):
        raise ValueError(
            "source must be a ScalarGaussian, VectorGaussian, Bernoulli or Discrete; got a"
            f" {type(source).__name__}"
        )
    if not isinstance(channel, DiscreteChannel):
        raise ValueError(
            f"channel must be a DiscreteChannel for a {type(source).__name__}; got a"
            f" {type(channel).__name__}"
        )
    return _of_letters(_letters(source), channel, points, divergence, unit)


def _of_gaussian(
    source: ScalarGaussian | VectorGaussian, channel: Channel, divergence: str, unit: Unit
) -> SquaredErrorRepresentation:
    if isinstance(source, ScalarGaussian):
        covariance, noise_variance = np.array([[source.variance]]), source.noise_variance
    elif divergence == "w2":
        covariance, noise_variance = source.covariance, 0.0
    else:
        raise ValueError(
            "divergence must be 'w2' for a fixed representation of a VectorGaussian; got"
            f" {divergence!r}"
        )
    # With Z in the place of X̂: the channel's rate and the label's remaining uncertainty.
    point = source.measure(channel, "w2")
    if np.ndim(point.rate) > 0:
        raise ValueError(
            f"channel must be one encoder; got an array of them, of shape {np.shape(point.rate)}"
        )
    assert isinstance(channel, GaussianChannel), "measure refuses others"
    matrices = channel.gain, channel.noise
    gain, noise = (np.atleast_2d(checks.array("channel", matrix)) for matrix in matrices)
    whitening = _inverse_root(gain @ (covariance + noise_variance) @ gain.T + noise)
    estimate = covariance @ gain.T @ whitening  # a root of the covariance of X̃
    spreads, axes = np.linalg.eigh(covariance)
    cross = np.sqrt(np.maximum(spreads, 0))[:, None] * (axes.T @ estimate)
    overlap = np.linalg.svd(cross, compute_uv=False).sum()
    total, explained = float(np.trace(covariance)), float((estimate**2).sum())
    nats = nats_per(unit)
    return SquaredErrorRepresentation(
        rate=float(point.rate) / nats,
        classification=float(point.classification) / nats,
        divergence=divergence,
        unit=unit,
        mmse=max(0.0, total - explained),
        transport=max(0.0, total + explained - 2 * float(overlap)),
        reach=partial(_kl_reach, math.sqrt(total)) if divergence == "kl" else math.sqrt,
    )


def _inverse_root(covariance: FloatArray) -> FloatArray:
    """C with C C' the pseudo-inverse of a covariance: components without variance carry nothing."""
    scales = np.sqrt(np.diag(covariance))
    scales = np.where(scales > 0, scales, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(scales, scales))
    kept = values > _SINGULAR
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]) / scales[:, None])


def _kl_reach(deviation: float, bound: float) -> float:
    """The W2 distance of X from the narrowest Gaussian X̂ with KL(p_X̂ ‖ p_X) <= bound."""
    # With y = -2 ln(ratio of the deviations), y + exp(-y) - 1 = 2 bound.
    if bound == math.inf:
        return math.inf
    if bound < 1e-16:
        return deviation * math.sqrt(bound)
    above = 2 * bound + 2 * math.sqrt(bound)
    y = brentq(lambda y: y + math.expm1(-y) - 2 * bound, 0.0, above, xtol=1e-300)
    return -deviation * math.expm1(-y / 2)


@dataclass(frozen=True, eq=False)
class _Letters:
    """A source of n letters in the form that `_of_letters` needs.

    Attributes:
        law: (n,) p_X.
        noise: (n, k) p(y|x) of the view of the encoder.
        distortion: (n, m) Δ(x,x̂).
        labels: (n, l) p(s|x), or None.
        classifier: (m, l) c(s|x̂), or None.
    """

    law: FloatArray
    noise: FloatArray
    distortion: FloatArray
    labels: FloatArray | None
    classifier: FloatArray | None


def _letters(source: Bernoulli | Discrete) -> _Letters:
    if isinstance(source, Discrete):
        law, noise = source.pmf, np.eye(len(source.pmf))
        return _Letters(law, noise, source.distortion, source.label_channel, source.classifier)
    labels = None if source.label_flip is None else symmetric_channel(source.label_flip)
    law, noise = np.array([1 - source.p, source.p]), symmetric_channel(source.noise_flip)
    return _Letters(law, noise, symmetric_channel(1.0), labels, None)


def _of_letters(
    letters: _Letters,
    channel: DiscreteChannel,
    points: ArrayLike | None,
    divergence: str,
    unit: Unit,
) -> SquaredErrorRepresentation | AlphabetRepresentation:
    matrix = checks.distributions("channel", channel.matrix, (letters.noise.shape[1], None))
    seen = letters.law @ letters.noise  # p(y)
    weights = seen @ matrix  # p(z)
    matrix, weights = matrix[:, weights > 0], weights[weights > 0]
    posterior = ((letters.law[:, None] * letters.noise) @ matrix / weights).T  # p(x|z), (m, n)
    nats = nats_per(unit)
    rate = float(seen @ rel_entr(matrix, weights).sum(axis=1)) / nats
    classification = math.nan
    if letters.labels is not None:
        classification = float(weights @ entr(posterior @ letters.labels).sum(axis=1)) / nats
    if points is not None:
        if letters.classifier is not None:
            raise ValueError(
                "points must be None for a source with a frozen classifier, which only reads the"
                " source's letters"
            )
        if divergence != "w2":
            raise ValueError(f"divergence must be 'w2' with points; got {divergence!r}")
        mmse, transport = _of_points(points, letters.law, weights, posterior)
        return SquaredErrorRepresentation(rate, classification, divergence, unit, mmse, transport)
    costs = _expected(posterior, letters.distortion)
    penalties = np.zeros_like(costs)
    if letters.classifier is not None and letters.labels is not None:
        penalties = -xlogy((posterior @ letters.labels)[:, None], letters.classifier).sum(axis=-1)
        classification = float(weights @ penalties.min(axis=1)) / nats
    # Total variation is the transport cost if each move costs one.
    ground = letters.distortion if divergence == "w2" else 1 - np.eye(len(letters.law))
    problem = DecoderProblem(weights, costs, letters.law, ground, penalties)
    frozen = letters.classifier is not None
    return AlphabetRepresentation(rate, classification, divergence, unit, problem, frozen)


def _expected(posterior: FloatArray, distortion: FloatArray) -> FloatArray:
    """(m, n) E[Δ(X,x̂)|Z=z], inf where Δ is inf for a letter that z may stand for."""
    finite = np.isfinite(distortion)
    means = posterior @ np.where(finite, distortion, 0)
    return np.asarray(np.where(posterior @ ~finite > 0, np.inf, means))


def _of_points(
    points: ArrayLike, law: FloatArray, weights: FloatArray, posterior: FloatArray
) -> tuple[float, float]:
    """E‖X−X̃‖² and W2²(p_X̃, p_X)."""
    places = checks.array("points", points, (1, 2))
    if len(places) != len(law):
        raise ValueError(
            f"points must have one entry for each of the {len(law)} letters; got {len(places)}"
        )
    places = places.reshape(len(law), -1)  # (n, d)
    # On the line the coupling in order is optimal, and found without a linear program.
    order = np.lexsort(places.T)
    places, law, posterior = places[order], law[order], posterior[:, order]
    means = posterior @ places  # X̃, (m, d)
    order = np.lexsort(means.T)
    means, weights, posterior = means[order], weights[order], posterior[order]
    squares = ((means[:, None] - places) ** 2).sum(axis=-1)  # (m, n)
    return float(weights @ (posterior * squares).sum(axis=1)), transport_cost(weights, law, squares)
