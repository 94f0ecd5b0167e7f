"""Photographs to .quad files and back, one a chunk, each of its own shape and rate."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from quadrate.codecs.batches import Blend
from quadrate.codecs.photo_codec import (
    EXPONENTS,
    LAYERS,
    PhotoCodec,
    Pixels,
    check_photograph,
    exponent_of,
)
from quadrate.codecs.quad_file import check_fit, check_layers
from quadrate.coding.container import ChunkData, Header, LayerHeader, Writer, open_quad
from quadrate.core.files import Closing, FileSource
from quadrate.core.remote import Url
from quadrate.errors import QuadrateError

# What a file of one photograph takes beside payloads and profile, at most, without its name.
_OVERHEAD = 320
_Made = TypeVar("_Made")


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph with what goes with it.

    Attributes:
        pixels: uint8 (C, H, W), C 1 or 3, upright.
        name: A text without control characters, or None.
        label: An integer, or None.
        profile: Its ICC profile; empty if it has none.
    """

    pixels: Pixels
    name: str | None = None
    label: int | None = None
    profile: bytes = b""


@dataclass(frozen=True)
class Rate:
    """How many bits photographs get: exactly one of these is given.

    Attributes:
        quality: 0 to 100: one step for all of them.
        bits_per_pixel: The most bits a pixel of each.
        size: The most bytes of each; a file of one photograph is not larger.
        psnr: The least peak signal-to-noise ratio of each, in dB, by the first decoder.

    Raises:
        QuadrateError: If none or several are given, or one is out of range.
    """

    quality: float | None = None
    bits_per_pixel: float | None = None
    size: int | None = None
    psnr: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise QuadrateError(
                "give one of quality, bits_per_pixel, size and psnr; got"
                f" {', '.join(given) or 'none of them'}"
            )
        ((name, value),) = given.items()
        if name == "quality":
            exponent_of(value)
        elif not (math.isfinite(value) and value > 0):
            raise QuadrateError(f"{name} is a positive number; got {value}")

    def encode(self, codec: PhotoCodec, photograph: Photograph) -> tuple[bytes, ...]:
        """Encode a photograph at this rate, in steps as fine as it allows.

        Raises:
            QuadrateError: If even the coarsest step takes more, or the finest reaches less.
        """
        if self.quality is not None:
            return codec.encode(photograph.pixels, exponent_of(self.quality))
        if self.psnr is not None:
            return self._at_least(codec, photograph, self.psnr)
        beside = _OVERHEAD + len(photograph.profile) + len((photograph.name or "").encode())
        beside += len(photograph.profile) >> 11  # what zlib adds to bytes that it cannot shorten
        if self.bits_per_pixel is not None:
            count = photograph.pixels[0].size
            most, what = int(self.bits_per_pixel * count / 8), f"{self.bits_per_pixel} bits a pixel"
        else:
            assert self.size is not None
            most, what = self.size - beside, f"{self.size} bytes"

        def size_of(payloads: tuple[bytes, ...]) -> int:
            return sum(map(len, payloads))

        found = _furthest(
            lambda exponent: codec.encode(photograph.pixels, exponent),
            lambda payloads: size_of(payloads) <= most,
            range(EXPONENTS - 1, -1, -1),
        )
        if size_of(found) > most:
            least = size_of(found) + (beside if self.size is not None else 0)
            raise QuadrateError(
                f"{_title(photograph)} does not fit into {what}: with the coarsest step it takes"
                f" {least} bytes"
            )
        return found

    def _at_least(
        self, codec: PhotoCodec, photograph: Photograph, least: float
    ) -> tuple[bytes, ...]:
        """The coarsest step of which decoding reaches a PSNR."""
        pixels = photograph.pixels

        def coded(exponent: int) -> tuple[tuple[bytes, ...], float]:
            payloads = codec.encode(pixels, exponent)
            return payloads, psnr(pixels, codec.decode(payloads, pixels.shape))

        best, reached = _furthest(coded, lambda found: found[1] >= least, range(EXPONENTS))
        if reached < least:
            raise QuadrateError(
                f"{_title(photograph)} does not reach {least} dB: with the finest step it reaches"
                f" {reached:.2f} dB"
            )
        return best


def _furthest(
    make: Callable[[int], _Made], suits: Callable[[_Made], bool], exponents: Sequence[int]
) -> _Made:
    """What is made with the last exponent that suits, by bisection; with the first if none does.

    Those that suit come before those that do not.
    """
    best = make(exponents[0])
    low, high = 0, len(exponents) - 1 if suits(best) else 0
    while low < high:
        middle = (low + high + 1) // 2
        if suits(made := make(exponents[middle])):
            best, low = made, middle
        else:
            high = middle - 1
    return best


def psnr(original: Pixels, decoded: Pixels) -> float:
    """Return the peak signal-to-noise ratio of uint8 pixels in dB; infinite if they are equal."""
    difference = original.astype(np.float32) - decoded.astype(np.float32)
    mse = float(np.mean(difference * difference, dtype=np.float64))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def compress(
    codec: PhotoCodec,
    photographs: Iterable[Photograph],
    target: str | os.PathLike[str] | Url | BinaryIO,
    rate: Rate,
    seed: int = 0,
) -> int:
    """Write photographs as a .quad file, in one pass, with one of them in memory at a time.

    Args:
        codec: The codec.
        photographs: All of them with names, or none; the same for labels.
        target: Where to write: a path or URL, which gets the file when it is whole, or an open
            binary file.
        rate: How many bits they get.
        seed: Of the noise of decoders that take some, 0 to 2^64 - 1.

    Returns:
        How many there were.

    Raises:
        QuadrateError: If a photograph cannot be coded at this rate, or the file cannot be written.
    """
    photographs = iter(photographs)
    first = next(photographs, None)
    fields = ["labels"] if first is not None and first.label is not None else []
    fields += ["names"] if first is not None and first.name is not None else []
    layers = tuple(LayerHeader(identity, 0) for identity in codec.identities)
    header = Header(codec.shape, seed, layers, (*fields, "shapes", "profiles"))
    with Writer.create(target, header) as writer:
        if first is not None:
            writer.write(_chunk(codec, first, rate))
        for photograph in photographs:
            writer.write(_chunk(codec, photograph, rate))
        return writer.samples


def append(
    codec: PhotoCodec,
    photographs: Iterable[Photograph],
    path: str | os.PathLike[str] | Url,
    rate: Rate,
) -> int:
    """Add photographs to a .quad file that this codec wrote; otherwise as `compress`.

    If that fails half-way, the file is as before.

    Raises:
        QuadrateError: As `compress`; if there is no such file, it is damaged, or another program is
            writing to it.
    """
    with Writer.append(path) as writer:
        check_fit(codec, writer.header, str(path))
        before = writer.samples
        for photograph in photographs:
            writer.write(_chunk(codec, photograph, rate))
        return writer.samples - before


def _chunk(codec: PhotoCodec, photograph: Photograph, rate: Rate) -> ChunkData:
    pixels = check_photograph(photograph.pixels)
    return ChunkData(
        1,
        rate.encode(codec, photograph),
        None if photograph.label is None else np.array([photograph.label]),
        None if photograph.name is None else (photograph.name,),
        np.array([pixels.shape], np.int64),
        (photograph.profile,),
    )


def _title(photograph: Photograph) -> str:
    return photograph.name or "the photograph"


@dataclass(frozen=True)
class Changes:
    """What becomes of symbols when what was decoded is encoded again.

    Attributes:
        symbols: How many there are, with those that are 0.
        nonzero: How many are not 0 before or after.
        changed: How many are not the same before and after.
    """

    symbols: int
    nonzero: int
    changed: int

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            self.symbols + other.symbols,
            self.nonzero + other.nonzero,
            self.changed + other.changed,
        )


class PhotoFile(Closing):
    """A .quad file of photographs with the codec that reads it; a context manager.

    Args:
        source: The path of the file or of a folder of shards, or a file's bytes.
        codec: The codec that wrote it.
        layers: 1 reads the base alone, which is a small part of the file and gives blurred
            pictures; by default both layers.

    Raises:
        QuadrateError: If the file cannot be read or is damaged, was written by another codec, or
            has no such layers.
    """

    def __init__(self, source: FileSource, codec: PhotoCodec, layers: int | None = None) -> None:
        self.codec, self.reader = codec, open_quad(source)
        self.name = self.reader.name
        try:
            title = "the file" if self.name == "the data" else self.name
            check_fit(codec, self.reader.header, title)
            self.layers = check_layers(layers, LAYERS, "this codec")
            if self.reader.samples != self.reader.chunks:
                raise QuadrateError(f"{title} has chunks of several photographs; codecs write one")
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self.reader.samples

    def side(self, number: int) -> ChunkData:
        """Name, label, shape and profile of a photograph, without its payloads.

        Raises:
            QuadrateError: If there is no such photograph, or its chunk is damaged.
        """
        return self.reader.read(number, layers=0)

    def photograph(self, number: int, decoder: Blend = None) -> Photograph:
        """Decode a photograph.

        Args:
            number: From 0.
            decoder: As in `PhotoCodec.decode`.

        Raises:
            QuadrateError: If there is no such photograph or decoder, or its chunk is damaged.
        """
        self.codec.check_decoder(decoder)
        chunk, shape, (coefficients, exponent) = self._read(number)
        return Photograph(
            self.codec.reconstruct(coefficients, exponent, shape, decoder, self._noise(number)),
            None if chunk.names is None else chunk.names[0],
            None if chunk.labels is None else int(chunk.labels[0]),
            chunk.profiles[0] if chunk.profiles else b"",
        )

    def coefficients(self, number: int) -> tuple[NDArray[np.float32], int]:
        """Read the coefficients of a photograph as decoders get them.

        Returns:
            As `PhotoCodec.coefficients`.

        Raises:
            QuadrateError: If there is no such photograph, or its chunk is damaged.
        """
        return self._read(number)[2]

    def code_again(self, number: int, decoder: Blend = None) -> Changes:
        """Decode a photograph, encode that with the same step, and compare the symbols.

        Arguments and errors as of `photograph`.
        """
        self.codec.check_decoder(decoder)
        chunk, shape, (coefficients, exponent) = self._read(number)
        decoded = self.codec.reconstruct(
            coefficients, exponent, shape, decoder, self._noise(number)
        )
        again = self.codec.encode(decoded, exponent)[: self.layers]
        total = Changes(0, 0, 0)
        for old, new in zip(
            self.codec.symbols(chunk.payloads, shape),
            self.codec.symbols(again, shape),
            strict=True,
        ):
            nonzero, changed = ((old != 0) | (new != 0)).sum(), (old != new).sum()
            total += Changes(old.size, int(nonzero), int(changed))
        return total

    def _noise(self, number: int) -> tuple[int, int]:
        """What the noise of a photograph is drawn from."""
        return self.reader.origin(number)

    def _read(self, number: int) -> tuple[ChunkData, list[int], tuple[NDArray[np.float32], int]]:
        """A photograph's chunk, its shape, and what `PhotoCodec.coefficients` reads."""
        chunk = self.reader.read(number, layers=self.layers)
        assert chunk.shapes is not None
        shape = chunk.shapes[0].tolist()
        try:
            return chunk, shape, self.codec.coefficients(chunk.payloads, shape)
        except QuadrateError as error:
            raise QuadrateError(f"{self.name}: chunk {number}: {error}") from None

    def photographs(
        self, samples: slice = slice(None), decoder: Blend = None
    ) -> Iterator[Photograph]:
        """Decode a slice of the photographs, one by one; arguments and errors as `photograph`."""
        self.codec.check_decoder(decoder)
        for number in range(*samples.indices(len(self))):
            yield self.photograph(number, decoder)

    def close(self) -> None:
        """Close the file."""
        self.reader.close()
