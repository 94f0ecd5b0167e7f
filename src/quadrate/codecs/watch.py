"""Measures of coded samples, and the watch for samples unlike those a codec was made for.

A codec gives something back of anything: one of digits makes digits of photographs. What gives them
away is how far what comes back is from what went in. Measured on MNIST with the codecs in the
package, the squared error tells noise, negatives and checked patterns, and the error in proportion
to the sample's own variance tells photographs and blank pictures as well, which have little to
lose. The code length under a table of a few levels tells nothing; where symbols are integers
without bounds (features, invariant codecs), what is far from the training data takes many bits.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.bottlenecks.collapse import warn_if_collapsed
from quadrate.codecs.batches import of_images
from quadrate.codecs.familiarity import Familiarity, Measures
from quadrate.codecs.layer import Layer
from quadrate.codecs.symbol_codec import SymbolCodec
from quadrate.core import draws
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.sources.source import Source, pixels

_ALARMING = 0.01  # ten times what the quantile alone would let happen
_LEAST_VARIANCE = 1e-4  # of a sample's pixels: two and a half levels of 255
_PART = 1000  # samples that are decoded at a time
_HELD_OUT = 5000  # samples at most that limits are taken from


@torch.no_grad()
def measure(
    codec: SymbolCodec, samples: Tensor, symbols: NDArray[np.int64], seed: int = 0, first: int = 0
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
    codec: SymbolCodec, symbols: NDArray[np.int64], seed: int = 0, first: int = 0
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


def familiarity_of(
    codec: SymbolCodec, layers: Sequence[Layer], source: Source
) -> Familiarity | None:
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
    for i, (layer, bits) in enumerate(zip(layers, zip(*lengths, strict=True), strict=True)):
        if layer.levels:
            what = f"layer {i} of the codec" if len(layers) > 1 else "the codec"
            sites = codec.models[i].columns // len(layer.levels)
            bound = sites * sum(map(math.log2, layer.levels))
            warn_if_collapsed(what, float(np.concatenate(bits).mean()), bound, stacklevel=3)
    return Familiarity.fit(joined(parts))


def _measure(
    codec: SymbolCodec, samples: Tensor, symbols: NDArray[np.int64], seed: int, first: int
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

    def __init__(self, codec: SymbolCodec, strict: bool) -> None:
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
