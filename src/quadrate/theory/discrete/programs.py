"""Rate-distortion-perception-classification with a given classifier, as a `saddle` program.

Letters that cannot occur are taken out before, and put back after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quadrate.theory.channels import FloatArray
from quadrate.theory.discrete.laws import DIVERGENCES, Divergence, Law, Separable, Transport
from quadrate.theory.discrete.saddle import Cost, Optimum, Program, dual_bound, solve_program

Indices = NDArray[np.intp]

# Divergences that are infinite where the output has mass and p has none.
_ABSOLUTELY_CONTINUOUS = ("kl", "chi2")
# Bounds this near to the least that can be reached, in parts of it, count as the least.
_AT_LEAST = 1e-12
# Pairs that could take no more than this part of a letter's mass are forbidden: the rate does not
# change.
_UNUSABLE = 1e-12
# For problems that fail: the share of mass below which pairs are forbidden, and the part of the
# bounds to aim at.
_ATTEMPTS = ((_UNUSABLE, 1 - 1e-6), (1e-9, 1.0), (1e-7, 1.0), (1e-5, 1.0), (1e-3, 1.0), (1e-2, 1.0))
# The duality gap at which the iteration starts, nats.
_FIRST_GAP = 0.3
# Prices that a search tries.
_SEARCHES = 30


@dataclass(frozen=True)
class Demand:
    """A price or a bound on each of distortion, perception and classification, in this order; nats.

    Attributes:
        prices: Each ≥ 0; zero where there is a bound.
        bounds: inf where there is no bound.
        divergence: The perception measure.
    """

    prices: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bounds: tuple[float, float, float] = (math.inf, math.inf, math.inf)
    divergence: str = "w2"

    def asks(self, which: int) -> bool:
        """Whether the price or the bound of this index matters."""
        return self.prices[which] > 0 or self.bounds[which] < math.inf


@dataclass(frozen=True)
class Outcome:
    """The solution of a demand.

    Attributes:
        channel: (n, m), NaN if infeasible.
        value: The rate plus the priced terms, nats; inf if infeasible.
        gap: The most that the value may be above the least, nats; NaN for a local method.
        residual: The last iteration's distance from optimality, nats.
        excess: The part of a bound by which the channel exceeds it.
        prices: Of distortion, perception and classification: minus the slopes of the rate in their
            bounds.
        iterations: Newton steps.
        converged: Whether gap (or residual) and constraints meet their tolerances.
    """

    channel: FloatArray
    value: float
    gap: float
    residual: float
    excess: float
    prices: tuple[float, float, float]
    iterations: int
    converged: bool

    @property
    def local(self) -> bool:
        """Whether it comes from a local method, which has no gap."""
        return math.isnan(self.gap)


def infeasible(shape: tuple[int, ...], iterations: int = 0) -> Outcome:
    """The outcome if no channel meets the bounds."""
    channel, prices = np.full(shape, np.nan), (0.0, 0.0, 0.0)
    return Outcome(channel, math.inf, 0.0, 0.0, 0.0, prices, iterations, True)


def solve_demand(
    pmf: FloatArray,
    distortion: FloatArray,
    loss: FloatArray | None,
    demand: Demand,
    tolerance: float,
) -> Outcome:
    """The channel that meets a demand at the least rate.

    Entries of very different size, such as huge ones that mean "forbidden", or tiny bounds may
    prevent convergence. Then it is tried again, aimed just inside the bounds or with entries
    forbidden that a channel could hardly use; the gap and the excess of the result are still those
    of the problem as posed.

    Args:
        pmf: (n,).
        distortion: (n, m), inf where a bound or price forbids.
        loss: (n, m) cross-entropy of a classifier of x̂ where the input was x, may be inf; None
            without a demand on the classification.
        demand: Prices or bounds.
        tolerance: Duality gap, nats.
    """
    whole = _Reduced.of(pmf, distortion, loss, demand, _UNUSABLE)
    if whole is None:
        return infeasible(distortion.shape)
    best, optimum = whole, whole.solve(tolerance)
    for share, aim in _ATTEMPTS:
        if optimum.solved(tolerance):
            break
        distortions, perceptions, losses = (aim * bound for bound in demand.bounds)
        closer = replace(demand, bounds=(distortions, perceptions, losses))
        reduced = _Reduced.of(pmf, distortion, loss, closer, share)
        if reduced is None:
            continue
        other = reduced.solve(tolerance)
        bound = whole.dual_bound(*reduced.multipliers(other))
        feasible, excess = bound <= whole.program.ceiling, aim * (1 + other.excess) - 1
        other = replace(other, bound=bound, feasible=feasible, excess=excess)
        if other.rank < optimum.rank:
            best, optimum = reduced, other
    if not optimum.feasible:
        return infeasible(distortion.shape, optimum.iterations)
    return Outcome(
        best.restored(optimum),
        optimum.value + best.constant,
        optimum.gap,
        optimum.residual,
        max(optimum.excess, 0.0),
        best.prices(optimum),
        optimum.iterations,
        optimum.solved(tolerance),
    )


@dataclass(frozen=True)
class _Term:
    """One linear term: the cost of x̂ above the least, in a unit of the size of the largest entry.

    Attributes:
        open: (n, m) the pairs that stay possible.
        extra: (n, m) cost above `least`, divided by `unit`; zero where not open.
        bound: Of Σ p extra; inf if it cannot be exceeded.
        price: Of `extra`.
        least: (n,) of each letter.
        unit: a power of two, so that it costs no digit.
    """

    open: NDArray[np.bool_]
    extra: FloatArray
    bound: float
    price: float
    least: FloatArray
    unit: float

    @classmethod
    def of(
        cls,
        pmf: FloatArray,
        cost: FloatArray,
        opened: NDArray[np.bool_],
        price: float,
        bound: float,
        share: float,
    ) -> _Term | None:
        """The term of a cost, or None if its bound is out of reach.

        Under a bound, only pairs that may take `share` of a letter's mass stay open, or only the
        least cost if the bound leaves no room.
        """
        opened = opened & np.isfinite(cost)
        if not opened.any(axis=1).all():
            return None
        least = np.where(opened, cost, np.inf).min(axis=1)
        extra = np.where(opened, cost, least[:, None]) - least[:, None]
        floor = float(pmf @ least)
        room, slack = bound - floor, _AT_LEAST * floor
        if room < -slack:
            return None
        if room <= slack:
            opened = opened & (extra <= _AT_LEAST * least[:, None])
            room = math.inf
        elif room < math.inf:
            opened = opened & (share * pmf[:, None] * extra <= room)
        extra = np.where(opened, extra, 0.0)
        if room >= float(pmf @ extra.max(axis=1)):
            room = math.inf
        unit = math.ldexp(1.0, math.frexp(float(extra.max()))[1] - 1)
        return cls(opened, extra / unit, room / unit, price * unit, least, unit)

    def program_cost(self, pmf: FloatArray, columns: Indices) -> Cost:
        """The cost in a program, with a first guess of the price where there is a bound."""
        extra = self.extra[:, columns]
        guess = 1 / (float(pmf @ extra.mean(axis=1)) or 1.0)
        price = guess if self.bound < math.inf else self.price
        return Cost(extra, price, self.bound, float(pmf @ self.least) / self.unit)


@dataclass(frozen=True)
class _Reduced:
    """A program without the letters that cannot occur.

    Attributes:
        program: The program.
        rows: Indices of the input letters that are left.
        columns: Indices of the output letters that are left.
        shape: Of the channel with all letters.
        terms: Distortion and classification, None where there is no demand on them.
        law_unit: Of the perception.
        constant: The value that was taken out: the prices times the least costs.
    """

    program: Program
    rows: Indices
    columns: Indices
    shape: tuple[int, ...]
    terms: tuple[_Term | None, _Term | None]
    law_unit: float
    constant: float

    @classmethod
    def of(
        cls,
        pmf: FloatArray,
        distortion: FloatArray,
        loss: FloatArray | None,
        demand: Demand,
        share: float,
    ) -> _Reduced | None:
        """Take the letters out; None if that shows that the demand cannot be met."""
        rows = np.flatnonzero(pmf > 0)
        letters = pmf[rows]
        opened = np.ones((len(rows), distortion.shape[1]), dtype=bool)
        if demand.asks(1) and demand.divergence in _ABSOLUTELY_CONTINUOUS:
            opened &= pmf > 0
        matrices = ((0, distortion), (2, loss))  # their indices in a demand
        costs = {
            which: matrix[rows]
            for which, matrix in matrices
            if matrix is not None and demand.asks(which)
        }
        terms: dict[int, _Term] = {}
        while True:  # the pairs that one demand rules out may rule out more for another
            before = opened
            for which, cost in costs.items():
                price, bound = demand.prices[which], demand.bounds[which]
                term = _Term.of(letters, cost, opened, price, bound, share)
                if term is None:
                    return None
                terms[which], opened = term, term.open
            columns = np.flatnonzero(opened.any(axis=0))
            part = _Part.of(pmf, rows, columns, distortion, demand, share)
            if part is None:
                return None
            opened = opened & np.isin(np.arange(opened.shape[1]), columns[part.reached])
            if (opened == before).all():
                break
        opened = opened[:, columns]
        kept, free = (terms.get(0), terms.get(2)), Cost(np.zeros(opened.shape), 0.0)
        linear = tuple(term.program_cost(letters, columns) if term else free for term in kept)
        # No rate needs to be larger than the entropy of either alphabet: a dual bound that is, more
        # than rounding explains, proves that nothing is feasible.
        entropy = -float(letters @ np.log(letters))
        ceiling = math.inf if any(demand.prices) else min(entropy, math.log(len(columns))) + 1e-6
        program = Program(letters, opened, linear, part.law, part.price, part.bound, ceiling)
        paid = [demand.prices[which] * float(letters @ terms[which].least) for which in terms]
        constant = demand.prices[1] * part.constant + sum(paid)
        return cls(program, rows, columns, distortion.shape, kept, part.unit, constant)

    def solve(self, tolerance: float) -> Optimum:
        """The optimum of the program, as exact as possible."""
        optimum, law = solve_program(self.program, tolerance), self.program.law
        if optimum.solved(tolerance) or self.program.law_bound == math.inf:
            return optimum
        return _by_price(self.program, law, tolerance) if isinstance(law, Separable) else optimum

    def restored(self, optimum: Optimum) -> FloatArray:
        """The channel with all letters: an input of no mass gets the output law."""
        channel = np.zeros(self.shape)
        others = np.delete(np.arange(self.shape[0]), self.rows)
        channel[np.ix_(self.rows, self.columns)] = optimum.channel
        channel[np.ix_(others, self.columns)] = optimum.output
        return channel

    def prices(self, optimum: Optimum) -> tuple[float, float, float]:
        """The prices of distortion, perception and classification, in their own units."""
        distortion, classification = (
            float(price) / (term.unit if term else 1.0)
            for price, term in zip(optimum.prices[:2], self.terms, strict=True)
        )
        return distortion, float(optimum.prices[2]) / self.law_unit, classification

    def multipliers(self, optimum: Optimum) -> tuple[FloatArray, tuple[float, float, float]]:
        """λ of the costs as they were given, and `prices`."""
        prices = self.prices(optimum)
        return optimum.multipliers + self._paid(prices), prices

    def _paid(self, prices: tuple[float, float, float]) -> FloatArray | int:
        """The prices times the least costs of each input letter."""
        pairs = zip((prices[0], prices[2]), self.terms, strict=True)
        return sum(price * term.least for price, term in pairs if term)

    def dual_bound(self, multipliers: FloatArray, prices: tuple[float, float, float]) -> float:
        """A lower bound of this program, from another program's multipliers for its letters."""
        pairs = zip((prices[0], prices[2]), self.terms, strict=True)
        own = [price * term.unit if term else 0.0 for price, term in pairs]
        unpaid = multipliers - self._paid(prices)
        return dual_bound(self.program, unpaid, np.array([*own, prices[1] * self.law_unit]))


@dataclass(frozen=True)
class _Part:
    """The part of a program that concerns the output law.

    Attributes:
        law: The initial output law.
        price: Of the divergence, in its unit.
        bound: Of the divergence, in its unit.
        constant: The perception that the letters taken out add.
        reached: (m,) which output letters may have mass.
        unit: Of a transport cost, a power of two.
    """

    law: Law
    price: float
    bound: float
    reached: NDArray[np.bool_]
    constant: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(
        cls,
        pmf: FloatArray,
        rows: Indices,
        columns: Indices,
        distortion: FloatArray,
        demand: Demand,
        share: float,
    ) -> _Part | None:
        """The part for a demand; None if it is out of reach."""
        if not demand.asks(1):
            return cls._free(columns)
        price, bound = demand.prices[1], demand.bounds[1]
        if demand.divergence in DIVERGENCES and bound > _AT_LEAST:
            return cls._divergence(pmf, columns, DIVERGENCES[demand.divergence], price, bound)
        # Total variation is the transport cost if each move costs one; at zero, all divergences are
        # the same.
        cost = distortion if demand.divergence == "w2" else 1.0 - np.eye(len(pmf))
        cost = cost[np.ix_(rows, columns)]
        term = _Term.of(pmf[rows], cost, np.ones(cost.shape, dtype=bool), price, bound, share)
        if term is None:
            return None
        free = term.bound == math.inf and price == 0 and term.open.all()
        return cls._free(columns) if free else cls._transport(pmf[rows], term)

    @classmethod
    def _free(cls, columns: Indices) -> _Part:
        law = _near(np.full(len(columns), 1 / len(columns)), None, 0.0)
        return cls(law, 0.0, math.inf, np.full(len(columns), True))

    @classmethod
    def _divergence(
        cls, pmf: FloatArray, columns: Indices, divergence: Divergence, price: float, bound: float
    ) -> _Part | None:
        gone = np.delete(pmf, columns)
        constant = float(divergence.value(np.zeros_like(gone), gone).sum())
        room = bound - constant
        if room <= 0:
            return None
        price = 2 * _FIRST_GAP / len(columns) / room if room < math.inf else price
        law = _near(pmf[columns], divergence, min(room, 0.1 / price))
        return cls(law, price, room, np.full(len(columns), True), constant)

    @classmethod
    def _transport(cls, pmf: FloatArray, term: _Term) -> _Part:
        cost, price, bound = np.where(term.open, term.extra, np.inf).T, term.price, term.bound
        if bound < math.inf:
            price = min(1 / float(term.extra.mean(axis=1) @ pmf), 2 * _FIRST_GAP / bound)
        law, reached = _coupled(pmf, cost, price), np.asarray(term.open.any(axis=0))
        return cls(law, price, bound, reached, float(pmf @ term.least), term.unit)


def _near(reference: FloatArray, divergence: Divergence | None, room: float) -> Separable:
    """A law at a divergence of about `room`: not at p, where the divergence has no slope.

    Letters that p lacks may be used too.
    """
    tilt = min(0.5, math.sqrt(room) / 2) * np.linspace(-1, 1, len(reference))
    output = np.where(reference > 0, reference * (1 + tilt), min(0.01, room / 10) / len(reference))
    slack = _FIRST_GAP / len(output) / output
    return Separable(reference, divergence, output / output.sum(), slack)


def _coupled(reference: FloatArray, cost: FloatArray, price: float) -> Transport:
    """A coupling between the independent and the optimal one, and multipliers that fit the cost."""
    opened = np.isfinite(cost)
    priced = np.where(opened, price * np.where(opened, cost, 0.0), np.inf)
    potential = _FIRST_GAP / len(reference) / reference - priced.min(axis=0)
    slack = np.where(opened, priced + potential, 1.0)
    coupling = np.where(opened, 1 / slack, 0.0)
    coupling = coupling * (reference / coupling.sum(axis=0))
    return Transport(reference, cost, coupling, slack, potential)


def _by_price(program: Program, law: Separable, tolerance: float) -> Optimum:
    """The optimum under a bound on the divergence that is too small for a direct solution.

    By a search for the price at which the divergence is just within the bound.
    """
    bound, price, iterations = program.law_bound, 0.3 / math.sqrt(program.law_bound), 0
    before: tuple[float, float] | None = None
    for _ in range(_SEARCHES):
        near = _near(law.reference, law.divergence, 0.1 / price)
        fixed = replace(program, law=near, law_price=price, law_bound=math.inf, ceiling=math.inf)
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
