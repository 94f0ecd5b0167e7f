"""Newton's interior-point method for min I(X;X̂) under convex prices and bounds.

By Lagrange duality, with prices β_k on the costs d_k and γ on a convex function Φ of the output law
q,

    min_W I + Σ_k β_k E d_k + γ Φ(q)  =  max_λ Σ_x p(x) λ(x) + min_q [γ Φ(q) − Σ_x̂ q(x̂) s(x̂)],
    s(x̂) = ln Σ_x p(x) exp(λ(x) − Σ_k β_k d_k(x,x̂)),

convex in q and jointly concave in λ and all prices. A bound on E d_k or on Φ makes its price one
more unknown. Any λ and prices ≥ 0 give a lower bound of the optimum and any channel an upper one,
so each solution proves how exact it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import logsumexp

from quadrate.theory.channels import FloatArray
from quadrate.theory.discrete.laws import Law, Step, longest_step


@dataclass(frozen=True)
class Cost:
    """One linear term: E d at a price, or E d ≤ bound, with the price as a first guess.

    Attributes:
        matrix: (n, m) d(x,x̂).
        price: Nats per unit of d.
        bound: inf for a fixed price.
        floor: The amount taken off the bound, which counts in the size of its violation.
    """

    matrix: FloatArray
    price: float
    bound: float = math.inf
    floor: float = 0.0


@dataclass(frozen=True)
class Program:
    """The problem to solve.

    Attributes:
        pmf: (n,) all positive.
        open: (n, m) whether x may become x̂; at least one in each row and column.
        costs: The linear terms.
        law: The initial output law.
        law_price: γ, or a first guess of it.
        law_bound: inf for a fixed γ.
        ceiling: No less than the value of any channel that meets the bounds.
    """

    pmf: FloatArray
    open: NDArray[np.bool_]
    costs: tuple[Cost, ...]
    law: Law
    law_price: float = 0.0
    law_bound: float = math.inf
    ceiling: float = math.inf


@dataclass(frozen=True)
class Optimum:
    """The solution of a program.

    Attributes:
        channel: (n, m).
        output: (m,) its output law.
        multipliers: (n,) λ.
        prices: Of the costs and of the law.
        value: Rate plus the terms with a fixed price, nats.
        bound: No channel has a smaller value.
        excess: The largest violation of a bound, in parts of it and a millionth of the cost's
            largest entry; negative if all are met.
        residual: The violation of the optimality conditions, nats.
        iterations: Newton steps.
        feasible: False if it is proven that no channel meets the bounds.
    """

    channel: FloatArray
    output: FloatArray
    multipliers: FloatArray
    prices: FloatArray
    value: float
    bound: float
    excess: float
    residual: float
    iterations: int
    feasible: bool

    @property
    def gap(self) -> float:
        """The most that the value may be above the least, nats."""
        return max(self.value - self.bound, 0.0)

    @property
    def rank(self) -> tuple[bool, float]:
        """The order of optima: those that meet the bounds come first, then those of small gap."""
        return self.excess > FEASIBILITY, self.gap

    def solved(self, tolerance: float) -> bool:
        """Whether the gap and all bounds are met."""
        return not self.feasible or (self.gap <= tolerance and self.excess <= FEASIBILITY)


# A bound may be exceeded by this part of itself and of a millionth of the cost's largest entry, but
# by no more than a hundred times this part of itself.
FEASIBILITY = 1e-8
# Replaces zero in logarithms and quotients.
_TINY = 1e-300
# A step this short ends the iteration.
_STALLED = 1e-10


def solve_program(program: Program, tolerance: float, iterations: int = 200) -> Optimum:
    """Solve a program to a duality gap of `tolerance` nats, or as exactly as possible.

    The optimum's gap and excess say how exactly.
    """
    state, length = _State.start(program), 1.0
    best: Optimum | None = None
    for iteration in range(iterations):
        bound = state.bound()
        if bound > program.ceiling:
            return state.optimum(bound, iteration, feasible=False)
        if state.complementarity() * state.count() < 10 * tolerance or length < _STALLED:
            now = state.optimum(bound, iteration, feasible=True)
            if best is None or now.rank <= best.rank:
                best = now
            if best.solved(tolerance) or length < _STALLED:
                return best
        state, length = state.advance()
    return best or state.optimum(state.bound(), iterations, feasible=True)


def dual_bound(program: Program, multipliers: FloatArray, prices: FloatArray) -> float:
    """The lower bound of a program that any multipliers λ and prices ≥ 0 give."""
    return _State.make(program, multipliers, prices, np.ones_like(prices), program.law).bound()


@dataclass(frozen=True)
class _State:
    """A point of the iteration: multipliers λ, prices, slacks of the bounds, and the law."""

    program: Program
    multipliers: FloatArray
    prices: FloatArray
    slacks: FloatArray
    law: Law
    scores: FloatArray
    backward: FloatArray

    @classmethod
    def make(
        cls,
        program: Program,
        multipliers: FloatArray,
        prices: FloatArray,
        slacks: FloatArray,
        law: Law,
    ) -> _State:
        """Compute the scores s(x̂), and the backward channel p(x|x̂) as (n, m)."""
        exponents = (np.log(program.pmf) + multipliers)[:, None] - _priced(program, prices)
        exponents = np.where(program.open, exponents, -np.inf)
        tops = exponents.max(axis=0)
        backward = np.exp(exponents - tops)
        sums = backward.sum(axis=0)
        return cls(program, multipliers, prices, slacks, law, tops + np.log(sums), backward / sums)

    @classmethod
    def start(cls, program: Program) -> _State:
        prices = np.array([*(cost.price for cost in program.costs), program.law_price])
        room = program.law_bound / 2 if program.law_bound < math.inf else 1.0
        rooms = [min(_spread(cost.matrix) / 10, cost.bound / 2) for cost in program.costs]
        exponents = np.where(program.open, -_priced(program, prices), -np.inf)
        # Multipliers of the channel that follows from this output law and these prices.
        multipliers = -logsumexp(exponents, axis=1, b=program.law.output)
        return cls.make(program, multipliers, prices, np.array([*rooms, room]), program.law)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which prices are unknowns."""
        return np.isfinite(self.bounds)

    @property
    def bounds(self) -> FloatArray:
        return np.array([*(cost.bound for cost in self.program.costs), self.program.law_bound])

    def _products(self) -> FloatArray:
        return np.concatenate([self.law.products, (self.prices * self.slacks)[self.free]])

    def complementarity(self) -> float:
        return float(self._products().mean())

    def count(self) -> int:
        return len(self._products())

    def bound(self) -> float:
        paid = float((self.prices * np.where(self.free, self.bounds, 0))[self.free].sum())
        law = self.law.bound(self.scores, float(self.prices[-1]))
        return float(self.program.pmf @ self.multipliers) + law - paid

    def _means(self) -> FloatArray:
        """E[d_k | x̂] (K, m)."""
        means = [(self.backward * cost.matrix).sum(axis=0) for cost in self.program.costs]
        return np.array(means).reshape(-1, len(self.scores))

    def _overrun(self) -> FloatArray:
        """E d_k and Φ minus their bounds (zero where there is no bound)."""
        values = np.append(self._means() @ self.law.output, self.law.perception())
        return np.where(self.free, values - np.where(self.free, self.bounds, 0), 0.0)

    def inputs(self) -> FloatArray:
        """Σ_x̂ q(x̂) p(x|x̂): p at the optimum."""
        return np.maximum(self.backward @ self.law.output, _TINY)

    def residual(self, yardstick: _State) -> float:
        """The distance from optimality for any barrier, nats.

        A norm of the terms that each step reduces in proportion to its length.
        """
        rows = self.program.pmf @ np.abs(np.log(self.inputs() / self.program.pmf))
        overruns = yardstick.prices * np.abs(self._overrun() + np.where(self.free, self.slacks, 0))
        law = self.law.residual(self.scores, float(self.prices[-1]), yardstick.law.weights)
        return float(rows + overruns[self.free].sum() + law)

    def advance(self) -> tuple[_State, float]:
        """One predictor-corrector step of Mehrotra (1992), and its length.

        Damped while the scores are too far from linear.
        """
        newton = _Newton(self)
        mean, before = self.complementarity(), self.residual(self)
        zeros = np.zeros_like(self.law.products)
        predictor = newton.direction(zeros, 0.0 * self.prices)
        after = self.moved(predictor, min(1.0, predictor.longest)).complementarity()
        # Complementarity must not run ahead of the other conditions.
        centre = max(mean * min(after / mean, 0.8) ** 3, 0.1 * before / self.count())
        targets = centre - predictor.law.products, centre - predictor.prices * predictor.slacks
        state, length = self._searched(newton.direction(*targets), before, halvings=4)
        if length < 0.1:
            centring = newton.direction(zeros + mean / 2, 0.0 * self.prices + mean / 2)
            other, further = self._searched(centring, before, halvings=40)
            return (other, further) if further > length else (state, length)
        return state, length

    def _searched(
        self, direction: _Direction, before: float, halvings: int
    ) -> tuple[_State, float]:
        """The longest of the tried steps that is progress, or a step of length zero.

        Progress in residual and complementarity together.
        """
        length = min(1.0, 0.99 * direction.longest)
        merit = 3 * before + self.complementarity() * self.count()
        for _ in range(halvings):
            moved = self.moved(direction, length)
            after = 3 * moved.residual(self) + moved.complementarity() * moved.count()
            if after <= (1 - 0.01 * length) * merit:
                return moved, length
            length /= 2
        return self, 0.0

    def moved(self, direction: _Direction, length: float) -> _State:
        return self.make(
            self.program,
            self.multipliers + length * direction.multipliers,
            self.prices + length * direction.prices,
            self.slacks + length * direction.slacks,
            self.law.moved(direction.law, length),
        )

    @property
    def prices_or_one(self) -> FloatArray:
        return np.where(self.free, self.prices, 1.0)

    def optimum(self, bound: float, iteration: int, feasible: bool) -> Optimum:
        pmf = self.program.pmf
        joint = self.backward * self.law.output
        channel = joint / joint.sum(axis=1, keepdims=True)
        output = pmf @ channel
        ratios = np.divide(channel, output, out=np.ones_like(channel), where=channel > 0)
        rate = max(float((pmf[:, None] * channel * np.log(ratios)).sum()), 0.0)
        costs = self.program.costs
        averages = [float((pmf[:, None] * channel * cost.matrix).sum()) for cost in costs]
        values = np.array([*averages, self.law.perception_of(output)])
        largest = np.array([*(np.abs(cost.matrix).max() for cost in costs), 0.0])
        bounds = np.where(self.free, self.bounds, 1.0)
        whole = bounds + np.array([*(cost.floor for cost in costs), 0.0])
        excesses = (values - bounds) / (whole + np.minimum(1e-6 * largest, 99 * whole))
        return Optimum(
            channel,
            output,
            self.multipliers,
            self.prices,
            value=rate + float((self.prices * values)[~self.free].sum()),
            bound=bound,
            excess=float(np.max(np.where(self.free, excesses, 0.0))),
            residual=self.residual(self),
            iterations=iteration,
            feasible=feasible,
        )


@dataclass(frozen=True)
class _Direction:
    multipliers: FloatArray
    prices: FloatArray
    slacks: FloatArray
    law: Step
    longest: float


class _Newton:
    """The Newton system of a state, factored."""

    def __init__(self, state: _State) -> None:
        self.state = state
        part = state.law.linearize(float(state.prices[-1]))
        output, n = state.law.output, len(state.multipliers)
        # The derivatives (n+K, m) of the scores by the multipliers and by the costs' prices.
        self.features = features = np.vstack([state.backward, -state._means()])
        joint = state.backward * output
        size = n + len(state.prices)
        system = np.zeros((size, size))
        # The curvature of the scores: the covariance under each backward channel of (one-hot x,
        # −d_1, …, −d_K). Its first block is a Laplacian, and all of it is computed from terms of
        # one sign: otherwise nearly certain letters would lose all digits.
        links = joint @ state.backward.T
        np.fill_diagonal(links, 0)
        system[:n, :n] = np.diag(links.sum(axis=1)) - links
        pairs = zip(state.program.costs, features[n:], strict=True)
        centred = [cost.matrix + mean for cost, mean in pairs]
        for k, first in enumerate(centred):
            weighted = joint * first
            system[n + k, :n] = system[:n, n + k] = -weighted.sum(axis=1)
            for other, second in enumerate(centred):
                system[n + k, n + other] = (weighted * second).sum()
        diagonal = part.matrix.ndim == 1
        weighted = features * part.matrix if diagonal else features @ part.matrix
        system[:-1, :-1] += weighted @ features.T
        system[-1, :-1] = system[:-1, -1] = features @ part.cross
        system[-1, -1] = part.stiffness
        system[np.arange(n, size), np.arange(n, size)] += state.slacks / state.prices_or_one
        self.keep = np.concatenate([np.full(n, True), state.free])
        self.solve = _positive_solver(system[np.ix_(self.keep, self.keep)])
        inputs = state.inputs()
        # Newton's method for ln Σ_x̂ q(x̂) p(x|x̂) = ln p(x), not for the sums themselves: the
        # multipliers are inside an exponential.
        rows = inputs * np.log(state.program.pmf / inputs)
        self.gradient = np.concatenate([rows, state._overrun()])

    def direction(self, target: FloatArray, price_target: FloatArray) -> _Direction:
        """The Newton step to these products of the law, and these of prices and slacks."""
        state, n = self.state, len(self.state.multipliers)
        price = float(state.prices[-1])
        offset, drift = state.law.offset(state.scores, price, target)
        right = self.gradient - np.append(self.features @ offset, -drift)
        right[n:] += price_target / state.prices_or_one
        change = np.zeros(len(right))
        change[self.keep] = self.solve(right[self.keep])
        score_step, price_step = self.features.T @ change[:-1], change[n:]
        missing = price_target - state.prices * state.slacks - state.slacks * price_step
        slack_step = np.where(state.free, missing / state.prices_or_one, 0.0)
        law_step = state.law.step(state.scores, price, target, score_step, float(price_step[-1]))
        limits = longest_step((state.prices_or_one, price_step), (state.slacks, slack_step))
        # A multiplier is inside an exponential: too long a step leaves the range of its tangent.
        reach = 10 + 0.5 * np.abs(state.multipliers).max()
        tangent = reach / max(np.abs(change[:n]).max(), _TINY)
        longest = min(law_step.longest, limits, tangent)
        return _Direction(change[:n], price_step, slack_step, law_step, longest)


def _priced(program: Program, prices: FloatArray) -> FloatArray | int:
    """Σ_k β_k d_k, (n, m)."""
    pairs = zip(prices[:-1], program.costs, strict=True)
    return sum(price * cost.matrix for price, cost in pairs)


def _spread(matrix: FloatArray) -> float:
    return float(np.ptp(matrix)) or 1.0


def _positive_solver(system: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Factor a positive semidefinite matrix and return a function that solves with it.

    It is scaled to a unit diagonal, so that rare letters keep their digits.
    """
    scale = 1 / np.sqrt(np.maximum(np.diag(system), _TINY))
    scaled = system * scale * scale[:, None]
    ridge = 0.0
    while True:
        regular = scaled + ridge * np.eye(len(scaled))
        try:
            factor = scipy.linalg.cho_factor(regular, check_finite=False)
        except np.linalg.LinAlgError:
            ridge = max(100 * ridge, 1e-15)
        else:
            break

    def solve(right: FloatArray) -> FloatArray:
        return scale * scipy.linalg.cho_solve(factor, scale * right, check_finite=False)

    return solve
