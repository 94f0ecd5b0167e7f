"""Rate-distortion-perception-classification with a given classifier, as a `saddle` program: what cannot occur is taken out, and put back after."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from quadrate.theory.channels import FloatArray
from quadrate.theory.laws import DIVERGENCES, Divergence, Law, Separable, Transport
from quadrate.theory.saddle import Cost, Optimum, Program, solve_program

# Divergences that are infinite where the output has mass and p has none.
_ABSOLUTELY_CONTINUOUS = ("kl", "chi2")
# Bounds this near to the least that can be reached, relative to the scale of the cost, are taken to be the least.
_AT_LEAST = 1e-12


@dataclass(frozen=True)
class Demand:
    """Three prices, or three bounds (then all prices are zero), on distortion, perception and classification, in this order; nats.

    Attributes:
        prices: each ≥ 0.
        bounds: inf where there is none.
        divergence: the perception measure.
    """

    prices: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bounds: tuple[float, float, float] = (math.inf, math.inf, math.inf)
    divergence: str = "w2"

    def asks(self, which: int) -> bool:
        """Whether this of the three plays a part."""
        return self.prices[which] > 0 or self.bounds[which] < math.inf


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        channel: (n, m), NaN if infeasible.
        value: the rate plus what has a price, nats; inf if infeasible.
        gap: how far the value may be from the least, nats; NaN for a local method.
        residual: how far the last iteration was from standing still, nats.
        prices: of distortion, perception and classification: minus the slopes of the rate in their bounds.
        iterations: Newton steps.
        converged: whether gap (or residual) and constraints meet their tolerances.
    """

    channel: FloatArray
    value: float
    gap: float
    residual: float
    prices: tuple[float, float, float]
    iterations: int
    converged: bool


def infeasible(shape: tuple[int, ...], iterations: int = 0) -> Outcome:
    """No channel meets the bounds."""
    return Outcome(np.full(shape, np.nan), math.inf, 0.0, 0.0, (0.0, 0.0, 0.0), iterations, True)


def solve_demand(pmf: FloatArray, distortion: FloatArray, loss: FloatArray | None, demand: Demand, tolerance: float) -> Outcome:
    """The channel that meets a demand at the least rate.

    Args:
        pmf: (n,).
        distortion: (n, m).
        loss: (n, m) cross-entropy of a classifier of x̂ where the input was x, may be inf; None if classification is not asked for.
        demand: prices or bounds.
        tolerance: duality gap, nats.
    """
    rows = np.flatnonzero(pmf > 0)
    letters = pmf[rows]
    costs = [matrix[rows] if matrix is not None and demand.asks(2 * which) else None for which, matrix in enumerate((distortion, loss))]
    opened = np.ones((len(rows), distortion.shape[1]), dtype=bool)
    if demand.asks(1) and demand.divergence in _ABSOLUTELY_CONTINUOUS:
        opened &= pmf > 0
    bounds = list(demand.bounds)
    for which, cost in zip((0, 2), costs, strict=True):
        if cost is not None:
            opened &= np.isfinite(cost)
            if not opened.any(axis=1).all():
                return infeasible(distortion.shape)
            tight = _tighten(letters, cost, opened, bounds[which])
            if tight is None:
                return infeasible(distortion.shape)
            opened, bounds[which] = tight
    columns = np.flatnonzero(opened.any(axis=0))
    opened = opened[:, columns]
    law = _Part.of(pmf, rows, columns, distortion, demand, bounds[1])
    if law is None:
        return infeasible(distortion.shape)
    terms = []
    for which, cost in zip((0, 2), costs, strict=True):
        finite = np.where(opened, cost[:, columns], 0.0) if cost is not None else np.zeros(opened.shape)
        guess = 1 / (float(letters @ finite.mean(axis=1)) or 1.0)
        terms.append(Cost(finite, guess if bounds[which] < math.inf else demand.prices[which], bounds[which]))
    entropy = -float(letters @ np.log(letters))
    ceiling = math.inf if any(demand.prices) else min(entropy, math.log(len(columns))) + 1e-6
    program = Program(letters, opened, tuple(terms), law.law, law.price, law.bound, ceiling)
    optimum = solve_program(program, tolerance)
    if not optimum.solved(tolerance) and isinstance(law.law, Separable) and law.bound < math.inf:
        optimum = _by_price(program, law.law, tolerance)
    if not optimum.feasible:
        return infeasible(distortion.shape, optimum.iterations)
    return _restored(optimum, rows, columns, distortion.shape, demand.prices[1] * law.constant, tolerance)


def _tighten(pmf: FloatArray, cost: FloatArray, opened: FloatArray, bound: float) -> tuple[FloatArray, float] | None:
    """What stays open, and the bound: it goes where it cannot be exceeded, and where only what reaches it is left open. None if out of reach."""
    if bound >= float(pmf @ np.where(opened, cost, 0.0).max(axis=1)):
        return opened, math.inf
    least = np.where(opened, cost, np.inf).min(axis=1)
    slack = _AT_LEAST * max(float(np.abs(cost[opened]).max()), 1e-300)
    if bound < float(pmf @ least) - slack:
        return None
    if bound > float(pmf @ least) + slack:
        return opened, bound
    return opened & (cost <= least[:, None] + slack), math.inf


@dataclass(frozen=True)
class _Part:
    """The law's part of a program; `constant` is the perception that letters taken out add."""

    law: Law
    price: float
    bound: float
    constant: float = 0.0

    @classmethod
    def of(cls, pmf: FloatArray, rows: FloatArray, columns: FloatArray, distortion: FloatArray, demand: Demand, bound: float) -> _Part | None:
        """The law that a demand asks for; None if it is out of reach."""
        if not demand.asks(1):
            return cls(_near(np.full(len(columns), 1 / len(columns)), None, 0.0), 0.0, math.inf)
        reference = pmf[columns]
        exact = bound <= _AT_LEAST
        if demand.divergence in DIVERGENCES and not exact:
            divergence = DIVERGENCES[demand.divergence]
            gone = np.delete(pmf, columns)
            constant = float(divergence.value(np.zeros_like(gone), gone)[gone > 0].sum())
            if bound <= constant:
                return None
            room = bound - constant
            price = 2 * _FIRST_GAP / len(columns) / room if room < math.inf else demand.prices[1]
            return cls(_near(reference, divergence, min(room, 0.1 / price)), price, room, constant)
        cost = distortion.T if demand.divergence == "w2" else 1.0 - np.eye(len(pmf))
        cost = cost[np.ix_(columns, rows)]
        least = cost.min(axis=0)
        slack = _AT_LEAST * max(float(cost.max()), 1e-300)
        if demand.divergence in DIVERGENCES and least.max() > 0 or bound < float(pmf[rows] @ least) - slack:
            return None
        if bound <= float(pmf[rows] @ least) + slack:
            return cls(_transport(pmf[rows], np.where(cost <= least + slack, cost, np.inf), 0.0), 0.0, math.inf)
        price = 1 / float(cost.mean(axis=0) @ pmf[rows]) if bound < math.inf else demand.prices[1]
        return cls(_transport(pmf[rows], cost, price), price, bound)


# The duality gap at which the iteration starts, nats.
_FIRST_GAP = 0.3
_SEARCHES = 30


def _near(reference: FloatArray, divergence: Divergence | None, room: float) -> Separable:
    """A law at a divergence of about `room`: not at p, where the divergence has no slope; a letter that p lacks may yet be used."""
    tilt = min(0.5, math.sqrt(room) / 2) * np.linspace(-1, 1, len(reference))
    output = np.where(reference > 0, reference * (1 + tilt), min(0.01, room / 10) / len(reference))
    return Separable(reference, divergence, output / output.sum(), _FIRST_GAP / len(output) / output)


def _transport(reference: FloatArray, cost: FloatArray, price: float) -> Transport:
    """A coupling between the independent and the optimal one, and multipliers that fit the cost."""
    opened = np.isfinite(cost)
    priced = np.where(opened, price * np.where(opened, cost, 0.0), np.inf)
    potential = _FIRST_GAP / len(reference) / reference - priced.min(axis=0)
    slack = np.where(opened, priced + potential, 1.0)
    coupling = np.where(opened, 1 / slack, 0.0)
    return Transport(reference, cost, coupling * (reference / coupling.sum(axis=0)), slack, potential)


def _restored(optimum: Optimum, rows: FloatArray, columns: FloatArray, shape: tuple[int, ...], constant: float, tolerance: float) -> Outcome:
    """With the letters that were taken out: a letter of no mass gets the output law."""
    channel = np.zeros(shape)
    channel[np.ix_(rows, columns)] = optimum.channel
    blank = np.delete(np.arange(shape[0]), rows)
    channel[np.ix_(blank, columns)] = optimum.output
    prices = float(optimum.prices[0]), float(optimum.prices[2]), float(optimum.prices[1])
    value = optimum.value + constant
    return Outcome(channel, value, optimum.gap, optimum.residual, prices, optimum.iterations, optimum.solved(tolerance))


def _by_price(program: Program, law: Separable, tolerance: float) -> Optimum:
    """With a bound on a divergence too small for a direct solution: by a search for the price at which the divergence is just within it."""
    bound, price, iterations = program.law_bound, 0.3 / math.sqrt(program.law_bound), 0
    before: tuple[float, float] | None = None
    for _ in range(_SEARCHES):
        fixed = replace(program, law=_near(law.reference, law.divergence, 0.1 / price), law_price=price, law_bound=math.inf, ceiling=math.inf)
        optimum = solve_program(fixed, tolerance / 2)
        perception, iterations = law.perception_of(optimum.output), iterations + optimum.iterations
        optimum = replace(
            optimum,
            value=optimum.value - price * perception,
            bound=optimum.bound - price * bound,
            excess=max(optimum.excess, perception - bound),
            iterations=iterations,
            feasible=not optimum.bound - price * bound > program.ceiling,
        )
        if not optimum.feasible or 0 <= price * (bound - perception) <= tolerance / 2:
            break
        # Aimed just inside the bound; a divergence falls about like the square of its price.
        miss = math.log(max(perception, 1e-300) / bound) + 1e-7
        slope = -2.0 if before is None else (miss - before[1]) / (math.log(price) - before[0])
        before = math.log(price), miss
        price *= math.exp(min(max(-miss / min(slope, -0.1), -5), 5))
    return optimum
