"""A .quad file, or a folder of shards, with the codec that reads it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.codecs.batches import Batch, Blend, of_images
from quadrate.coding.container import ChunkData, Header, open_quad
from quadrate.coding.streams import decode_layer
from quadrate.coding.symbols import Words
from quadrate.core.files import Closing, FileSource
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs.base_codec import BaseCodec
    from quadrate.codecs.symbol_codec import SymbolCodec

# A chunk takes about 80 bytes of its own; larger ones are slower when one sample is wanted.
CHUNK_SAMPLES = 1 << 14
CHUNK_PIXELS = 1 << 24  # so that large images make small chunks: what is in memory at a time
# Every number of features is a symbol, and the symbols of larger chunks leave the cache.
CHUNK_FEATURES = 1 << 21


class QuadFile(Closing):
    """A .quad file with the codec that reads it; a context manager.

    Any number of threads may read from one.

    A codec of the first layers alone reads the base of a file with refinements, and nothing more of
    the file than it needs.

    Args:
        source: The path of the file or of a folder of shards, or a file's bytes.
        codec: The codec that wrote it, or one with the same encoders.
        layers: How many layers' symbols to read; by default all of the codec's. With fewer,
            `symbols` is all there is: the codec's decoders read all its layers, so samples of the
            first layers need the codec of these layers.

    Attributes:
        models: The bottlenecks of the layers that are read.

    Raises:
        QuadrateError: If the file cannot be read or is damaged, was written by another codec, or
            has no such layers.
    """

    def __init__(self, source: FileSource, codec: SymbolCodec, layers: int | None = None) -> None:
        self.codec, self.reader = codec, open_quad(source)
        self.name = self.reader.name
        try:
            check_fit(
                codec, self.reader.header, "the file" if self.name == "the data" else self.name
            )
            self.models = codec.models[: check_layers(layers, len(codec.models), "this codec")]
        except BaseException:
            self.close()
            raise

    @property
    def samples(self) -> int:
        """The number of samples."""
        return self.reader.samples

    def symbols(self, chunk: int) -> Words:
        """Decode a chunk's symbols in the layers that are read, int64 (n, columns).

        Raises:
            QuadrateError: If the chunk is damaged.
        """
        seed, first = self.reader.origin(chunk)
        _, count = self.reader.span(chunk)
        payloads = self.reader.read(chunk, layers=len(self.models), side=False).payloads
        dither = self.codec.dither_words(count, seed, first)
        symbols = np.empty((count, 0), dtype=np.int64)
        for layer, (model, payload) in enumerate(zip(self.models, payloads, strict=True)):
            try:
                symbols = decode_layer(model, payload, symbols, dither)
            except QuadrateError as error:
                raise QuadrateError(f"chunk {chunk}, layer {layer}: {error}") from None
        return symbols

    def latents(self, chunk: int) -> Tensor:
        """Read a chunk's latents as decoders get them, float (n, *latent_shape).

        Errors as `symbols`, and if fewer layers are read than the codec has.
        """
        if len(self.models) < len(self.codec.models):
            read = f"{len(self.models)} of {len(self.codec.models)} layers are read"
            raise QuadrateError(
                f"{self.name}: {read}, but this codec's decoders need all: give the codec of these"
                " layers alone"
            )
        return self.codec.dequantize(
            torch.from_numpy(self.symbols(chunk)), *self.reader.origin(chunk)
        )

    def reconstruct(
        self, chunk: int, latents: Tensor, places: Iterable[int], decoder: Blend = None
    ) -> Tensor:
        """Decode some latents of a chunk, with the noise that belongs to these samples.

        Args:
            chunk: Its number.
            latents: (n, *latent_shape).
            places: The places of these n samples in the chunk.
            decoder: A decoder's name, or the weights of several; by default the first.

        Returns:
            Samples (n, *shape): images in [0, 1], or features.
        """
        seed, first = self.reader.origin(chunk)
        numbers = [first + int(place) for place in places]
        return self.codec.reconstruct(latents, decoder, seed, numbers).cpu()

    def side(self, chunk: int) -> ChunkData:
        """A chunk's side data, such as labels and names, without its symbols.

        Raises:
            QuadrateError: If the chunk is damaged.
        """
        return self.reader.read(chunk, layers=0)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one sample's latents, (d,) or (c, h, w)."""
        return tuple(self.no_latents.shape[1:])

    @property
    def latent_dtype(self) -> np.dtype[Any]:
        """The type of latents; features that are decoded from them have the same."""
        return np.dtype(str(self.no_latents.dtype).removeprefix("torch."))

    @cached_property
    def no_latents(self) -> Tensor:
        """Latents of no samples, (0, *latent_shape)."""
        columns = sum(model.columns for model in self.codec.models)
        return self.codec.dequantize(torch.empty((0, columns), dtype=torch.int64)).cpu()

    def latent_pieces(self, samples: slice = slice(None)) -> Iterator[Tensor]:
        """Read latents of a slice of the samples, float (n, *latent_shape), chunk by chunk.

        Errors as `symbols`.
        """
        for chunk, inside in self._chunks(samples):
            yield self.latents(chunk)[torch.from_numpy(inside)].cpu()

    def _chunks(self, samples: slice) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """The chunks that hold a slice of the samples, in its order, and the places in each."""
        wanted = range(*samples.indices(self.samples))
        if not wanted:
            return
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        chunks = self.reader.chunks_of(low, high)
        for chunk in chunks if wanted.step > 0 else reversed(chunks):
            inside = _within(wanted, *self.reader.span(chunk))
            if len(inside):
                yield chunk, inside

    def pieces(self, samples: slice = slice(None), decoder: Blend = None) -> Iterator[Batch]:
        """Read a slice of the samples in batches, images in [0, 1], with labels and names.

        Raises:
            QuadrateError: If there is no such decoder, or a chunk is damaged.
        """
        self.codec.check_decoder(decoder)  # even where there is no sample to decode
        for chunk, inside in self._chunks(samples):
            latents, side = self.latents(chunk), self.side(chunk)
            # A file may have chunks of more images than there is memory for.
            size = chunk_samples(self.codec)
            for part in (inside[start : start + size] for start in range(0, len(inside), size)):
                images = self.reconstruct(chunk, latents[torch.from_numpy(part)], part, decoder)
                labels = None if side.labels is None else side.labels[part]
                yield Batch(
                    images, labels, None if side.names is None else [side.names[i] for i in part]
                )

    def close(self) -> None:
        """Closes the file."""
        self.reader.close()


def as_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] to the nearest uint8."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def check_layers(layers: int | None, most: int, whose: str) -> int:
    """The number of layers wanted, by default all.

    Raises:
        QuadrateError: If there are not so many.
    """
    if layers is None:
        return most
    if not 1 <= layers <= most:
        raise QuadrateError(
            f"{whose} has {most} layer{'s' * (most > 1)}; asked for the first {layers}"
        )
    return layers


def check_fit(codec: BaseCodec, header: Header, name: str) -> None:
    """Raise a QuadrateError unless the codec reads the file's layers, from the base on."""
    ours, theirs = codec.identities, tuple(layer.identity for layer in header.layers)
    if ours[: len(theirs)] != theirs[: len(ours)]:
        number = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        needed, given = theirs[number].hex(), ours[number].hex()
        raise QuadrateError(
            f"{name} was written by another codec: its layer {number} is {needed}, this codec's is"
            f" {given}; use the codec that wrote it"
        )
    if len(theirs) < len(ours):
        raise QuadrateError(
            f"{name} holds {len(theirs)} of this codec's {len(ours)} layers; read it with the codec"
            " of the base alone"
        )
    if tuple(header.shape) != tuple(codec.shape):
        own = ", where 0 is each sample's own" if 0 in header.shape else ""
        raise QuadrateError(
            f"{name} holds samples of shape {tuple(header.shape)}{own}; this codec's are"
            f" {tuple(codec.shape)}"
        )


def chunk_samples(codec: SymbolCodec) -> int:
    """The default number of samples a chunk."""
    numbers = CHUNK_PIXELS if of_images(codec.shape) else CHUNK_FEATURES
    return max(1, min(CHUNK_SAMPLES, numbers // math.prod(codec.shape)))


def _within(wanted: range, first: int, count: int) -> NDArray[np.int64]:
    """Which of the wanted samples a chunk holds, counted from its first, in the order wanted."""
    rising = wanted if wanted.step > 0 else wanted[::-1]
    part = rising[bisect_left(rising, first) : bisect_left(rising, first + count)]
    inside = np.array(part, dtype=np.int64) - first
    return inside if wanted.step > 0 else inside[::-1].copy()
