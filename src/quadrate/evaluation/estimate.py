"""Estimates from samples, with their standard errors."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """A value and its standard error, in the same unit."""

    value: float
    stderr: float


def mean_estimate(samples: Tensor) -> Estimate:
    """The mean of independent samples (N,), N at least 2, and its standard error."""
    samples = samples.double()
    return Estimate(samples.mean().item(), samples.std().item() / math.sqrt(len(samples)))
