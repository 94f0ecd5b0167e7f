"""The terms of a `saddle` program for a demand on distortion, perception and classification."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrate.theory.channels import FloatArray
from quadrate.theory.discrete.laws import DIVERGENCES, Divergence, Law, Separable, Transport
from quadrate.theory.discrete.saddle import Cost

Indices = NDArray[np.intp]

# Bounds this near to the least that can be reached, in parts of it, count as the least.
_AT_LEAST = 1e-12
# The duality gap at which the iteration starts, nats.
_FIRST_GAP = 0.3


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
class Term:
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
    ) -> Term | None:
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
class LawTerm:
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
    ) -> LawTerm | None:
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
        term = Term.of(pmf[rows], cost, np.ones(cost.shape, dtype=bool), price, bound, share)
        if term is None:
            return None
        free = term.bound == math.inf and price == 0 and term.open.all()
        return cls._free(columns) if free else cls._transport(pmf[rows], term)

    @classmethod
    def _free(cls, columns: Indices) -> LawTerm:
        law = near_law(np.full(len(columns), 1 / len(columns)), None, 0.0)
        return cls(law, 0.0, math.inf, np.full(len(columns), True))

    @classmethod
    def _divergence(
        cls, pmf: FloatArray, columns: Indices, divergence: Divergence, price: float, bound: float
    ) -> LawTerm | None:
        gone = np.delete(pmf, columns)
        constant = float(divergence.value(np.zeros_like(gone), gone).sum())
        room = bound - constant
        if room <= 0:
            return None
        price = 2 * _FIRST_GAP / len(columns) / room if room < math.inf else price
        law = near_law(pmf[columns], divergence, min(room, 0.1 / price))
        return cls(law, price, room, np.full(len(columns), True), constant)

    @classmethod
    def _transport(cls, pmf: FloatArray, term: Term) -> LawTerm:
        cost, price, bound = np.where(term.open, term.extra, np.inf).T, term.price, term.bound
        if bound < math.inf:
            price = min(1 / float(term.extra.mean(axis=1) @ pmf), 2 * _FIRST_GAP / bound)
        law, reached = _coupled(pmf, cost, price), np.asarray(term.open.any(axis=0))
        return cls(law, price, bound, reached, float(pmf @ term.least), term.unit)


def near_law(reference: FloatArray, divergence: Divergence | None, room: float) -> Separable:
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
