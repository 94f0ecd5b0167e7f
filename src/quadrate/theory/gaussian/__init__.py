"""Gaussian sources, scalar and vector, under squared error."""

from quadrate.theory.gaussian.scalar import ScalarGaussian
from quadrate.theory.gaussian.vector import AlignedLabels, ScalarLabel, VectorGaussian

__all__ = ["AlignedLabels", "ScalarGaussian", "ScalarLabel", "VectorGaussian"]
