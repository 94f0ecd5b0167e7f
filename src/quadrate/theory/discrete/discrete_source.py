"""Any source with finitely many letters: its rate functions by certified convex optimization."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.special import entr

from quadrate.theory import checks
from quadrate.theory.any_source import Constraints, Source
from quadrate.theory.channels import Channel, DiscreteChannel, FloatArray, Point
from quadrate.theory.convergence import ConvergenceWarning, LocalOptimumWarning
from quadrate.theory.discrete.information_bottleneck import cross_entropies, solve_ideal
from quadrate.theory.discrete.laws import DIVERGENCES
from quadrate.theory.discrete.programs import Outcome, solve_demand
from quadrate.theory.discrete.saddle import FEASIBILITY
from quadrate.theory.discrete.terms import Demand
from quadrate.theory.discrete.transport import transport_cost
from quadrate.theory.units import Unit, nats_per, nats_per_perception

# The duality gap of points of the rate function, nats.
_TOLERANCE = 1e-7
# A channel that exceeds a bound by more than this part of it is not a solution.
_EXCESS = 1e-6


@dataclass(frozen=True, eq=False)
class Discrete(Source):
    """A source X with n letters, reproduced in m letters.

    Without a perception constraint or weight m is free; with one the letters of X and X̂ are the
    same, m = n. The perception measures are "w2", the optimal-transport cost between p_X̂ and p_X
    with the distortion as ground cost (the squared 2-Wasserstein distance if that is a squared
    error; for other distortions another transport cost); "tv", ½ Σ |q−p|; "kl", Σ q ln(q/p);
    "chi2", Σ (q−p)²/p; and "hellinger", the squared Hellinger distance Σ (√q−√p)² without a factor
    of one half; p = p_X, q = p_X̂.

    Classification is H(S|X̂), the log-loss of an ideal classifier of X̂; or, with a frozen
    `classifier`, its cross-entropy E[−ln c(S|X̂)]. The cross-entropy makes a convex problem, solved
    to a certified optimum. H(S|X̂) is not convex: a local solver with several starts gives an upper
    bound, with a `LocalOptimumWarning` where that matters.

    Pairs of infinite distortion get no mass under a bound or a weight on the distortion. Without
    one they may occur, and the distortion is inf. Very large numbers have no special meaning.

    Attributes:
        pmf: (n,) probabilities, zeros allowed.
        distortion: (n, m) Δ(x,x̂) ≥ 0, inf where x must not become x̂ (erasures).
        label_channel: (n, k) p(s|x), or None without a label.
        classifier: (m, k) c(s|x̂), zeros allowed, or None for an ideal one.

    Raises:
        ValueError: If an argument has another shape, or values out of range.
    """

    pmf: FloatArray
    distortion: FloatArray
    label_channel: FloatArray | None = None
    classifier: FloatArray | None = None

    divergences: ClassVar[tuple[str, ...]] = ("w2", "tv", "kl", "chi2", "hellinger")

    def __post_init__(self) -> None:
        object.__setattr__(self, "pmf", checks.distributions("pmf", self.pmf, (None,)))
        distortion = checks.array("distortion", self.distortion, (2,), infinite=True)
        if len(distortion) != len(self.pmf) or (distortion < 0).any():
            raise ValueError(
                f"distortion must have shape ({len(self.pmf)}, any), a row for each letter of pmf,"
                f" and entries >= 0; got {distortion.shape}"
            )
        object.__setattr__(self, "distortion", distortion)
        if self.label_channel is not None:
            shape: tuple[int | None, ...] = (len(self.pmf), None)
            labels = checks.distributions("label_channel", self.label_channel, shape)
            object.__setattr__(self, "label_channel", labels)
        if self.classifier is not None:
            if self.label_channel is None:
                raise ValueError(
                    "classifier must come with a label_channel: without a label there is nothing to"
                    " classify"
                )
            shape = (distortion.shape[1], self.label_channel.shape[1])
            classifier = checks.distributions("classifier", self.classifier, shape)
            object.__setattr__(self, "classifier", classifier)

    @property
    def distortion_ceiling(self) -> float:
        """The distortion of the worst reproduction, infinite ones left out."""
        finite = np.where(np.isfinite(self.distortion), self.distortion, 0.0)
        return float(self.pmf @ finite.max(axis=1))

    @property
    def label_entropies(self) -> tuple[float, float] | None:
        """(H(S|X), H(S)), or the least and the largest finite cross-entropy of the classifier.

        The latter over all choices of x̂ for each x.
        """
        if self.label_channel is None:
            return None
        loss = self.loss
        if loss is None:
            given, whole = self.label_channel, self.pmf @ self.label_channel
            return float(self.pmf @ _entropies(given)), float(_entropies(whole))
        used = self.pmf > 0
        least = loss[used].min(axis=1)
        most = np.where(np.isfinite(loss[used]), loss[used], 0).max(axis=1)
        return float(self.pmf[used] @ least), float(self.pmf[used] @ most)

    @property
    def loss(self) -> FloatArray | None:
        """(n, m) E[−ln c(S|x̂) | X = x] of the frozen classifier; None without one.

        inf where the classifier rules out a label that occurs.
        """
        if self.classifier is None or self.label_channel is None:
            return None
        return cross_entropies(self.label_channel, self.classifier)

    def solve(self, constraints: Constraints) -> tuple[FloatArray, DiscreteChannel]:
        """The least rates in nats, to a duality gap of 1e-7 nats, and channels that attain them.

        With an ideal classifier they are local optima.

        Warns:
            ConvergenceWarning: If a point is less exact than that; it is NaN if not even a channel
                within the bounds was found.
            LocalOptimumWarning: If the bound on H(S|X̂) of an ideal classifier plays a part, so
                that the rate is an upper bound of the least one.
        """
        self._check(constraints)
        rates = np.empty(constraints.shape)
        channels = np.empty((*constraints.shape, *self.distortion.shape))
        local = False
        for index, bounds in constraints.each():
            outcome = self._constrained(bounds, constraints.divergence)
            rates[index], channels[index] = outcome.value, outcome.channel
            local = local or outcome.local
        _warn_if_local(local)
        return rates, DiscreteChannel(channels)

    def solve_distortion(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least distortion at a rate, by Newton's method on the rate function."""
        least = float(self.pmf @ self.distortion.min(axis=1))
        return self._invert(rate, constraints, 0, least, self.distortion_ceiling)

    def solve_classification(self, rate: FloatArray, constraints: Constraints) -> FloatArray:
        """The least classification at a rate, by Newton's method on the rate function."""
        entropies = self.label_entropies
        assert entropies is not None, "the caller checks for a label"
        return self._invert(rate, constraints, 2, *entropies)

    def measure(self, channel: Channel, divergence: str) -> Point:
        """The four quantities of a channel; perception is NaN if m ≠ n.

        Raises:
            ValueError: If the channel is not a DiscreteChannel of the source's shape.
        """
        n, m = self.distortion.shape
        if not isinstance(channel, DiscreteChannel) or channel.matrix.shape[-2:] != (n, m):
            raise ValueError(
                f"channel must be a DiscreteChannel with a matrix of shape (..., {n}, {m})"
            )
        shape = channel.matrix.shape[:-2]
        points = np.empty((4, *shape))
        for index in np.ndindex(shape):
            points[(slice(None), *index)] = self._measure(channel.matrix[index], divergence)
        return Point(*points)

    def _measure(self, channel: FloatArray, divergence: str) -> tuple[float, float, float, float]:
        if np.isnan(channel).any():
            return math.nan, math.nan, math.nan, math.nan
        output = self.pmf @ channel
        rate = float(_entropies(output) - self.pmf @ _entropies(channel))
        distortion = _mean(self.pmf[:, None] * channel, self.distortion)
        perception = self._perception(output, divergence)
        return max(rate, 0.0), distortion, perception, self._classification(channel)

    def _perception(self, output: FloatArray, divergence: str) -> float:
        if len(output) != len(self.pmf):
            return math.nan
        if divergence == "w2":
            return transport_cost(output, self.pmf, self.distortion.T)
        if divergence == "tv":
            return float(np.abs(output - self.pmf).sum() / 2)
        return float(DIVERGENCES[divergence].value(output, self.pmf).sum())

    def _classification(self, channel: FloatArray) -> float:
        if self.label_channel is None:
            return math.nan
        joint = self.pmf[:, None] * channel
        loss = self.loss
        if loss is not None:
            return _mean(joint, loss)
        labelled = joint.T @ self.label_channel
        return float(_entropies(labelled.ravel()) - _entropies(joint.sum(axis=0)))

    def _check(self, constraints: Constraints) -> None:
        constraints.refuse_randomness("Discrete source")
        if (constraints.perception < math.inf).any():
            self._need_one_alphabet("perception")

    def _need_one_alphabet(self, name: str) -> None:
        n, m = self.distortion.shape
        if n != m:
            raise ValueError(
                f"{name} needs a source whose X̂ has the letters of X: a distortion of shape ({n},"
                f" {n}); got ({n}, {m})"
            )

    def _constrained(self, bounds: tuple[float, float, float], divergence: str) -> Outcome:
        outcome = _warned(self._optimize(Demand(bounds=bounds, divergence=divergence), _TOLERANCE))
        if outcome.excess <= _EXCESS:
            return outcome
        return replace(outcome, value=math.nan, channel=np.full_like(outcome.channel, np.nan))

    def _optimize(self, demand: Demand, tolerance: float) -> Outcome:
        if self.label_channel is not None and self.classifier is None:
            return solve_ideal(self.pmf, self.distortion, self.label_channel, demand, tolerance)
        return solve_demand(self.pmf, self.distortion, self.loss, demand, tolerance)

    def _invert(
        self, rate: FloatArray, constraints: Constraints, which: int, low: float, high: float
    ) -> FloatArray:
        self._check(constraints)
        least = np.empty(constraints.shape)
        local = False
        for index, bounds in constraints.each():

            def needed(
                value: float, bounds: tuple[float, float, float] = bounds
            ) -> tuple[float, float]:
                nonlocal local
                distortion = value if which == 0 else bounds[0]
                classification = value if which == 2 else bounds[2]
                asked = distortion, bounds[1], classification
                outcome = self._constrained(asked, constraints.divergence)
                local = local or outcome.local
                return outcome.value, outcome.prices[which]

            least[index] = _first_enough(needed, float(rate[index]), low, high)
        _warn_if_local(local)
        return least


@dataclass(frozen=True)
class Solution:
    """The optimum at given multipliers.

    Attributes:
        rate: I(X;X̂), in the requested unit.
        distortion: E Δ(X,X̂).
        perception: The divergence of p_X̂ from p_X, in the requested unit if it is "kl"; NaN if m ≠
            n.
        classification: H(S|X̂) or the classifier's cross-entropy, in the requested unit; NaN
            without a label.
        channel: p(x̂|x).
        lagrangian: Rate + weights · (distortion, perception, classification), nats.
        gap: The most that the lagrangian may be above the least, nats; NaN where the problem is not
            convex (classification without a classifier).
        residual: The last iteration's distance from optimality, nats.
        iterations: Newton steps.
        converged: Whether the gap, or without one the residual, is within the tolerance.
    """

    rate: float
    distortion: float
    perception: float
    classification: float
    channel: DiscreteChannel
    lagrangian: float
    gap: float
    residual: float
    iterations: int
    converged: bool


def solve(
    source: Discrete,
    distortion_weight: float = 0.0,
    perception_weight: float = 0.0,
    classification_weight: float = 0.0,
    divergence: str = "w2",
    unit: Unit = "bits",
    tolerance: float = 1e-7,
) -> Solution:
    """The channel that minimizes I(X;X̂) + β E Δ(X,X̂) + γ d(p_X̂,p_X) + κ C.

    A point of the rate function with these slopes.

    Args:
        source: The source; C is the cross-entropy of its classifier, or H(S|X̂) without one.
        distortion_weight: β, nats per unit of distortion.
        perception_weight: γ, nats per unit of the divergence; per nat for "kl".
        classification_weight: κ, nats per nat, and so bits per bit.
        divergence: One of the source's.
        unit: "bits" or "nats", of the returned rate, classification and KL perception; everything
            else is in nats.
        tolerance: Of the duality gap, nats.

    Raises:
        ValueError: If a weight is negative or does not apply to the source, or a name is unknown.

    Warns:
        ConvergenceWarning: If the tolerance is not reached.
        LocalOptimumWarning: If C is H(S|X̂) and has a weight: then the optimum is a local one.
    """
    weights = (
        checks.number("distortion_weight", distortion_weight, 0.0),
        checks.number("perception_weight", perception_weight, 0.0),
        checks.number("classification_weight", classification_weight, 0.0),
    )
    checks.number("tolerance", tolerance, 0.0, open_low=True)
    if divergence not in source.divergences:
        raise ValueError(
            f"divergence must be one of {', '.join(source.divergences)}; got {divergence!r}"
        )
    nats = nats_per(unit)
    if weights[1] > 0:
        source._need_one_alphabet("perception_weight")
    if weights[2] > 0 and source.label_channel is None:
        raise ValueError("classification_weight needs a source with a label_channel")
    outcome = _warned(source._optimize(Demand(prices=weights, divergence=divergence), tolerance))
    _warn_if_local(outcome.local)
    rate, distortion, perception, classification = source._measure(outcome.channel, divergence)
    return Solution(
        rate / nats,
        distortion,
        perception / nats_per_perception(divergence, unit),
        classification / nats,
        DiscreteChannel(outcome.channel),
        lagrangian=outcome.value,
        gap=outcome.gap,
        residual=outcome.residual,
        iterations=outcome.iterations,
        converged=outcome.converged,
    )


def _warned(outcome: Outcome) -> Outcome:
    if not outcome.converged:
        message = (
            f"stopped after {outcome.iterations} iterations at a duality gap of {outcome.gap:.1e}"
            f" nats, a residual of {outcome.residual:.1e} nats"
        )
        if outcome.excess > FEASIBILITY:
            message += (
                "; no channel within the bounds was found, the nearest exceeds one by"
                f" {outcome.excess:.1e} of it"
            )
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    return outcome


def _warn_if_local(local: bool) -> None:
    if local:
        message = (
            "H(S|X̂) of an ideal classifier makes a problem that is not convex: this is the best of"
            " several local optima, an upper bound of the least value; with a frozen classifier it"
            " would be certified"
        )
        warnings.warn(message, LocalOptimumWarning, stacklevel=4)


def _mean(joint: FloatArray, cost: FloatArray) -> float:
    """The expected cost, inf where a forbidden pair has mass."""
    return float((joint * np.where(joint > 0, cost, 0.0)).sum())


def _entropies(distributions: FloatArray) -> Any:
    """Entropies in nats along the last axis."""
    return entr(distributions).sum(axis=-1)


def _first_enough(
    needed: Callable[[float], tuple[float, float]], rate: float, low: float, high: float
) -> float:
    """The least value that needs a rate of at most `rate`; inf if even `high` needs more.

    Args:
        needed: (rate, minus its slope) at a value; the rate falls with the value, and usually is
            convex.
        rate: Nats.
        low: No smaller value can be reached.
        high: No larger value matters.
    """
    value, (found, slope) = high, needed(high)
    allowed = rate + _TOLERANCE
    if not found <= allowed:
        return math.inf
    if needed(low)[0] <= allowed:
        return low
    # A range that huge numbers have stretched is cut to the size of the answer, by powers of eight.
    span, few, many = high - low, 0, 1
    while needed(low + math.ldexp(span, -3 * many))[0] <= allowed:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        enough = needed(low + math.ldexp(span, -3 * middle))[0] <= allowed
        few, many = (middle, many) if enough else (few, middle)
    high = low + math.ldexp(span, -3 * few)
    if few:
        value, (found, slope) = high, needed(high)
    precision, flat = 1e-7 * (high - low), 100 * _TOLERANCE / (high - low)
    while high - low > precision:
        step = (found - rate) / slope if slope > flat else math.inf
        if found <= allowed and abs(step) <= 2 * precision:
            return value
        # The tangent of a convex curve meets the rate too early: a value a little beyond is enough
        # once the tangent is good.
        target = value + step + precision
        value = target if low < target < high else (low + high) / 2
        found, slope = needed(value)
        low, high = (low, value) if found <= allowed else (value, high)
    return high
