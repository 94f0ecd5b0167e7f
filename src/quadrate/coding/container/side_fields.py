"""The fields of side data: how each is packed, and read from any bytes in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.container.layout import (
    MAX_CHUNK_VALUES,
    MAX_NAME_BYTES,
    MAX_PROFILE_BYTES,
    MAX_SAMPLE_SIZE,
    number_text,
)
from quadrate.core.names import is_printable
from quadrate.errors import QuadrateError

_Integers = NDArray[np.int64]
_WIDTHS = (1, 2, 4, 8)  # of labels, bytes


@dataclass(frozen=True)
class Samples:
    """Whose side data they are: how many samples, the header's shape, the place for errors."""

    count: int
    shape: tuple[int, ...]
    where: str


@dataclass(frozen=True)
class Packing:
    """How a field is packed.

    Args:
        most_bytes: The most bytes that the field can take for some samples.
        pack: The field's bytes from its value.
        unpack: The field's value from bytes that begin with it, and the bytes after it.
    """

    most_bytes: Callable[[Samples], int]
    pack: Callable[[Any, Samples], bytes]
    unpack: Callable[[bytes, Samples], tuple[Any, bytes]]


def _pack_labels(labels: Any, samples: Samples) -> bytes:
    labels = np.asarray(labels)
    _check_integers("labels", labels, (samples.count,), samples.where)
    low, high = int(labels.min()), int(labels.max())
    width = next(
        (width for width in _WIDTHS if -(256**width) // 2 <= low and high < 256**width // 2), None
    )
    if width is None:
        raise QuadrateError(f"{samples.where}: labels reach {high}, which is beyond int64")
    return bytes([width]) + labels.astype(f"<i{width}").tobytes()


def _unpack_labels(raw: bytes, samples: Samples) -> tuple[_Integers, bytes]:
    width = raw[0] if raw else 0
    end = 1 + width * samples.count
    if width not in _WIDTHS or len(raw) < end:
        raise QuadrateError(
            f"{samples.where}: {samples.count} labels of {width} bytes do not fit into {len(raw)}"
            " bytes; widths are 1, 2, 4, 8"
        )
    return np.frombuffer(raw, f"<i{width}", samples.count, 1).astype(np.int64), raw[end:]


def _pack_names(names: tuple[str, ...], samples: Samples) -> bytes:
    _check_count("names", names, samples)
    encoded = []
    for i, name in enumerate(names):
        try:
            encoded.append(name.encode())
        except UnicodeEncodeError:
            raise QuadrateError(
                f"{samples.where}: name {i}, {name!r}, is no valid Unicode"
            ) from None
        if len(encoded[-1]) > MAX_NAME_BYTES:
            raise QuadrateError(
                f"{samples.where}: name {i} takes {len(encoded[-1])} bytes; allowed:"
                f" {MAX_NAME_BYTES}"
            )
        if not is_printable(name):
            raise QuadrateError(
                f"{samples.where}: name {i}, {name!r}, has a line break or another control"
                " character"
            )
    return np.array([len(name) for name in encoded], "<u2").tobytes() + b"".join(encoded)


def _unpack_names(raw: bytes, samples: Samples) -> tuple[tuple[str, ...], bytes]:
    lengths, start, end = _lengths("names", raw, "<u2", MAX_NAME_BYTES, samples)
    names = _split(raw[start:end], lengths)
    if names is None:
        ends = start + np.cumsum(lengths)
        raise QuadrateError(f"{samples.where}: {_fault(raw, [start, *ends.tolist()])}")
    return names, raw[end:]


def _pack_shapes(shapes: Any, samples: Samples) -> bytes:
    shapes = np.asarray(shapes)
    _check_integers("shapes", shapes, (samples.count, len(samples.shape)), samples.where)
    _check_shapes(shapes, samples)
    return shapes.astype("<u4").tobytes()


def _unpack_shapes(raw: bytes, samples: Samples) -> tuple[_Integers, bytes]:
    size = (samples.count, len(samples.shape))
    end = 4 * size[0] * size[1]
    if len(raw) < end:
        raise QuadrateError(
            f"{samples.where}: {size[0]} shapes of {size[1]} dimensions do not fit into {len(raw)}"
            " bytes"
        )
    shapes = np.frombuffer(raw, "<u4", size[0] * size[1]).reshape(size).astype(np.int64)
    _check_shapes(shapes, samples)
    return shapes, raw[end:]


def _check_shapes(shapes: NDArray[Any], samples: Samples) -> None:
    """Raise a QuadrateError unless shapes lie within the limits and agree with the header's."""
    if shapes.min() < 1 or shapes.max() > MAX_SAMPLE_SIZE:
        raise QuadrateError(
            f"{samples.where}: the shapes have dimensions of {shapes.min()} to {shapes.max()};"
            f" allowed: 1 to {number_text(MAX_SAMPLE_SIZE)}"
        )
    fixed = np.array(samples.shape)
    other = ((shapes != fixed) & (fixed != 0)).any(axis=1)
    if other.any():
        first = int(other.argmax())
        raise QuadrateError(
            f"{samples.where}: shape {first} is {tuple(shapes[first].tolist())}; the header's is"
            f" {samples.shape}, where 0 is each sample's own"
        )
    values = shapes.prod(axis=1, dtype=np.float64)  # exact as far as it can be allowed
    if values.sum() > MAX_CHUNK_VALUES:
        most = int(values.argmax())
        raise QuadrateError(
            f"{samples.where}: the shapes make {values.sum():.0f} values, shape {most},"
            f" {tuple(shapes[most].tolist())}, the most of them; allowed:"
            f" {number_text(MAX_CHUNK_VALUES)} a chunk"
        )


def _pack_profiles(profiles: tuple[bytes, ...], samples: Samples) -> bytes:
    _check_count("profiles", profiles, samples)
    for i, profile in enumerate(profiles):
        if not isinstance(profile, bytes):
            raise QuadrateError(
                f"{samples.where}: profile {i} is of type {type(profile).__name__}; it must be"
                " bytes"
            )
        if len(profile) > MAX_PROFILE_BYTES:
            raise QuadrateError(
                f"{samples.where}: profile {i} takes {len(profile)} bytes; allowed:"
                f" {MAX_PROFILE_BYTES}"
            )
    return np.array([len(profile) for profile in profiles], "<u4").tobytes() + b"".join(profiles)


def _unpack_profiles(raw: bytes, samples: Samples) -> tuple[tuple[bytes, ...], bytes]:
    lengths, start, end = _lengths("profiles", raw, "<u4", MAX_PROFILE_BYTES, samples)
    ends = [start, *(start + np.cumsum(lengths)).tolist()]
    return tuple(raw[i:j] for i, j in pairwise(ends)), raw[end:]


def _check_integers(what: str, values: NDArray[Any], shape: tuple[int, ...], where: str) -> None:
    if values.shape != shape or values.dtype.kind not in "iu":
        raise QuadrateError(
            f"{where}: {what} are {values.dtype} {values.shape}; they must be integers {shape}"
        )


def _check_count(what: str, values: tuple[Any, ...], samples: Samples) -> None:
    if len(values) != samples.count:
        raise QuadrateError(
            f"{samples.where}: there are {len(values)} {what} for {samples.count} samples"
        )


def _lengths(
    what: str, raw: bytes, kind: str, most: int, samples: Samples
) -> tuple[_Integers, int, int]:
    """The lengths at the beginning of names or profiles, and where these start and end."""
    start = np.dtype(kind).itemsize * samples.count
    if len(raw) < start:
        raise QuadrateError(
            f"{samples.where}: the lengths of {samples.count} {what} do not fit into {len(raw)}"
            " bytes"
        )
    lengths = np.frombuffer(raw, kind, samples.count).astype(np.int64)
    end = start + int(lengths.sum())
    if lengths.max() > most or end > len(raw):
        raise QuadrateError(
            f"{samples.where}: {what} of up to {lengths.max()} bytes, {lengths.sum()} in all;"
            f" allowed: {most}, and what is there"
        )
    return lengths, start, end


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


PACKINGS = {
    "labels": Packing(lambda samples: 1 + 8 * samples.count, _pack_labels, _unpack_labels),
    "names": Packing(
        lambda samples: (2 + MAX_NAME_BYTES) * samples.count, _pack_names, _unpack_names
    ),
    "shapes": Packing(
        lambda samples: 4 * len(samples.shape) * samples.count, _pack_shapes, _unpack_shapes
    ),
    "profiles": Packing(
        lambda samples: (4 + MAX_PROFILE_BYTES) * samples.count, _pack_profiles, _unpack_profiles
    ),
}
