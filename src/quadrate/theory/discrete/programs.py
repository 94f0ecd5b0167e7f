"""Rate-distortion-perception-classification with a given classifier, as a `saddle` program: what cannot occur is taken out, and put back after."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quadrate.theory.channels import FloatArray
from quadrate.theory.discrete.laws import DIVERGENCES, Divergence, Law, Separable, Transport
from quadrate.theory.discrete.saddle import Cost, Optimum, Program, solve_program

Indices = NDArray[np.intp]

# Divergences that are infinite where the output has mass and p has none.
_ABSOLUTELY_CONTINUOUS = ("kl", "chi2")
# Bounds this near to the least that can be reached, relative to the scale of the cost, are taken to be the least.
_AT_LEAST = 1e-12
# The duality gap at which the iteration starts, nats.
_FIRST_GAP = 0.3
# Prices that a search tries.
_SEARCHES = 30


@dataclass(frozen=True)
class Demand:
    """A price or a bound on each of distortion, perception and classification, in this order; nats.

    Attributes:
        prices: each ≥ 0; zero where there is a bound.
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
    reduced = _Reduced.of(pmf, distortion, loss, demand)
    if reduced is None:
        return infeasible(distortion.shape)
    program = reduced.program
    optimum = solve_program(program, tolerance)
    if not optimum.solved(tolerance) and isinstance(program.law, Separable) and program.law_bound < math.inf:
        optimum = _by_price(program, program.law, tolerance)
    if not optimum.feasible:
        return infeasible(distortion.shape, optimum.iterations)
    prices = float(optimum.prices[0]), float(optimum.prices[2]), float(optimum.prices[1])
    value = optimum.value + demand.prices[1] * reduced.constant
    return Outcome(reduced.restored(optimum), value, optimum.gap, optimum.residual, prices, optimum.iterations, optimum.solved(tolerance))


@dataclass(frozen=True)
class _Reduced:
    """A program without the letters that cannot occur.

    Attributes:
        program: what is left.
        rows: indices of the input letters that are left.
        columns: indices of the output letters that are left.
        shape: of the channel with all letters.
        constant: the perception that the letters taken out add.
    """

    program: Program
    rows: Indices
    columns: Indices
    shape: tuple[int, ...]
    constant: float

    @classmethod
    def of(cls, pmf: FloatArray, distortion: FloatArray, loss: FloatArray | None, demand: Demand) -> _Reduced | None:
        """Takes the letters out; None if that shows that the demand cannot be met."""
        rows = np.flatnonzero(pmf > 0)
        letters = pmf[rows]
        opened = np.ones((len(rows), distortion.shape[1]), dtype=bool)
        if demand.asks(1) and demand.divergence in _ABSOLUTELY_CONTINUOUS:
            opened &= pmf > 0
        # Distortion and loss are 0 and 2 of a demand's three.
        costs, bounds = {}, list(demand.bounds)
        for which, matrix in ((0, distortion), (2, loss)):
            if matrix is not None and demand.asks(which):
                costs[which] = matrix[rows]
                opened &= np.isfinite(costs[which])
                tight = _tighten(letters, costs[which], opened, bounds[which]) if opened.any(axis=1).all() else None
                if tight is None:
                    return None
                opened, bounds[which] = tight
        columns = np.flatnonzero(opened.any(axis=0))
        opened = opened[:, columns]
        part = _Part.of(pmf, rows, columns, distortion, demand)
        if part is None:
            return None
        terms = []
        for which in (0, 2):
            finite = np.where(opened, costs[which][:, columns], 0.0) if which in costs else np.zeros(opened.shape)
            guess = 1 / (float(letters @ finite.mean(axis=1)) or 1.0)
            terms.append(Cost(finite, guess if bounds[which] < math.inf else demand.prices[which], bounds[which]))
        # No rate needs to be larger than the entropy of either alphabet; beyond rounding, a dual bound that is proves that nothing is feasible.
        entropy = -float(letters @ np.log(letters))
        ceiling = math.inf if any(demand.prices) else min(entropy, math.log(len(columns))) + 1e-6
        program = Program(letters, opened, tuple(terms), part.law, part.price, part.bound, ceiling)
        return cls(program, rows, columns, distortion.shape, part.constant)

    def restored(self, optimum: Optimum) -> FloatArray:
        """The channel with all letters: an input of no mass gets the output law."""
        channel = np.zeros(self.shape)
        channel[np.ix_(self.rows, self.columns)] = optimum.channel
        channel[np.ix_(np.delete(np.arange(self.shape[0]), self.rows), self.columns)] = optimum.output
        return channel


def _tighten(pmf: FloatArray, cost: FloatArray, opened: NDArray[np.bool_], bound: float) -> tuple[NDArray[np.bool_], float] | None:
    """What stays open, and the bound: it goes where it cannot be exceeded, and where only what reaches it is left open. None if out of reach."""
    if bound >= float(pmf @ np.where(opened, cost, 0.0).max(axis=1)):
        return opened, math.inf
    least = np.where(opened, cost, np.inf).min(axis=1)
    slack = _AT_LEAST * float(np.abs(cost[opened]).max())
    if bound < float(pmf @ least) - slack:
        return None
    if bound > float(pmf @ least) + slack:
        return opened, bound
    return opened & (cost <= least[:, None] + slack), math.inf


@dataclass(frozen=True)
class _Part:
    """The law's part of a program."""

    law: Law
    price: float
    bound: float
    constant: float = 0.0

    @classmethod
    def of(cls, pmf: FloatArray, rows: Indices, columns: Indices, distortion: FloatArray, demand: Demand) -> _Part | None:
        """The law that a demand asks for; None if it is out of reach."""
        if not demand.asks(1):
            return cls._none(columns)
        price, bound = demand.prices[1], demand.bounds[1]
        if demand.divergence in DIVERGENCES and bound > _AT_LEAST:
            return cls._divergence(pmf, columns, DIVERGENCES[demand.divergence], price, bound)
        if demand.divergence == "w2":
            cost = distortion.T[np.ix_(columns, rows)]
        else:
            # Total variation is the transport cost if each move costs one; at zero, all divergences say the same.
            cost = 1.0 - np.eye(len(pmf))[np.ix_(columns, rows)]
        free = float(pmf[rows] @ cost.max(axis=0)) <= bound < math.inf
        return cls._none(columns) if free else cls._transport(pmf[rows], cost, price, bound)

    @classmethod
    def _none(cls, columns: Indices) -> _Part:
        return cls(_near(np.full(len(columns), 1 / len(columns)), None, 0.0), 0.0, math.inf)

    @classmethod
    def _divergence(cls, pmf: FloatArray, columns: Indices, divergence: Divergence, price: float, bound: float) -> _Part | None:
        gone = np.delete(pmf, columns)
        constant = float(divergence.value(np.zeros_like(gone), gone).sum())
        room = bound - constant
        if room <= 0:
            return None
        price = 2 * _FIRST_GAP / len(columns) / room if room < math.inf else price
        return cls(_near(pmf[columns], divergence, min(room, 0.1 / price)), price, room, constant)

    @classmethod
    def _transport(cls, pmf: FloatArray, cost: FloatArray, price: float, bound: float) -> _Part | None:
        least, slack = cost.min(axis=0), _AT_LEAST * float(cost.max())
        if bound < float(pmf @ least) - slack:
            return None
        if bound <= float(pmf @ least) + slack:
            return cls(_coupled(pmf, np.where(cost <= least + slack, cost, np.inf), 0.0), 0.0, math.inf)
        price = min(1 / float(cost.mean(axis=0) @ pmf), 2 * _FIRST_GAP / bound) if bound < math.inf else price
        return cls(_coupled(pmf, cost, price), price, bound)


def _near(reference: FloatArray, divergence: Divergence | None, room: float) -> Separable:
    """A law at a divergence of about `room`: not at p, where the divergence has no slope; a letter that p lacks may yet be used."""
    tilt = min(0.5, math.sqrt(room) / 2) * np.linspace(-1, 1, len(reference))
    output = np.where(reference > 0, reference * (1 + tilt), min(0.01, room / 10) / len(reference))
    return Separable(reference, divergence, output / output.sum(), _FIRST_GAP / len(output) / output)


def _coupled(reference: FloatArray, cost: FloatArray, price: float) -> Transport:
    """A coupling between the independent and the optimal one, and multipliers that fit the cost."""
    opened = np.isfinite(cost)
    priced = np.where(opened, price * np.where(opened, cost, 0.0), np.inf)
    potential = _FIRST_GAP / len(reference) / reference - priced.min(axis=0)
    slack = np.where(opened, priced + potential, 1.0)
    coupling = np.where(opened, 1 / slack, 0.0)
    return Transport(reference, cost, coupling * (reference / coupling.sum(axis=0)), slack, potential)


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
        miss = math.log(max(perception / bound, 1e-300)) + 1e-7
        slope = -2.0 if before is None else (miss - before[1]) / (math.log(price) - before[0])
        before = math.log(price), miss
        price *= math.exp(min(max(-miss / min(slope, -0.1), -5), 5))
    return optimum
