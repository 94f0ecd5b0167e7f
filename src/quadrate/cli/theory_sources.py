"""The sources that `quadrate theory` takes, as dataclasses from which its flags are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from quadrate.core.array_file import array_names, read_array
from quadrate.core.files import exists, read_bytes
from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError
from quadrate.theory import (
    AlignedLabels,
    Bernoulli,
    Discrete,
    OneShotBernoulli,
    ScalarGaussian,
    ScalarLabel,
    Source,
    VectorGaussian,
)
from quadrate.theory.channels import FloatArray

_ARRAYS = ("pmf", "distortion", "label_channel", "classifier")
# More than any solver can take; a small archive may claim to hold any number of bytes.
_MOST_BYTES = 1 << 27


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
        if bool(self.variances) == (self.covariance is not None):
            raise ValueError("a vector-gaussian takes either --variances or --covariance")
        covariance = _array(self.covariance) if self.covariance else np.diag(self.variances)
        return VectorGaussian(covariance, self._labels())

    def _labels(self) -> AlignedLabels | ScalarLabel | None:
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
        found = _arrays(self.arrays)
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


def _arrays(path: Path) -> dict[str, FloatArray]:
    """The arrays of an .npz file, or of a folder's .csv and .npy files, by their names.

    Raises:
        QuadrateError: If there is no such file or folder, something in it cannot be read, or it
            holds other arrays than a source has.
    """
    if exists(path) and path.is_dir():
        with _readable(path):
            files = {
                file.stem: file
                for file in sorted(path.iterdir())
                if file.stem in _ARRAYS and file.suffix in (".csv", ".npy")
            }
        found = {name: _array(file) for name, file in files.items()}
    else:
        with _readable(path):
            _check_size(path)
            found = {
                name: _numbers(read_array(path, name, _MOST_BYTES)) for name in array_names(path)
            }
    _check_names(path, list(found))
    return found


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not {"pmf", "distortion"} <= set(names) <= set(_ARRAYS):
        held = (
            ", ".join(name if is_printable(name) else ascii(name) for name in names[:20]) or "none"
        )
        raise QuadrateError(
            f"{path} must hold the arrays pmf and distortion, and may hold label_channel and"
            f" classifier; it holds {held}"
        )


def _array(path: Path) -> FloatArray:
    """The array in a .csv or .npy file.

    Raises:
        QuadrateError: If there is no such file, or it cannot be read.
    """
    with _readable(path):
        _check_size(path)
        if path.suffix == ".npy":
            return _numbers(read_array(path, most_bytes=_MOST_BYTES))
        return np.array(
            [
                line.split(",")
                for line in read_bytes(path).decode("utf-8-sig").splitlines()
                if line.strip()
            ],
            dtype=np.float64,
        )


def _numbers(array: NDArray[Any]) -> FloatArray:
    if array.dtype.kind not in "biuf":
        raise TypeError
    return array


def _check_size(path: Path) -> None:
    """Refuses a file that is missing, or of more bytes than a source may take."""
    if not exists(path):
        raise QuadrateError(f"no such file: {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise QuadrateError(
            f"{path} holds more than the {_MOST_BYTES >> 20} MB that a source may take"
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with a file of numbers into one line.

    NumPy's readers raise a dozen kinds of exception on damaged files.
    """
    try:
        yield
    except QuadrateError:
        raise
    except (OSError, ValueError, TypeError):
        name = path if is_printable(str(path)) and len(str(path)) < 300 else ascii(str(path)[:80])
        raise QuadrateError(
            f"cannot read {name}: it must hold rows of numbers with commas between them (.csv), or"
            " NumPy's .npy or .npz"
        ) from None
