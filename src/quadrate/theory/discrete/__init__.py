"""Any source with finitely many letters, by convex optimization."""

from quadrate.theory.discrete.discrete_source import Discrete, Solution, solve

__all__ = ["Discrete", "Solution", "solve"]
