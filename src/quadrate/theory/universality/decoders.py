"""The best decoder p(x̂|z) of a fixed discrete representation, by linear programming.

Everything here is in nats.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import brentq

from quadrate.theory.channels import FloatArray
from quadrate.theory.convergence import ConvergenceWarning
from quadrate.theory.discrete.laws import DIVERGENCES
from quadrate.theory.discrete.transport import column_sums, linear_program, row_sums

# An f-divergence may exceed its bound by this part of it plus this much; the most tangents tried.
_EXCESS = (1e-6, 1e-10)
_TANGENTS = 1000
# Lower bounds are zero: f-divergences are computed to about that, and inverses of others overflow.
_LEAST_DIVERGENCE = 1e-16
_LEAST_COST = 1e-300


@dataclass(frozen=True, eq=False)
class DecoderProblem:
    """The least expected cost of a decoder, under bounds on a divergence and on a penalty.

    The divergence is that of the output's law from another; the penalty is a second expected cost.

    Attributes:
        weights: (m,) p(z), all positive.
        costs: (m, n) E[Δ(X,x̂)|Z=z], `inf` where forbidden.
        law: (n,) p_X; of another length only where perception is never bounded.
        ground: (n, n) cost of moving x to x̂, for a divergence that is a transport cost; `inf`
            where forbidden.
        penalties: (m, n) the second cost; a finite limit on it forbids the pairs where it is `inf`.
    """

    weights: FloatArray
    costs: FloatArray
    law: FloatArray
    ground: FloatArray
    penalties: FloatArray

    def solve(
        self, divergence: str, perception: float = math.inf, limit: float = math.inf
    ) -> FloatArray | None:
        """The best decoder: (m, n) p(x̂|z), or None if no decoder meets the bounds.

        Args:
            divergence: Name of an f-divergence of `laws`, or another name for the transport cost.
            perception: Bound on the divergence of p_X̂ from p_X.
            limit: Bound on the expected penalty.
        """
        if perception < 0:
            return None
        least = _LEAST_DIVERGENCE if divergence in DIVERGENCES else _LEAST_COST
        perception = perception if perception > least else 0.0
        if perception == math.inf:
            joint = self._free(limit, ())
        elif perception > 0 and divergence in DIVERGENCES:
            joint = self._under_tangents(divergence, perception, limit)
        else:
            joint = self._with_plan(perception, limit)
        return None if joint is None else np.asarray(joint / joint.sum(axis=1, keepdims=True))

    def _free(
        self, limit: float, tangents: Sequence[tuple[FloatArray, float]], letters: Any = True
    ) -> FloatArray | None:
        """The joint p(z, x̂) under bounds on Σ tangent(x̂) p(x̂), onto the given letters."""
        m, n = self.costs.shape
        row, bound = self._penalty_row(limit)
        below = sparse.vstack([row, *(np.tile(tangent, (1, m)) for tangent, _ in tangents)])
        bounds = np.append(bound, [height for _, height in tangents])
        possible = (self._possible(limit) & letters).ravel()
        equal = row_sums(m, n), self.weights
        solution = _optimum(self.costs.ravel(), (below, bounds), equal, possible)
        return None if solution is None else solution.reshape(m, n)

    def _with_plan(self, perception: float, limit: float) -> FloatArray | None:
        """The joint p(z, x̂) under a bound on the cost of moving p_X to p_X̂.

        The transport plan is part of the unknowns.
        """
        m, n = self.costs.shape
        row, bound = self._penalty_row(limit)
        ground = np.where(np.isfinite(self.ground), self.ground, 0).reshape(1, -1)
        # Where moves cost more than the bound, the unknowns are their costs: so the coefficients
        # are one, whatever the size of the costs.
        units = sparse.diags(1 / np.maximum(ground[0] / (perception or 1.0), 1.0))
        below = sparse.block_diag([row, ground @ units]), np.append(bound, perception)
        rows = [row_sums(m, n), None], [None, row_sums(n, n) @ units]
        matrix = sparse.block_array(
            [rows[0], [column_sums(m, n), -column_sums(n, n) @ units], rows[1]]
        )
        equal = matrix, np.concatenate([self.weights, np.zeros(n), self.law])
        # A bound of zero forbids the moves instead of adding them up, because the distortion falls
        # infinitely fast near zero.
        moves = np.isfinite(self.ground) & ((self.ground == 0) | (perception > 0))
        possible = np.append(self._possible(limit), moves)
        solution = _optimum(np.append(self.costs, np.zeros(n * n)), below, equal, possible)
        return None if solution is None else solution[: m * n].reshape(m, n)

    def _under_tangents(
        self, divergence: str, perception: float, limit: float
    ) -> FloatArray | None:
        """The joint p(z, x̂) under a bound on an f-divergence, by Veinott's method (1967).

        If the law of a linear program's optimum is beyond the bound, it is drawn back to the bound
        towards p_X; the tangent there becomes a constraint.
        """
        measure = DIVERGENCES[divergence]
        with np.errstate(divide="ignore"):
            finite = np.isfinite(measure.value(np.ones_like(self.law), self.law))
        law = self.law[finite]

        def excess(output: FloatArray) -> float:
            return float(measure.value(np.maximum(output, 1e-300), law).sum()) - perception

        tangents: list[tuple[FloatArray, float]] = []
        joint = None
        for _ in range(_TANGENTS):
            joint = self._free(limit, tangents, finite)
            if joint is None:
                return None
            output = joint.sum(axis=0)[finite]
            if excess(output) <= _EXCESS[0] * perception + _EXCESS[1]:
                return joint
            apart = output - law
            part = brentq(lambda part, a=apart: excess(law + part * a), 0, 1, xtol=1e-15)
            edge = law + part * apart
            tangent = np.zeros(len(self.law))
            tangent[finite] = measure.slope(np.maximum(edge, 1e-300), law)
            # A constant changes nothing, since laws sum to one; without it, rows near p_X keep
            # their digits.
            tangent -= tangent @ self.law
            tangent /= np.abs(tangent).max()
            tangents.append((tangent, float(tangent[finite] @ edge)))
        warnings.warn(
            f"the best decoder at a {divergence} of {perception:g} was not reached in {_TANGENTS}"
            " steps",
            ConvergenceWarning,
            stacklevel=2,
        )
        return joint

    def _possible(self, limit: float) -> Any:
        """(m, n) whether a pair may occur."""
        return np.isfinite(self.costs) & (np.isfinite(self.penalties) | (limit == math.inf))

    def _penalty_row(self, limit: float) -> tuple[Any, FloatArray]:
        """The bound on the penalty: coefficients of the joint, right side; no row without limit."""
        count = int(limit < math.inf)
        row = np.where(np.isfinite(self.penalties), self.penalties, 0).reshape(1, -1)
        return sparse.csr_matrix(row[:count]), np.full(count, limit)


def _optimum(
    costs: FloatArray, below: tuple[Any, FloatArray], equal: tuple[Any, FloatArray], possible: Any
) -> FloatArray | None:
    """The v of a `linear_program`, or None; its rows are scaled to order one."""
    # The solver's tolerances are absolute: costs and rows of order one make them relative.
    rows = below[0].tocsr()
    sizes = abs(rows).max(axis=1).toarray().ravel()
    sizes[sizes == 0] = 1.0
    scaled = sparse.diags(1 / sizes) @ rows, below[1] / sizes
    return linear_program(costs, possible, (equal[0].tocsr(), equal[1]), scaled)[1]
