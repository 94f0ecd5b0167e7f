"""Gaussian vectors with aligned labels or one scalar label.

Reverse water-filling and its counterparts with perception and classification.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.optimize import brentq

from quadrate.theory import checks
from quadrate.theory.any_source import Constraints, Source
from quadrate.theory.channels import Channel, FloatArray, GaussianChannel, Point
from quadrate.theory.convergence import ConvergenceWarning
from quadrate.theory.gaussian.vector_common import Solution, spectrum, symmetric_root
from quadrate.theory.gaussian.vector_diagonal import Diagonal
from quadrate.theory.gaussian.vector_full import Full

# Relative to the largest eigenvalue of a correlation matrix: what is below it is rounding.
_ROUNDING = 1e-13
# Rates that rounding of the covariance's entries may have changed by more, in nats, are doubtful.
_DOUBTFUL = 1e-6
# Distortions below exp(-this) of the variance are as good as none.
_DEEPEST = 680.0
# Nats by which the inverse functions may exceed the rate asked for: the convex programs' tolerance.
_RATE_TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class AlignedLabels:
    """A label for each component, S_i = gains_i X_i + N(0, noises_i).

    H(S|X̂) is that of all of them together.

    Attributes:
        gains: (n,).
        noises: (n,) variances; zero only where the gain is not.

    Raises:
        ValueError: If the arrays are not that.
    """

    gains: FloatArray
    noises: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "gains", checks.array("gains", self.gains, (1,)))
        object.__setattr__(self, "noises", checks.array("noises", self.noises, (1,)))
        if self.noises.shape != self.gains.shape:
            raise ValueError(
                f"noises must have one entry for each of the {len(self.gains)} gains; got"
                f" {len(self.noises)}"
            )
        if (self.noises < 0).any() or ((self.noises == 0) & (self.gains == 0)).any():
            raise ValueError(
                f"noises must be >= 0, and > 0 where the gain is 0; got {self.noises.tolist()}"
            )


@dataclass(frozen=True, eq=False)
class ScalarLabel:
    """One label for the whole vector, S = weights · X + N(0, noise).

    Attributes:
        weights: (n,).
        noise: variance.

    Raises:
        ValueError: If they are not that.
    """

    weights: FloatArray
    noise: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", checks.array("weights", self.weights, (1,)))
        object.__setattr__(
            self, "noise", checks.number("noise", self.noise, 0, open_low=not self.weights.any())
        )


@dataclass(frozen=True, eq=False)
class VectorGaussian(Source):
    """X ~ N(0, covariance) with a Gaussian label, under E‖X − X̂‖².

    The sum of the squared errors over the dimensions, not their mean.

    A jointly Gaussian X̂ is optimal. Only the error covariance Q of X̃ = E[X|X̂] sets rate and
    h(S|X̂). With the squared Wasserstein distance the best output is a linear interpolation between
    X̃ and its optimal transport to the law of X, so that all of R(D,P,C) is one convex program in
    Q; with the KL divergence it is one in Q and the output's covariance. X̂ can be mapped
    invertibly to the law of X: R(P,C) = R(C) for every P >= 0. Encoder and decoder are assumed to
    share enough randomness, which a bound on the perception takes.

    Rate and distortion alone are reverse water-filling; with classification two multipliers are
    searched, with perfect realism one (Qian et al. 2024, arXiv 2406.18008). What takes a convex
    program comes from above to 1e-8 nats of its optimum, and warns (`ConvergenceWarning`) where it
    is not certain of 1e-6.

    Attributes:
        covariance: (n, n), positive definite; given as (n,), variances of independent components,
            of any size.
        labels: `AlignedLabels`, for a diagonal covariance, or one `ScalarLabel`; None without a
            label.

    Where a covariance is so close to singular that the rounding of its entries matters, the rate
    comes with a `ConvergenceWarning` too.

    Raises:
        ValueError: If the covariance is not that, or the labels do not fit it.
    """

    divergences: ClassVar[tuple[str, ...]] = ("w2", "kl")

    covariance: FloatArray
    labels: AlignedLabels | ScalarLabel | None = None

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "covariance", _covariance(checks.array("covariance", self.covariance, (1, 2)))
        )
        n = len(self.covariance)
        if isinstance(self.labels, AlignedLabels):
            count, what = len(self.labels.gains), "gain and noise"
            if not np.array_equal(self.covariance, np.diag(np.diag(self.covariance))):
                raise ValueError(
                    "covariance must be diagonal for AlignedLabels: variances of independent"
                    " components"
                )
        elif isinstance(self.labels, ScalarLabel):
            count, what = len(self.labels.weights), "weight"
        elif self.labels is not None:
            raise ValueError(
                f"labels must be AlignedLabels, a ScalarLabel or None; got {self.labels!r}"
            )
        else:
            return
        if count != n:
            raise ValueError(
                f"labels must have one {what} for each of the {n} dimensions; got {count}"
            )

    @property
    def distortion_ceiling(self) -> float:
        """2 tr(covariance): that of an X̂ with the law of X and independent of it."""
        return 2 * float(np.trace(self.covariance))

    @property
    def label_entropies(self) -> tuple[float, float] | None:
        """(h(S|X), h(S)) in nats; h(S|X) is -inf if X determines a label."""
        if self.labels is None:
            return None
        return self._label_entropy(np.zeros_like(self.covariance)), self._label_entropy(
            self.covariance
        )

    def solve(self, constraints: Constraints) -> tuple[FloatArray, Channel]:
        """The least rate in nats, `inf` where infeasible, and a Gaussian channel with gain and noise (..., n, n) that attains it."""
        _refuse_randomness(constraints)
        rates = np.full(constraints.shape, np.inf)
        gains, noises = np.full((2, *constraints.shape, *self.covariance.shape), np.nan)
        kl = constraints.divergence == "kl"
        for index, (distortion, perception, classification) in constraints.each():
            if not self._feasible(distortion, perception, classification):
                continue
            asked = (
                distortion / self._unit,
                perception if kl else perception / self._unit,
                classification,
            )
            solution, share = (self._solve_kl if kl else self._solve_w2)(*asked)
            rates[index] = solution.rate
            gains[index], noises[index] = self._channel(solution, share)
            self._warn_if_doubtful(solution)
        return rates, GaussianChannel(gains, noises)

    def solve_universal(self, constraints: Constraints) -> tuple[float, GaussianChannel]:
        """The least I(X;Z) such that each triple of the constraints can be decoded from the same Z.

        By invertible maps each decoder passes h(S|Z) on, so that of all classifications the least
        alone counts.

        Args:
            constraints: The set Θ of triples; its divergence is "w2".

        Returns:
            The rate in nats (`inf` if a triple is infeasible) and the channel from X to E[X|Z].

        Raises:
            ValueError: If the divergence is not "w2", or the common randomness is limited.
        """
        _refuse_randomness(constraints)
        if constraints.divergence != "w2":
            raise ValueError(
                f"divergence must be 'w2' for a universal rate; got {constraints.divergence!r}"
            )
        distortions = constraints.distortion.ravel()
        perceptions = constraints.perception.ravel()
        classification = constraints.classification.min()
        if not self._feasible(distortions.min(), perceptions.min(), classification):
            return math.inf, GaussianChannel(*np.full((2, *self.covariance.shape), np.nan))
        solution = self._decodable(
            distortions / self._unit, perceptions / self._unit, classification
        )
        self._warn_if_doubtful(solution)
        return solution.rate, GaussianChannel(*self._channel(solution, 1.0))

    def solve_distortion(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion at a rate of at most `rate` nats, by root finding on the rate function; `inf` where infeasible."""

        def least(rate: float, one: Constraints) -> float:
            # No direction's error falls by more than exp(-2 rate).
            total = math.log(float(np.trace(self.covariance)))
            low = total - min(2 * rate, _DEEPEST)
            found = _inverse(
                lambda value: self._rate(replace(one, distortion=np.exp(value))),
                rate,
                low,
                math.log(self.distortion_ceiling),
            )
            return 0.0 if found <= total - _DEEPEST else math.exp(found)

        return _each(least, rate, constraints)

    def solve_classification(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least h(S|X̂) in nats at a rate of at most `rate` nats, by root finding on the rate function; `inf` where infeasible."""

        def least(rate: float, one: Constraints) -> float:
            low = self._label_entropy(self.covariance * math.exp(-2 * rate))
            high = self._label_entropy(self.covariance)
            return _inverse(
                lambda value: self._rate(replace(one, classification=np.array(value))),
                rate,
                low,
                high,
            )

        return _each(least, rate, constraints)

    def measure(self, channel: Channel, divergence: str) -> Point:
        """Where a Gaussian channel with gain and noise (..., n, n) stands, from the covariance of
        (X, X̂); NaN where the channel is.

        Raises:
            ValueError: If the channel is not that.
        """
        n = len(self.covariance)
        if not isinstance(channel, GaussianChannel):
            raise ValueError(
                "channel must be a GaussianChannel for a VectorGaussian; got a"
                f" {type(channel).__name__}"
            )
        if channel.gain.shape[-2:] != (n, n) or channel.noise.shape != channel.gain.shape:
            raise ValueError(
                f"channel must have a gain and a noise of one shape (..., {n}, {n}); got"
                f" {channel.gain.shape} and {channel.noise.shape}"
            )
        shape = channel.gain.shape[:-2]
        values = np.full((4, *shape), np.nan)
        for index in np.ndindex(shape):
            if np.isfinite(channel.gain[index]).all() and np.isfinite(channel.noise[index]).all():
                values[:, *index] = self._measure_one(
                    channel.gain[index], channel.noise[index], divergence
                )
        return Point(*values)

    def _measure_one(
        self, gain: FloatArray, noise: FloatArray, divergence: str
    ) -> tuple[float, float, float, float]:
        distance = self._kl if divergence == "kl" else self._wasserstein
        perception = distance(gain @ self.covariance @ gain.T + noise)
        # In parts of X's deviations, and each a sum of positive terms, so that small errors are not
        # what is left of large numbers.
        deviations = np.sqrt(np.diag(self.covariance))
        source, gain, noise = (
            _correlation(self.covariance),
            gain * deviations / deviations[:, None],
            noise / deviations / deviations[:, None],
        )
        missed = np.eye(len(gain)) - gain
        output = gain @ source @ gain.T + noise
        distortion = float((deviations**2 * np.diag(missed @ source @ missed.T + noise)).sum())
        values, vectors = np.linalg.eigh(output)
        kept = values > _ROUNDING * max(values[-1], 0)
        whitening = vectors[:, kept] / np.sqrt(values[kept])
        information = max(0.0, -_log_det(whitening.T @ noise @ whitening) / 2)
        if self.labels is None:
            return information, distortion, perception, math.nan
        estimate = source @ gain.T @ whitening @ whitening.T  # E[X|X̂] = estimate · X̂
        left = np.eye(len(gain)) - estimate @ gain
        error = left @ source @ left.T + estimate @ noise @ estimate.T
        return (
            information,
            distortion,
            perception,
            self._label_entropy(error * deviations * deviations[:, None]),
        )

    def _feasible(self, distortion: float, perception: float, classification: float) -> bool:
        entropies = self.label_entropies
        return (
            distortion > 0
            and perception >= 0
            and (
                entropies is None or classification > entropies[0] or classification >= entropies[1]
            )
        )

    def _rate(self, one: Constraints) -> float:
        return float(self.solve(one)[0])

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray]:
        """The eigenvalues (n,) of the covariance and its eigenvectors (n, n)."""
        if np.array_equal(self.covariance, np.diag(np.diag(self.covariance))):
            return np.diag(self.covariance), np.eye(len(self.covariance))
        return spectrum(np.asarray(np.linalg.cholesky(self.covariance), dtype=np.float64))

    @property
    def _unit(self) -> float:
        """The unit in which the solvers see variances.

        About the largest, and a power of four, so that deviations keep their digits too.
        """
        exponent = math.frexp(float(self._spectrum[0].max()))[1] - 1
        return math.ldexp(1.0, exponent - exponent % 2)

    def _solve_w2(
        self, distortion: float, perception: float, classification: float
    ) -> tuple[Solution, float]:
        solution = self._decodable(np.array([distortion]), np.array([perception]), classification)
        distance = math.sqrt(self._problem(self._binding(classification)).distance(solution.error))
        return solution, min(1.0, math.sqrt(perception) / distance) if distance > 0 else 1.0

    def _decodable(
        self, distortions: FloatArray, perceptions: FloatArray, classification: float
    ) -> Solution:
        """What is least in rate, and lets all pairs be decoded."""
        classification = self._binding(classification)
        # What does not bind becomes a finite number, of which rounding cannot make a bound.
        ceiling = self.distortion_ceiling / self._unit
        distortions, perceptions = (
            np.where(distortions < ceiling, distortions, 2 * ceiling),
            np.minimum(perceptions, 2 * ceiling),
        )
        problem = self._problem(classification)
        solution = problem.solve(distortions.min(), classification)
        error = float((problem.variances * np.diag(solution.error)).sum())
        left = np.sqrt(np.maximum(distortions - error, 0))
        if (math.sqrt(problem.distance(solution.error)) <= np.sqrt(perceptions) + left).all():
            return solution
        return problem.realistic(distortions, perceptions, classification)

    def _solve_kl(
        self, distortion: float, perception: float, classification: float
    ) -> tuple[Solution, float]:
        if perception == 0 or distortion >= self.distortion_ceiling / self._unit:
            return self._solve_w2(distortion, 0.0, classification)
        classification = self._binding(classification)
        problem = self._problem(classification)
        solution = problem.solve(distortion, classification)
        left = np.minimum(np.linalg.eigvalsh(solution.error), 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            divergence = -float((left + np.log1p(-left)).sum()) / 2
        if divergence <= perception:
            return solution, 1.0
        return problem.realistic_kl(distortion, perception, classification), 0.0

    def _channel(self, solution: Solution, share: float) -> tuple[FloatArray, FloatArray]:
        """Gain and noise of X̂ = share · X̃ + (1 − share) · X', X̃ = E[X|Z] of the solution and X' its optimal transport to the solution's output."""
        variances, basis = self._spectrum
        scales = np.sqrt(variances / self._unit)
        mean = np.eye(len(scales)) - solution.error
        values, vectors = np.linalg.eigh(mean)
        inverse = (
            vectors * np.divide(1, values, out=np.zeros_like(values), where=values > _ROUNDING)
        ) @ vectors.T
        cross, noise = (
            mean,
            np.zeros_like(mean),
        )  # of X̂ with X, in parts of X's deviations; what is random even given X̃
        if share < 1:
            output = scales[:, None] * solution.output * scales
            spreads, axes = np.linalg.eigh(output)
            root = (axes * np.sqrt(spreads)) @ axes.T
            moved = (
                root
                @ symmetric_root(root @ (scales[:, None] * mean * scales) @ root)
                @ (axes / np.sqrt(spreads))
                @ axes.T
            )  # cov(X', X̃)
            moved = moved / scales / scales[:, None]
            cross = share * mean + (1 - share) * moved
            spreads, axes = np.linalg.eigh(solution.output - moved @ inverse @ moved.T)
            noise = (1 - share) ** 2 * (axes * np.where(spreads > _ROUNDING, spreads, 0)) @ axes.T
        estimate = cross @ inverse
        noise = noise + estimate @ (solution.error @ mean) @ estimate.T
        turned = basis * np.sqrt(variances)
        noise = turned @ noise @ turned.T
        return turned @ cross @ (basis / np.sqrt(variances)).T, (noise + noise.T) / 2

    def _warn_if_doubtful(self, solution: Solution) -> None:
        """Says where the rounding of the covariance's entries may have changed the rate of what is coded."""
        correlation = _correlation(self.covariance)
        if np.array_equal(correlation, np.eye(len(correlation))):
            return
        epsilon = len(correlation) * np.finfo(float).eps
        variances, _ = self._spectrum
        relative = epsilon * np.minimum(
            variances.max() / variances, 1 / np.linalg.eigvalsh(correlation)[0]
        )
        doubt = float((relative * (1 - np.diag(solution.error))).sum()) / 2
        if doubt > _DOUBTFUL:
            warnings.warn(
                "the covariance is so close to singular that rounding of its entries may change"
                f" the rate by {doubt:.1g} nats",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _binding(self, classification: float) -> float:
        return (
            math.inf
            if self.label_entropies is None or classification >= self.label_entropies[1]
            else classification
        )

    def _problem(self, classification: float) -> Diagonal | Full:
        """The problem at a classification.

        Without one that binds, solutions have the eigenvectors of the covariance.
        """
        variances, basis = self._spectrum
        scaled = variances / self._unit
        if isinstance(self.labels, AlignedLabels):
            return Diagonal(scaled, self.labels.gains * math.sqrt(self._unit), self.labels.noises)
        if isinstance(self.labels, ScalarLabel) and classification < math.inf:
            return Full(
                scaled, math.sqrt(self._unit) * (self.labels.weights @ basis), self.labels.noise
            )
        return Diagonal(scaled, np.zeros(len(scaled)), np.ones(len(scaled)))

    def _label_entropy(self, error: FloatArray) -> float:
        """h(S|X̂) in nats when X has this (n, n) covariance given X̂."""
        if isinstance(self.labels, ScalarLabel):
            determinant = (
                2
                * math.pi
                * math.e
                * (self.labels.weights @ error @ self.labels.weights + self.labels.noise)
            )
            return math.log(determinant) / 2 if determinant > 0 else -math.inf
        assert self.labels is not None, "callers check for labels"
        covariance = error * np.outer(self.labels.gains, self.labels.gains) + np.diag(
            self.labels.noises
        )
        return float(np.linalg.slogdet(2 * math.pi * math.e * covariance)[1]) / 2

    def _wasserstein(self, output: FloatArray) -> float:
        """The squared 2-Wasserstein distance of N(0, output) and N(0, covariance)."""
        source, output = self.covariance / self._unit, output / self._unit
        root = symmetric_root(source)
        return self._unit * max(
            0.0, float(np.trace(output + source - 2 * symmetric_root(root @ output @ root)))
        )

    def _kl(self, output: FloatArray) -> float:
        """KL(N(0, output) ‖ N(0, covariance)) in nats."""
        whitened = self._whitened(output)
        return max(0.0, float(np.trace(whitened)) - len(whitened) - _log_det(whitened)) / 2

    def _whitened(self, matrix: FloatArray) -> FloatArray:
        factor = np.linalg.inv(np.linalg.cholesky(self.covariance))
        return np.asarray(factor @ matrix @ factor.T)


def _covariance(given: FloatArray) -> FloatArray:
    """The covariance matrix that was given as one, or as variances."""
    covariance = np.diag(given) if given.ndim == 1 else given
    if covariance.shape[0] != covariance.shape[1] or not np.allclose(
        covariance, covariance.T, rtol=0, atol=1e-9 * np.abs(covariance).max()
    ):
        raise ValueError(f"covariance must be symmetric; got {given.tolist()}")
    covariance = covariance / 2 + covariance.T / 2
    if (
        not (np.diag(covariance) > 0).all()
        or not np.linalg.eigvalsh(_correlation(covariance))[0] > _ROUNDING
    ):
        raise ValueError(
            "covariance must be positive definite (leave out directions without variance); its"
            f" eigenvalues are {_eigenvalues(covariance)}"
        )
    return covariance


def _correlation(covariance: FloatArray) -> FloatArray:
    """The covariance in parts of the deviations, so that only correlations count as singular, not components of very different size."""
    deviations = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / deviations / deviations[:, None])


def _eigenvalues(covariance: FloatArray) -> list[float]:
    return np.linalg.eigvalsh(covariance).tolist()


def _refuse_randomness(constraints: Constraints) -> None:
    if constraints.common_randomness < math.inf:
        raise ValueError(
            "common_randomness must be inf for a VectorGaussian: enough of it; got"
            f" {constraints.common_randomness!r}"
        )
    if constraints.classifier_sees_randomness:
        raise ValueError(
            "classifier_sees_randomness must be False for a VectorGaussian: only binary sources"
            " have that variant"
        )


def _log_det(whitened: FloatArray) -> float:
    """The log-determinant of a covariance of order one or below; -inf if it is singular."""
    values = np.linalg.eigvalsh(whitened)
    return float(np.log(values).sum()) if values.size == 0 or values[0] > 0 else -math.inf


def _inverse(needed: Callable[[float], float], rate: float, low: float, high: float) -> float:
    """The least value in [low, high] that needs no more than `rate`; `inf` if `high` needs more."""
    target = rate + _RATE_TOLERANCE
    least = needed(high)
    if rate < 0 or least > target or least == math.inf:
        return math.inf
    if needed(low) <= target:
        return low
    if low == -math.inf:
        return low
    # Rates are cut off at one nat too many, since `low` may need an infinite one.
    return float(brentq(lambda value: min(needed(value) - target, 1.0), low, high, xtol=1e-12))


def _each(
    least: Callable[[float, Constraints], float], rates: FloatArray, constraints: Constraints
) -> FloatArray:
    """`least(rate, constraints of one point)` for all points."""
    values = np.empty(constraints.shape)
    for index, (distortion, perception, classification) in constraints.each():
        one = replace(
            constraints,
            distortion=np.array(distortion),
            perception=np.array(perception),
            classification=np.array(classification),
        )
        values[index] = least(float(rates[index]), one)
    return values
