"""The sources that `quadrate theory` takes, as dataclasses from which its flags are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from quadrate.theory import AlignedLabels, ScalarLabel, Source


@dataclass(frozen=True, kw_only=True)
class _Gaussian:
    """A scalar Gaussian X and a label S jointly Gaussian with it.

    Attributes:
        variance: Variance of X.
        label_variance: Variance of S; None: no label.
        correlation: Correlation coefficient of X and S.
        noise_variance: Variance of Gaussian noise on what the encoder sees.
    """

    variance: float = 1.0
    label_variance: float | None = None
    correlation: float | None = None
    noise_variance: float = 0.0

    def make(self) -> Source:
        from quadrate.theory import ScalarGaussian

        return ScalarGaussian(
            self.variance, self.label_variance, self.correlation, self.noise_variance
        )


@dataclass(frozen=True, kw_only=True)
class _Bernoulli:
    """A binary X under Hamming distortion, and a label S that is X with some bits flipped.

    Attributes:
        p: Probability that X is 1.
        label_flip: Probability that S differs from X; None: no label.
        noise_flip: Probability that noise flips the bit that the encoder sees.
    """

    p: float
    label_flip: float | None = None
    noise_flip: float = 0.0

    def make(self) -> Source:
        from quadrate.theory import Bernoulli

        return Bernoulli(self.p, self.label_flip, self.noise_flip)


@dataclass(frozen=True, kw_only=True)
class _OneShotBernoulli:
    """The binary source coded one symbol at a time, with unlimited common randomness.

    Attributes:
        p: Probability that X is 1.
        label_flip: Probability that S differs from X.
    """

    p: float
    label_flip: float

    def make(self) -> Source:
        from quadrate.theory import OneShotBernoulli

        return OneShotBernoulli(self.p, self.label_flip)


@dataclass(frozen=True, kw_only=True)
class _VectorGaussian:
    """A Gaussian vector X.

    Its label is a vector S_i = gain_i X_i + noise, or a number S = weights'X + noise.

    Attributes:
        variances: Variances of independent components, in place of a covariance.
        covariance: A .csv or .npy file of a square matrix.
        gains: Vector label: a number for each component.
        noises: Vector label: variances of its noise.
        weights: Scalar label: a number for each component.
        noise: Scalar label: variance of its noise.
    """

    variances: tuple[float, ...] = ()
    covariance: Path | None = None
    gains: tuple[float, ...] = ()
    noises: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    noise: float | None = None

    def make(self) -> Source:
        import numpy as np

        from quadrate.cli.source_files import read_matrix
        from quadrate.theory import VectorGaussian

        if bool(self.variances) == (self.covariance is not None):
            raise ValueError("a vector-gaussian takes either --variances or --covariance")
        covariance = read_matrix(self.covariance) if self.covariance else np.diag(self.variances)
        return VectorGaussian(covariance, self._labels())

    def _labels(self) -> AlignedLabels | ScalarLabel | None:
        import numpy as np

        from quadrate.theory import AlignedLabels, ScalarLabel

        vector = bool(self.gains or self.noises)
        scalar = bool(self.weights) or self.noise is not None
        if vector and scalar:
            raise ValueError(
                "a vector-gaussian has one label: --gains and --noises, or --weights and --noise"
            )
        if vector:
            return AlignedLabels(np.array(self.gains), np.array(self.noises))
        if not scalar:
            return None
        if not self.weights or self.noise is None:
            raise ValueError("a scalar label takes both --weights and --noise")
        return ScalarLabel(np.array(self.weights), self.noise)


@dataclass(frozen=True, kw_only=True)
class _Discrete:
    """Any source with a finite alphabet.

    Attributes:
        arrays: An .npz file, or a folder of .csv or .npy files, with the arrays pmf and distortion,
            and label_channel and classifier where there are such.
    """

    arrays: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ARRAYS")]

    def make(self) -> Source:
        from quadrate.cli.source_files import read_source_arrays
        from quadrate.theory import Discrete

        found = read_source_arrays(self.arrays)
        if (
            found["pmf"].ndim == 2 and 1 in found["pmf"].shape
        ):  # a .csv file knows rows and columns only
            found["pmf"] = found["pmf"].ravel()
        return Discrete(**found)


Sources = (
    Annotated[_Gaussian, tyro.conf.subcommand("gaussian")]
    | Annotated[_Bernoulli, tyro.conf.subcommand("bernoulli")]
    | Annotated[_OneShotBernoulli, tyro.conf.subcommand("one-shot-bernoulli")]
    | Annotated[_VectorGaussian, tyro.conf.subcommand("vector-gaussian")]
    | Annotated[_Discrete, tyro.conf.subcommand("discrete")]
)
