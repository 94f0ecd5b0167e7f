"""The labels of a Gaussian vector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quadrate.theory import checks
from quadrate.theory.channels import FloatArray


@dataclass(frozen=True, eq=False)
class AlignedLabels:
    """A label for each component, S_i = gains_i X_i + N(0, noises_i), of a diagonal covariance.

    H(S|X̂) is the entropy of all labels together.

    Attributes:
        gains: (n,).
        noises: (n,) variances; zero only where the gain is not.

    Raises:
        ValueError: If the arrays have another shape or values out of range.
    """

    gains: FloatArray
    noises: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "gains", checks.array("gains", self.gains, (1,)))
        object.__setattr__(self, "noises", checks.array("noises", self.noises, (1,)))
        count = len(self.gains)
        if len(self.noises) != count:
            raise ValueError(
                f"noises must have one entry for each of the {count} gains; got {len(self.noises)}"
            )
        if (self.noises < 0).any() or ((self.noises == 0) & (self.gains == 0)).any():
            raise ValueError(
                f"noises must be >= 0, and > 0 where the gain is 0; got {self.noises.tolist()}"
            )

    def check(self, covariance: FloatArray) -> None:
        """Raise a ValueError if the labels do not fit an (n, n) covariance."""
        if not np.array_equal(covariance, np.diag(np.diag(covariance))):
            raise ValueError(
                "covariance must be diagonal for AlignedLabels: variances of independent components"
            )
        _check_count(len(self.gains), "gain and noise", covariance)

    def entropy(self, error: FloatArray) -> float:
        """h(S|X̂) in nats when X has this (n, n) covariance given X̂."""
        covariance = error * np.outer(self.gains, self.gains) + np.diag(self.noises)
        return float(np.linalg.slogdet(2 * math.pi * math.e * covariance)[1]) / 2


@dataclass(frozen=True, eq=False)
class ScalarLabel:
    """One label for the whole vector, S = weights · X + N(0, noise).

    Attributes:
        weights: (n,).
        noise: Variance.

    Raises:
        ValueError: If weights is not a vector, or the noise is out of range.
    """

    weights: FloatArray
    noise: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", checks.array("weights", self.weights, (1,)))
        noise = checks.number("noise", self.noise, 0, open_low=not self.weights.any())
        object.__setattr__(self, "noise", noise)

    def check(self, covariance: FloatArray) -> None:
        """Raise a ValueError if the label does not fit an (n, n) covariance."""
        _check_count(len(self.weights), "weight", covariance)

    def entropy(self, error: FloatArray) -> float:
        """h(S|X̂) in nats when X has this (n, n) covariance given X̂."""
        variance = self.weights @ error @ self.weights + self.noise
        determinant = 2 * math.pi * math.e * variance
        return math.log(determinant) / 2 if determinant > 0 else -math.inf


def _check_count(count: int, what: str, covariance: FloatArray) -> None:
    if count != len(covariance):
        raise ValueError(
            f"labels must have one {what} for each of the {len(covariance)} dimensions; got {count}"
        )
