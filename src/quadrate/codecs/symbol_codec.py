"""Samples to symbols, and back by the decoder of your choice: what all codecs do without files."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.bottlenecks.frozen import FrozenBottleneck
from quadrate.codecs.base_codec import BaseCodec
from quadrate.codecs.batches import Batch, Blend, checked, in_blocks, of_images, tensor_of
from quadrate.coding.symbols import Words
from quadrate.core import draws
from quadrate.errors import QuadrateError


class SymbolCodec(BaseCodec):
    """Encoders, a bottleneck a layer, and named decoders.

    A kind of codec adds `latents`, its encoder; `decoders`; `to_parts` and `from_parts` for its
    files; and methods that fit it.

    Attributes:
        models: The frozen bottleneck of each layer; empty before the codec is frozen.
        decoders: From latents (n, …), and noise (n, *shape) for those whose `takes_noise` is true,
            to samples (n, *shape), by name; the first is the default.
        device: Where the networks live, and latents and reconstructions.
    """

    models: tuple[FrozenBottleneck, ...]

    @abstractmethod
    def latents(self, samples: Tensor) -> Tensor:
        """Encode samples (n, *shape), images as uint8 or in [0, 1], to latents.

        Returns:
            (n, d) or (n, c, h, w), those of all layers side by side along dimension 1.

        Raises:
            QuadrateError: If the samples have another shape.
        """

    @property
    def is_frozen(self) -> bool:
        """Whether there are tables."""
        return bool(self.models)

    @property
    def identities(self) -> tuple[bytes, ...]:
        """What identifies the streams of each layer, 16 bytes.

        Raises:
            QuadrateError: If the codec is not frozen.
        """
        if not self.models:
            raise QuadrateError(
                "this codec has no tables yet, so it cannot write or read files;"
                " Codec.freeze(source) fits them"
            )
        return tuple(model.identity for model in self.models)

    @property
    def _layers(self) -> Sequence[FrozenBottleneck]:
        """What rounds the latents of each layer."""
        return self.models

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise a QuadrateError unless a shape (n, …) is that of samples of this codec."""
        if tuple(shape[1:]) != self.shape:
            images = of_images(self.shape)
            noun, axes = ("images", " (C, H, W)") if images else ("features", "")
            raise QuadrateError(
                f"this codec takes {noun} of shape {self.shape}{axes}; got {tuple(shape[1:])}"
            )

    def dither_words(self, count: int, seed: int, first: int = 0) -> Words:
        """Draw the shared dither of samples `first` to `first + count - 1` under a seed.

        Each column of symbols has a stream of its own, so that a refined codec's first symbols are
        those of the codec that it refines.

        Returns:
            In units of 2^-24 of a cell, (count, columns), the same for sender and receiver; columns
            of layers without dither hold 0, and without any dither it is (count, 0).
        """
        dithered = [
            layer.dither_columns > 0 for layer in self._layers for _ in range(layer.columns)
        ]
        words = np.zeros((count, len(dithered) if any(dithered) else 0), np.int64)
        for i in np.flatnonzero(dithered).tolist():
            words[:, i] = draws.words("dither", seed, i, count=count, first=first)
        return words

    def encode(self, samples: Any, seed: int = 0, first: int = 0) -> Tensor:
        """Encode samples (n, *shape), numbered from `first` on, to symbols, int64 (n, columns).

        Args:
            samples: A tensor or an array: images uint8 or floating point in [0, 1], gray ones also
                without their channel; features real numbers.
            seed: Seed of the dither; it changes nothing where there is no dither.
            first: The number of the first sample.

        Raises:
            QuadrateError: If samples have another shape or type, or numbers that cannot be coded.
        """
        samples = checked(Batch(samples), self.shape).images
        self.check_shape(samples.shape)
        return self.quantize(self.latents(tensor_of(samples, self.shape)), seed, first)

    def quantize(self, latents: Tensor, seed: int = 0, first: int = 0) -> Tensor:
        """Round what `latents` gave to symbols, int64 (n, columns)."""
        words = self.dither_words(len(latents), seed, first)
        parts = latents.cpu().split([layer.shape[0] for layer in self._layers], dim=1)
        symbols = [
            layer.quantize(part.numpy(), words[:, own])
            for layer, part, own in zip(self._layers, parts, self._columns, strict=True)
        ]
        return torch.from_numpy(_joined(symbols)).to(self.device)

    def dequantize(self, symbols: Tensor, seed: int = 0, first: int = 0) -> Tensor:
        """Turn symbols (n, columns) into latents as a receiver reads them, float (n, …).

        Raises:
            QuadrateError: If the symbols are not this codec's.
        """
        columns = sum(layer.columns for layer in self._layers)
        if symbols.ndim != 2 or symbols.shape[1] != columns:
            raise QuadrateError(
                f"this codec reads symbols (n, {columns}); got {tuple(symbols.shape)}"
            )
        words = self.dither_words(len(symbols), seed, first)
        given = symbols.cpu().numpy()
        latents = [
            layer.dequantize(given[:, own], words[:, own])
            for layer, own in zip(self._layers, self._columns, strict=True)
        ]
        received = _joined(latents).astype(self._latent_dtype, copy=False)
        return torch.from_numpy(received).to(self.device)

    @property
    def _columns(self) -> list[slice]:
        """Which columns of symbols, and of dither, are each layer's."""
        ends = np.cumsum([layer.columns for layer in self._layers]).tolist()
        return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]

    @property
    def _latent_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def decode(
        self, symbols: Tensor, seed: int = 0, decoder: Blend = None, first: int = 0
    ) -> Tensor:
        """Decode symbols (n, columns) to samples, float (n, *shape), images in [0, 1].

        Args:
            symbols: What `encode` gave.
            seed: The seed it was given.
            decoder: A decoder's name, or the weights of several by name, which sum to one; by
                default the first decoder.
            first: The number of the first sample.

        Raises:
            QuadrateError: If there is no decoder of a name, the weights of a blend are invalid, or
                the symbols are not this codec's.
        """
        numbers = range(first, first + len(symbols))
        return self.reconstruct(self.dequantize(symbols, seed, first), decoder, seed, numbers)

    @torch.no_grad()
    def reconstruct(
        self,
        latents: Tensor,
        decoder: Blend = None,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> Tensor:
        """Decode what `dequantize` gave to samples, float (n, *shape); images in [0, 1].

        Args:
            latents: (n, …).
            decoder: As in `decode`.
            seed: Of the noise, for decoders that take some; `decompress` takes the file's.
            numbers: The number of each sample, by default 0 to n - 1; a sample has the same noise
                in whatever company.

        Raises:
            QuadrateError: As `decode`.
        """
        weights = self.check_decoder(decoder)
        networks = [(self.decoders[name], weight) for name, weight in weights.items()]
        samples: list[Tensor] = [latents]
        if any(takes_noise(network) for network, _ in networks):
            samples.append(self.noise(numbers or range(len(latents)), seed))

        def reconstructions(block: Tensor, *noise: Tensor) -> list[Tensor]:
            return [
                network(block, *noise) if takes_noise(network) else network(block)
                for network, _ in networks
            ]

        if len(networks) == 1:  # a weight of 1 up to rounding would change the picture
            return self._apply(lambda *block: reconstructions(*block)[0], samples)
        shares = [weight for _, weight in networks]
        return self._apply(
            lambda *block: torch.stack(
                [share * one for share, one in zip(shares, reconstructions(*block), strict=True)]
            ).sum(0),
            samples,
        )

    def _apply(self, network: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Run a network so that a sample comes out the same in whatever company."""
        return in_blocks(network, inputs, self.shape)

    def noise(self, numbers: Sequence[int], seed: int = 0) -> Tensor:
        """Draw the normal noise that sender and receiver share, float32 (n, *shape).

        It depends on the seed and on each sample's number alone.
        """
        size = math.prod(self.shape)
        drawn = [
            draws.normal("decoder noise", seed, shape=self.shape, first=number * size)
            for number in numbers
        ]
        noise = torch.stack(drawn) if drawn else torch.empty(0, *self.shape)
        return noise.to(self.device)

    def round_trip(self, samples: Any, seed: int = 0, decoder: Blend = None) -> Tensor:
        """Take samples through symbols and back, (n, *shape) to float (n, *shape)."""
        return self.decode(self.encode(samples, seed), seed, decoder)


def takes_noise(decoder: Callable[..., Tensor]) -> bool:
    """Whether a decoder takes noise (n, *shape) beside the latents, as its `takes_noise` says."""
    return bool(getattr(decoder, "takes_noise", False))


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The layers side by side."""
    return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
