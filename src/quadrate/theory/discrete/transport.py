"""Optimal transport between two laws on one alphabet.

Its cost, and couplings with given marginals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import scipy.sparse
from scipy.optimize import linprog

from quadrate.theory.channels import FloatArray

# The tightest that HiGHS takes: the default of 1e-7 would show in the result where entries or
# bounds are small.
LINEAR_OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
# How many times as large as all smaller ones an entry must be for a program to be tried without it.
_APART = 1e4


def transport_cost(first: FloatArray, second: FloatArray, cost: FloatArray) -> float:
    """The least Σ T(i,j) cost(i,j) over couplings T of two laws.

    Inf if every coupling does what is forbidden.

    Args:
        first: (n,) law of the rows.
        second: (m,) law of the columns.
        cost: (n, m), at least 0, inf where forbidden.
    """
    rows, columns = np.flatnonzero(first), np.flatnonzero(second)
    first, second, cost = first[rows], second[columns], cost[np.ix_(rows, columns)]
    if _is_monge(cost):
        return _staircase(first, second, cost)
    n, m = cost.shape
    sums = scipy.sparse.vstack(
        [
            scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m))),
            scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m)),
        ]
    )
    least = math.inf
    for limit in size_limits(cost):
        # One of the n + m equations follows from the others, up to rounding that could make them
        # contradict each other.
        result = linprog(
            np.where(cost <= limit, cost, 0.0).ravel() / (limit or 1.0),
            A_eq=sums.tocsr()[:-1],
            b_eq=np.concatenate([first, second])[:-1],
            bounds=np.stack(
                [np.zeros(cost.size), np.where(cost <= limit, np.inf, 0.0).ravel()], axis=1
            ),
            method="highs",
            options=LINEAR_OPTIONS,
        )
        if result.status == 0:
            least = min(least, float(result.fun) * (limit or 1.0))
    return max(least, 0.0)


def size_limits(cost: FloatArray) -> Iterator[float]:
    """Sizes, from small to large, beyond which a linear program is to forbid all entries.

    The best of these programs is the one to take.

    The solver's tolerances are absolute, so that small entries drown beside very large ones, and
    those are mostly there to be avoided.
    """
    sizes = np.unique(cost[np.isfinite(cost) & (cost > 0)])
    if sizes.size == 0:
        yield 0.0
        return
    for size, following in zip(sizes, [*sizes[1:], math.inf], strict=True):
        if following / max(_APART, sum(cost.shape)) > size:
            yield float(size)


def rounded(coupling: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """A coupling with exactly the given marginals near an approximate one (Altschuler, Weed & Rigollet 2017, algorithm 2)."""
    sums = coupling.sum(axis=1)
    plan = (
        coupling
        * np.minimum(1, np.divide(first, sums, out=np.ones_like(sums), where=sums > 0))[:, None]
    )
    sums = plan.sum(axis=0)
    plan = plan * np.minimum(1, np.divide(second, sums, out=np.ones_like(sums), where=sums > 0))
    row_rest, column_rest = first - plan.sum(axis=1), second - plan.sum(axis=0)
    rest = row_rest.sum()
    return plan + np.outer(row_rest, column_rest) / rest if rest > 0 else plan


def _is_monge(cost: FloatArray) -> bool:
    """Whether c(i,j) + c(i+1,j+1) ≤ c(i,j+1) + c(i+1,j).

    Then the monotone coupling is optimal (Hoffman 1963), as for |x−y|^r on the line.
    """
    if not np.isfinite(cost).all():
        return False
    halves = cost / 2  # the sum of two of the largest numbers is none
    return bool(
        (
            halves[:-1, :-1] + halves[1:, 1:] <= (1 + 1e-12) * (halves[:-1, 1:] + halves[1:, :-1])
        ).all()
    )


def _staircase(first: FloatArray, second: FloatArray, cost: FloatArray) -> float:
    """The cost of the monotone coupling."""
    first_ends, second_ends = np.cumsum(first), np.cumsum(second)
    ends = np.sort(np.concatenate([first_ends[:-1], second_ends[:-1], [1.0]]))
    starts = np.concatenate([[0.0], ends[:-1]])
    middles = (starts + ends) / 2
    rows = np.minimum(np.searchsorted(first_ends, middles), len(first) - 1)
    columns = np.minimum(np.searchsorted(second_ends, middles), len(second) - 1)
    return float((ends - starts) @ cost[rows, columns])
