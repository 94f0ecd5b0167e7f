"""What iterative solvers say when they stop short of their tolerance."""

from __future__ import annotations


class ConvergenceWarning(UserWarning):
    """A solver used up its iterations, or came to a halt, before it reached its tolerance: what it returns is less exact than was asked for."""
