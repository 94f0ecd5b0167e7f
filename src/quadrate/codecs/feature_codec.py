"""Features to .quad files and back.

A codec for vectors, fitted in closed form, and a scikit-learn transformer.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from quadrate.bottlenecks.closed_form import fit_closed_form
from quadrate.bottlenecks.frozen import FrozenBottleneck, from_arrays
from quadrate.bottlenecks.klt import LinearTransform
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.codecs.batches import array_of
from quadrate.codecs.codec import Codec
from quadrate.codecs.codec_file import read_object, tensors_of
from quadrate.codecs.familiarity import Familiarity
from quadrate.codecs.parts import Parts
from quadrate.codecs.watch import measure
from quadrate.coding.symbols import NO_DITHER
from quadrate.core.names import check_text
from quadrate.errors import QuadrateError

_DEFAULT_ERROR = 0.01  # of the features' mean variance
_FLOAT32_SPACING = 2.0**-23  # of numbers near 1
_FLOAT32_SIZES = (2.0**-120, 2.0**120)  # with room for sums of products
# With fewer, principal axes fit the training features better than others like them.
_SAMPLES_A_DIMENSION = 10
_FAMILIAR = 5000  # features at most by which those are known that are like them
Features = NDArray[np.floating]


class FeatureCodec(TransformerMixin, BaseEstimator, Codec):
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
        backbone: The network that the features come from, a name in
            `quadrate.networks.backbones.BACKBONES`, where one reads pictures for the codec.
        device: Where symbols, latents and reconstructions are put; they are computed on the CPU.

    Attributes:
        transform_: The linear transform.
        model_: The frozen bottleneck.
        n_features_in_: D.
        familiarity_: How far the features reach that it was fitted to, by which `compress` warns of
            others; None of fewer than ten a dimension.
    """

    kind = "features"

    def __init__(
        self,
        *,
        mse: float | None = None,
        rate_bits: float | None = None,
        klt: bool | None = None,
        optimize_rate: bool = True,
        backbone: str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.mse, self.rate_bits, self.klt, self.optimize_rate = mse, rate_bits, klt, optimize_rate
        self.backbone, self.device = backbone, device

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit transform, step and tables to features X, real numbers (n, D); y is ignored.

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

    def _reach(self, features: Features) -> Familiarity | None:
        """How far the training features reach; None if they are too few to tell."""
        if len(features) < _SAMPLES_A_DIMENSION * features.shape[1]:
            return None
        some = features[:: -(-len(features) // _FAMILIAR)].copy()
        return Familiarity.fit(measure(self, torch.from_numpy(some), self.encode(some).numpy()))

    @classmethod
    def from_bottleneck(cls, model: FrozenBottleneck) -> Self:
        """Build the codec of a learned bottleneck, frozen; maps are taken flat, (n, c·h·w)."""
        transform = LinearTransform.identity(math.prod(model.shape))
        optimize_rate = getattr(model, "rate_weight", 0.0) > 0
        return cls._of(transform, model, klt=False, optimize_rate=optimize_rate)

    @classmethod
    def _of(cls, transform: LinearTransform, model: FrozenBottleneck, **parameters: Any) -> Self:
        dims = math.prod(model.shape)
        if len(transform.kept) != dims:
            raise QuadrateError(
                f"the transform gives {len(transform.kept)} coefficients, the bottleneck codes"
                f" {dims}"
            )
        codec = cls(**parameters)
        codec.transform_, codec.model_, codec.n_features_in_ = transform, model, len(transform.mean)
        return codec

    def transform(self, X: Any) -> Features:
        """Return features X, (n, D), as a receiver sees them: quantized and put together again.

        Raises:
            ValueError: If X is not finite real numbers (n, D), as scikit-learn words it.
        """
        check_is_fitted(self)
        features = validate_data(self, array_of(X), reset=False, dtype=[np.float32, np.float64])
        precise = np.result_type(features, self.dtype)
        symbols = self.model_.quantize(self._coefficients(features), NO_DITHER)
        coefficients = self.model_.dequantize(symbols, NO_DITHER)
        flat = coefficients.reshape(len(features), len(self.transform_.kept))
        received = self.transform_.inverse(flat.astype(precise, copy=False))
        return received.astype(features.dtype, copy=False)

    def _check_names(self, features: Any) -> None:
        """Raise a QuadrateError unless a data frame has the columns that were fitted."""
        if hasattr(features, "columns") and hasattr(self, "feature_names_in_"):
            try:
                validate_data(self, features, reset=False, skip_check_array=True)
            except ValueError as error:
                raise QuadrateError(" ".join(str(error).split())) from None

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the features' own names: what comes out is what went in, up to the error."""
        from sklearn.utils.validation import _check_feature_names_in

        check_is_fitted(self)
        return np.asarray(_check_feature_names_in(self, input_features))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def compress(self, samples: Any, **options: Any) -> bytes | None:
        """Write features as a .quad file; arguments and errors as of `Codec.compress`.

        Raises:
            QuadrateError: Also if a data frame has other columns than the codec was fitted to.
        """
        self._check_names(samples)
        return super().compress(samples, **options)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What features are computed in and come back as: float32 where it is precise enough.

        It is not where its spacing at the largest features is more than an eighth of a step: for
        seconds since 1970 that are coded to a second, say. Then it is float64.
        """
        if not isinstance(self.model_, RoundingModel):  # learned, in float32
            return np.dtype(np.float32)
        finest = float(self.model_.steps.min())
        largest = max(float(np.abs(self.transform_.mean).max()), self.model_.reach)
        low, high = _FLOAT32_SIZES
        narrow = low < finest and largest < high and largest * _FLOAT32_SPACING <= finest / 8
        return np.dtype(np.float32 if narrow else np.float64)

    # What a codec is.

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise QuadrateError(
                "this codec is not fitted yet, so it cannot write or read files;"
                " FeatureCodec.fit(features) fits it"
            )

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """A sample's, (D,)."""
        self._check_fitted()
        return (len(self.transform_.mean),)

    @property
    def models(self) -> tuple[FrozenBottleneck, ...]:  # type: ignore[override]
        """The frozen bottleneck, the only layer."""
        self._check_fitted()
        return (self.model_,)

    @property
    def decoders(self) -> dict[str, Callable[[Tensor], Tensor]]:  # type: ignore[override]
        """The inverse transform, by the name "features"."""
        return {"features": self._inverse}

    @property
    def familiarity(self) -> Familiarity | None:  # type: ignore[override]
        """`familiarity_`; None of a codec that is not fitted, or comes from a file without it."""
        return getattr(self, "familiarity_", None)

    @property
    def identities(self) -> tuple[bytes, ...]:
        """What identifies streams: bottleneck and transform, 16 bytes."""
        self._check_fitted()
        return (hashlib.sha256(self.model_.identity + self.transform_.digest()).digest()[:16],)

    def latents(self, samples: Tensor) -> Tensor:
        """Transform features (n, D) to coefficients, (n, d) or, of a map, (n, c, h, w)."""
        self.check_shape(samples.shape)
        return torch.from_numpy(self._coefficients(samples.cpu().numpy()))

    def _coefficients(self, features: Features) -> Features:
        precise = features.astype(np.result_type(features, self.dtype), copy=False)
        coefficients = self.transform_.forward(precise)
        return coefficients.reshape(len(features), *self.model_.shape)

    @property
    def _latent_dtype(self) -> np.dtype[Any]:
        return self.dtype

    def _inverse(self, latents: Tensor) -> Tensor:
        features = self.transform_.inverse(latents.flatten(1).cpu().numpy())
        return torch.from_numpy(features).to(self.device)

    def _apply(self, network: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        return network(*inputs)

    def to_parts(self) -> Parts:  # noqa: D102
        self._check_fitted()
        parameters = {name: self.get_params()[name] for name in _PARAMETERS}
        if self.backbone is None:  # files of features that no backbone gave stay as they were
            del parameters["backbone"]
        metadata = {
            "parameters": json.dumps(parameters, default=float),
            "bottleneck": self.model_.name,
        }
        if hasattr(self, "feature_names_in_"):
            metadata["feature_names"] = json.dumps(list(self.feature_names_in_))
        states = {"model": self.model_.arrays(), "transform": self.transform_.arrays()}
        return Parts(metadata, {role: tensors_of(arrays) for role, arrays in states.items()})

    @classmethod
    def from_parts(cls, parts: Parts, device: torch.device | str, family: Any) -> Self:  # noqa: D102
        parameters = _parameters(read_object(parts.metadata["parameters"], "parameters"))
        transform = LinearTransform.from_arrays(parts.arrays("transform"))
        model = from_arrays(parts.arrays("model"), parts.metadata.get("bottleneck"))
        codec = cls._of(transform, model, device=str(device), **parameters)
        if "feature_names" in parts.metadata:
            codec.feature_names_in_ = _feature_names(
                parts.metadata["feature_names"], codec.n_features_in_
            )
        codec.familiarity_ = parts.familiarity
        return codec


_PARAMETERS: dict[str, tuple[type, ...]] = {
    "mse": (int, float),
    "rate_bits": (int, float),
    "klt": (bool,),
    "optimize_rate": (bool,),
    "backbone": (str,),
}


def _parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments as a file has them."""
    for name, value in parameters.items():
        if (
            name not in _PARAMETERS
            or not (value is None or type(value) in _PARAMETERS[name])
            or not (value is None or isinstance(value, str) or math.isfinite(value))
        ):
            raise ValueError(f"parameter {name!r} is unknown, or its value is not of its kind")
    if parameters.get("backbone") is not None:
        check_text("the backbone", parameters["backbone"])
    return parameters


def _feature_names(text: str, count: int) -> NDArray[Any]:
    """The columns' names from their JSON, as scikit-learn keeps them."""
    names = json.loads(text)
    if not isinstance(names, list) or len(names) != count:
        raise ValueError(f"the names of {count} features are a list of as many texts")
    return np.array([check_text("the name of a feature", name) for name in names], dtype=object)
