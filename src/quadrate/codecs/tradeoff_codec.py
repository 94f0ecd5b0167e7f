"""Codecs of images by purpose: encoders with a bottleneck each, and named decoders."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from quadrate.bottlenecks.by_name import build_bottleneck
from quadrate.bottlenecks.frozen import FrozenBottleneck, from_arrays
from quadrate.codecs.batches import in_blocks
from quadrate.codecs.codec import Codec
from quadrate.codecs.codec_file import (
    Decoders,
    points_text,
    read_object,
    read_point,
    read_points,
    read_shape,
    tensors_of,
)
from quadrate.codecs.layer import Layer, Unfrozen, read_layers
from quadrate.codecs.parts import Parts, States
from quadrate.codecs.watch import familiarity_of
from quadrate.config import OperatingPoint
from quadrate.core import draws
from quadrate.core.devices import find_device
from quadrate.core.names import check_text
from quadrate.core.tensor_file import tensor_bytes
from quadrate.errors import QuadrateError
from quadrate.networks.compact import Shape
from quadrate.networks.decoders import DECODERS
from quadrate.networks.family import Family, find_family
from quadrate.networks.filled import filled
from quadrate.sources.source import Source, pixels

_CHUNK = 5000  # images in memory as floats at a time, at most
_CHUNK_PIXELS = 1 << 24  # and their pixels


class TradeoffCodec(Codec):
    """Images to symbols and back, by the decoder of your choice.

    Once frozen, it writes and reads files.

    Args:
        family: The networks' family.
        shape: The images' shape (C, H, W).
        layers: How the latents of each encoder are coded; the symbols of the encoders stand side
            by side.
        points: The operating point of each decoder by the decoder's name; the first is the default.
        networks: State dicts by role: "encoder.0", "encoder.1" …, "decoder.NAME" …, and "critic" if
            there is one.
        details: Extra metadata to store in the file: recipe, source, versions.
        device: Where the networks live.
        models: The frozen bottleneck of each layer. It may be missing, or None, for a dithered
            layer, whose tables `freeze` fits; layers that learn their rate need theirs.

    Raises:
        QuadrateError: If there is no such family, a decoder's name cannot be printed, or the
            weights or bottlenecks do not match the family, the shape and the layers.
    """

    kind = "tradeoff"
    shape: Shape
    decoders: dict[str, nn.Module]

    def __init__(
        self,
        family: Family | str,
        shape: Shape,
        layers: Sequence[Layer],
        points: Mapping[str, OperatingPoint],
        networks: States,
        details: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
        models: Sequence[FrozenBottleneck | None] = (),
    ) -> None:
        self.family = find_family(family)
        self.shape, self.layers = shape, tuple(layers)
        self.points, self.details = dict(points), details or {}
        for name in self.points:
            check_text("the name of a decoder", name)
        self.device = find_device(device)
        self.states = networks
        self.encoders = [
            self._network(f"encoder.{i}", partial(self.family.encoder, shape, layer.latent_dims))
            for i, layer in enumerate(self.layers)
        ]
        self.decoders = {name: self._decoder(name) for name in self.points}
        self.critic = (
            self._network("critic", partial(self.family.critic, shape))
            if "critic" in networks
            else None
        )
        self._chunk = max(1, min(_CHUNK, _CHUNK_PIXELS // math.prod(shape)))
        self._rounders: list[Any] = []
        self._take([*models, *[None] * (len(self.layers) - len(models))])

    def _take(self, models: Sequence[FrozenBottleneck | None]) -> None:
        self._rounders = []
        for i, model in enumerate(models):
            self._rounders.append(self._layer_of(i, model))

    def _layer_of(self, i: int, model: FrozenBottleneck | None) -> Any:
        """What rounds the latents of a layer, its frozen bottleneck or the quantizer alone."""
        layer, first = self.layers[i], len(self.levels_before(i))
        if model is None:
            bottleneck = build_bottleneck(layer.bottleneck, self._latent_shape(i), layer.levels)
            if bottleneck.has_learned_rate:
                raise QuadrateError(
                    f"bottleneck {layer.bottleneck!r} learns its rate: a codec needs it frozen"
                )
            return Unfrozen(bottleneck)
        levels = getattr(getattr(model, "model", model), "levels", ())[-layer.latent_dims :]
        if model.first != first or model.shape[0] != layer.latent_dims or levels != layer.levels:
            raise QuadrateError(f"the codec's tables of layer {i} are not for {layer}")
        return model

    def _latent_shape(self, i: int) -> tuple[int, ...]:
        """The shape of what an encoder gives of one sample."""
        with torch.no_grad():
            return tuple(
                self.encoders[i](torch.zeros(1, *self.shape, device=self.device)).shape[1:]
            )

    def levels_before(self, i: int) -> tuple[int, ...]:
        """The levels of each column of the layers before one; 0 where they have none."""
        levels: tuple[int, ...] = ()
        for layer, rounder in zip(self.layers[:i], self._rounders, strict=False):
            levels += (layer.levels or (0,)) * (rounder.columns // max(1, len(layer.levels)))
        return levels

    def __repr__(self) -> str:
        layers = [layer.levels or f"{layer.dims}x {layer.bottleneck}" for layer in self.layers]
        return (
            f"TradeoffCodec({self.family.name!r}, shape={self.shape}, layers={layers},"
            f" decoders={list(self.decoders)}, {'frozen' if self.models else 'not frozen yet'})"
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

    def _decoder(self, name: str) -> nn.Module:
        kind = DECODERS.find(self.points[name].decoder)
        dims = sum(layer.latent_dims for layer in self.layers)
        classes = kind.classes(self.states.get(role := f"decoder.{name}", {}))
        return self._network(role, partial(kind.build, self.family, self.shape, dims, classes))

    @property
    def models(self) -> tuple[FrozenBottleneck, ...]:  # type: ignore[override]
        """The frozen bottleneck of each layer; empty before the codec is frozen."""
        return tuple(self._rounders) if all(self.layer_models) else ()

    @property
    def layer_models(self) -> tuple[FrozenBottleneck | None, ...]:
        """The frozen bottleneck of each layer; None where tables are not fitted yet."""
        return tuple(None if isinstance(one, Unfrozen) else one for one in self._rounders)

    @property
    def _layers(self) -> list[Any]:
        return self._rounders

    @property
    def point(self) -> OperatingPoint:
        """The operating point of the default decoder."""
        return next(iter(self.points.values()))

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of all layers side by side."""
        return sum((layer.levels for layer in self.layers), ())

    @property
    def rate_bound_bits(self) -> float | None:
        """The sum of log2 L over all layers, in bits a sample; None if a rate is learned."""
        levels = self.levels_before(len(self.layers))
        return sum(map(math.log2, levels)) if all(levels) else None

    @property
    def encoder_hash(self) -> str:
        """SHA-256 of the encoders and of how their latents are coded, hexadecimal.

        Decoders with the same one read the same codes.
        """
        return self._hash_of(len(self.encoders))

    def _hash_of(self, count: int) -> str:
        """The hash of the first encoders alone."""
        coded = [layer.levels or (layer.bottleneck, layer.dims) for layer in self.layers[:count]]
        sha = hashlib.sha256(repr(coded).encode())
        for i, layer in enumerate(self.layers[:count]):
            for name, tensor in sorted(self.states[f"encoder.{i}"].items()):
                sha.update(name.encode() + tensor_bytes(tensor))
            if not layer.levels:  # its steps are part of what decoders read
                sha.update(self._rounders[i].identity)
        return sha.hexdigest()

    def pack(self, *names: str) -> Decoders:
        """Take some of the decoders, by default all, to hand them on without the encoder.

        Raises:
            QuadrateError: If there is no decoder of a name.
        """
        names = names or tuple(self.decoders)
        states = {
            name: self.states[f"decoder.{name}"] for name in names if self.check_decoder(name)
        }
        return Decoders(self.encoder_hash, {name: self.points[name] for name in names}, states)

    def add_decoder(self, other: TradeoffCodec | Decoders, name: str | None = None) -> Self:
        """Take over the decoders of a codec with the same encoder, or of a pack; return the codec.

        Args:
            other: The codec or pack that has the decoders.
            name: What to call the decoder, if there is only one; by default its own name.

        Raises:
            QuadrateError: If the encoders differ, or a name is taken or cannot be printed.
        """
        pack = other.pack() if isinstance(other, TradeoffCodec) else other
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
        before = self.states, self.points
        self.states = self.states | {
            f"decoder.{new}": pack.states[own] for own, new in called.items()
        }
        self.points = self.points | {new: pack.points[own] for own, new in called.items()}
        try:
            networks = {new: self._decoder(new) for new in called.values()}
        except QuadrateError:
            self.states, self.points = before
            raise
        self.decoders |= networks
        return self

    def to_float16(self, bits: int = 0) -> TradeoffCodec:
        """Round the weight matrices to float16 numbers: a new codec, whose file is half as large.

        Its dithered layers are not frozen; it has no critic.

        Args:
            bits: Round further, each matrix to the multiples of a power of two from -(2^(bits-1) -
                1) to 2^(bits-1) - 1: the file is as large, but archives of it shrink, by about half
                for 8 bits. 0 does not.

        Raises:
            QuadrateError: If `bits` is neither 0 nor 2 to 11, which float16 holds.
        """
        if bits and not 2 <= bits <= 11:
            raise QuadrateError(f"bits must be 0, or 2 to 11, which float16 holds; got {bits}")
        states = {
            role: {name: _rounded(tensor, bits) for name, tensor in state.items()}
            for role, state in self.states.items()
            if role != "critic"
        }
        models = [
            None if layer.levels else rounder
            for layer, rounder in zip(self.layers, self._rounders, strict=True)
        ]
        parts = (self.family, self.shape, self.layers, self.points, states, self.details)
        return TradeoffCodec(*parts, self.device, models)

    def freeze(self, source: Source, base: TradeoffCodec | None = None) -> Self:
        """Fit the tables of dithered layers to a source's training images; return the codec.

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
        generator = draws.generator("freeze", device=self.device)
        latents = self.source_latents(source, source.train.images, generator).cpu().numpy()
        models: list[Any] = list(base.models) if base else []
        if base and (
            not models
            or len(models) > len(self.layers)
            or base.encoder_hash != self._hash_of(len(models))
        ):
            raise QuadrateError("the base must be a frozen codec with this one's first encoders")
        own = torch.from_numpy(latents).split([layer.latent_dims for layer in self.layers], dim=1)
        before = np.empty((len(latents), 0), np.float32)  # (n, columns of the layers before)
        for i, (layer, part) in enumerate(zip(self.layers, own, strict=True)):
            flat = part.flatten(1).numpy()  # (n, d)
            rounder = self._rounders[i]
            if i == len(models):
                levels = self.levels_before(i)
                both = np.concatenate([before, flat], axis=1)
                if layer.levels:
                    rounder = self._layer_of(i, None).freeze(both, levels)
                models.append(rounder)
            # Latents of a layer without levels say nothing to the layers after it.
            known = flat if layer.levels else np.zeros((len(flat), rounder.columns), np.float32)
            before = np.concatenate([before, known], axis=1)
        self._take(models)
        self.familiarity = familiarity_of(self, self.layers, source)
        return self

    @torch.no_grad()
    def latents(self, samples: Tensor) -> Tensor:
        """Encode images (n, C, H, W), uint8 or in [0, 1], possibly degraded.

        Returns:
            Float (n, d) or (n, c, h, w), those of dithered layers in [-1, 1].

        Raises:
            QuadrateError: If the images have another shape.
        """
        self.check_shape(samples.shape)
        images = pixels(samples) if samples.dtype == torch.uint8 else samples
        images = images.to(self.device, torch.float32)
        return torch.cat([in_blocks(encoder, [images], self.shape) for encoder in self.encoders], 1)

    def source_latents(self, source: Source, images: Tensor, generator: torch.Generator) -> Tensor:
        """Encode a source's images, uint8 (n, C, H, W), seen through the source's noise."""
        chunks = images.split(self._chunk)
        return torch.cat(
            [self.latents(source.observe(pixels(chunk), generator)) for chunk in chunks]
        )

    def dequantize(self, symbols: Tensor, seed: int = 0, first: int = 0) -> Tensor:  # noqa: D102
        levels = np.array(self.levels_before(len(self.layers)))  # (columns,)
        if symbols.ndim == 2 and symbols.shape[1] == len(levels):
            given, leveled = symbols.cpu().numpy(), levels > 0
            if ((given < 0) | (given >= levels))[:, leveled].any():
                raise QuadrateError(f"this codec reads symbols (n, {len(levels)}) below {levels}")
        return super().dequantize(symbols, seed, first)

    def to_parts(self) -> Parts:  # noqa: D102
        models = {
            i: model for i, model in enumerate(self._rounders) if not isinstance(model, Unfrozen)
        }
        tables = {f"tables.{i}": tensors_of(model.arrays()) for i, model in models.items()}
        metadata = {
            "family": self.family.name,
            "shape": json.dumps(self.shape),
            "layers": json.dumps([asdict(layer) for layer in self.layers]),
            "points": points_text(self.points),
            "tables": json.dumps({str(i): model.name for i, model in models.items()}),
            "details": json.dumps(self.details, sort_keys=True),
        }
        return Parts(metadata, self.states | tables)

    @classmethod
    def from_parts(cls, parts: Parts, device: torch.device | str, family: Any) -> Self:  # noqa: D102
        metadata, states = parts.metadata, parts.states
        channels, height, width = read_shape(metadata["shape"], 3)
        layers = read_layers(metadata)
        details = read_object(metadata["details"], "details")
        name = check_text("the name of its family", metadata["family"])
        if metadata["format"] == "quadrate-codec-1":  # when codecs had one decoder, without a name
            point = read_point(metadata["point"])
            points = {point.purpose: point}
            states[f"decoder.{point.purpose}"] = states.pop("decoder")
        else:
            points = read_points(metadata["points"], states)
        models: list[Any] = []
        levels: tuple[int, ...] = ()  # of each column of the layers before
        tables = read_object(metadata.get("tables", "{}"), "tables")
        for i, layer in enumerate(layers):
            model = None
            if f"tables.{i}" in states:
                arrays = parts.arrays(f"tables.{i}")
                sites = math.prod(arrays["map_shape"][1:].tolist()) if "map_shape" in arrays else 1
                own = layer.levels * sites
                model = from_arrays(arrays, tables.get(str(i)), len(levels), levels + own)
                levels += own or (0,) * model.columns
            else:
                levels += layer.levels
            models.append(model)
        codec = cls(
            *(family or name, (channels, height, width), layers, points, states, details),
            device=device,
            models=models,
        )
        codec.familiarity = parts.familiarity
        return codec


def _rounded(tensor: Tensor, bits: int) -> Tensor:
    """Matrices rounded to float16 numbers, or to so many bits.

    Vectors (biases, statistics) are few and of wide range, and stay as they are.
    """
    if tensor.ndim < 2 or not tensor.is_floating_point():
        return tensor
    largest = float(tensor.abs().max())
    if bits and largest:
        step = 2.0 ** math.ceil(math.log2(largest / (2 ** (bits - 1) - 1)))
        tensor = (tensor / step).round() * step
    return tensor.half().to(tensor.dtype)
