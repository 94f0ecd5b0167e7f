"""A chunk's content, and its side data (labels, names) as one zlib stream."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.container.layout import MAX_NAME_BYTES, MAX_SIDE_BYTES
from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError

Labels = NDArray[np.int64]
_WIDTHS = (1, 2, 4, 8)


@dataclass(frozen=True, eq=False)
class ChunkData:
    """What a chunk holds.

    Args:
        samples: How many samples.
        payloads: One entropy-coded stream for each layer, or for each layer that was asked for.
        labels: Integers (samples,), if the header's side fields say so.
        names: One for each sample, if the header's side fields say so. They are text, not paths:
            check them before making files of them.
    """

    samples: int
    payloads: tuple[bytes, ...]
    labels: Labels | None = None
    names: tuple[str, ...] | None = None


def pack_side(fields: tuple[str, ...], chunk: ChunkData, where: str) -> bytes:
    """Pack the side data of a chunk, compressed; empty if there are no fields.

    Raises:
        QuadrateError: If labels or names are missing, too many, or not as the format allows.
    """
    for name, value in (("labels", chunk.labels), ("names", chunk.names)):
        if (value is not None) != (name in fields):
            raise QuadrateError(
                f"{where}: {name} are {'missing' if value is None else 'given'}; the file's side"
                f" fields are {', '.join(fields) or 'none'}"
            )
    raw = b""
    if chunk.labels is not None:
        raw += _pack_labels(chunk.labels, chunk.samples, where)
    if chunk.names is not None:
        raw += _pack_names(chunk.names, chunk.samples, where)
    if len(raw) > MAX_SIDE_BYTES:
        raise QuadrateError(
            f"{where}: labels and names take {len(raw)} bytes; allowed: {MAX_SIDE_BYTES}: put fewer"
            " samples into a chunk"
        )
    return zlib.compress(raw, 9) if fields else b""


def unpack_side(
    fields: tuple[str, ...], samples: int, data: bytes, where: str
) -> tuple[Labels | None, tuple[str, ...] | None]:
    """Read labels and names from their bytes.

    Raises:
        QuadrateError: If the bytes are not those of labels and names of so many samples.
    """
    where = f"{where}: side data"
    if not fields:
        if data:
            raise QuadrateError(
                f"{where}: there are {len(data)} bytes, but the header announces none"
            )
        return None, None
    raw = _decompress(data, _most_bytes(fields, samples), where)
    labels: Labels | None = None
    names: tuple[str, ...] | None = None
    if "labels" in fields:
        labels, raw = _unpack_labels(raw, samples, where)
    if "names" in fields:
        names, raw = _unpack_names(raw, samples, where)
    if raw:
        raise QuadrateError(f"{where}: {len(raw)} bytes are left over after {samples} samples")
    return labels, names


def _most_bytes(fields: tuple[str, ...], samples: int) -> int:
    """The most bytes that the side data of so many samples can take."""
    labels = ("labels" in fields) * (1 + 8 * samples)
    names = ("names" in fields) * (2 + MAX_NAME_BYTES) * samples
    return min(MAX_SIDE_BYTES, labels + names)


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


def _pack_labels(labels: Labels, samples: int, where: str) -> bytes:
    labels = np.asarray(labels)
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise QuadrateError(
            f"{where}: labels are {labels.dtype} {labels.shape}; they must be integers ({samples},)"
        )
    low, high = int(labels.min()), int(labels.max())
    width = next(
        (width for width in _WIDTHS if -(256**width) // 2 <= low and high < 256**width // 2), None
    )
    if width is None:
        raise QuadrateError(f"{where}: labels reach {high}, which is beyond int64")
    return bytes([width]) + labels.astype(f"<i{width}").tobytes()


def _unpack_labels(raw: bytes, samples: int, where: str) -> tuple[Labels, bytes]:
    """The labels, and the bytes after them."""
    width = raw[0] if raw else 0
    end = 1 + width * samples
    if width not in _WIDTHS or len(raw) < end:
        raise QuadrateError(
            f"{where}: {samples} labels of {width} bytes do not fit into {len(raw)} bytes; widths"
            " are 1, 2, 4, 8"
        )
    return np.frombuffer(raw, f"<i{width}", samples, 1).astype(np.int64), raw[end:]


def _pack_names(names: tuple[str, ...], samples: int, where: str) -> bytes:
    if len(names) != samples:
        raise QuadrateError(f"{where}: there are {len(names)} names for {samples} samples")
    encoded = []
    for i, name in enumerate(names):
        try:
            encoded.append(name.encode())
        except UnicodeEncodeError:
            raise QuadrateError(f"{where}: name {i}, {name!r}, is no valid Unicode") from None
        if len(encoded[-1]) > MAX_NAME_BYTES:
            raise QuadrateError(
                f"{where}: name {i} takes {len(encoded[-1])} bytes; allowed: {MAX_NAME_BYTES}"
            )
        if not is_printable(name):
            raise QuadrateError(
                f"{where}: name {i}, {name!r}, has a line break or another control character"
            )
    return np.array([len(name) for name in encoded], "<u2").tobytes() + b"".join(encoded)


def _unpack_names(raw: bytes, samples: int, where: str) -> tuple[tuple[str, ...], bytes]:
    """The names, and the bytes after them."""
    if len(raw) < 2 * samples:
        raise QuadrateError(
            f"{where}: the lengths of {samples} names do not fit into {len(raw)} bytes"
        )
    lengths = np.frombuffer(raw, "<u2", samples).astype(np.int64)
    ends = 2 * samples + np.cumsum(lengths)
    if lengths.max() > MAX_NAME_BYTES or ends[-1] > len(raw):
        raise QuadrateError(
            f"{where}: names of up to {lengths.max()} bytes, {lengths.sum()} in all; allowed:"
            f" {MAX_NAME_BYTES}, and what is there"
        )
    names = _split(raw[2 * samples : int(ends[-1])], lengths)
    if names is None:
        raise QuadrateError(f"{where}: {_fault(raw, [2 * samples, *ends.tolist()])}")
    return names, raw[int(ends[-1]) :]


def _split(data: bytes, lengths: NDArray[np.int64]) -> tuple[str, ...] | None:
    """Split names that stand one after another, each of so many bytes; None if one is invalid.

    Few bytes may hold many names, so each must cost little.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    begins = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80  # a character's first byte
    filled = lengths > 0
    starts = (np.cumsum(lengths) - lengths)[filled]
    if not is_printable(text) or not begins[starts].all():
        return None
    characters = np.zeros(len(lengths), np.int64)
    if len(starts):
        characters[filled] = np.add.reduceat(begins, starts, dtype=np.int64)
    return tuple(text[start:stop] for start, stop in pairwise([0, *np.cumsum(characters).tolist()]))


def _fault(raw: bytes, ends: list[int]) -> str:
    """Describe what is wrong with the first invalid name."""
    for i, (start, end) in enumerate(pairwise(ends)):
        try:
            name = raw[start:end].decode()
        except UnicodeDecodeError:
            return f"name {i} is no valid UTF-8"
        if not is_printable(name):
            return f"name {i}, {name!r}, has a line break or another control character"
    return "its names are damaged"
