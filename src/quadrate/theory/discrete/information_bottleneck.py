"""Rate-distortion-perception with an ideal classifier, H(S|X̂): a local method.

H(S|X̂) = min_c E[−ln c(S|X̂)], with the minimum at c = p(s|x̂) (Tishby, Pereira & Bialek 1999).
With c frozen the problem is convex. With the posterior of its optimum as the next c, that optimum
still meets all bounds and its value is no larger: the values fall to a local optimum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.special import entr

from quadrate.theory.channels import FloatArray
from quadrate.theory.discrete.programs import Outcome, infeasible, solve_demand
from quadrate.theory.discrete.terms import Demand

_RANDOM_STARTS = 2
# Entries that can take less than this part of a letter's mass do not count for the size of the
# distortion.
_USED = 1e-6
# At most this many classifiers from each start.
_ROUNDS = 300
# The factor by which a step that was progress is lengthened.
_GROWTH = 1.5


def cross_entropies(label_channel: FloatArray, classifier: FloatArray) -> FloatArray:
    """(n, m) E[−ln c(S|x̂) | X = x]: inf where the classifier rules out what occurs."""
    with np.errstate(divide="ignore"):
        logs = np.log(classifier)
    finite = -label_channel @ np.where(np.isfinite(logs), logs, 0.0).T
    return np.asarray(np.where(label_channel @ np.isneginf(logs).T > 0, np.inf, finite))


def posteriors(
    pmf: FloatArray, channel: FloatArray, label_channel: FloatArray, otherwise: FloatArray
) -> FloatArray:
    """(m, k) p(s|x̂) of a channel, and `otherwise` for letters that never occur."""
    joint = (pmf[:, None] * channel).T @ label_channel
    output = joint.sum(axis=1, keepdims=True)
    return np.divide(joint, output, out=otherwise.copy(), where=output > 1e-200)


def solve_ideal(
    pmf: FloatArray,
    distortion: FloatArray,
    label_channel: FloatArray,
    demand: Demand,
    tolerance: float,
) -> Outcome:
    """The best channel of several starts.

    The arguments are those of `solve_demand`; the tolerance is on the last change of the value.
    """
    prices, bounds = (*demand.prices[:2], 0.0), (*demand.bounds[:2], math.inf)
    without_label = replace(demand, prices=prices, bounds=bounds)
    relaxed = solve_demand(pmf, distortion, None, without_label, tolerance)
    if not demand.asks(2) or math.isinf(relaxed.value):
        return relaxed
    if _equivocation(pmf, relaxed.channel, label_channel) <= demand.bounds[2] < math.inf:
        return relaxed
    if demand.bounds[2] < pmf @ entr(label_channel).sum(axis=1) - 1e-12:
        return infeasible(distortion.shape)
    outcomes = [
        _descend(pmf, distortion, label_channel, start, demand, tolerance)
        for start in _starts(pmf, distortion, label_channel, demand)
    ]
    best = min(outcomes, key=lambda outcome: (not outcome.converged, outcome.value))
    return replace(best, gap=math.nan, iterations=sum(outcome.iterations for outcome in outcomes))


def _equivocation(pmf: FloatArray, channel: FloatArray, label_channel: FloatArray) -> float:
    """H(S|X̂)."""
    joint = (pmf[:, None] * channel).T @ label_channel
    return float(entr(joint).sum() - entr(joint.sum(axis=1)).sum())


def _descend(
    pmf: FloatArray,
    distortion: FloatArray,
    label_channel: FloatArray,
    classifier: FloatArray,
    demand: Demand,
    tolerance: float,
) -> Outcome:
    """Alternate between the best channel and the best classifier until the value stands still."""

    def best_channel(classifier: FloatArray) -> Outcome:
        loss = cross_entropies(label_channel, classifier)
        return solve_demand(pmf, distortion, loss, demand, tolerance / 10)

    best, change, reach = best_channel(classifier), math.inf, 1.0
    iterations = best.iterations
    for _ in range(_ROUNDS):
        if math.isinf(best.value):
            break
        posterior = posteriors(pmf, best.channel, label_channel, classifier)
        # Any classifier bounds H(S|X̂) from above, so one further in the direction of the last
        # change may be tried first.
        outcome = best_channel(_beyond(classifier, posterior, reach))
        iterations += outcome.iterations
        change = best.value - outcome.value
        if change > 0 and (outcome.converged or not best.converged):
            best, classifier, reach = outcome, posterior, _GROWTH * reach
        elif reach > 1:
            reach = 1.0
            continue
        if change <= tolerance:
            break
    converged = best.converged and abs(change) <= tolerance
    return replace(best, residual=abs(change), iterations=iterations, converged=converged)


def _beyond(before: FloatArray, after: FloatArray, reach: float) -> FloatArray:
    """The classifier `reach` times as far from `before` as `after` is, in the logarithm."""
    ratios = np.divide(after, before, out=np.ones_like(after), where=(before > 0) & (after > 0))
    moved = after * ratios ** (reach - 1)
    return np.asarray(moved / moved.sum(axis=1, keepdims=True))


def _starts(
    pmf: FloatArray, distortion: FloatArray, label_channel: FloatArray, demand: Demand
) -> Iterator[FloatArray]:
    """Classifiers: of the nearest input letters, of a soft channel, and of random inputs.

    The last after a few rounds of Lloyd's algorithm.
    """
    nearest = label_channel[distortion.argmin(axis=0)]
    yield nearest
    soft = _soft_channel(pmf, distortion, label_channel, demand)
    if np.isfinite(soft).all():  # otherwise no channel has a finite distortion
        yield posteriors(pmf, soft, label_channel, nearest)
    generator = np.random.default_rng(0)
    for _ in range(_RANDOM_STARTS):
        classifier = label_channel[generator.choice(len(pmf), distortion.shape[1], p=pmf)]
        for _ in range(10):
            closest = cross_entropies(label_channel, classifier).argmin(axis=1)
            choices = np.eye(distortion.shape[1])[closest]
            classifier = posteriors(pmf, choices, label_channel, classifier)
        yield classifier


def _soft_channel(
    pmf: FloatArray, distortion: FloatArray, label_channel: FloatArray, demand: Demand
) -> FloatArray:
    """The channel of least rate that meets all bounds, among those best for the distortion.

    That is, for distortion and perception only.
    """
    finite = np.isfinite(distortion)
    masses = _USED * pmf[:, None] * np.where(finite, distortion, 0.0)
    usable = finite & (masses <= demand.bounds[0])
    sums, counts = np.where(usable, distortion, 0.0).sum(axis=1), usable.sum(axis=1)
    typical = float(pmf @ (sums / np.maximum(counts, 1)))
    least = 1 / (typical or 1.0)
    low, high, best = 0.0, 20.0, None
    for _ in range(12):
        middle = (low + high) / 2
        prices, bounds = (least * 2**middle, demand.prices[1], 0.0), demand.bounds
        priced = replace(demand, prices=prices, bounds=(math.inf, bounds[1], math.inf))
        channel = solve_demand(pmf, distortion, None, priced, 1e-3).channel
        average = float((pmf[:, None] * channel * np.where(channel > 0, distortion, 0.0)).sum())
        uncertainty = _equivocation(pmf, channel, label_channel)
        if average <= bounds[0] and uncertainty <= bounds[2]:
            high, best = middle, channel
        else:
            low = middle
    return channel if best is None else best
