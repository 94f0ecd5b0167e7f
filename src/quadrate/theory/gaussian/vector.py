"""A Gaussian vector: reverse water-filling and its counterparts with perception and label."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.optimize import brentq

from quadrate.theory.any_source import Constraints, Source
from quadrate.theory.channels import Channel, FloatArray, GaussianChannel, Point
from quadrate.theory.checks import array
from quadrate.theory.convergence import ConvergenceWarning
from quadrate.theory.gaussian.covariances import (
    ROUNDING,
    checked_covariance,
    correlation,
    log_determinant,
    spectrum,
    symmetric_root,
)
from quadrate.theory.gaussian.labels import AlignedLabels, ScalarLabel
from quadrate.theory.gaussian.vector_common import Solution
from quadrate.theory.gaussian.vector_diagonal import Diagonal
from quadrate.theory.gaussian.vector_full import Full

# A rate is doubtful if rounding of the covariance's entries may have changed it by more nats.
_DOUBTFUL = 1e-6
# Distortions below exp(-this) of the variance count as zero.
_DEEPEST = 680.0
# Nats by which the inverse functions may exceed the given rate: the convex programs' tolerance.
_RATE_TOLERANCE = 1e-8


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
    searched, with perfect realism one (Qian et al. 2024, arXiv 2406.18008). A convex program ends
    within 1e-8 nats above its optimum, and gives a `ConvergenceWarning` where 1e-6 is not certain;
    so does a covariance so close to singular that the rounding of its entries matters.

    Attributes:
        covariance: (n, n), positive definite; or (n,) variances of independent components.
        labels: `AlignedLabels`, for a diagonal covariance, or one `ScalarLabel`; None without a
            label.

    Raises:
        ValueError: If the covariance is not positive definite, or the labels do not fit it.
    """

    divergences: ClassVar[tuple[str, ...]] = ("w2", "kl")

    covariance: FloatArray
    labels: AlignedLabels | ScalarLabel | None = None

    def __post_init__(self) -> None:
        covariance = checked_covariance(array("covariance", self.covariance, (1, 2)))
        object.__setattr__(self, "covariance", covariance)
        if isinstance(self.labels, AlignedLabels | ScalarLabel):
            self.labels.check(covariance)
        elif self.labels is not None:
            raise ValueError(
                f"labels must be AlignedLabels, a ScalarLabel or None; got {self.labels!r}"
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
        given, covariance = np.zeros_like(self.covariance), self.covariance
        return self.labels.entropy(given), self.labels.entropy(covariance)

    def solve(self, constraints: Constraints) -> tuple[FloatArray, Channel]:
        """The least rate in nats, `inf` where infeasible, and a Gaussian channel that attains it.

        Its gain and noise are (..., n, n).
        """
        constraints.refuse_randomness("VectorGaussian")
        rates = np.full(constraints.shape, np.inf)
        gains, noises = np.full((2, *constraints.shape, *self.covariance.shape), np.nan)
        kl = constraints.divergence == "kl"
        for index, (distortion, perception, classification) in constraints.each():
            if not self._feasible(distortion, perception, classification):
                continue
            solve = self._solve_kl if kl else self._solve_w2
            perception = perception if kl else perception / self._unit
            solution, share = solve(distortion / self._unit, perception, classification)
            rates[index] = solution.rate
            gains[index], noises[index] = self._channel(solution, share)
            self._warn_if_doubtful(solution)
        return rates, GaussianChannel(gains, noises)

    def solve_universal(self, constraints: Constraints) -> tuple[float, GaussianChannel]:
        """The least I(X;Z) such that each triple of the constraints can be decoded from the same Z.

        Each decoder can pass h(S|Z) on by an invertible map, so only the least of all
        classifications counts.

        Args:
            constraints: The set Θ of triples; its divergence is "w2".

        Returns:
            The rate in nats (`inf` if a triple is infeasible) and the channel from X to E[X|Z].

        Raises:
            ValueError: If the divergence is not "w2", or the common randomness is limited.
        """
        constraints.refuse_randomness("VectorGaussian")
        if constraints.divergence != "w2":
            raise ValueError(
                f"divergence must be 'w2' for a universal rate; got {constraints.divergence!r}"
            )
        distortions, perceptions = constraints.distortion.ravel(), constraints.perception.ravel()
        least = constraints.classification.min()
        if not self._feasible(distortions.min(), perceptions.min(), least):
            return math.inf, GaussianChannel(*np.full((2, *self.covariance.shape), np.nan))
        solution = self._decodable(distortions / self._unit, perceptions / self._unit, least)
        self._warn_if_doubtful(solution)
        return solution.rate, GaussianChannel(*self._channel(solution, 1.0))

    def solve_distortion(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion at a rate of at most `rate` nats; `inf` where infeasible.

        By root finding on the rate function.
        """

        def least(rate: float, one: Constraints) -> float:
            def needed(value: float) -> float:
                return self._rate(replace(one, distortion=np.exp(value)))

            # No direction's error falls by more than exp(-2 rate).
            total = math.log(float(np.trace(self.covariance)))
            low, high = total - min(2 * rate, _DEEPEST), math.log(self.distortion_ceiling)
            found = _inverse(needed, rate, low, high)
            return 0.0 if found <= total - _DEEPEST else math.exp(found)

        return _each(least, rate, constraints)

    def solve_classification(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least h(S|X̂) in nats at a rate of at most `rate` nats; `inf` where infeasible.

        By root finding on the rate function.
        """
        labels = self.labels
        assert labels is not None, "callers check for labels"

        def least(rate: float, one: Constraints) -> float:
            def needed(value: float) -> float:
                return self._rate(replace(one, classification=np.array(value)))

            low = labels.entropy(self.covariance * math.exp(-2 * rate))
            return _inverse(needed, rate, low, labels.entropy(self.covariance))

        return _each(least, rate, constraints)

    def measure(self, channel: Channel, divergence: str) -> Point:
        """The quantities of a Gaussian channel, by the covariance of (X, X̂); NaN where it is NaN.

        Raises:
            ValueError: If the channel has another type, or not a gain and a noise (..., n, n).
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
            gain, noise = channel.gain[index], channel.noise[index]
            if np.isfinite(gain).all() and np.isfinite(noise).all():
                values[:, *index] = self._measure_one(gain, noise, divergence)
        return Point(*values)

    def _measure_one(
        self, gain: FloatArray, noise: FloatArray, divergence: str
    ) -> tuple[float, float, float, float]:
        distance = self._kl if divergence == "kl" else self._wasserstein
        perception = distance(gain @ self.covariance @ gain.T + noise)
        # In parts of X's deviations, and each a sum of positive terms, so that small errors are not
        # differences of large numbers.
        deviations = np.sqrt(np.diag(self.covariance))
        source = correlation(self.covariance)
        gain = gain * deviations / deviations[:, None]
        noise = noise / deviations / deviations[:, None]
        missed = np.eye(len(gain)) - gain
        output = gain @ source @ gain.T + noise
        distortion = float((deviations**2 * np.diag(missed @ source @ missed.T + noise)).sum())
        values, vectors = np.linalg.eigh(output)
        kept = values > ROUNDING * max(values[-1], 0)
        whitening = vectors[:, kept] / np.sqrt(values[kept])
        information = max(0.0, -log_determinant(whitening.T @ noise @ whitening) / 2)
        if self.labels is None:
            return information, distortion, perception, math.nan
        estimate = source @ gain.T @ whitening @ whitening.T  # E[X|X̂] = estimate · X̂
        left = np.eye(len(gain)) - estimate @ gain
        error = left @ source @ left.T + estimate @ noise @ estimate.T
        uncertainty = self.labels.entropy(error * deviations * deviations[:, None])
        return information, distortion, perception, uncertainty

    def _feasible(self, distortion: float, perception: float, classification: float) -> bool:
        least, most = self.label_entropies or (-math.inf, -math.inf)
        classifiable = classification > least or classification >= most
        return distortion > 0 and perception >= 0 and classifiable

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
        """The unit in which the solvers see variances: a power of four, about the largest variance.

        Division by it keeps all digits, of deviations too.
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
        """The solution of least rate from which all pairs can be decoded."""
        classification = self._binding(classification)
        # A bound that does not bind becomes finite, and too large for rounding to make it bind.
        ceiling = self.distortion_ceiling / self._unit
        distortions = np.where(distortions < ceiling, distortions, 2 * ceiling)
        perceptions = np.minimum(perceptions, 2 * ceiling)
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
        """Gain and noise of X̂ = share · X̃ + (1 − share) · X'.

        X̃ = E[X|Z] of the solution, and X' is its optimal transport to the solution's output.
        """
        variances, basis = self._spectrum
        scales = np.sqrt(variances / self._unit)
        mean = np.eye(len(scales)) - solution.error
        values, vectors = np.linalg.eigh(mean)
        reciprocals = np.divide(1, values, out=np.zeros_like(values), where=values > ROUNDING)
        inverse = (vectors * reciprocals) @ vectors.T
        cross = mean  # of X̂ with X, in parts of X's deviations
        noise = np.zeros_like(mean)  # of X̂ given X̃
        if share < 1:
            output = scales[:, None] * solution.output * scales
            spreads, axes = np.linalg.eigh(output)
            root = (axes * np.sqrt(spreads)) @ axes.T
            moved = root @ symmetric_root(root @ (scales[:, None] * mean * scales) @ root)
            moved = moved @ (axes / np.sqrt(spreads)) @ axes.T  # cov(X', X̃)
            moved = moved / scales / scales[:, None]
            cross = share * mean + (1 - share) * moved
            spreads, axes = np.linalg.eigh(solution.output - moved @ inverse @ moved.T)
            noise = (1 - share) ** 2 * (axes * np.where(spreads > ROUNDING, spreads, 0)) @ axes.T
        estimate = cross @ inverse
        noise = noise + estimate @ (solution.error @ mean) @ estimate.T
        turned = basis * np.sqrt(variances)
        noise = turned @ noise @ turned.T
        return turned @ cross @ (basis / np.sqrt(variances)).T, (noise + noise.T) / 2

    def _warn_if_doubtful(self, solution: Solution) -> None:
        """Warn if rounding of the covariance's entries may have changed the rate."""
        correlations = correlation(self.covariance)
        if np.array_equal(correlations, np.eye(len(correlations))):
            return
        epsilon = len(correlations) * np.finfo(float).eps
        variances, least = self._spectrum[0], np.linalg.eigvalsh(correlations)[0]
        relative = epsilon * np.minimum(variances.max() / variances, 1 / least)
        doubt = float((relative * (1 - np.diag(solution.error))).sum()) / 2
        if doubt > _DOUBTFUL:
            warnings.warn(
                "the covariance is so close to singular that rounding of its entries may change"
                f" the rate by {doubt:.1g} nats",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _binding(self, classification: float) -> float:
        _, most = self.label_entropies or (-math.inf, -math.inf)
        return math.inf if classification >= most else classification

    def _problem(self, classification: float) -> Diagonal | Full:
        """The problem at a classification.

        If it does not bind, solutions have the eigenvectors of the covariance.
        """
        variances, basis = self._spectrum
        scaled, deviation = variances / self._unit, math.sqrt(self._unit)
        if isinstance(self.labels, AlignedLabels):
            return Diagonal(scaled, self.labels.gains * deviation, self.labels.noises)
        if isinstance(self.labels, ScalarLabel) and classification < math.inf:
            return Full(scaled, deviation * (self.labels.weights @ basis), self.labels.noise)
        return Diagonal(scaled, np.zeros(len(scaled)), np.ones(len(scaled)))

    def _wasserstein(self, output: FloatArray) -> float:
        """The squared 2-Wasserstein distance of N(0, output) and N(0, covariance)."""
        source, output = self.covariance / self._unit, output / self._unit
        root = symmetric_root(source)
        apart = np.trace(output + source - 2 * symmetric_root(root @ output @ root))
        return self._unit * max(0.0, float(apart))

    def _kl(self, output: FloatArray) -> float:
        """KL(N(0, output) ‖ N(0, covariance)) in nats."""
        factor = np.linalg.inv(np.linalg.cholesky(self.covariance))
        whitened = factor @ output @ factor.T
        return max(0.0, float(np.trace(whitened)) - len(whitened) - log_determinant(whitened)) / 2


def _inverse(needed: Callable[[float], float], rate: float, low: float, high: float) -> float:
    """The least value in [low, high] that needs no more than `rate`; inf if `high` needs more."""
    target = rate + _RATE_TOLERANCE
    least = needed(high)
    if rate < 0 or least > target or least == math.inf:
        return math.inf
    if low == -math.inf or needed(low) <= target:
        return low
    # Rates are cut off at one nat too many, since `low` may need an infinite one.
    return float(brentq(lambda value: min(needed(value) - target, 1.0), low, high, xtol=1e-12))


def _each(
    least: Callable[[float, Constraints], float], rates: FloatArray, constraints: Constraints
) -> FloatArray:
    """`least(rate, constraints of one point)` for all points."""
    values = np.empty(constraints.shape)
    for index, bounds in constraints.each():
        values[index] = least(float(rates[index]), constraints.at(*map(np.array, bounds)))
    return values
