"""What solvers say of results that are less exact than was asked for."""

from __future__ import annotations


class ConvergenceWarning(UserWarning):
    """A solver used up its iterations, or came to a halt, before it reached its tolerance.

    What it returns is less exact than was asked for.
    """


class LocalOptimumWarning(ConvergenceWarning):
    """The problem is not convex and was solved by a local method.

    What it returns can be reached, but may not be the least.
    """
