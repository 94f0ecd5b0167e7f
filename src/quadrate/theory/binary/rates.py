"""The exact least rate of a binary source, at any number of points at once.

I(Y;X̂) and I(S;X̂) are convex in (q, m) = (P(X̂=1), P(Y=1, X̂=1)), and 0 on the line m = bq; the
distortion is affine. So the constraint on the label keeps out the convex set {I(S;X̂) < H(S) - C},
and the others leave a polygon:

1. Without the label, the least of I(Y;X̂) over the polygon is 0, or lies on the line E d = D: one
   bisection.
2. If that point is kept out, the optimum lies on the boundary of the set: on the arc above m = bq,
   or on the one below, which is the arc above with X̂ relabelled. Along an arc I(Y;X̂) falls to one
   minimum and rises: where it is stationary, the line through the two posteriors P(Y=1|X̂) touches
   r -> β H_b(P(S=1|r)) - H_b(r) twice; that function's second derivative has at most two changes of
   sign, so there is one such line for each β, and the label's information grows with β. The
   candidates are: the minimum of each arc, the two ends of the interval of q on each, and the
   crossings of the arcs with the line E d = D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from quadrate.theory.any_source import bisect
from quadrate.theory.binary.joint import BinaryModel, entropy, inverse_entropy
from quadrate.theory.channels import FloatArray

# Rounding of probabilities and entropies: a constraint missed by less is met.
SLACK = 1e-14
# The same for the ends of a line of channels, which are quotients: the Bayes error is a feasible
# distortion.
_LINE_SLACK = 1e-12
# Halvings to a minimum, around which the rate is flat: half its digits are enough.
_MINIMUM_STEPS = 28


class Limits(NamedTuple):
    """The constraints on a channel, arrays (n,).

    Attributes:
        distortion: The largest P(X̂ != X).
        low: The least P(X̂=1), at most a.
        high: The largest P(X̂=1), at least a.
        classification: The largest H(S|X̂), nats.
    """

    distortion: FloatArray
    low: FloatArray
    high: FloatArray
    classification: FloatArray


def least_rates(model: BinaryModel, limits: Limits) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The least I(Y;X̂) within limits.

    Returns:
        The rates in nats, and q and m of an optimal channel, each (n,): `inf`, NaN and NaN where
        infeasible.
    """
    seen, unseen = model.label_entropies
    possible = (limits.distortion >= 0) & classifiable(model, limits)
    needed = np.minimum(unseen - limits.classification, unseen - seen)
    q, m = np.where(possible, _without_label(model, limits), np.nan)
    short = model.label_information(q, m) < needed - SLACK
    if short.any():
        q[short], m[short] = _with_label(model, _at(limits, short), needed[short])
    rates = model.rate(q, m)
    return np.where(np.isnan(rates), np.inf, rates), q, m


def gerber_rates(model: BinaryModel, limits: Limits) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`least_rates` without noise and for any P(X̂=1).

    H_b(a) - H_b(min(D, C1, a)) with H_b(C1 * flip) = C, by Mrs. Gerber's lemma.
    """
    possible = (limits.distortion >= 0) & classifiable(model, limits)
    flip = np.minimum(_backward_flip(model, limits.classification), limits.distortion)
    flip = np.where(possible, flip, np.nan)
    coded = flip < model.a
    flip = np.minimum(flip, model.a)
    independent = _independent_output(model, limits.distortion)
    q = np.where(coded, _symmetric_output(model, flip), independent)
    m = np.where(coded, (1 - flip) * q, model.a * q)
    rates = np.where(possible, entropy(model.a) - entropy(flip), np.inf)
    return rates, np.where(possible, q, np.nan), np.where(possible, m, np.nan)


def classifiable(model: BinaryModel, limits: Limits) -> Any:
    """Whether the classification is at least H(S|Y), up to rounding.

    H(S|Y) itself must be feasible, even if it comes from another unit.
    """
    return limits.classification >= model.label_entropies[0] - SLACK


def _at(limits: Limits, points: Any) -> Limits:
    return Limits(*(values[points] for values in limits))


def _backward_flip(model: BinaryModel, classification: FloatArray) -> FloatArray:
    """The C1 in [0, 1/2] with H_b(C1 * flip) = C, without noise."""
    if model.flip == 0.5:
        return np.full_like(classification, 0.5)
    return np.maximum((inverse_entropy(classification) - model.flip) / (1 - 2 * model.flip), 0.0)


def _symmetric_output(model: BinaryModel, flip: FloatArray) -> FloatArray:
    """P(X̂=1) of the symmetric backward channel with X = X̂ xor Bern(flip), flip <= a."""
    return np.divide(model.a - flip, 1 - 2 * flip, out=np.full_like(flip, 0.5), where=flip < 0.5)


def _independent_output(model: BinaryModel, distortion: FloatArray) -> FloatArray:
    """The largest P(X̂=1) <= a of an independent X̂ within the distortion; negative if infeasible."""
    slope = 1 - 2 * model.a
    if slope:
        return np.minimum((distortion - model.a) / slope, model.a)
    return np.minimum(np.where(distortion >= model.a, np.inf, -1.0), model.a)


def _without_label(model: BinaryModel, limits: Limits) -> FloatArray:
    """The q and m, (2, n), of least rate whatever the label; NaN where infeasible."""
    q = _independent_output(model, limits.distortion)
    m = model.b * q
    coded = q < limits.low - SLACK
    if coded.any():
        line = _Line(model, _at(limits, coded))
        q[coded] = line.lowest(model.rate_gradient)
        m[coded] = line.joint(q[coded])
    return np.stack([q, m])


def _with_label(model: BinaryModel, limits: Limits, needed: FloatArray) -> FloatArray:
    """The q and m, (2, n), of least rate with I(S;X̂) = needed, on an arc; NaN where infeasible."""
    line = _Line(model, limits)
    lowest = _arc_minimum(model, needed)
    candidates = line.crossings(needed)
    for q in (lowest, limits.low, limits.high):
        candidates.append((q, np.maximum(_arc(model, q, needed), line.joint(q))))
    for q in (1 - lowest, limits.low, limits.high):
        m = model.b - _arc(model, 1 - q, needed)
        candidates.append((q, np.where(m >= line.joint(q) - SLACK, m, np.nan)))
    found = np.array(candidates)  # (8, 2, n)
    q, m = found[:, 0], found[:, 1]
    allowed = (q >= limits.low - SLACK) & (q <= limits.high + SLACK)
    allowed &= m <= np.minimum(model.b, q) + SLACK
    rates = np.where(allowed, model.rate(q, m), np.inf)
    best = rates.argmin(axis=0)
    chosen = np.take_along_axis(found, best[None, None], axis=0)[0]
    return np.where(allowed.any(axis=0), chosen, np.nan)


def _arc(model: BinaryModel, q: FloatArray, needed: FloatArray, steps: int = 52) -> FloatArray:
    """The least m >= bq with I(S;X̂) >= needed; NaN where infeasible."""
    most = np.minimum(model.b, q)
    m = bisect(lambda m: model.label_information(q, m) >= needed, model.b * q, most, steps)
    return np.where(model.label_information(q, most) >= needed - SLACK, m, np.nan)


def _arc_minimum(model: BinaryModel, needed: FloatArray) -> FloatArray:
    """The q at which I(Y;X̂) is least on the upper arc I(S;X̂) = needed."""
    if model.noise == 0:
        flip = _backward_flip(model, entropy(model.s) - needed)
        return _symmetric_output(model, np.minimum(flip, model.a))

    def past(q: FloatArray) -> Any:
        m = _arc(model, q, needed, steps=_MINIMUM_STEPS)
        by_output, by_joint = model.rate_gradient(q, m)
        label_by_output, label_by_joint = model.label_gradient(q, m)
        with np.errstate(invalid="ignore"):
            return by_output * label_by_joint >= by_joint * label_by_output

    b = np.full_like(needed, model.b)
    # The arc runs from the edge m = q of all channels to their edge m = b.
    first = bisect(lambda q: model.label_information(q, q) >= needed, np.zeros_like(b), b)
    last = bisect(lambda q: model.label_information(q, b) >= needed, np.ones_like(b), b)
    return bisect(past, first, last, steps=_MINIMUM_STEPS)


class _Line:
    """The channels of the largest distortion, between `low` and `high`.

    They have m = intercept + slope q for q in [first, last], NaN where infeasible.
    """

    def __init__(self, model: BinaryModel, limits: Limits):
        self._model = model
        distortion, low, high, _ = limits
        zero, one = model.source_given_seen
        if zero == one:  # the encoder learns nothing of X, and no channel lowers the distortion
            self._slope, self._intercept = 1.0, np.full_like(distortion, -np.inf)
        else:
            self._slope = (0.5 - zero) / (one - zero)
            self._intercept = (model.a - distortion) / (2 * (one - zero))
        bounds = [  # factor * q >= bound
            (-self._slope, self._intercept - model.b),  # m <= b
            (self._slope, -self._intercept),  # m >= 0
            (1 - self._slope, self._intercept),  # m <= q
            (self._slope - 1, model.b - 1 - self._intercept),  # m >= b + q - 1
        ]
        for factor, bound in bounds:
            if factor > 0:
                low = np.maximum(low, bound / factor)
            elif factor < 0:
                high = np.minimum(high, bound / factor)
            else:
                low = np.where(bound <= 0, low, np.inf)
        some = low <= high + _LINE_SLACK
        self.first, self.last = np.where(some, low, np.nan), np.where(some, high, np.nan)

    def joint(self, q: FloatArray) -> FloatArray:
        """The m at q."""
        return self._intercept + self._slope * q

    def lowest(self, gradient: Callable[[FloatArray, FloatArray], tuple[Any, Any]]) -> FloatArray:
        """The q at which a convex function with this gradient in (q, m) is least on the line."""

        def past(q: FloatArray) -> Any:
            by_output, by_joint = gradient(q, self.joint(q))
            with np.errstate(invalid="ignore"):
                return by_output + self._slope * by_joint >= 0

        return bisect(past, self.first, self.last)

    def crossings(self, needed: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        """The two (q, m) on the line with I(S;X̂) = needed, each NaN where it does not exist."""

        def enough(q: FloatArray) -> Any:
            return self._model.label_information(q, self.joint(q)) >= needed

        middle = self.lowest(self._model.label_gradient)
        ends = self.first, self.last
        found = [np.where(enough(end), bisect(enough, middle, end), np.nan) for end in ends]
        return [(q, self.joint(q)) for q in found]
