"""Rate-distortion-perception-classification with a given classifier, as a `saddle` program.

Letters that cannot occur are taken out before, and put back after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from quadrate.theory.channels import FloatArray
from quadrate.theory.discrete.laws import Separable
from quadrate.theory.discrete.saddle import Cost, Optimum, Program, dual_bound, solve_program
from quadrate.theory.discrete.terms import Demand, Indices, LawTerm, Term, near_law

# Divergences that are infinite where the output has mass and p has none.
_ABSOLUTELY_CONTINUOUS = ("kl", "chi2")
# Pairs that could take no more than this part of a letter's mass are forbidden: the rate does not
# change.
_UNUSABLE = 1e-12
# For problems that fail: the share of mass below which pairs are forbidden, and the part of the
# bounds to aim at.
_ATTEMPTS = ((_UNUSABLE, 1 - 1e-6), (1e-9, 1.0), (1e-7, 1.0), (1e-5, 1.0), (1e-3, 1.0), (1e-2, 1.0))
# Prices that a search tries.
_SEARCHES = 30


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
    terms: tuple[Term | None, Term | None]
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
        terms: dict[int, Term] = {}
        while True:  # the pairs that one demand rules out may rule out more for another
            before = opened
            for which, cost in costs.items():
                price, bound = demand.prices[which], demand.bounds[which]
                term = Term.of(letters, cost, opened, price, bound, share)
                if term is None:
                    return None
                terms[which], opened = term, term.open
            columns = np.flatnonzero(opened.any(axis=0))
            part = LawTerm.of(pmf, rows, columns, distortion, demand, share)
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


def _by_price(program: Program, law: Separable, tolerance: float) -> Optimum:
    """The optimum under a bound on the divergence that is too small for a direct solution.

    By a search for the price at which the divergence is just within the bound.
    """
    bound, price, iterations = program.law_bound, 0.3 / math.sqrt(program.law_bound), 0
    before: tuple[float, float] | None = None
    for _ in range(_SEARCHES):
        near = near_law(law.reference, law.divergence, 0.1 / price)
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
