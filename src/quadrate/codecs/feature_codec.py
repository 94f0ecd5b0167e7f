"""Features to .quad files and back.

A codec for vectors, fitted in closed form, and a scikit-learn transformer.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from quadrate.bottlenecks.closed_form import fit_closed_form
from quadrate.bottlenecks.factorized import FactorizedBottleneck
from quadrate.bottlenecks.frozen import FrozenBottleneck, from_arrays
from quadrate.bottlenecks.hyperprior import HyperpriorBottleneck
from quadrate.bottlenecks.joint_tables import fit_joint
from quadrate.bottlenecks.klt import LinearTransform
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.bottlenecks.spatial import SpatialBottleneck
from quadrate.codecs import quad
from quadrate.codecs.batches import Batch, Blend, array_of, checked, tensor_of
from quadrate.codecs.codec_file import by_role, describing, mapping
from quadrate.codecs.familiarity import Familiarity, measure, metadata_of, of_metadata
from quadrate.coding.symbols import NO_DITHER, Words
from quadrate.core.files import FileSource, exists
from quadrate.core.names import check_text
from quadrate.core.tensor_file import read_tensors, write_tensors
from quadrate.errors import QuadrateError

_FORMAT, _BEFORE = "quadrate-features-2", ("quadrate-features-1",)
_DEFAULT_ERROR = 0.01  # of the features' mean variance
_FLOAT32_SPACING = 2.0**-23  # of numbers near 1
_FLOAT32_SIZES = (2.0**-120, 2.0**120)  # with room for sums of products
_SAMPLES_A_DIMENSION = (
    10  # with fewer, principal axes fit the training features better than others like them
)
_FAMILIAR = 5000  # features at most by which those are known that are like them
Features = NDArray[np.floating]


class FeatureCodec(TransformerMixin, BaseEstimator):
    """A codec for feature vectors.

    Principal axes or coordinates, one step, integer tables, all in closed form
    (`quadrate.bottlenecks.closed_form`).

    `fit`, then `compress` and `decompress`, or `transform`: what a receiver sees. Functions of
    `quadrate.codecs.quad` take it, too.

    Args:
        mse: The squared error wanted, a mean over samples and coordinates; or
        rate_bits: the rate wanted, in bits a sample. By default the error is a hundredth of the
            features' mean variance.
        klt: Whether principal axes are coded rather than coordinates; by default whichever does
            better on features held out.
        optimize_rate: Whether symbols are chosen with regard to their bits, too.

    Attributes:
        transform_: The linear transform.
        model_: The frozen bottleneck.
        n_features_in_: D.
        familiarity_: How far the features reach that it was fitted to, by which `compress` warns of
            others; None of fewer than ten a dimension.
    """

    def __init__(
        self,
        *,
        mse: float | None = None,
        rate_bits: float | None = None,
        klt: bool | None = None,
        optimize_rate: bool = True,
    ) -> None:
        self.mse, self.rate_bits, self.klt, self.optimize_rate = mse, rate_bits, klt, optimize_rate

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fits transform, step and tables to features X, real numbers (n, D); y is ignored.

        Raises:
            ValueError: If features are not finite real numbers (n, D), as scikit-learn words it.
            QuadrateError: If a target cannot be reached.
        """
        features = validate_data(
            self, array_of(X), dtype=[np.float32, np.float64], ensure_min_samples=2
        )
        self.model_: FrozenBottleneck
        self.transform_, self.model_ = fit_closed_form(
            features,
            mse=self.mse,
            rate_bits=self.rate_bits,
            relative_mse=_DEFAULT_ERROR if self.mse is None and self.rate_bits is None else None,
            klt=self.klt,
            optimize_rate=self.optimize_rate,
        )
        self.familiarity_ = self._reach(features)
        return self

    @property
    def familiarity(self) -> Familiarity | None:
        """`familiarity_`; None of a codec that is not fitted, or comes from a file without it."""
        return getattr(self, "familiarity_", None)

    def _reach(self, features: Features) -> Familiarity | None:
        """How far the features reach that the codec was fitted to.

        None if they are too few for that to hold of others like them.
        """
        if len(features) < _SAMPLES_A_DIMENSION * features.shape[1]:
            return None
        some = features[:: -(-len(features) // _FAMILIAR)].copy()
        return Familiarity.fit(measure(self, torch.from_numpy(some), self.encode(some).numpy()))

    @classmethod
    def from_factorized(
        cls,
        bottleneck: FactorizedBottleneck,
        medians: Tensor | None = None,
        rate_weight: float = 0.0,
        latents: Tensor | None = None,
    ) -> Self:
        """The codec of a learned bottleneck, frozen.

        Args:
            bottleneck: What was trained.
            medians: As in `FactorizedBottleneck.freeze`.
            rate_weight: Likewise.
            latents: Training latents (n, d), to have each symbol coded given those before it: worth
                it where d is small.

        Raises:
            QuadrateError: If a table would be too long.
        """
        rounding = bottleneck.freeze(medians=medians, rate_weight=rate_weight)
        model = rounding if latents is None else fit_joint(rounding, latents.numpy())
        return cls._of(
            LinearTransform.identity(math.prod(model.shape)),
            model,
            klt=False,
            optimize_rate=rate_weight > 0,
        )

    @classmethod
    def from_hyperprior(cls, bottleneck: HyperpriorBottleneck | SpatialBottleneck) -> Self:
        """The codec of a learned hyperprior, frozen; that of maps takes them flat, (n, c·h·w).

        Raises:
            QuadrateError: If a table would be too long, or a weight too large for exact integers.
        """
        model = bottleneck.freeze()
        transform = LinearTransform.identity(math.prod(model.shape))
        return cls._of(transform, model, klt=False, optimize_rate=False)

    @classmethod
    def _of(cls, transform: LinearTransform, model: FrozenBottleneck, **parameters: Any) -> Self:
        if len(transform.kept) != math.prod(model.shape):
            raise QuadrateError(
                f"the transform gives {len(transform.kept)} coefficients, the bottleneck codes"
                f" {math.prod(model.shape)}"
            )
        codec = cls(**parameters)
        codec.transform_, codec.model_, codec.n_features_in_ = transform, model, len(transform.mean)
        return codec

    def transform(self, X: Any) -> Features:
        """What a receiver sees of features X, (n, D) to (n, D): quantized and put together again.

        Raises:
            ValueError: If X is not finite real numbers (n, D), as scikit-learn words it.
        """
        check_is_fitted(self)
        features = validate_data(self, array_of(X), reset=False, dtype=[np.float32, np.float64])
        precise = np.result_type(features, self.dtype)
        symbols = self.model_.quantize(
            self.transform_.forward(features.astype(precise, copy=False)), NO_DITHER
        )
        coefficients = self.model_.dequantize(symbols, NO_DITHER).reshape(
            len(symbols), math.prod(self.model_.shape)
        )
        received = self.transform_.inverse(coefficients.astype(precise, copy=False))
        return received.astype(features.dtype, copy=False)

    def _check_names(self, features: Any) -> None:
        """Raises a QuadrateError if a data frame's columns are not those that the codec was fitted to, in their order."""
        if hasattr(features, "columns") and hasattr(self, "feature_names_in_"):
            try:
                validate_data(self, features, reset=False, skip_check_array=True)
            except ValueError as error:
                raise QuadrateError(" ".join(str(error).split())) from None

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """The features' own names: what comes out is what went in, up to the error."""
        from sklearn.utils.validation import _check_feature_names_in

        check_is_fitted(self)
        return np.asarray(_check_feature_names_in(self, input_features))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def compress(
        self,
        features: Any,
        to: Path | str | None = None,
        labels: Any = None,
        names: Sequence[str] | None = None,
        chunk: int | None = None,
        strict: bool = False,
    ) -> bytes | None:
        """Writes features as a .quad file; `quadrate.codecs.quad.compress` takes them in batches.

        Args:
            features: A tensor or an array of real numbers (n, D).
            to: The file to write; by default none.
            labels: Integers (n,) to store beside them.
            names: n texts to store beside them.
            chunk: Samples a chunk; by default up to 16384, and fewer long vectors.
            strict: Whether to refuse features that are unlike those the codec was fitted to, rather
                than warn of them.

        Returns:
            The file's bytes; None if they went into a file.

        Raises:
            QuadrateError: If the codec is not fitted, features do not fit it or are not finite, a
                data frame has other columns than the codec was fitted to, the file cannot be
                written, or it is strict about the features.
        """
        self._check_names(features)
        target = io.BytesIO() if to is None else Path(to)
        quad.compress(self, [Batch(features, labels, names)], target, chunk=chunk, strict=strict)
        return target.getvalue() if isinstance(target, io.BytesIO) else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """What features are computed in, and come back as by default.

        Float32, or float64 where float32 would add to the error.

        It does where its spacing at the largest features is more than an eighth of a step: for
        seconds since 1970 that are coded to a second, say. Then float32 holds neither the features
        nor what a receiver sees of them.
        """
        if not isinstance(self.model_, RoundingModel):  # learned, in float32
            return np.dtype(np.float32)
        finest = float(self.model_.steps.min())
        largest = max(float(np.abs(self.transform_.mean).max()), self.model_.reach)
        low, high = _FLOAT32_SIZES
        narrow = low < finest and largest < high and largest * _FLOAT32_SPACING <= finest / 8
        return np.dtype(np.float32 if narrow else np.float64)

    def decompress(
        self, data: FileSource, samples: slice = slice(None), dtype: str | None = None
    ) -> NDArray[Any]:
        """Reads the features of a .quad file, (n, D).

        Args:
            data: The file's bytes, or its path.
            samples: Which samples; only their chunks are read.
            dtype: A floating point type; by default that of the codec (`dtype`).

        Raises:
            QuadrateError: If the file is damaged or another codec's, or the type is none.
        """
        self._check_fitted()
        return quad.decompress(self, data, samples=samples, dtype=dtype or str(self.dtype))

    # What files need of a codec (`quadrate.codecs.quad.SampleCodec`).

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise QuadrateError(
                "this codec is not fitted yet, so it cannot write or read files;"
                " FeatureCodec.fit(features) fits it"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """A sample's, (D,)."""
        self._check_fitted()
        return (len(self.transform_.mean),)

    @property
    def models(self) -> tuple[FrozenBottleneck, ...]:
        """The frozen bottleneck, the only layer."""
        self._check_fitted()
        return (self.model_,)

    @property
    def identities(self) -> tuple[bytes, ...]:
        """What identifies streams, 16 bytes.

        Bottleneck and transform, without either of which a stream says nothing.
        """
        self._check_fitted()
        return (hashlib.sha256(self.model_.identity + self.transform_.digest()).digest()[:16],)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises a QuadrateError unless a shape (n, D) is that of features of this codec."""
        if tuple(shape[1:]) != self.shape:
            raise QuadrateError(
                f"this codec takes features of {self.shape[0]} dimensions; got {tuple(shape[1:])}"
            )

    def encode(self, samples: Any, seed: int = 0, first: int = 0) -> Tensor:
        """Features (n, D) to symbols, int64 (n, columns).

        There is no dither, so seed and first number change nothing.

        Raises:
            QuadrateError: If features do not fit the codec, or are not finite.
        """
        samples = checked(Batch(samples), self.shape).images
        self.check_shape(samples.shape)
        features = tensor_of(samples, self.shape).numpy()
        precise = features.astype(np.result_type(features, self.dtype), copy=False)
        return torch.from_numpy(self.model_.quantize(self.transform_.forward(precise), NO_DITHER))

    def dither_words(self, count: int, seed: int, first: int = 0) -> Words:
        """None: (count, 0)."""
        return np.empty((count, 0), dtype=np.int64)

    def received(self, symbols: Tensor, seed: int = 0, first: int = 0) -> Tensor:
        """Symbols, int64 (n, columns), to coefficients (n, d) of the codec's `dtype`.

        Raises:
            QuadrateError: If the symbols are not this codec's.
        """
        if symbols.ndim != 2 or symbols.shape[1] != self.model_.columns:
            raise QuadrateError(
                f"this codec reads symbols (n, {self.model_.columns}); these are"
                f" {tuple(symbols.shape)}"
            )
        received = self.model_.dequantize(symbols.numpy(), NO_DITHER).reshape(
            len(symbols), math.prod(self.model_.shape)
        )
        return torch.from_numpy(received.astype(self.dtype, copy=False))

    def decode_received(self, received: Tensor, decoder: Blend = None) -> Tensor:
        """Coefficients (n, d) to features (n, D), both of the codec's `dtype`."""
        self.weighted(decoder)
        return torch.from_numpy(self.transform_.inverse(received.numpy()))

    def weighted(self, decoder: Blend) -> list[object]:
        """Raises a QuadrateError if a decoder is asked for by name.

        There is one, without a name.
        """
        if decoder is not None:
            raise QuadrateError(
                f"a feature codec has one decoder, without a name; asked for {decoder!r}"
            )
        return []

    # Codec files.

    def save(self, path: Path | str) -> None:
        """Writes the codec as one safetensors file.

        Raises:
            QuadrateError: If it is not fitted, or cannot be written.
        """
        self._check_fitted()
        arrays = {f"model/{name}": array for name, array in self.model_.arrays().items()}
        arrays |= {f"transform/{name}": array for name, array in self.transform_.arrays().items()}
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()
        }
        metadata = {
            "format": _FORMAT,
            "parameters": json.dumps(self.get_params(), default=float),
            **metadata_of(self),
        }
        if hasattr(self, "feature_names_in_"):
            metadata["feature_names"] = json.dumps(list(self.feature_names_in_))
        write_tensors(Path(path), tensors, metadata)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Reads what `save` wrote.

        Raises:
            QuadrateError: If the file is missing, damaged, or no feature codec.
        """
        if not exists(path):
            raise QuadrateError(f"no codec at {path}; FeatureCodec.save writes one")
        metadata, tensors = read_tensors(
            Path(path), "a feature codec of Quadrate's", [_FORMAT], _BEFORE
        )
        with describing(path, "codec"):
            groups = {
                group: {name: tensor.numpy() for name, tensor in state.items()}
                for group, state in by_role(tensors).items()
            }
            parameters = _parameters(mapping(metadata["parameters"], "parameters"))
            codec = cls._of(
                LinearTransform.from_arrays(groups["transform"]),
                from_arrays(groups["model"]),
                **parameters,
            )
            if "feature_names" in metadata:
                codec.feature_names_in_ = _feature_names(
                    metadata["feature_names"], codec.n_features_in_
                )
            codec.familiarity_ = of_metadata(metadata)
            return codec


def _parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments as a file has them."""
    kinds: dict[str, tuple[type, ...]] = {
        "mse": (int, float),
        "rate_bits": (int, float),
        "klt": (bool,),
        "optimize_rate": (bool,),
    }
    for name, value in parameters.items():
        if name not in kinds or not (
            value is None or type(value) in kinds[name] and math.isfinite(value)
        ):
            raise ValueError(f"parameter {name!r} is none, or its value is not of its kind")
    return parameters


def _feature_names(text: str, count: int) -> NDArray[Any]:
    """The columns' names from their JSON, as scikit-learn keeps them."""
    names = json.loads(text)
    if not isinstance(names, list) or len(names) != count:
        raise ValueError(f"the names of {count} features are a list of as many texts")
    return np.array([check_text("the name of a feature", name) for name in names], dtype=object)
