"""Whether samples are like those a codec was made for.

Limits taken from held-out samples of its source, checked when files are written.

A codec gives something back of anything: one of digits makes digits of photographs. What gives them
away is how far what comes back is from what went in. Measured on MNIST with the codecs in the
package, the squared error tells noise, negatives and checked patterns, and the error in proportion
to the sample's own variance tells photographs and blank pictures as well, which have little to
lose. The code length under a table of a few levels tells nothing; where symbols are integers
without bounds (features, invariant codecs), what is far from the training data takes many bits.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.bottlenecks.collapse import warn_if_collapsed
from quadrate.codecs.batches import of_images
from quadrate.core import draws
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.sources.source import Source, pixels

if TYPE_CHECKING:
    from quadrate.codecs.codec import Codec
    from quadrate.codecs.tradeoff_codec import TradeoffCodec

_QUANTILE = 0.999
_MARGIN = 1.5  # times the quantile: beyond it lie two of MNIST's 10,000 test images, or none
_LEAST_SAMPLES = 50  # fewer say too little about what is rare
_ALARMING = 0.01  # ten times what the quantile alone would let happen
_LEAST_VARIANCE = 1e-4  # of a sample's pixels: two and a half levels of 255
_PART = 1000  # samples that are decoded at a time
_HELD_OUT = 5000  # samples at most that limits are taken from
_MEASURES = ("error", "relative_error", "code_bits")
Measures = dict[str, NDArray[np.float64]]


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


@torch.no_grad()
def measure(
    codec: Codec, samples: Tensor, symbols: NDArray[np.int64], seed: int = 0, first: int = 0
) -> Measures:
    """Measure samples that a codec has coded.

    Args:
        codec: A frozen codec.
        samples: As they were encoded, (n, *shape): images uint8 or in [0, 1], or features.
        symbols: Their symbols, (n, d).
        seed: The seed of their dither.
        first: The number of the first of them.

    Returns:
        Those that the codec has, (n,) each: errors if it decodes, the code length if its symbols
        have no bounds.
    """
    parts = [
        _measure(codec, samples[i : i + _PART], symbols[i : i + _PART], seed, first + i)
        for i in range(0, len(samples), _PART)
    ]
    return joined(parts)


def joined(parts: Iterable[Measures]) -> Measures:
    """Join the measures of several lots of samples."""
    parts = list(parts)
    return {
        name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())
    }


def code_lengths(
    codec: Codec, symbols: NDArray[np.int64], seed: int = 0, first: int = 0
) -> list[NDArray[np.float64]]:
    """Return the ideal code length of each sample in each layer, in bits, (n,) a layer."""
    dither = codec.dither_words(len(symbols), seed, first)
    columns = [range(model.first, model.first + model.columns) for model in codec.models]
    return [
        np.sum(
            [model.tables.lengths(symbols[:, i], model.indices(i, symbols, dither)) for i in own],
            axis=0,
        )
        for model, own in zip(codec.models, columns, strict=True)
    ]


def of_source(codec: TradeoffCodec, source: Source) -> Familiarity | None:
    """Take limits for a frozen codec from a source's validation images, seen through its noise.

    Warns (`QuadrateWarning`) if the codes show that the codec has collapsed.
    """
    images, parts, lengths = source.validation.images[:_HELD_OUT], [], []
    generator = draws.generator("familiarity", device=codec.device)
    for first in range(0, len(images), _PART):
        observed = source.observe(pixels(images[first : first + _PART].to(codec.device)), generator)
        symbols = codec.quantize(codec.latents(observed), 0, first).cpu().numpy()
        parts.append(measure(codec, observed, symbols, first=first))
        lengths.append(code_lengths(codec, symbols, first=first))
    for i, (layer, bits) in enumerate(zip(codec.layers, zip(*lengths, strict=True), strict=True)):
        if layer.levels:
            what = f"layer {i} of the codec" if len(codec.layers) > 1 else "the codec"
            sites = codec.models[i].columns // len(layer.levels)
            bound = sites * sum(map(math.log2, layer.levels))
            warn_if_collapsed(what, float(np.concatenate(bits).mean()), bound, stacklevel=3)
    return Familiarity.fit(joined(parts))


def _measure(
    codec: Codec, samples: Tensor, symbols: NDArray[np.int64], seed: int, first: int
) -> Measures:
    measures: Measures = {}
    if codec.decoders:  # a codec that was trained by contrast has none
        decoded = codec.decode(torch.from_numpy(symbols), seed, first=first).cpu()
        original = pixels(samples) if samples.dtype == torch.uint8 else samples
        original = original.cpu().double()  # squares of large features leave float32
        measures["error"] = (decoded - original).square().flatten(1).mean(1).numpy()
        if of_images(codec.shape):
            variance = original.flatten(1).var(1, correction=0).clamp(min=_LEAST_VARIANCE)
            measures["relative_error"] = measures["error"] / variance.numpy()
    if all(model.tables.escape for model in codec.models):
        measures["code_bits"] = np.sum(code_lengths(codec, symbols, seed, first), axis=0)
    return measures


class Watch:
    """Count the samples that are unlike a codec's own while a file is written.

    Args:
        codec: The codec that codes them.
        strict: Whether to refuse them rather than warn.

    Raises:
        QuadrateError: If `strict` is set and the codec has no limits.
    """

    def __init__(self, codec: Codec, strict: bool) -> None:
        self._codec, self._strict = codec, strict
        self._known = codec.familiarity
        self.samples = self.outside = 0
        if strict and self._known is None:
            raise QuadrateError(
                "this codec keeps no limits of familiar samples, so it cannot be strict about"
                " others; freeze it again to have some"
            )

    def see(self, samples: Tensor, symbols: NDArray[np.int64], seed: int, first: int) -> None:
        """Look at some samples with their symbols; arguments as `measure`."""
        if self._known and len(samples):
            self.samples += len(samples)
            self.outside += int(
                self._known.outside(measure(self._codec, samples, symbols, seed, first)).sum()
            )

    def conclude(self) -> None:
        """Warn if more than 1 % of the samples were unlike the codec's own.

        A tenth of that is expected of the codec's own samples.

        Raises:
            QuadrateError: If more were, and `strict` is set.
        """
        if self.outside <= _ALARMING * self.samples:
            return
        share = (
            f"{self.outside} of {self.samples} samples ({100 * self.outside / self.samples:.3g} %)"
        )
        doubt = (
            f"{share} are unlike those this codec was made for, so what it gives back will not be"
            " like them"
        )
        if self._strict:
            raise QuadrateError(
                f"{doubt}; nothing was written: leave strict out to write all the same, or take a"
                " codec trained on such samples"
            )
        warnings.warn(
            f"{doubt}; look at what it gives back, or take a codec trained on such samples",
            QuadrateWarning,
            stacklevel=3,
        )
