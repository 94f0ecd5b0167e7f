"""Objectives: one file a term of the loss.

A term of your own is a function from a `Batch` to one number a model.
"""

from quadrate.objectives.classification import CrossEntropy, estimate_cross_entropy
from quadrate.objectives.distortion import squared_error
from quadrate.objectives.perception import Wasserstein, critic_losses
from quadrate.objectives.rate import rate_nats
from quadrate.objectives.reading import Reading
from quadrate.objectives.term import TERMS, Batch, Term, find_term, register_term

__all__ = [
    "TERMS",
    "Batch",
    "CrossEntropy",
    "Reading",
    "Term",
    "Wasserstein",
    "critic_losses",
    "estimate_cross_entropy",
    "find_term",
    "rate_nats",
    "register_term",
    "squared_error",
]
