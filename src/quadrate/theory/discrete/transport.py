"""Optimal transport between two laws on one alphabet: its cost, and couplings with given marginals."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.optimize import linprog

from quadrate.theory.channels import FloatArray


def transport_cost(first: FloatArray, second: FloatArray, cost: FloatArray) -> float:
    """The least Σ T(i,j) cost(i,j) over couplings T of two laws.

    Args:
        first: (n,) law of the rows.
        second: (m,) law of the columns.
        cost: (n, m).
    """
    rows, columns = np.flatnonzero(first), np.flatnonzero(second)
    first, second, cost = first[rows], second[columns], cost[np.ix_(rows, columns)]
    if _is_monge(cost):
        return _staircase(first, second, cost)
    n, m = cost.shape
    sums = scipy.sparse.vstack([scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m))), scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m))])
    # One of the n + m equations follows from the others, up to rounding that could make them contradict each other.
    result = linprog(cost.ravel(), A_eq=sums.tocsr()[:-1], b_eq=np.concatenate([first, second])[:-1], method="highs")
    return float(result.fun)


def rounded(coupling: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """A coupling with exactly the given marginals near an approximate one (Altschuler, Weed & Rigollet 2017, algorithm 2)."""
    sums = coupling.sum(axis=1)
    plan = coupling * np.minimum(1, np.divide(first, sums, out=np.ones_like(sums), where=sums > 0))[:, None]
    sums = plan.sum(axis=0)
    plan = plan * np.minimum(1, np.divide(second, sums, out=np.ones_like(sums), where=sums > 0))
    row_rest, column_rest = first - plan.sum(axis=1), second - plan.sum(axis=0)
    rest = row_rest.sum()
    return plan + np.outer(row_rest, column_rest) / rest if rest > 0 else plan


def _is_monge(cost: FloatArray) -> bool:
    """Whether c(i,j) + c(i+1,j+1) ≤ c(i,j+1) + c(i+1,j): then the monotone coupling is optimal (Hoffman 1963), as for |x−y|^r on the line."""
    return bool((cost[:-1, :-1] + cost[1:, 1:] <= cost[:-1, 1:] + cost[1:, :-1] + 1e-12 * np.abs(cost).max()).all())


def _staircase(first: FloatArray, second: FloatArray, cost: FloatArray) -> float:
    """The cost of the monotone coupling."""
    first_ends, second_ends = np.cumsum(first), np.cumsum(second)
    ends = np.sort(np.concatenate([first_ends[:-1], second_ends[:-1], [1.0]]))
    starts = np.concatenate([[0.0], ends[:-1]])
    middles = (starts + ends) / 2
    rows = np.minimum(np.searchsorted(first_ends, middles), len(first) - 1)
    columns = np.minimum(np.searchsorted(second_ends, middles), len(second) - 1)
    return float((ends - starts) @ cost[rows, columns])
