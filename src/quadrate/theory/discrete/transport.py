"""Optimal transport between two laws on one alphabet, and linear programs for it and its like."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from scipy.optimize import linprog

from quadrate.theory.channels import FloatArray

# The tightest tolerances of HiGHS: the default of 1e-7 would show in the result where entries or
# bounds are small.
LINEAR_OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
# A program is tried without the entries that are this many times as large as all smaller ones.
_APART = 1e4


def transport_cost(first: FloatArray, second: FloatArray, cost: FloatArray) -> float:
    """The least Σ T(i,j) cost(i,j) over couplings T of two laws; inf if each one is forbidden.

    Args:
        first: (n,) law of the rows.
        second: (m,) law of the columns.
        cost: (n, m), at least 0, inf where forbidden.
    """
    rows, columns = np.flatnonzero(first), np.flatnonzero(second)
    first, second, cost = first[rows], second[columns], cost[np.ix_(rows, columns)]
    if _is_monge(cost):
        return _staircase(first, second, cost)
    sums = scipy.sparse.vstack([row_sums(*cost.shape), column_sums(*cost.shape)])
    # One of the n + m equations follows from the others, up to rounding that could make them
    # contradict each other.
    equal = sums.tocsr()[:-1], np.concatenate([first, second])[:-1]
    return max(linear_program(cost, np.isfinite(cost), equal)[0], 0.0)


def row_sums(m: int, n: int) -> Any:
    """The (m, m · n) matrix that sums the rows of a flattened (m, n) matrix."""
    return scipy.sparse.kron(scipy.sparse.eye(m), np.ones((1, n)))


def column_sums(m: int, n: int) -> Any:
    """The (n, m · n) matrix that sums the columns of a flattened (m, n) matrix."""
    return scipy.sparse.kron(np.ones((1, m)), scipy.sparse.eye(n))


def linear_program(
    cost: FloatArray,
    possible: Any,
    equal: tuple[Any, FloatArray],
    below: tuple[Any, FloatArray] = (None, np.zeros(0)),
) -> tuple[float, FloatArray | None]:
    """The least cost · v over v >= 0, and the v that has it: inf and None if infeasible.

    Args:
        cost: Costs, of any shape.
        possible: Whether each v may differ from zero; the shape of the costs.
        equal: (k, cost.size) and (k,): linear equations on the flattened v.
        below: (l, cost.size) and (l,): upper bounds on linear functions of the flattened v.
    """
    least, best = math.inf, None
    for limit in _size_limits(np.where(possible, cost, 0.0)):
        allowed = (possible & (cost <= limit)).ravel()
        solution = linprog(
            np.where(allowed, cost.ravel(), 0.0) / (limit or 1.0),
            A_ub=below[0],
            b_ub=None if below[0] is None else below[1],
            A_eq=equal[0],
            b_eq=equal[1],
            bounds=np.stack([np.zeros(cost.size), np.where(allowed, np.inf, 0.0)], axis=1),
            method="highs",
            options=LINEAR_OPTIONS,
        )
        if solution.status == 0 and solution.fun * (limit or 1.0) < least:
            least, best = float(solution.fun) * (limit or 1.0), np.maximum(solution.x, 0)
    return least, best


def _size_limits(cost: FloatArray) -> Iterator[float]:
    """Sizes, from small to large, beyond which a linear program should forbid all entries.

    The best of these programs is the solution. The solver's tolerances are absolute, so small
    entries would be lost next to very large ones, which a solution mostly avoids.
    """
    sizes = np.unique(cost[np.isfinite(cost) & (cost > 0)])
    if sizes.size == 0:
        yield 0.0
        return
    for size, following in zip(sizes, [*sizes[1:], math.inf], strict=True):
        if following / max(_APART, sum(cost.shape)) > size:
            yield float(size)


def rounded(coupling: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """The coupling with exactly the given marginals near an approximate one.

    Altschuler, Weed & Rigollet 2017, algorithm 2.
    """

    def shares(law: FloatArray, sums: FloatArray) -> FloatArray:
        return np.minimum(1, np.divide(law, sums, out=np.ones_like(sums), where=sums > 0))

    plan = coupling * shares(first, coupling.sum(axis=1))[:, None]
    plan = plan * shares(second, plan.sum(axis=0))
    row_rest, column_rest = first - plan.sum(axis=1), second - plan.sum(axis=0)
    rest = row_rest.sum()
    return plan + np.outer(row_rest, column_rest) / rest if rest > 0 else plan


def _is_monge(cost: FloatArray) -> bool:
    """Whether c(i,j) + c(i+1,j+1) ≤ c(i,j+1) + c(i+1,j).

    Then the monotone coupling is optimal (Hoffman 1963), as for |x−y|^r on the line.
    """
    if not np.isfinite(cost).all():
        return False
    halves = cost / 2  # the sum of two of the largest numbers would overflow
    crossed = halves[:-1, 1:] + halves[1:, :-1]
    return bool((halves[:-1, :-1] + halves[1:, 1:] <= (1 + 1e-12) * crossed).all())


def _staircase(first: FloatArray, second: FloatArray, cost: FloatArray) -> float:
    """The cost of the monotone coupling."""
    first_ends, second_ends = np.cumsum(first), np.cumsum(second)
    ends = np.sort(np.concatenate([first_ends[:-1], second_ends[:-1], [1.0]]))
    starts = np.concatenate([[0.0], ends[:-1]])
    middles = (starts + ends) / 2
    rows = np.minimum(np.searchsorted(first_ends, middles), len(first) - 1)
    columns = np.minimum(np.searchsorted(second_ends, middles), len(second) - 1)
    return float((ends - starts) @ cost[rows, columns])
