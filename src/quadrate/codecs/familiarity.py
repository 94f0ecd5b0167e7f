"""How far the samples of a codec's own source reach: limits that are kept in codec files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateError

_QUANTILE = 0.999
_MARGIN = 1.5  # times the quantile: beyond it lie two of MNIST's 10,000 test images, or none
_LEAST_SAMPLES = 50  # fewer say too little about what is rare
_MEASURES = ("error", "relative_error", "code_bits")
Measures = dict[str, NDArray[np.float64]]
"""Values (n,) of each measure, by its name."""


@dataclass(frozen=True)
class Familiarity:
    """How far held-out samples of a codec's own source reach.

    Attributes:
        samples: How many there were.
        limits: By measure, 1.5 times what 99.9 % of them stay below: "error", the squared error of
            the default decoder, a mean over a sample's coordinates; "relative_error", the same over
            the variance of the sample's pixels; "code_bits", the code length.
    """

    samples: int
    limits: Mapping[str, float]

    @classmethod
    def fit(cls, measures: Measures) -> Familiarity | None:
        """Take limits from the measures of held-out samples, (n,) each.

        None for fewer than 50 samples, which say too little.
        """
        count = min((len(values) for values in measures.values()), default=0)
        if count < _LEAST_SAMPLES:
            return None
        limits = {
            name: _MARGIN * float(np.quantile(values, _QUANTILE))
            for name, values in measures.items()
            if np.isfinite(values).all()
        }
        return cls(count, limits) if limits else None

    def outside(self, measures: Measures) -> NDArray[np.bool_]:
        """Tell which samples, (n,), are beyond a limit."""
        return np.any([measures[name] > limit for name, limit in self.limits.items()], axis=0)

    def share_outside(self, measures: Measures) -> float:
        """Return the share of samples beyond a limit, in [0, 1]; 0 if there are no samples."""
        outside = self.outside(measures)
        return float(outside.mean()) if len(outside) else 0.0

    def to_json(self) -> str:
        """Return the limits as text, for a codec's file."""
        return json.dumps({"samples": self.samples, "limits": dict(self.limits)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Familiarity:
        """Read what `to_json` wrote.

        Raises:
            QuadrateError: If the text was not made by it.
        """
        try:
            fields = json.loads(text)
            samples, limits = fields["samples"], dict(fields["limits"])
        except (ValueError, TypeError, KeyError, RecursionError):
            samples, limits = 0, {}
        numbers = all(
            name in _MEASURES and isinstance(limit, float) and 0 <= limit < math.inf
            for name, limit in limits.items()
        )
        if not (isinstance(samples, int) and samples > 0 and limits and numbers):
            raise QuadrateError(f"the limits of familiar samples are damaged: {text[:80]!a}")
        return cls(samples, limits)
