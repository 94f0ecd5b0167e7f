"""What is asked of the output law q = p_X̂, as a part of the saddle problem in `saddle`.

The law's share of the unknowns and of each Newton step.

Both classes solve, for given scores s (m,) and price γ, the optimality conditions of min_q γ Φ(q) −
⟨s, q⟩ relaxed by a logarithmic barrier μ, and both hand the linearization around where they stand
to the caller: dq = matrix ds + cross dγ + offset, dΦ = −⟨cross, ds⟩ − stiffness dγ + drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
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
    return np.divide(
        p * u,
        1 - u,
        out=np.where(u > 1, np.inf, 0.0) + np.where((u == 1) & (p > 0), np.inf, 0.0),
        where=u < 1,
    )


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
    """See the module's first lines; `matrix` is (m,) if diagonal, else (m, m)."""

    matrix: FloatArray
    cross: FloatArray
    stiffness: float


@dataclass(frozen=True)
class Step:
    """A Newton direction in all of a law's unknowns.

    The products of its paired parts, and its longest multiple that keeps these positive.
    """

    parts: tuple[FloatArray, ...]
    products: FloatArray
    longest: float


class Law(Protocol):
    """What `saddle` needs of a law."""

    @property
    def output(self) -> FloatArray:
        """(m,) q."""
        ...

    @property
    def products(self) -> FloatArray:
        """What the barrier holds equal: each positive unknown times its multiplier."""
        ...

    @property
    def weights(self) -> FloatArray:
        """How much each stationarity condition counts in a residual."""
        ...

    def perception(self) -> float:
        """Φ of the unknowns."""
        ...

    def perception_of(self, output: FloatArray) -> float:
        """Φ of any law, or something not below it."""
        ...

    def residual(self, scores: FloatArray, price: float, weights: FloatArray) -> float:
        """How far the conditions other than complementarity are from being met, nats."""
        ...

    def linearize(self, price: float) -> Linearization:
        """What a change of scores and price does to first order."""
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
        """The law after so much of a step."""
        ...

    def bound(self, scores: FloatArray, price: float) -> float:
        """min_q γ Φ(q) − ⟨s, q⟩ over all laws q, or something below it."""
        ...


def longest_step(*pairs: tuple[FloatArray, FloatArray]) -> float:
    """The largest multiple of the second arrays that can be added to the first ones without a sign change."""
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
        """What the barrier holds equal: each positive unknown times its multiplier."""
        return self.output * self.slack

    def perception(self) -> float:
        """Φ of the unknowns."""
        return self.perception_of(self.output)

    def perception_of(self, output: FloatArray) -> float:
        """Φ of any law, or something not below it."""
        return (
            float(self.divergence.value(output, self.reference).sum()) if self.divergence else 0.0
        )

    def _slope(self) -> FloatArray:
        return (
            self.divergence.slope(self.output, self.reference)
            if self.divergence
            else np.zeros_like(self.output)
        )

    @property
    def weights(self) -> FloatArray:
        """How much each stationarity condition counts in a residual."""
        return self.output

    def residual(self, scores: FloatArray, price: float, weights: FloatArray) -> float:
        """How far the conditions other than complementarity are from being met, nats."""
        return float(weights @ np.abs(scores - price * self._slope() + self.slack))

    def _weights(self, price: float) -> FloatArray:
        stiffness = self.slack / self.output
        if self.divergence:
            stiffness = stiffness + price * self.divergence.curvature(self.output, self.reference)
        return 1 / stiffness

    def linearize(self, price: float) -> Linearization:
        """What a change of scores and price does to first order."""
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
        output = self._weights(price) * (
            score_step - slope * price_step + scores - price * slope + target / self.output
        )
        slack = (target - self.products - self.slack * output) / self.output
        return Step(
            (output, slack),
            output * slack,
            longest_step((self.output, output), (self.slack, slack)),
        )

    def moved(self, step: Step, length: float) -> Separable:
        """The law after so much of a step."""
        output, slack = step.parts
        return Separable(
            self.reference,
            self.divergence,
            self.output + length * output,
            self.slack + length * slack,
        )

    def bound(self, scores: FloatArray, price: float) -> float:
        """min_q γ Φ(q) − ⟨s, q⟩ over all laws q, or something below it."""
        if self.divergence is None or price == 0:
            return -float(scores.max())
        # Laws sum to one, so a constant may be added to all scores: one that keeps the conjugate
        # finite is tried beside none.
        shifts = np.array([[0.0], [price / 2 - float(scores.max())]])
        conjugates = price * self.divergence.conjugate(
            (scores + shifts) / price, self.reference
        ).sum(axis=1)
        return float(np.max(shifts[:, 0] - conjugates))


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
        """What the barrier holds equal: each positive unknown times its multiplier."""
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
        """The cost of a coupling with exactly these marginals, hence not below the transport cost."""
        plan = rounded(self.coupling, output, self.reference)
        return float((plan * self._finite_cost).sum())

    def _excess(self, scores: FloatArray, price: float) -> FloatArray:
        return np.where(
            self._open, scores[:, None] - self.potential - price * self._finite_cost, 0.0
        )

    @property
    def weights(self) -> FloatArray:
        """How much each stationarity condition counts in a residual."""
        return self.coupling

    def residual(self, scores: FloatArray, price: float, weights: FloatArray) -> float:
        """How far the conditions other than complementarity are from being met, nats."""
        stationarity = (weights * np.abs(self._excess(scores, price) + self.slack))[self._open]
        return float(stationarity.sum() + np.abs(self.reference - self.coupling.sum(axis=0)).sum())

    def linearize(self, price: float) -> Linearization:
        """What a change of scores and price does to first order."""
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
        """The changes of coupling and potential that keep the column sums right, from the coupling's without that."""
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
        weights = self.coupling / self.slack
        free = weights * (score_step[:, None] - price_step * self._finite_cost) + self._pushes(
            scores, price, target
        )
        coupling, potential = self._step(free)
        opened = self._open
        slack = np.zeros_like(coupling)
        slack[opened] = (
            target - self.products - self.slack[opened] * coupling[opened]
        ) / self.coupling[opened]
        longest = longest_step(
            (self.coupling[opened], coupling[opened]), (self.slack[opened], slack[opened])
        )
        return Step((coupling, slack, potential), (coupling * slack)[opened], longest)

    def moved(self, step: Step, length: float) -> Transport:
        """The law after so much of a step."""
        coupling, slack, potential = step.parts
        return Transport(
            self.reference,
            self.cost,
            self.coupling + length * coupling,
            self.slack + length * slack,
            self.potential + length * potential,
        )

    def bound(self, scores: FloatArray, price: float) -> float:
        """min_q γ Φ(q) − ⟨s, q⟩ over all laws q, or something below it."""
        best = np.where(self._open, scores[:, None] - price * self._finite_cost, -np.inf).max(
            axis=0
        )
        return -float(self.reference @ best)
