"""A chunk's content, and its side data as one zlib stream."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.container.layout import MAX_SIDE_BYTES, SIDE_FIELDS, Header
from quadrate.coding.container.side_fields import PACKINGS, Samples
from quadrate.errors import QuadrateError


@dataclass(frozen=True, eq=False)
class ChunkData:
    """What a chunk holds.

    Args:
        samples: How many samples.
        payloads: One entropy-coded stream for each layer, or for each layer that was asked for.
        labels: Integers (samples,), if the header's side fields say so.
        names: One for each sample, if the header's side fields say so. They are text, not paths:
            check them before making files of them.
        shapes: Integers (samples, dimensions), the shape of each sample, if the header's side
            fields say so. Where a dimension of the header is not 0, all samples have that.
        profiles: The ICC profile of each sample, b"" for none, if the header's side fields say so.
            They are any bytes: who applies them must survive damaged ones.
    """

    samples: int
    payloads: tuple[bytes, ...]
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] | None = None
    shapes: NDArray[np.int64] | None = None
    profiles: tuple[bytes, ...] | None = None


def pack_side(header: Header, chunk: ChunkData, where: str) -> bytes:
    """Pack the side data of a chunk, compressed; empty if there are no fields.

    Raises:
        QuadrateError: If a field is missing, not announced, or not as the format allows.
    """
    samples, parts = Samples(chunk.samples, tuple(header.shape), where), []
    for name in SIDE_FIELDS:
        value = getattr(chunk, name)
        if (value is not None) != (name in header.fields):
            raise QuadrateError(
                f"{where}: {name} are {'missing' if value is None else 'given'}; the file's side"
                f" fields are {', '.join(header.fields) or 'none'}"
            )
        if value is not None:
            parts.append(PACKINGS[name].pack(value, samples))
    size = sum(map(len, parts))
    if size > MAX_SIDE_BYTES:
        raise QuadrateError(
            f"{where}: the side data ({', '.join(header.fields)}) take {size} bytes; allowed:"
            f" {MAX_SIDE_BYTES}: put fewer samples into a chunk"
        )
    return zlib.compress(b"".join(parts), 9) if header.fields else b""


def unpack_side(header: Header, count: int, data: bytes, where: str) -> dict[str, Any]:
    """Read the side data of so many samples from their bytes, each field under its name.

    Raises:
        QuadrateError: If the bytes are not those of the header's fields for so many samples.
    """
    samples = Samples(count, header.shape, f"{where}: side data")
    if not header.fields:
        if data:
            raise QuadrateError(
                f"{samples.where}: there are {len(data)} bytes, but the header announces none"
            )
        return {}
    most = sum(PACKINGS[name].most_bytes(samples) for name in header.fields)
    raw = _decompress(data, min(MAX_SIDE_BYTES, most), samples.where)
    side = {}
    for name in header.fields:
        side[name], raw = PACKINGS[name].unpack(raw, samples)
    if raw:
        raise QuadrateError(
            f"{samples.where}: {len(raw)} bytes are left over after {count} samples"
        )
    return side


def _decompress(data: bytes, limit: int, where: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise QuadrateError(f"{where}: no valid zlib stream ({error})") from None
    if len(raw) > limit:
        raise QuadrateError(
            f"{where}: it decompresses to more than the {limit} bytes that so many samples can take"
        )
    if not stream.eof or stream.unused_data:
        early = f"ends {len(stream.unused_data)} bytes early"
        fault = early if stream.eof else "is cut short"
        raise QuadrateError(f"{where}: the zlib stream {fault}")
    return raw
