"""A trained codec: frozen encoders, a bottleneck, and the decoders that read its codes."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrate.bottlenecks.contexts import ContextModel, fit_contexts
from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.codecs.batches import Batch, Blend, in_blocks, tensor_of
from quadrate.codecs.familiarity import Familiarity, of_source
from quadrate.coding.symbols import Words, dither_noise
from quadrate.config import OperatingPoint
from quadrate.core import draws
from quadrate.core.devices import find_device
from quadrate.core.files import FileSource
from quadrate.core.names import check_text
from quadrate.errors import QuadrateError
from quadrate.networks.compact import Shape
from quadrate.networks.family import Family, find_family
from quadrate.networks.filled import filled
from quadrate.sources.source import Source, pixels

_CHUNK = 5000  # images in memory as floats at a time, at most
_CHUNK_PIXELS = 1 << 24  # and their pixels


@dataclass(frozen=True)
class Decoders:
    """Decoders on their own, bound to the encoder that they were trained on.

    Attributes:
        encoder_hash: `Codec.encoder_hash` of that encoder.
        points: The decoders' operating points by name.
        states: Their state dicts by name.
    """

    encoder_hash: str
    points: dict[str, OperatingPoint]
    states: dict[str, dict[str, Tensor]] = field(repr=False)


class Codec:
    """Images to symbols and back, by the decoder of your choice.

    Once frozen, to files and back (`quadrate.codecs.quad`).

    Args:
        family: The networks' family.
        shape: The images' shape (C, H, W).
        levels: For each encoder the levels of its latent dimensions; the symbols of the encoders
            stand side by side.
        points: The operating point of each decoder by the decoder's name; the first is the default.
        networks: State dicts by role: "encoder.0", "encoder.1" …, "decoder.NAME" …, and "critic" if
            there is one.
        details: What else a file should say: recipe, source, versions.
        device: Where the networks live.
        models: For each encoder the frozen tables its symbols are coded under; none before
            `freeze`.

    Attributes:
        familiarity: How far samples of its source reach, by which `compress` warns of others;
            `freeze` finds out.

    Raises:
        QuadrateError: If there is no such family, a decoder's name cannot be printed, or the
            weights or tables are not those of the family, the shape and the levels.
    """

    def __init__(
        self,
        family: Family | str,
        shape: Shape,
        levels: Sequence[tuple[int, ...]],
        points: Mapping[str, OperatingPoint],
        networks: dict[str, dict[str, Tensor]],
        details: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
        models: Sequence[ContextModel] = (),
    ) -> None:
        self.family = find_family(family)
        self.shape = shape
        self.points = dict(points)
        self.details = details or {}
        for name in self.points:
            check_text("the name of a decoder", name)
        self.stages = [tuple(level) for level in levels]
        self.levels = tuple(level for stage in self.stages for level in stage)
        self.device = find_device(device)
        self.quantizer = DitheredQuantizer(self.levels, self.device)
        self.states = networks
        self.encoders = [
            self._network(f"encoder.{i}", partial(self.family.encoder, shape, len(stage)))
            for i, stage in enumerate(self.stages)
        ]
        build = partial(self.family.decoder, shape, len(self.levels))
        self.decoders = {name: self._network(f"decoder.{name}", build) for name in self.points}
        self.critic = (
            self._network("critic", partial(self.family.critic, shape))
            if "critic" in networks
            else None
        )
        self.familiarity: Familiarity | None = None
        self._chunk = max(1, min(_CHUNK, _CHUNK_PIXELS // math.prod(shape)))
        self.models = tuple(models)
        ends = [sum(map(len, self.stages[: i + 1])) for i in range(len(self.stages))]
        if models and [model.levels for model in models] != [self.levels[:end] for end in ends]:
            raise QuadrateError(f"the codec's tables are not for levels {self.stages}")

    def __repr__(self) -> str:
        tables = "frozen" if self.models else "not frozen yet"
        return (
            f"Codec({self.family.name!r}, shape={self.shape}, levels={self.stages},"
            f" decoders={list(self.decoders)}, {tables})"
        )

    def _network(self, role: str, build: Callable[[], nn.Module]) -> nn.Module:
        """The network of a role with its state."""
        try:
            return filled(build, self.states.get(role, {})).to(self.device)
        except QuadrateError as error:
            size = "x".join(map(str, self.shape))
            raise QuadrateError(
                f"the codec's {role} is not that of family {self.family.name!r} for images of"
                f" {size}: {error}"
            ) from error.__cause__

    @property
    def point(self) -> OperatingPoint:
        """The operating point of the default decoder."""
        return next(iter(self.points.values()))

    @property
    def rate_bound_bits(self) -> float:
        """The rate bound of all encoders together, the sum of log2 L, in bits a sample."""
        return sum(math.log2(level) for level in self.levels)

    @property
    def encoder_hash(self) -> str:
        """SHA-256 of the encoders' weights, hexadecimal.

        Decoders with the same one read the same codes.
        """
        return self._hash_of(len(self.encoders))

    def _hash_of(self, count: int) -> str:
        """The hash of the first encoders alone."""
        sha = hashlib.sha256(repr(self.stages[:count]).encode())
        for i in range(count):
            for name, tensor in sorted(self.states[f"encoder.{i}"].items()):
                sha.update(name.encode() + tensor.contiguous().cpu().numpy().tobytes())
        return sha.hexdigest()

    @property
    def identities(self) -> tuple[bytes, ...]:
        """What identifies the streams of each encoder.

        16 bytes of hash over quantizer, tables and dither law.

        Raises:
            QuadrateError: If the codec is not frozen.
        """
        if not self.models:
            raise QuadrateError(
                "this codec has no tables yet, so it cannot write or read files;"
                " Codec.freeze(source) fits them"
            )
        return tuple(model.identity for model in self.models)

    def pack(self, *names: str) -> Decoders:
        """Some of the decoders, by default all, to be handed on without the encoder.

        Raises:
            QuadrateError: If there is no decoder of a name.
        """
        names = names or tuple(self.decoders)
        states = {
            name: self.states[f"decoder.{name}"] for name in names if self.decoder_named(name)
        }
        return Decoders(self.encoder_hash, {name: self.points[name] for name in names}, states)

    def add_decoder(self, other: Codec | Decoders, name: str | None = None) -> Codec:
        """Takes over the decoders of a codec with the same encoder, or of a pack; returns itself.

        Args:
            other: Whose decoders are wanted.
            name: What to call the decoder, where there is one; by default its own name.

        Raises:
            QuadrateError: If the encoders differ, or a name is taken or cannot be printed.
        """
        pack = other.pack() if isinstance(other, Codec) else other
        if name and len(pack.points) > 1:
            raise QuadrateError(
                f"one name, {name!r}, for {len(pack.points)} decoders: {', '.join(pack.points)}"
            )
        called = {own: name or own for own in pack.points}
        for new in called.values():
            check_text("the name of a decoder", new)
            if pack.encoder_hash != self.encoder_hash:
                here = self.encoder_hash[:12]
                raise QuadrateError(
                    f"decoder {new!r} was trained on another encoder ({pack.encoder_hash[:12]},"
                    f" here {here})"
                )
            if new in self.decoders:
                raise QuadrateError(f"there is a decoder {new!r} already; give another name")
        before = self.states
        self.states = before | {f"decoder.{new}": pack.states[own] for own, new in called.items()}
        build = partial(self.family.decoder, self.shape, len(self.levels))
        try:
            networks = {new: self._network(f"decoder.{new}", build) for new in called.values()}
        except QuadrateError:
            self.states = before
            raise
        self.decoders |= networks
        self.points |= {new: pack.points[own] for own, new in called.items()}
        return self

    def decoder_named(self, name: str) -> nn.Module:
        """A decoder.

        Raises:
            QuadrateError: If there is none of that name.
        """
        if name not in self.decoders:
            raise QuadrateError(f"no decoder {name!r}; this codec has {', '.join(self.decoders)}")
        return self.decoders[name]

    def weighted(self, decoder: Blend) -> list[tuple[nn.Module, float]]:
        """The networks that a decoder's name or a blend stands for, with their weights, which sum
        to one.

        Raises:
            QuadrateError: If there is no decoder of a name, or a blend is none.
        """
        if decoder is None or isinstance(decoder, str):
            return [
                (self.decoder_named(next(iter(self.decoders)) if decoder is None else decoder), 1.0)
            ]
        if not isinstance(decoder, Mapping):
            raise QuadrateError(
                f"a decoder is a name, or weights by name; got {decoder!r}; this codec has"
                f" {', '.join(self.decoders)}"
            )
        try:
            weights = [float(weight) for weight in decoder.values()]
        except (TypeError, ValueError):
            weights = [math.nan]
        if (
            not all(math.isfinite(weight) and weight >= 0 for weight in weights)
            or abs(sum(weights) - 1) > 1e-6
        ):
            raise QuadrateError(
                f"the weights of a blend are not negative and sum to 1; got {dict(decoder)}"
            )
        return [
            (self.decoder_named(name), weight)
            for name, weight in zip(decoder, weights, strict=True)
        ]

    def half(self) -> Codec:
        """The codec with its weight matrices rounded to float16 numbers, to be frozen and saved at half the size: a codec of its own, not frozen."""
        states = {
            role: {name: _rounded(tensor) for name, tensor in state.items()}
            for role, state in self.states.items()
            if role != "critic"
        }
        return Codec(
            self.family, self.shape, self.stages, self.points, states, self.details, self.device
        )

    def freeze(self, source: Source, base: Codec | None = None) -> Codec:
        """Fits the tables that the symbols are coded under to a source's training images.

        Returns itself.

        From then on the codec writes and reads files. Freezing again makes another stream; files of
        before then need the codec of before. How far the source's validation images reach is kept,
        too, so that `compress` can warn of images that are unlike them. Warns (`QuadrateWarning`)
        if the codec has collapsed (`quadrate.bottlenecks.collapse`).

        Args:
            source: Where the images come from that the codec is for.
            base: A frozen codec of the first encoders alone, whose tables are taken over, so that
                it reads the base layer of this one's files.

        Raises:
            QuadrateError: If the images have another shape, or the base is not this codec's.
        """
        latents = (
            self.source_latents(
                source, source.train.images, draws.generator("freeze", device=self.device)
            )
            .cpu()
            .numpy()
        )
        models = list(base.models) if base else []
        if base and (
            not models
            or len(models) > len(self.stages)
            or base.encoder_hash != self._hash_of(len(models))
        ):
            raise QuadrateError("the base must be a frozen codec with this one's first encoders")
        for i in range(len(models), len(self.stages)):
            first = sum(map(len, self.stages[:i]))
            end = first + len(self.stages[i])
            models.append(fit_contexts(latents[:, :end], self.levels[:end], first))
        self.models = tuple(models)
        self.familiarity = of_source(self, source)
        return self

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises a QuadrateError unless a shape (N, C, H, W) is that of images of this codec."""
        if tuple(shape[1:]) != self.shape:
            raise QuadrateError(
                f"this codec takes images of shape {self.shape} (C, H, W); got {tuple(shape[1:])}"
            )

    @torch.no_grad()
    def latents(self, observed: Tensor) -> Tensor:
        """What the encoders make of images.

        Float (N, C, H, W) in [0, 1], possibly degraded, to float (N, d) in [-1, 1].

        Raises:
            QuadrateError: If the images have another shape.
        """
        self.check_shape(observed.shape)
        observed = observed.to(self.device, torch.float32)
        return torch.cat(
            [in_blocks(encoder, observed, self.shape) for encoder in self.encoders], dim=1
        )

    def source_latents(self, source: Source, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the encoders make of a source's images, uint8 (N, C, H, W), seen through the source's noise: float (N, d) in [-1, 1]."""
        return torch.cat(
            [
                self.latents(source.observe(pixels(chunk), generator))
                for chunk in images.split(self._chunk)
            ]
        )

    def dither_words(self, count: int, seed: int, first: int = 0) -> Words:
        """The dither of samples `first` to `first + count - 1` under a seed, in units of 2^-24
        cell, (count, d): sender and receiver draw the same.

        Each dimension has a stream of its own, so that a refined codec's first symbols are those of
        the codec that it refines.
        """
        columns = [
            draws.words("dither", seed, i, count=count, first=first)
            for i in range(len(self.levels))
        ]
        return np.stack(columns, axis=1)

    def dither(self, count: int, seed: int, first: int = 0) -> Tensor:
        """The same dither in units of a cell, float (count, d) on [-1/2, 1/2)."""
        noise = dither_noise(self.dither_words(count, seed, first))
        return torch.from_numpy(noise).to(self.device)

    def encode(self, images: Tensor, seed: int = 0, first: int = 0) -> Tensor:
        """Images, uint8 or float in [0, 1], (N, C, H, W), numbered from `first` on, to integer
        symbols, int64 (N, d).

        Raises:
            QuadrateError: If the images have another shape or type, or numbers outside [0, 1].
        """
        self.check_shape(images.shape)
        images = tensor_of(images, self.shape)
        latents = self.latents(pixels(images) if images.dtype == torch.uint8 else images)
        return self.quantizer.quantize(latents, self.dither(len(latents), seed, first))

    def received(self, symbols: Tensor, seed: int = 0, first: int = 0) -> Tensor:
        """What the decoders read.

        Symbols, int64 (N, d), and the encoder's seed and first number, to latents up to half a
        cell, float (N, d).

        Raises:
            QuadrateError: If the symbols are not this codec's.
        """
        symbols = symbols.to(self.device)
        if (
            symbols.ndim != 2
            or symbols.shape[1] != len(self.levels)
            or bool(((symbols < 0) | (symbols > self.quantizer.top)).any())
        ):
            raise QuadrateError(
                f"this codec reads symbols (N, {len(self.levels)}) below {self.levels}; these are"
                f" {tuple(symbols.shape)} or beyond"
            )
        return self.quantizer.dequantize(symbols, self.dither(len(symbols), seed, first))

    def decode(
        self, symbols: Tensor, seed: int = 0, decoder: Blend = None, first: int = 0
    ) -> Tensor:
        """Symbols, int64 (N, d), and the encoder's seed and first number, to images, float32 (N, C,
        H, W) in [0, 1].

        Args:
            symbols: What `encode` gave.
            seed: The seed it was given.
            decoder: A decoder's name, or a blend, the decoders' weights by name, which sum to one;
                by default the first decoder.
            first: The number of the first sample.

        Raises:
            QuadrateError: If there is no decoder of a name, a blend is none, or the symbols are not
                this codec's.
        """
        return self.decode_received(self.received(symbols, seed, first), decoder)

    @torch.no_grad()
    def decode_received(self, received: Tensor, decoder: Blend = None) -> Tensor:
        """What `received` gave, float (N, d), to images, float32 (N, C, H, W) in [0, 1].

        `decoder` and errors as in `decode`.
        """
        networks = self.weighted(decoder)
        if len(networks) == 1:  # a weight of 1 up to rounding would change the picture
            return in_blocks(networks[0][0], received, self.shape)
        return in_blocks(
            lambda block: torch.stack(
                [weight * network(block) for network, weight in networks]
            ).sum(dim=0),
            received,
            self.shape,
        )

    def reconstruct(self, images: Tensor, seed: int = 0, decoder: Blend = None) -> Tensor:
        """Images through symbols and back.

        Uint8 or float (N, C, H, W) to float32 (N, C, H, W) in [0, 1].
        """
        return self.decode(self.encode(images, seed), seed, decoder)

    def compress(
        self,
        images: Any,
        *,
        seed: int = 0,
        to: Path | str | None = None,
        labels: Any = None,
        names: Sequence[str] | None = None,
        strict: bool = False,
    ) -> bytes | None:
        """Writes images as a .quad file.

        See `quadrate.codecs.quad` for images that come in batches.

        Args:
            images: A tensor or an array, uint8 or floating point in [0, 1], (N, C, H, W); gray ones
                also (N, H, W).
            seed: Seed of the dither, 0 to 2^64 - 1; it stands in the file.
            to: The file to write; by default none.
            labels: Integers (N,) to store beside the images.
            names: N texts to store beside the images.
            strict: Whether to refuse images that are unlike those the codec was made for, rather
                than warn of them.

        Returns:
            The file's bytes; None if they went into a file.

        Raises:
            QuadrateError: If the codec is not frozen, images do not fit it, the file cannot be
                written, or it is strict about the images.
        """
        from quadrate.codecs.quad import compress

        target = io.BytesIO() if to is None else Path(to)
        compress(self, [Batch(images, labels, names)], target, seed, strict=strict)
        return target.getvalue() if isinstance(target, io.BytesIO) else None

    def decompress(
        self,
        source: FileSource,
        decoder: Blend = None,
        samples: slice = slice(None),
        dtype: str = "uint8",
    ) -> NDArray[Any]:
        """Reads a .quad file, given by its path or its bytes, in any buffer.

        See `quadrate.codecs.quad.decompress`.
        """
        from quadrate.codecs.quad import decompress

        return decompress(self, source, decoder, samples, dtype)

    def save(self, path: Path | str) -> None:
        """Writes the codec as one safetensors file (`quadrate.codecs.codec_file`).

        Raises:
            QuadrateError: If it cannot be written.
        """
        from quadrate.codecs.codec_file import save_codec

        save_codec(self, Path(path))

    @classmethod
    def load(
        cls, path: Path | str, family: Family | None = None, device: torch.device | str = "cpu"
    ) -> Codec:
        """Reads a codec's file, or one of the codecs that come with the package.

        Args:
            path: The file, or a name from the zoo, such as "mnist-6bit".
            family: The networks, where they are not of a family that Quadrate knows.
            device: Where the networks shall live.

        Raises:
            QuadrateError: If the file is missing, damaged, or no codec, or this machine does not
                have the device.
        """
        from quadrate.codecs.codec_file import load_codec

        return load_codec(path, family, device)


def _rounded(tensor: Tensor) -> Tensor:
    """Matrices rounded to float16 numbers.

    Vectors (biases, statistics) are few and of wide range, and stay as they are.
    """
    return (
        tensor.half().to(tensor.dtype)
        if tensor.ndim >= 2 and tensor.is_floating_point()
        else tensor
    )
