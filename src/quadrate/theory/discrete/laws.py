"""The output law q = p_X̂ in the saddle problem of `saddle`: its unknowns, and its Newton steps.

Both classes solve, for given scores s (m,) and price γ, the optimality conditions of min_q γ Φ(q) −
⟨s, q⟩ relaxed by a logarithmic barrier μ, and both give the caller the linearization around their
state: dq = matrix ds + cross dγ + offset, dΦ = −⟨cross, ds⟩ − stiffness dγ + drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import kl_div

from quadrate.theory.channels import FloatArray
from quadrate.theory.discrete.transport import rounded


@dataclass(frozen=True)
class Divergence:
    """D_f(q‖p) = Σ p f(q/p) with its derivatives, elementwise in (q, p); `conjugate` is p f*(u)."""

    value: Callable[[FloatArray, FloatArray], FloatArray]
    slope: Callable[[FloatArray, FloatArray], FloatArray]
    curvature: Callable[[FloatArray, FloatArray], FloatArray]
    conjugate: Callable[[FloatArray, FloatArray], FloatArray]


def _chi2(q: FloatArray, p: FloatArray) -> FloatArray:
    return np.divide((q - p) ** 2, p, out=np.where(q > 0, np.inf, 0.0), where=p > 0)


def _chi2_conjugate(u: FloatArray, p: FloatArray) -> FloatArray:
    return p * np.where(u < -2, -1.0, u + u**2 / 4)


def _hellinger_conjugate(u: FloatArray, p: FloatArray) -> FloatArray:
    beyond = np.where((u > 1) | ((u == 1) & (p > 0)), np.inf, 0.0)
    return np.divide(p * u, 1 - u, out=beyond, where=u < 1)


def _kl_conjugate(u: FloatArray, p: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return p * np.expm1(u)


# KL(q‖p) = Σ [q ln(q/p) − q + p], of terms ≥ 0; χ² = Σ (q−p)²/p; squared Hellinger = Σ (√q−√p)²,
# without a factor of one half.
DIVERGENCES = {
    "kl": Divergence(kl_div, lambda q, p: np.log(q / p), lambda q, p: 1 / q, _kl_conjugate),
    "chi2": Divergence(_chi2, lambda q, p: 2 * (q / p - 1), lambda q, p: 2 / p, _chi2_conjugate),
    "hellinger": Divergence(
        lambda q, p: (np.sqrt(q) - np.sqrt(p)) ** 2,
        lambda q, p: 1 - np.sqrt(p / q),
        lambda q, p: np.sqrt(p) * q**-1.5 / 2,
        _hellinger_conjugate,
    ),
}


@dataclass(frozen=True)
class Linearization:
    """See the module's docstring; `matrix` is (m,) if it is diagonal, otherwise (m, m)."""

    matrix: FloatArray
    cross: FloatArray
    stiffness: float


@dataclass(frozen=True)
class Step:
    """A Newton direction in all unknowns of a law.

    Also the products of its paired parts, and its longest multiple that keeps these positive.
    """

    parts: tuple[FloatArray, ...]
    products: FloatArray
    longest: float


class Law(Protocol):
    """The law that `saddle` needs."""

    @property
    def output(self) -> FloatArray:
        """(m,) q."""
        ...

    @property
    def products(self) -> FloatArray:
        """The products that the barrier holds equal: each positive unknown times its multiplier."""
        ...

    @property
    def weights(self) -> FloatArray:
        """How much each stationarity condition counts in a residual."""
        ...

    def perception(self) -> float:
        """Φ of the unknowns."""
        ...

    def perception_of(self, output: FloatArray) -> float:
        """Φ of any law, or an upper bound."""
        ...

    def residual(self, scores: FloatArray, price: float, weights: FloatArray) -> float:
        """The violation of the conditions other than complementarity, nats."""
        ...

    def linearize(self, price: float) -> Linearization:
        """The first-order effect of a change of scores and price."""
        ...

    def offset(
        self, scores: FloatArray, price: float, target: FloatArray
    ) -> tuple[FloatArray, float]:
        """The changes of q and Φ that lead to these products while scores and price stay."""
        ...

    def step(
        self,
        scores: FloatArray,
        price: float,
        target: FloatArray,
        score_step: FloatArray,
        price_step: float,
    ) -> Step:
        """The changes of all unknowns that go with a change of scores and price."""
        ...

    def moved(self, step: Step, length: float) -> Law:
        """The law after a part of a step."""
        ...

    def bound(self, scores: FloatArray, price: float) -> float:
        """min_q γ Φ(q) − ⟨s, q⟩ over all laws q, or a lower bound."""
        ...


def longest_step(*pairs: tuple[FloatArray, FloatArray]) -> float:
    """The largest multiple of the second arrays that keeps the signs of the first when added."""
    return min(
        (float(1 / max(np.max(-change / value), 1e-300)) for value, change in pairs if value.size),
        default=math.inf,
    )


@dataclass(frozen=True)
class Separable:
    """Any output law (`divergence` None), or one at an f-divergence from p.

    Attributes:
        reference: (m,) p.
        divergence: f, or None.
        output: (m,) q.
        slack: (m,) the multiplier z of q ≥ 0.
    """

    reference: FloatArray
    divergence: Divergence | None
    output: FloatArray
    slack: FloatArray

    @property
    def products(self) -> FloatArray:
        """The products of output and slack, or of coupling and slack."""
        return self.output * self.slack

    def perception(self) -> float:
        """Φ of the unknowns."""
        return self.perception_of(self.output)

    def perception_of(self, output: FloatArray) -> float:
        """Φ of any law."""
        if self.divergence is None:
            return 0.0
        return float(self.divergence.value(output, self.reference).sum())

    def _slope(self) -> FloatArray:
        if self.divergence is None:
            return np.zeros_like(self.output)
        return self.divergence.slope(self.output, self.reference)

    @property
    def weights(self) -> FloatArray:
        """How much each stationarity condition counts in a residual."""
        return self.output

    def residual(self, scores: FloatArray, price: float, weights: FloatArray) -> float:
        """The violation of the conditions other than complementarity, nats."""
        return float(weights @ np.abs(scores - price * self._slope() + self.slack))

    def _weights(self, price: float) -> FloatArray:
        stiffness = self.slack / self.output
        if self.divergence:
            stiffness = stiffness + price * self.divergence.curvature(self.output, self.reference)
        return 1 / stiffness

    def linearize(self, price: float) -> Linearization:
        """The first-order effect of a change of scores and price."""
        weights, slope = self._weights(price), self._slope()
        return Linearization(weights, -weights * slope, float(weights @ slope**2))

    def offset(
        self, scores: FloatArray, price: float, target: FloatArray
    ) -> tuple[FloatArray, float]:
        """The changes of q and Φ that lead to these products while scores and price stay."""
        slope = self._slope()
        push = self._weights(price) * (scores - price * slope + target / self.output)
        return push, float(push @ slope)

    def step(
        self,
        scores: FloatArray,
        price: float,
        target: FloatArray,
        score_step: FloatArray,
        price_step: float,
    ) -> Step:
        """The changes of all unknowns that go with a change of scores and price."""
        slope = self._slope()
        push = score_step - slope * price_step + scores - price * slope + target / self.output
        output = self._weights(price) * push
        slack = (target - self.products - self.slack * output) / self.output
        longest = longest_step((self.output, output), (self.slack, slack))
        return Step((output, slack), output * slack, longest)

    def moved(self, step: Step, length: float) -> Separable:
        """The law after a part of a step."""
        output, slack = (length * part for part in step.parts)
        return replace(self, output=self.output + output, slack=self.slack + slack)

    def bound(self, scores: FloatArray, price: float) -> float:
        """min_q γ Φ(q) − ⟨s, q⟩ over all laws q, or a lower bound."""
        if self.divergence is None or price == 0:
            return -float(scores.max())
        # Laws sum to one, so a constant may be added to all scores: none, and one that keeps the
        # conjugate finite, are tried.
        shifts = np.array([[0.0], [price / 2 - float(scores.max())]])
        conjugates = self.divergence.conjugate((scores + shifts) / price, self.reference)
        return float(np.max(shifts[:, 0] - price * conjugates.sum(axis=1)))


@dataclass(frozen=True)
class Transport:
    """An output law within a transport cost of p.

    The unknowns are a coupling of the two and the potentials of p.

    Attributes:
        reference: (k,) p without its zeros.
        cost: (m, k), inf where nothing may be carried.
        coupling: (m, k) masses T carried from x̂ to y; zero where the cost is inf.
        slack: (m, k) the multiplier of T ≥ 0; one where the cost is inf.
        potential: (k,) the multiplier t of the column sums.
    """

    reference: FloatArray
    cost: FloatArray
    coupling: FloatArray
    slack: FloatArray
    potential: FloatArray

    @property
    def output(self) -> FloatArray:
        """(m,) q."""
        return self.coupling.sum(axis=1)

    @property
    def products(self) -> FloatArray:
        """The products of output and slack, or of coupling and slack."""
        return (self.coupling * self.slack)[self._open]

    @property
    def _open(self) -> FloatArray:
        return np.isfinite(self.cost)

    @property
    def _finite_cost(self) -> FloatArray:
        return np.where(self._open, self.cost, 0.0)

    def perception(self) -> float:
        """Φ of the unknowns."""
        return float((self.coupling * self._finite_cost).sum())

    def perception_of(self, output: FloatArray) -> float:
        """The cost of a coupling with these marginals, an upper bound of the transport cost."""
        plan = rounded(self.coupling, output, self.reference)
        return float((plan * self._finite_cost).sum())

    def _excess(self, scores: FloatArray, price: float) -> FloatArray:
        excess = scores[:, None] - self.potential - price * self._finite_cost
        return np.where(self._open, excess, 0.0)

    @property
    def weights(self) -> FloatArray:
        """How much each stationarity condition counts in a residual."""
        return self.coupling

    def residual(self, scores: FloatArray, price: float, weights: FloatArray) -> float:
        """The violation of the conditions other than complementarity, nats."""
        stationarity = (weights * np.abs(self._excess(scores, price) + self.slack))[self._open]
        return float(stationarity.sum() + np.abs(self.reference - self.coupling.sum(axis=0)).sum())

    def linearize(self, price: float) -> Linearization:
        """The first-order effect of a change of scores and price."""
        weights = self.coupling / self.slack
        columns = weights.sum(axis=0)
        priced = weights * self._finite_cost
        shares = weights / columns
        # The matrix is a Laplacian: from its off-diagonal entries alone, the diagonal keeps its
        # digits.
        links = shares @ weights.T
        np.fill_diagonal(links, 0)
        # Scores are defined up to a constant, which the added ones fix.
        matrix = np.diag(links.sum(axis=1)) - links + 1.0
        priced_columns = priced.sum(axis=0)
        cross = shares @ priced_columns - priced.sum(axis=1)
        stiffness = float((priced * self._finite_cost).sum() - (priced_columns**2 / columns).sum())
        return Linearization(matrix, cross, stiffness)

    def _pushes(self, scores: FloatArray, price: float, target: FloatArray) -> FloatArray:
        full = np.zeros_like(self.coupling)
        full[self._open] = target
        return (self.coupling * self._excess(scores, price) + full) / self.slack

    def offset(
        self, scores: FloatArray, price: float, target: FloatArray
    ) -> tuple[FloatArray, float]:
        """The changes of q and Φ that lead to these products while scores and price stay."""
        step = self._step(self._pushes(scores, price, target))[0]
        return step.sum(axis=1), float((step * self._finite_cost).sum())

    def _step(self, free: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Correct a change of the coupling so that the column sums hold; also the potential's."""
        weights = self.coupling / self.slack
        missing = self.reference - self.coupling.sum(axis=0)
        potential = (free.sum(axis=0) - missing) / weights.sum(axis=0)
        return free - weights * potential, potential

    def step(
        self,
        scores: FloatArray,
        price: float,
        target: FloatArray,
        score_step: FloatArray,
        price_step: float,
    ) -> Step:
        """The changes of all unknowns that go with a change of scores and price."""
        weights, opened = self.coupling / self.slack, self._open
        free = weights * (score_step[:, None] - price_step * self._finite_cost)
        coupling, potential = self._step(free + self._pushes(scores, price, target))
        changes, masses, slacks = coupling[opened], self.coupling[opened], self.slack[opened]
        slack = np.zeros_like(coupling)
        slack[opened] = (target - self.products - slacks * changes) / masses
        longest = longest_step((masses, changes), (slacks, slack[opened]))
        return Step((coupling, slack, potential), (coupling * slack)[opened], longest)

    def moved(self, step: Step, length: float) -> Transport:
        """The law after a part of a step."""
        coupling, slack, potential = (length * part for part in step.parts)
        return replace(
            self,
            coupling=self.coupling + coupling,
            slack=self.slack + slack,
            potential=self.potential + potential,
        )

    def bound(self, scores: FloatArray, price: float) -> float:
        """min_q γ Φ(q) − ⟨s, q⟩ over all laws q, or a lower bound."""
        gains = np.where(self._open, scores[:, None] - price * self._finite_cost, -np.inf)
        return -float(self.reference @ gains.max(axis=0))
