"""Warnings of solvers about results that are less exact than requested."""

from __future__ import annotations


class ConvergenceWarning(UserWarning):
    """A solver stopped before it reached its tolerance: its result is less exact than requested."""


class LocalOptimumWarning(ConvergenceWarning):
    """The problem is not convex and was solved by a local method: the result may not be the least.

    It can be reached, and so is an upper bound.
    """
