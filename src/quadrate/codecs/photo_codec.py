"""Photographs of any size to bytes and back, by the decoder of your choice."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.bottlenecks.checkerboard import CheckerboardModel
from quadrate.codecs.base_codec import BaseCodec
from quadrate.codecs.batches import Blend
from quadrate.codecs.codec_file import read_object, tensors_of, whole_numbers
from quadrate.codecs.parts import Parts
from quadrate.core import draws
from quadrate.core.names import check_text
from quadrate.errors import QuadrateError
from quadrate.networks.block_transform import BLOCK, BlockTransform, sites
from quadrate.networks.filled import filled
from quadrate.networks.restoration import CELL, Restoration
from quadrate.sources.images import MAX_PIXELS

Pixels = NDArray[np.uint8]
MAX_SIDE = 1 << 16  # pixels; narrower ones would be mostly what fills up their blocks
EXPONENTS = 512  # steps are 2^(e/64) of a gray level, e from 0 to 511
UNIT = 64  # blocks a side of what is coded by itself: 1024 pixels
LAYERS = 2  # the base, which a thumbnail and a label need, and the rest
_STRIP = 16  # rows of blocks that are decoded to pixels at a time
_CELLS = BLOCK // CELL  # rows of cells in a row of blocks
_EXPONENT, _LENGTH = struct.Struct("<H"), struct.Struct("<I")
_MAX_WIDTH = 1 << 10


class PhotoCodec(BaseCodec):
    """One encoder for photographs of any size, with named decoders.

    A block transform, then a checkerboard bottleneck whose step is chosen for each photograph, and
    networks that mend what the step has taken away. Squares of 1024 x 1024 pixels are coded by
    themselves, so that a large photograph needs little memory.

    Args:
        transform: Pixels to coefficients.
        model: The frozen bottleneck of as many channels.
        decoders: What makes the pictures, by name; the first is the default.
        rate_weight: The worth of a bit in squared steps when symbols are chosen; it is the
            sender's alone, and no part of what identifies streams.
        device: Where the networks shall live.

    Attributes:
        details: Texts by name, which its file keeps: where it comes from.

    Raises:
        QuadrateError: If they do not fit together.
    """

    kind = "photographs"
    shape = (0, 0, 0)
    reads_fewer_layers = True

    def __init__(
        self,
        transform: BlockTransform,
        model: CheckerboardModel,
        decoders: Mapping[str, Restoration],
        rate_weight: float = 0.12,
        device: torch.device | str = "cpu",
    ) -> None:
        if transform.channels != model.channels:
            raise QuadrateError(
                f"the transform gives {transform.channels} channels, the bottleneck codes"
                f" {model.channels}"
            )
        if not decoders:
            raise QuadrateError("a codec of photographs has at least one decoder")
        if not 0 <= rate_weight < 1:
            raise QuadrateError(f"rate_weight is at least 0 and below 1; got {rate_weight}")
        self.transform, self.model, self.rate_weight = transform, model, rate_weight
        self.device = device
        self.details: dict[str, str] = {}
        for name in decoders:
            check_text("the name of a decoder", name)
        self.networks = {
            name: each.to(device).eval().requires_grad_(False) for name, each in decoders.items()
        }
        reach = max(network.reach for network in self.networks.values())
        self._margin = -(-reach // BLOCK)  # rows of blocks around a strip that decoders look at

    @property
    def decoders(self) -> Mapping[str, Callable[..., Tensor]]:  # type: ignore[override]
        """The networks by name."""
        return self.networks

    @property
    def identities(self) -> tuple[bytes, ...]:
        """What identifies the streams of base and rest: transform and bottleneck, 16 bytes each."""
        sha = hashlib.sha256(self.model.identity)
        for array in self.transform.arrays().values():
            sha.update(np.ascontiguousarray(array, "<f4").tobytes())
        return tuple(
            hashlib.sha256(sha.digest() + bytes([layer])).digest()[:16] for layer in range(LAYERS)
        )

    def encode(self, photograph: Pixels, exponent: int) -> tuple[bytes, ...]:
        """Encode a photograph to the payloads of its layers.

        Args:
            photograph: uint8 (C, H, W), C 1 or 3.
            exponent: 64 log2 of the step in gray levels, 0 to 511.

        Raises:
            QuadrateError: If it is no such photograph, has more than 2^26 pixels or more than 2^16
                a side, or there is no such exponent.
        """
        photograph = check_photograph(photograph)
        if not 0 <= exponent < EXPONENTS:
            raise QuadrateError(f"exponents are 0 to {EXPONENTS - 1}; got {exponent}")
        colours = np.broadcast_to(photograph, (3, *photograph.shape[1:]))
        streams = []
        for rows, columns in _units(*photograph.shape[1:]):
            part = colours[:, _pixels(rows), _pixels(columns)]
            maps = self.transform.forward(part) / np.float32(step_of(exponent))
            streams.append(self.model.encode(maps, exponent, self.rate_weight))
        base, rest = (_joined(layer) for layer in zip(*streams, strict=True))
        return _EXPONENT.pack(exponent) + base, rest

    def coefficients(
        self, payloads: Sequence[bytes], shape: Sequence[int]
    ) -> tuple[NDArray[np.float32], int]:
        """Read the coefficients of a photograph (C, H, W), as its decoders get them.

        Args:
            payloads: Of the base alone, or of both layers.
            shape: That of the photograph.

        Returns:
            Coefficients in gray levels, (⌈H/16⌉, ⌈W/16⌉, c), and the exponent of the step.

        Raises:
            QuadrateError: If a payload is damaged, or there is no such photograph.
        """
        exponent, units = _read_units(payloads, shape)
        found = np.empty((*sites(*shape[1:]), self.model.channels), np.float32)
        unit_of_received = np.float32(step_of(exponent) / 16)
        for unit in units:
            received = self.model.decode(unit.streams, *unit.size, exponent)
            np.multiply(received, unit_of_received, out=found[unit.rows, unit.columns])
        return found, exponent

    def symbols(
        self, payloads: Sequence[bytes], shape: Sequence[int]
    ) -> Iterator[NDArray[np.int64]]:
        """Read the symbols of each square that is coded by itself, (h, w, c), row by row.

        Arguments and errors as of `coefficients`.
        """
        exponent, units = _read_units(payloads, shape)
        for unit in units:
            yield self.model.symbols(unit.streams, *unit.size, exponent)

    @torch.no_grad()
    def reconstruct(
        self,
        coefficients: NDArray[np.float32],
        exponent: int,
        shape: Sequence[int],
        decoder: Blend = None,
        noise: tuple[int, int] = (0, 0),
    ) -> Pixels:
        """Decode what `coefficients` gave to a photograph, uint8 (C, H, W).

        Args:
            coefficients: As `coefficients` gives them.
            exponent: The same.
            shape: Of the photograph.
            decoder: As in `decode`.
            noise: What decoders that take noise draw it from: the seed of the file, and the number
                of the photograph in it.

        Raises:
            QuadrateError: If there is no decoder of a name, or the weights of a blend are invalid.
        """
        weights = self.check_decoder(decoder)
        channels, height, width = shape
        photograph = np.empty((channels, height, width), np.uint8)
        step = torch.tensor([step_of(exponent)], device=self.device)
        for start in range(0, len(coefficients), _STRIP):
            above = min(start, self._margin)
            strip = coefficients[start - above : start + _STRIP + self._margin]
            pixels = torch.from_numpy(self.transform.inverse(strip))[None].to(self.device)
            mended = torch.zeros((), device=self.device)
            for name, weight in weights.items():
                network = self.networks[name]
                drawn = None
                if network.noise:
                    drawn = _noise(noise, network.noise, start - above, strip.shape).to(self.device)
                mended = mended + weight * network(pixels, step, drawn)
            mended = mended[0]  # (3, strip's height, width)
            if channels == 1:
                mended = mended.mean(0, keepdim=True)
            top, stop = start * BLOCK, min((start + _STRIP) * BLOCK, height)
            inside = mended[:, above * BLOCK :][:, : stop - top, :width]
            photograph[:, top:stop] = inside.round().clamp(0, 255).byte().cpu().numpy()
        return photograph

    def decode(
        self,
        payloads: Sequence[bytes],
        shape: Sequence[int],
        decoder: Blend = None,
        noise: tuple[int, int] = (0, 0),
    ) -> Pixels:
        """Decode payloads to a photograph of a shape (C, H, W), uint8.

        Args:
            payloads: Of the base alone, which gives a blurred picture, or of both layers.
            shape: That of the photograph.
            decoder: A decoder's name, or the weights of several by name, which sum to one; by
                default the first decoder.
            noise: As in `reconstruct`.

        Raises:
            QuadrateError: If a payload is damaged, there is no such photograph or decoder, or the
                weights of a blend are invalid.
        """
        self.check_decoder(decoder)
        return self.reconstruct(*self.coefficients(payloads, shape), shape, decoder, noise)

    def to_parts(self) -> Parts:  # noqa: D102
        widths = {name: network.width for name, network in self.networks.items()}
        states = {
            "transform": tensors_of(self.transform.arrays()),
            "model": tensors_of(self.model.arrays()),
            **{f"decoder.{name}": network.state_dict() for name, network in self.networks.items()},
        }
        metadata = {
            "widths": json.dumps(widths),
            "rate_weight": json.dumps(self.rate_weight),
            "details": json.dumps(self.details),
        }
        return Parts(metadata, states)

    @classmethod
    def from_parts(cls, parts: Parts, device: torch.device | str, family: Any) -> Self:  # noqa: D102
        transform = BlockTransform.from_arrays(parts.arrays("transform"))
        model = CheckerboardModel.from_arrays(parts.arrays("model"))
        widths = read_object(parts.metadata["widths"], "widths")
        whole_numbers(list(widths.values()), "widths", 1, _MAX_WIDTH)
        if other := sorted(set(parts.states) ^ {f"decoder.{name}" for name in widths}):
            raise QuadrateError(f"widths and weights are of other decoders: {other[0][:100]!r}")
        decoders = {}
        for name, width in widths.items():
            state = parts.states[f"decoder.{name}"]
            build = partial(Restoration, width, **Restoration.sizes(state))
            decoders[name] = cast(Restoration, filled(build, state))
        codec = cls(transform, model, decoders, float(parts.metadata["rate_weight"]), device)
        for name, text in read_object(parts.metadata["details"], "details").items():
            codec.details[check_text("the name of a detail", name)] = check_text(name, text)
        return codec


def _noise(key: tuple[int, int], maps: int, row: int, size: Sequence[int]) -> Tensor:
    """Standard normal noise for rows of blocks from `row` on, (1, maps, cells' rows, columns).

    Each row of blocks has draws of its own, so that strips do not matter.
    """
    rows, columns = size[0], size[1] * _CELLS
    drawn = [
        draws.normal("noise", *key, row + number, shape=(maps, _CELLS, columns))
        for number in range(rows)
    ]
    return torch.cat(drawn, 1)[None]


def exponent_of(quality: float) -> int:
    """Return the exponent of a quality from 0, steps of 256 gray levels, to 100, steps of one.

    Raises:
        QuadrateError: If there is no such quality.
    """
    if not 0 <= quality <= 100:  # false for NaN too
        raise QuadrateError(f"a quality is 0 to 100; got {quality}")
    return min(EXPONENTS - 1, round((100 - quality) / 100 * EXPONENTS))


def check_photograph(photograph: Any) -> Pixels:
    """Check a photograph, uint8 (C, H, W) with C 1 or 3.

    Raises:
        QuadrateError: If it is none, or has no pixel, more than 2^26, or more than 2^16 a side.
    """
    pixels = np.asarray(photograph)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise QuadrateError(
            f"a photograph is uint8 (C, H, W); got {pixels.dtype} {tuple(pixels.shape)}"
        )
    _check_shape(pixels.shape)
    return pixels


def _check_shape(shape: Sequence[int]) -> None:
    if (
        len(shape) != 3
        or shape[0] not in (1, 3)
        or not all(1 <= side <= MAX_SIDE for side in shape[1:])
        or shape[1] * shape[2] > MAX_PIXELS
    ):
        raise QuadrateError(
            f"a photograph has 1 or 3 channels, up to {MAX_SIDE} pixels a side and up to"
            f" {MAX_PIXELS} in all; got the shape {tuple(shape)}"
        )


def step_of(exponent: int) -> float:
    """Return the step of an exponent, in gray levels."""
    return float(2.0 ** (exponent / 64))


def _units(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """The rows and columns of blocks that are coded by themselves, row by row."""
    rows, columns = sites(height, width)
    for top in range(0, rows, UNIT):
        for left in range(0, columns, UNIT):
            yield (
                slice(top, min(top + UNIT, rows)),
                slice(left, min(left + UNIT, columns)),
            )


@dataclass(frozen=True)
class _Unit:
    """A square of blocks that is coded by itself, and its streams of base and rest."""

    rows: slice
    columns: slice
    streams: tuple[bytes, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def _read_units(payloads: Sequence[bytes], shape: Sequence[int]) -> tuple[int, list[_Unit]]:
    """The exponent of a photograph's step, and its units."""
    _check_shape(shape)
    if len(payloads[0]) < _EXPONENT.size:
        raise QuadrateError("a photograph's payload begins with its step; it is cut short")
    (exponent,) = _EXPONENT.unpack_from(payloads[0])
    if exponent >= EXPONENTS:
        raise QuadrateError(f"a photograph's exponent is {exponent}; allowed: 0 to 511")
    places = list(_units(*shape[1:]))
    parts = [payloads[0][_EXPONENT.size :], *payloads[1:LAYERS]]
    streams = zip(*(_split(part, len(places)) for part in parts), strict=True)
    units = [_Unit(*place, own) for place, own in zip(places, streams, strict=True)]
    return exponent, units


def _pixels(blocks: slice) -> slice:
    return slice(blocks.start * BLOCK, blocks.stop * BLOCK)


def _joined(streams: Sequence[bytes]) -> bytes:
    """Streams one after another, behind the lengths of all but the last."""
    return b"".join([*(_LENGTH.pack(len(each)) for each in streams[:-1]), *streams])


def _split(payload: bytes, count: int) -> list[bytes]:
    """The inverse of `_joined`."""
    start = _LENGTH.size * (count - 1)
    if len(payload) < start:
        raise QuadrateError(f"a payload of {count} streams is cut short at {len(payload)} bytes")
    streams = []
    for (length,) in _LENGTH.iter_unpack(payload[:start]):
        streams.append(payload[start : start + length])
        start += length
    if start > len(payload):
        raise QuadrateError(f"the streams of a payload of {len(payload)} bytes reach to {start}")
    return [*streams, payload[start:]]
